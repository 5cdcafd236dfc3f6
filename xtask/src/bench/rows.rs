//! Milliseconds to make and encode the unwind rows of large files, the page cache warm: the example
//! `rows` of `unwind/`, on `node` and on the Rust compiler's driver where they are, and scaled to
//! 100 MB of file.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Bench;
use super::agent::Agent;
use super::table::Row;
use crate::Outcome;
use crate::workspace::output;

const NODE: Row = Row::at_most("rows of node, ms for 100 MB of file", 100.0);
const DRIVER: Row = Row::at_most("rows of librustc_driver, ms for 100 MB of file", 100.0);

pub(super) fn run(bench: &mut Bench) -> Outcome {
    if let Some(node) = which("node") {
        measure(bench, NODE, &node)?;
    }
    if let Some(driver) = driver() {
        measure(bench, DRIVER, &driver)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, row: Row, file: &Path) -> Outcome {
    let (said, weather) = bench.example("rprof-unwind", "rows", &[file.as_os_str()])?;
    // `…; rows 36.1 ms, encoding 3.5 ms; …`
    let after = |word: &str| {
        let rest = said.split_once(word)?.1;
        rest.split(' ').next()?.parse::<f64>().ok()
    };
    let millis = after("; rows ")
        .zip(after(" encoding "))
        .map(|(rows, encoding)| rows + encoding)
        .ok_or_else(|| format!("the example said {said:?}"))?;
    let bytes = std::fs::metadata(file)
        .map_err(|e| format!("{}: {e}", file.display()))?
        .len();
    bench.add(row, Agent::Rprof, millis * 1e8 / bytes as f64, weather);
    Ok(())
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let files = std::env::split_paths(&path).map(|folder| folder.join(program));
    files.into_iter().find(|file| file.is_file())
}

/// The Rust compiler's library, some 150 MB.
fn driver() -> Option<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
    let entries = std::fs::read_dir(Path::new(sysroot.trim()).join("lib")).ok()?;
    let mut files = entries.flatten().map(|entry| entry.path());
    files.find(|file| {
        file.file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("librustc_driver"))
    })
}
