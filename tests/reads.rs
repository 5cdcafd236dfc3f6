//! Promise: who reads the names makes no difference to them; and what a kernel cannot do without
//! waiting is refused, not done some other way.

use std::collections::BTreeSet;
use std::io::Error;

use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::python;
use rprof_tests::rprof::{Rprof, Run};
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::statistics::count_bound;

/// `PROCESS_VM_PIDFD` and `PROCESS_VM_NOWAIT`; a kernel that has neither answers EINVAL to any flag.
const FLAGS: [libc::c_ulong; 2] = [1, 2];
const HERTZ: f64 = 199.0;

/// Whether this kernel reads other processes by pidfd and without waiting, as it says itself.
fn kernel_has_flags() -> bool {
    FLAGS.iter().all(|&flag| {
        // SAFETY: no vector is read or written.
        let n =
            unsafe { libc::process_vm_readv(0, std::ptr::null(), 0, std::ptr::null(), 0, flag) };
        n == 0 || Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
    })
}

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
    if kernel_has_flags() {
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
    if kernel_has_flags() {
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
