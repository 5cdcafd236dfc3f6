//! Profiles of other profilers: Go's own, as `runtime/pprof` writes them.

use std::path::PathBuf;
use std::process::Command;

use rprof_tests::machine;
use rprof_tests::scratch::{Scratch, finish, source_file};

use crate::answer::{PASSED, REGRESSED, compare};

/// Runs of each version.
const RUNS: usize = 8;

/// Runs of three versions in turn, so that any two are interleaved: A B C, C B A, B A C, …
fn profiles(scratch: &Scratch, versions: [&str; 3]) -> [Vec<PathBuf>; 3] {
    let program = scratch.file("gate");
    let source = source_file("gate.go");
    let cache = format!("GOCACHE={}", scratch.file("cache").display());
    let mut go = Command::new("env");
    go.args([&cache, "GO111MODULE=off", "go", "build", "-o"]);
    finish(go.arg(&program).arg(source));
    let _alone = machine::alone();
    let mut files = [Vec::new(), Vec::new(), Vec::new()];
    for n in 0..RUNS {
        let order = [[0, 1, 2], [2, 1, 0]][n % 2];
        for version in order {
            let file = scratch.file(&format!("{version}-{n}.pb.gz"));
            let mut run = Command::new(&program);
            run.arg(&file).args(versions[version].split(' '));
            finish(&mut run);
            files[version].push(file);
        }
    }
    files
}

#[test]
fn profiles_of_go() {
    let scratch = Scratch::new();
    let versions = [
        "alpha 2000 beta 1500",
        "alpha 2000 beta 1500",
        "alpha 2000 beta 3500",
    ];
    let [base, same, dearer] = profiles(&scratch, versions);
    // A sample each 10 ms.
    let threshold = &["--threshold", "15%"];
    let answer = compare(&scratch, &[base.clone(), same], threshold);
    println!("{}", answer.said);
    answer.expect(PASSED).blames_nobody();
    let answer = compare(&scratch, &[base, dearer], threshold);
    println!("{}", answer.said);
    answer.expect(REGRESSED).blames("main.beta");
    assert!(!answer.said.contains("interleaved"), "{}", answer.said);
    let change = answer.change();
    assert!(change.has(57.0, 15.0), "{}", answer.said);
}
