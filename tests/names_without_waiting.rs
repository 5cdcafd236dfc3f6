//! Promise: on a kernel that can read another process without waiting, a name that is not in memory costs
//! the samples that need it, under `would fault` and in time, and nobody waits for it; the others have it
//! once it is there. The interpreter keeps the name on a page that nobody brings until it is asked to
//! (see `targets/stuck.py`).

use std::process::Command;

use rprof_tests::beside::{Neighbours, as_its_clock_says, group, lost_of, run, ticks_of, window};
use rprof_tests::machine;
use rprof_tests::profile::{Profile, Stack};
use rprof_tests::python;
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
