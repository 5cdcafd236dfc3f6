//! Promise: who reads the names makes no difference to them; and what a kernel cannot do without
//! waiting is refused, not done some other way.

use std::collections::BTreeSet;

use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::python;
use rprof_tests::rprof::{Rprof, Run};
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::statistics::count_bound;

const HERTZ: f64 = 199.0;

/// A second of Python under `--reads HOW`.
fn record(scratch: &Scratch, how: &str) -> Run {
    let words = python::system().words(&source_file("short.py"), &["1000"]);
    Rprof::new(scratch, ["--reads", how, "--"])
        .args(words)
        .run()
}

/// Function, file and line of all Python frames that stand in `burn`'s stacks, with their depth.
fn names(profile: &Profile) -> BTreeSet<(usize, String, String, i64)> {
    let mut names = BTreeSet::new();
    let mut n = 0;
    for stack in &profile.stacks {
        let frames: Vec<_> = stack.interpreted().collect();
        if frames.first().is_none_or(|leaf| leaf.function != "burn") {
            continue;
        }
        n += stack.count;
        names.extend(frames.iter().enumerate().map(|(depth, f)| {
            // The leaf may be at any of its lines.
            let line = if depth == 0 { 0 } else { f.line };
            (depth, f.function.clone(), f.file.clone(), line)
        }));
    }
    // The interpreter's start takes some 20 ms of the second.
    let least = HERTZ * 0.95 - count_bound(HERTZ);
    assert!(
        n as f64 >= least,
        "{n} samples in burn: {:?}",
        profile.ledger
    );
    assert_eq!(
        profile.ledger.get("names not read"),
        0,
        "{:?}",
        profile.ledger
    );
    names
}

#[test]
fn whoever_reads_the_names_are_the_same() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut ways = vec!["auto", "context"];
    if machine::reads_without_waiting() {
        ways.push("process-vm");
    }
    let read = ways.iter().map(|how| names(&record(&scratch, how).ok()));
    let all: Vec<_> = read.collect();
    let functions: Vec<&str> = all[0].iter().map(|(_, name, ..)| name.as_str()).collect();
    assert_eq!(functions, ["burn", "outer", "<module>"]);
    for (other, how) in all.iter().zip(ways) {
        assert_eq!(other, &all[0], "{how}");
    }
}

#[test]
fn what_the_kernel_cannot_do_is_refused() {
    if machine::reads_without_waiting() {
        println!("SKIPPED: what_the_kernel_cannot_do_is_refused: this kernel can do all of it");
        return;
    }
    let scratch = Scratch::new();
    let run = record(&scratch, "process-vm").expect(2);
    let lines: Vec<&str> = run.stderr.lines().collect();
    // One sentence, and what to type instead: the same without the option.
    let [sentence, next] = lines[..] else {
        panic!("{}", run.stderr);
    };
    assert!(
        sentence.starts_with("rprof: --reads process-vm needs a kernel"),
        "{sentence}"
    );
    assert!(sentence.contains("PROCESS_VM_NOWAIT"), "{sentence}");
    assert!(next.starts_with("  try: "), "{next}");
    assert!(
        !next.contains("--reads") && next.contains("short.py"),
        "{next}"
    );
    assert!(!run.output.exists(), "a refused run leaves a file");
}
