//! Promise: what two versions of a program cost is compared by runs; what is dearer is found, and named; what is not
//! is not said to be.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rprof_tests::rprof::{Rprof, binary};
use rprof_tests::scratch::{OPTIMIZED, Scratch};

/// Runs a side.
const RUNS: usize = 8;

/// Profiles of runs of two versions, interleaved (A B B A …): the arguments of each are its version.
fn profiles(scratch: &Scratch, program: &Path, versions: [&[&str]; 2]) -> [Vec<PathBuf>; 2] {
    let mut files = [Vec::new(), Vec::new()];
    for n in 0..2 * RUNS {
        let side = usize::from([false, true, true, false][n % 4]);
        let file = scratch.file(&format!("{side}-{n}.pb.gz"));
        let run = Rprof::bare(scratch, ["-F", "999"])
            .args(["-o", file.to_str().expect("a path"), "--"])
            .args([program.to_str().expect("a path")])
            .args(versions[side])
            .run();
        run.expect(0);
        files[side].push(file);
    }
    files
}

fn compare(files: &[Vec<PathBuf>; 2], more: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary());
    command.args(["gate", "compare", "--base"]).args(&files[0]);
    command.arg("--head").args(&files[1]).args(more);
    let Output { status, stderr, .. } = command.output().expect("rprof runs");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    (status.code().expect("an exit code"), said)
}

/// The functions under a title.
fn listed(said: &str, title: &str) -> Vec<String> {
    let lines = said.lines().skip_while(|line| line.trim() != title).skip(1);
    let lines = lines.take_while(|line| line.starts_with("    "));
    lines
        .filter_map(|line| line.split(")  ").nth(1))
        .map(|name| name.split(' ').next().unwrap_or_default().to_string())
        .collect()
}

#[test]
fn a_function_that_is_dearer() {
    let scratch = Scratch::new();
    let program = scratch.cc("gate.c", "gate", OPTIMIZED);
    let files = profiles(
        &scratch,
        &program,
        [
            &["alpha", "4000", "beta", "4000", "child", "2000"],
            &["alpha", "4000", "beta", "6000", "child", "2000"],
        ],
    );
    let (code, said) = compare(&files, &[]);
    assert_eq!(code, 3, "{said}");
    assert_eq!(listed(&said, "dearer")[0], "beta", "{said}");
    assert!(
        listed(&said, "their callers").contains(&"main".into()),
        "{said}"
    );
    // The same files, the same answer.
    assert_eq!(compare(&files, &[]), (code, said));
    // It may be.
    let (code, said) = compare(&files, &["--threshold", "60%"]);
    assert_eq!(code, 0, "{said}");
    // The other way round nothing is dearer.
    let [base, head] = files;
    let (code, said) = compare(&[head, base], &[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(listed(&said, "cheaper")[0], "beta", "{said}");
}

#[test]
fn work_that_moves() {
    let scratch = Scratch::new();
    let program = scratch.cc("gate.c", "gate", OPTIMIZED);
    let files = profiles(
        &scratch,
        &program,
        [
            &["alpha", "6000", "beta", "2000"],
            &["twin", "6000", "beta", "2000"],
        ],
    );
    let (code, said) = compare(&files, &[]);
    assert_ne!(code, 3, "{said}");
    assert!(said.contains("alpha seems to be twin now"), "{said}");
}

#[test]
fn what_cannot_be_compared() {
    let scratch = Scratch::new();
    let none = scratch.file("none.pb.gz");
    let text = scratch.file("text.pb.gz");
    std::fs::write(&text, "a text").expect("a file");
    let files = |of: &Path| [vec![of.into(), of.into()], vec![of.into(), of.into()]];
    for (files, more, code, why) in [
        (files(&none), &[][..], 1, "No such file"),
        (files(&text), &[], 1, "is not in the format of pprof"),
        (
            [vec![text.clone()], vec![text.clone(); 2]],
            &[],
            2,
            "--base has 1 run:",
        ),
        (files(&text), &["--threshold", "0"], 2, "more than 0 %"),
        (files(&text), &["--threshold", "much"], 2, "is no share"),
    ] {
        let (exit, said) = compare(&files, more);
        assert_eq!(exit, code, "{said}");
        assert!(said.contains(why) && said.contains("try:"), "{why}: {said}");
    }
}
