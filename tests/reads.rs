//! Promise: who reads the names makes no difference to them; and what a kernel cannot do without
//! waiting is refused, not done some other way.

use std::collections::BTreeSet;
use std::time::Duration;

use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::python;
use rprof_tests::rprof::{Rprof, Run};
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::statistics::count_bound;

const HERTZ: f64 = 199.0;

/// How long the program runs.
fn length() -> Duration {
    machine::longer(Duration::from_secs(1))
}

/// A second of Python under `--reads HOW`.
fn record(scratch: &Scratch, how: &str) -> Run {
    let milliseconds = length().as_millis().to_string();
    let words = python::system().words(&source_file("short.py"), &[&milliseconds]);
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
    // The interpreter's start takes some 20 ms of that.
    let start = machine::patience(Duration::from_millis(50));
    let expected = HERTZ * (length() - start).as_secs_f64();
    let least = expected - count_bound(expected);
    assert!(
        n as f64 >= least,
        "{n} samples in burn: {:?}",
        profile.ledger
    );
    // What the interpreter made for its start only, and gave back before anyone read it.
    let most = match machine::slower() {
        1 => 0,
        _ => (HERTZ * start.as_secs_f64()) as u64,
    };
    assert!(
        profile.ledger.get("names not read") <= most,
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
    let read = ways.iter().map(|how| {
        let profile = record(&scratch, how).ok();
        if *how == "process-vm" {
            machine::read_by_flags("whoever_reads_the_names_are_the_same", &profile);
        }
        names(&profile)
    });
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
