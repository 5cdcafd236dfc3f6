//! Promise: rprof loses no tick because the machine swaps. What is sampled is pushed out of memory and
//! walks through it again, rprof and its readers are in the same group, which may have but a part of
//! what both want, and stay in memory.

use std::path::Path;
use std::process::Command;

use rprof_tests::beside::{as_its_clock_says, is_early, lost_of, run_this, ticks_of, window};
use rprof_tests::machine::{self, Cgroup};
use rprof_tests::rprof::{Rprof, binary};
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::skipped;
use rprof_tests::target::Target;
use rprof_tests::tasks::of_children;

/// What the target walks through, and what it and rprof may have together.
const WANTED: u64 = 96;
const ALLOWED: u64 = 64;

/// KiB of a line of a status file.
fn kib(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn bytes(folder: &Path, file: &str) -> u64 {
    let text = std::fs::read_to_string(folder.join(file)).expect("a file of the group");
    text.trim().parse().expect("bytes")
}

#[test]
fn no_tick_is_lost_under_pressure() {
    let test = "no_tick_is_lost_under_pressure";
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let group = Cgroup::new(&format!("rprof-test-{}-swaps", std::process::id()));
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let limit = group.folder().join("memory.max");
    if swaps.lines().count() < 2 || !limit.exists() {
        return skipped(test, "no swap space, or no cgroup that bounds memory");
    }
    std::fs::write(limit, (ALLOWED << 20).to_string()).expect("a limit");
    let program = scratch.cc("pressed.c", "pressed", OPTIMIZED);
    let mut target = Target::start(Command::new(program).arg(WANTED.to_string()));
    let pid = target.pid();
    group.take(pid);
    let out = target.ask("go");
    println!("{out} of {} pages", WANTED << 8);
    let out: u64 = out
        .trim()
        .strip_prefix("out ")
        .and_then(|n| n.parse().ok())
        .expect("pages");
    assert!(out > (WANTED - ALLOWED) << 8, "{out} pages");

    // What it has is charged to the group that it was in: it begins there.
    let mut shell = Command::new("sh");
    let enters = "echo $$ >\"$1\"/cgroup.procs && shift && exec \"$@\"";
    shell
        .args(["-c", enters, "sh"])
        .arg(group.folder())
        .arg(binary());
    let rprof = Rprof::within(&scratch, shell);
    let output = rprof.output().to_path_buf();
    let rprof = rprof
        .args(["-F", "99", "--all", "--cgroup"])
        .arg(group.folder());
    let rprof = rprof.arg("-o").arg(output);
    let mut seen = None;
    let (profile, used) = run_this(rprof, &[pid], |running| {
        let readers = of_children(running.pid());
        let all = [running.pid()]
            .into_iter()
            .chain(readers.iter().map(|task| task.tid));
        let own: Vec<_> = all
            .filter_map(|pid| Some((kib(pid, "VmLck:")?, kib(pid, "VmSwap:")?)))
            .collect();
        seen = Some((own, bytes(group.folder(), "memory.swap.current")));
    });
    let (own, swapped) = seen.expect("it ran");
    let events = std::fs::read_to_string(group.folder().join("memory.events"));
    let events = events.expect("a file of the group");
    assert!(events.contains("oom_kill 0"), "{events}");
    println!("rprof and its readers, KiB locked and swapped: {own:?}; in swap: {swapped} bytes");
    assert!(
        swapped > (WANTED - ALLOWED) << 20,
        "{swapped} bytes in swap"
    );
    // Before it has locked its memory nothing is wrong with a page that it left there; what counts is
    // that nothing of what it works with goes.
    assert!(
        own.iter().all(|&(locked, out)| locked > 0 && out == 0),
        "{own:?}"
    );

    let ticks = ticks_of(&profile, pid);
    as_its_clock_says(&profile, pid, &used, ticks);
    // Its own stack may be out, and that is said.
    for column in lost_of(&profile, pid) {
        assert_eq!(column, "would fault", "{:?}", profile.ledger);
    }
    let whole = profile.count(|stack| stack.pid == pid && stack.is_complete());
    let early = profile.count(|stack| stack.pid == pid && is_early(stack));
    println!(
        "{ticks} ticks in {:?}, {whole} whole, {early} early: {:?}",
        window(),
        profile.ledger
    );
    assert!(
        ticks > 20 && (whole + early) as f64 >= 0.9 * ticks as f64,
        "{:?}",
        profile.ledger
    );
}
