//! Promise: rprof's own pages, and its readers', stay in memory while the machine swaps. Where they may not
//! be locked, that is said, and all else works.

use std::process::Command;
use std::time::Duration;

use rprof_tests::machine;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::target::Target;
use rprof_tests::tasks::of_children;
use rustix::process::Signal;

/// What is said where nothing may be locked.
const SAID: &str = "rprof's memory is not locked";

/// KiB of a line of a status file.
fn kib(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether all that a process has in memory stays there: the lock is on all of its mappings, but for the
/// few that belong to the kernel.
fn is_locked(pid: u32) -> Option<bool> {
    let (locked, mapped) = (kib(pid, "VmLck:")?, kib(pid, "VmSize:")?);
    Some(mapped > 0 && locked * 10 >= mapped * 9)
}

#[test]
fn is_locked_and_its_readers_too() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let burn = scratch.cc("burn.c", "burn", OPTIMIZED);
    let _target = Target::start(Command::new(burn).args(["threads", "600", "1"]));
    let mut running = Rprof::new(&scratch, ["--all", "-F", "49"]).start();
    running.wait_until_sampling();
    let wait = Duration::from_secs(5);
    machine::wait_for("rprof is locked", wait, || {
        is_locked(running.pid())?.then_some(())
    });
    machine::wait_for("a reader is locked", wait, || {
        let mut readers = of_children(running.pid()).into_iter();
        let locked = |pid| is_locked(pid) == Some(true);
        readers.any(|reader| locked(reader.tid)).then_some(())
    });
    running.signal(Signal::INT);
    let run = running.finish().expect(0);
    assert!(!run.stderr.contains(SAID), "{}", run.stderr);
}

#[test]
fn it_goes_before_those_that_it_watches() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let running = Rprof::new(&scratch, ["--all"]).start();
    // Its maps are made before it samples.
    machine::wait_for("a map", Duration::from_secs(20), || {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", running.pid())).ok()?;
        let links = folder
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let mut maps = links.filter(|link| link.to_string_lossy().contains("bpf-map"));
        maps.next().map(drop)
    });
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", running.pid()));
    assert_eq!(score.expect("it runs").trim(), "900");
}

#[test]
fn a_low_limit_is_said_and_no_more() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let burn = scratch.cc("burn.c", "burn", OPTIMIZED);
    let mut shell = Command::new("sh");
    let less = "ulimit -l 64 && exec setpriv --bounding-set=-ipc_lock \"$@\"";
    shell
        .args(["-c", less, "sh"])
        .arg(rprof_tests::rprof::binary());
    let rprof = Rprof::within(&scratch, shell).args(["-F", "199", "-o", "out.pb.gz", "--"]);
    let run = rprof.arg(&burn).args(["main", "0.3"]).run().expect(0);
    assert!(run.stderr.contains(SAID), "{}", run.stderr);
    let profile = run.profile();
    let samples = profile.count(|stack| stack.has("burn"));
    assert!(samples > 20, "{:?}", profile.ledger);
}
