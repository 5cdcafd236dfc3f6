//! An example of a library, which measures that library by itself and says what it found.

use std::ffi::OsStr;
use std::process::Command;

use super::Bench;
use super::weather::{Watch, Weather};
use crate::workspace::{output, root};

impl Bench {
    /// What an example of a package says, and what the machine did meanwhile.
    pub(super) fn example(
        &mut self,
        package: &str,
        name: &str,
        words: &[&OsStr],
    ) -> Result<(String, Weather), String> {
        let cargo = |what: &str| {
            let mut cargo = Command::new("cargo");
            cargo
                .current_dir(root())
                .args([what, "--release", "--quiet"])
                .args(["-p", package, "--example", name]);
            cargo
        };
        output(&mut cargo("build"))?;
        self.wait_for_calm();
        let ours = [std::process::id()];
        let watch = Watch::start(&ours);
        let said = output(cargo("run").arg("--").args(words))?;
        // The example was waited for: its CPU time is ours.
        Ok((said, watch.end(&ours)))
    }
}
