//! Promise: on a kernel that can read another process without waiting, a name that is not in memory costs
//! the samples that need it, under `would fault` and in time, and nobody waits for it; the others have it
//! once it is there. The interpreter keeps the name on a page that nobody brings until it is asked to
//! (see `targets/stuck.py`). And a process whose first thread has ended has all of its names.

use std::process::Command;

use rprof_tests::beside::{
    Neighbours, as_its_clock_says, group, lost_of, run, run_this, ticks_of, window,
};
use rprof_tests::machine;
use rprof_tests::profile::{Profile, Stack};
use rprof_tests::python;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::skipped;
use rprof_tests::target::Target;

/// Samples of the function whose name was away.
fn hidden(profile: &Profile, pid: u32) -> u64 {
    let named = |f: &str| f.starts_with("hidden");
    let of = |stack: &Stack| stack.interpreted().any(|frame| named(&frame.function));
    profile.count(|stack| stack.pid == pid && of(stack))
}

#[test]
fn a_name_that_is_brought() {
    let test = "a_name_that_is_brought";
    if !machine::reads_without_waiting() {
        return skipped(test, "this kernel has no PROCESS_VM_NOWAIT");
    }
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut command: Command = python::system().command(&source_file("stuck.py"));
    let mut target = Target::start(&mut command);
    let neighbours = Neighbours::start(&scratch);
    let pid = target.pid();
    let pids = [pid, neighbours.c.pid(), neighbours.python.pid()];
    let group = group("brought");
    pids.iter().for_each(|&pid| group.take(pid));
    let folder = group.folder().display().to_string();
    let args = ["--all", "--cgroup", &folder, "--reads", "process-vm"];

    let (away, used) = run(&scratch, &args, &pids, |_| ());
    neighbours.check(&away, &used);
    as_its_clock_says(&away, pid, &used, ticks_of(&away, pid));
    assert_eq!(lost_of(&away, pid), ["would fault"], "{:?}", away.ledger);
    let lost = away.ledger.get("would fault");
    assert!(lost > 5 && hidden(&away, pid) == 0, "{:?}", away.ledger);

    // In the middle of a run: what came before that may still be named, what comes after it is.
    let (brought, used) = run(&scratch, &args, &pids, |_| {
        assert_eq!(target.ask("bring"), "brought\n");
    });
    neighbours.check(&brought, &used);
    as_its_clock_says(&brought, pid, &used, ticks_of(&brought, pid));
    let named = hidden(&brought, pid);
    println!("{lost} lost; then {named} named: {:?}", brought.ledger);
    assert!(named > 5, "{:?}", brought.ledger);

    // From now on nothing is lost.
    let (there, used) = run(&scratch, &args, &pids, |_| ());
    neighbours.check(&there, &used);
    assert_eq!(
        lost_of(&there, pid),
        Vec::<&str>::new(),
        "{:?}",
        there.ledger
    );
    let (named, plain) = (hidden(&there, pid), there.count(|stack| stack.has("plain")));
    println!(
        "{named} named, {plain} of the other thread, in {:?}",
        window()
    );
    assert!(named > 5 && plain > 5, "{:?}", there.ledger);
    machine::read_by_flags(test, &there);
}

/// By the process's own id nothing can be read any more. On a kernel that cannot read without waiting rprof
/// goes as far as it can: it looks at what may be read, and does not take the process for gone.
#[test]
fn names_of_a_process_without_its_first_thread() {
    let test = "names_of_a_process_without_its_first_thread";
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut command: Command = python::system().command(&source_file("stuck.py"));
    let mut target = Target::start(command.arg("headless"));
    let pid = target.pid();
    let record = || {
        let args = ["-p", &pid.to_string(), "-F", "99", "--reads", "process-vm"];
        let rprof = Rprof::new(&scratch, args).env("RPROF_FAULT", "pagemap-only:1");
        let (profile, used) = run_this(rprof, &[pid], |_| ());
        as_its_clock_says(&profile, pid, &used, ticks_of(&profile, pid));
        println!("{:?}", profile.ledger);
        profile
    };
    // Interpreters that run are learned before the first tick by their processes' ids.
    let lost = |profile: &Profile| {
        let mut lost = lost_of(profile, pid);
        lost.retain(|&column| column != "runtime being learned");
        lost.join(", ")
    };
    let away = record();
    if !machine::reads_without_waiting() {
        assert_eq!(lost(&away), "names not read");
        return skipped(test, "this kernel has no PROCESS_VM_NOWAIT");
    }
    assert_eq!(lost(&away), "would fault");
    assert!(hidden(&away, pid) == 0 && away.count(|stack| stack.has("plain")) > 5);

    assert_eq!(target.ask("bring"), "brought\n");
    let there = record();
    assert_eq!(lost(&there), "");
    assert!(hidden(&there, pid) > 5);
    machine::read_by_flags(test, &there);
}
