//! Where things lie, and how a chore runs other programs.
//!
//! Every program a chore starts goes through here, so that all of them say what they do and fail
//! alike: with the command that failed and what it said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// What chores make and may find again: below the target directory, so `cargo clean` removes it.
pub(crate) fn scratch() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(target).join("xtask")
}

/// Says on standard error what is being done.
pub(crate) fn say(what: &str) {
    eprintln!("xtask: {what}");
}

/// Runs a command whose output goes to standard error, so that standard output stays data.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .stdout(std::io::stderr())
        .stdin(std::process::Stdio::null())
        .status()
        .map_err(|error| format!("cannot start {}: {error}", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed: {status}", shown(command)))
    }
}

/// Runs a command for what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start {}: {error}", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} failed: {}", shown(command), said.trim()));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| format!("{} printed what is not UTF-8", shown(command)))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    format!("`{}`", words.join(" "))
}

/// Where cargo put the last program that it says it built (`--message-format=json`).
pub(crate) fn executable(said: &str) -> Option<PathBuf> {
    let built = said.split("\"executable\":\"").skip(1);
    built
        .filter_map(|rest| rest.split('"').next())
        .last()
        .map(PathBuf::from)
}
