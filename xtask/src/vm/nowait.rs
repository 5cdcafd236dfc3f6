//! A kernel with `PROCESS_VM_PIDFD` and `PROCESS_VM_NOWAIT`, which no release has yet.
//!
//! Debian's source of a release and two files of this folder enter: `process_vm_flags.patch`, and
//! `nowait.config`, the few options beyond a kernel that can do nothing. What leaves is the image; the tree it
//! was built in, some gigabytes, is removed. It takes seven minutes on two processors.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread};

use super::packages;
use crate::workspace::{root, run, say};

/// The release that the patch is made for.
const SERIES: &str = "7.2";

/// What the image is known by: another if one of the files or the release is.
pub(super) fn content() -> String {
    let mut hasher = DefaultHasher::new();
    let texts = [
        include_str!("nowait.config"),
        include_str!("process_vm_flags.patch"),
        SERIES,
    ];
    texts.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Builds the kernel below `folder`; the path of its image.
pub(super) fn build(folder: &Path) -> Result<PathBuf, String> {
    packages::install(packages::KERNEL_BUILD)?;
    let archive = packages::source(SERIES, folder)?;
    let tree = folder.join("tree");
    let _ = fs::remove_dir_all(&tree);
    super::make(&tree)?;
    let mut tar = Command::new("tar");
    run(tar
        .args(["--strip-components=1", "-xf"])
        .arg(&archive)
        .arg("-C")
        .arg(&tree))?;

    let ours = root().join("xtask/src/vm");
    let mut patch = Command::new("patch");
    patch.args(["--strip=1", "--fuzz=0", "--input"]);
    run(patch
        .arg(ours.join("process_vm_flags.patch"))
        .current_dir(&tree))?;

    let jobs = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    say(&format!(
        "building Linux {SERIES} with the flags, {jobs} at a time"
    ));
    let options = ours.join("nowait.config");
    let make = |target: &str| {
        let mut make = Command::new("make");
        make.args(["-s", &format!("-j{jobs}"), target]);
        make.env("KCONFIG_ALLCONFIG", &options)
            .env_remove("MAKEFLAGS");
        run(make.current_dir(&tree))
    };
    make("allnoconfig")?;
    missing_options(&options, &tree.join(".config"))?;
    make("bzImage")?;

    let image = folder.join("bzImage");
    let built = tree.join("arch/x86/boot/bzImage");
    fs::copy(&built, &image).map_err(|e| format!("cannot copy {}: {e}", built.display()))?;
    let _ = fs::remove_dir_all(&tree);
    Ok(image)
}

/// The kernel's configuration drops what depends on something that is off, without a word.
fn missing_options(wanted: &Path, config: &Path) -> Result<(), String> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let config = read(config)?;
    let wanted = read(wanted)?;
    let wanted = wanted.lines().filter(|line| line.starts_with("CONFIG_"));
    let missing: Vec<&str> = wanted
        .filter(|option| !config.lines().any(|line| line == *option))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "the configuration does not take {}",
            missing.join(", ")
        ))
    }
}
