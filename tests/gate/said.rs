//! `rprof gate` as a job of CI has it: arguments go in; what it said on each output, and the files it left, come out.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rprof_tests::machine;
use rprof_tests::rprof::binary;
use rprof_tests::scratch::Scratch;
use serde_json::Value;

/// What a run of rprof left.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().expect("rprof runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    };
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    said
}

/// `rprof gate ARGS…`, in this folder.
pub(crate) fn gate(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("gate").args(args).current_dir(folder);
    command
}

/// All reports that have a file.
pub(crate) const REPORTS: [&str; 10] = [
    "--json",
    "a.json",
    "--junit",
    "a.xml",
    "--markdown",
    "a.md",
    "--gitlab",
    "g.json",
    "--flamegraph",
    "a.svg",
];

/// A file of the test's folder.
pub(crate) fn read(scratch: &Scratch, name: &str) -> String {
    std::fs::read_to_string(scratch.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What was written as JSON.
pub(crate) fn read_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What is in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Waits until it is so.
pub(crate) fn until(ordinary: Duration, is: impl Fn() -> bool) {
    let (began, patience) = (Instant::now(), machine::patience(ordinary));
    while !is() {
        assert!(began.elapsed() < patience, "it takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}
