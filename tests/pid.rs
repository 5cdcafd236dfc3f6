//! Promise: `rprof -p PID` profiles running processes, all their threads and nobody else, until they
//! end or somebody says stop.

use std::process::Command;
use std::time::Duration;

use rprof_tests::beside::is_early;
use rprof_tests::machine;
use rprof_tests::profile::Stack;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::statistics::count_bound;
use rprof_tests::target::Target;
use rprof_tests::usage::cpu_seconds;
use rustix::process::{Pid, Signal, kill_process};

const HERTZ: f64 = 199.0;

fn burning(scratch: &Scratch, args: &[&str]) -> Target {
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    Target::start(Command::new(program).args(args))
}

#[test]
fn a_program_of_many_threads() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let target = burning(&scratch, &["threads", "60", "5"]);
    let other = burning(&scratch, &["threads", "60", "1"]);
    let pid = target.pid();
    let mut running = Rprof::new(&scratch, ["-p", &pid.to_string()]).start();
    running.wait_until_sampling();
    let before = cpu_seconds(pid);
    let seconds = machine::wait_for("two seconds of its CPU", Duration::from_secs(30), || {
        Some(cpu_seconds(pid) - before).filter(|&seconds| seconds >= 2.0)
    });
    running.signal(Signal::INT);
    let profile = running.finish().ok();
    drop(other);

    assert_eq!(profile.count(|stack| stack.pid != target.pid()), 0);
    // Where rprof itself waits long for a CPU, libc's file may still be looked for at first.
    let early = |stack: &&Stack| machine::slower() > 1 && is_early(stack);
    let burn = profile.stacks.iter().filter(|stack| stack.has("burn"));
    let all: u64 = burn.clone().map(|stack| stack.count).sum();
    let burn: Vec<_> = burn.filter(|stack| !early(stack)).collect();
    let late: u64 = burn.iter().map(|stack| stack.count).sum();
    assert!(late * 10 >= all * 9, "{late} of {all}");
    for stack in &burn {
        // Below a thread's function: start_thread and clone3 of glibc.
        assert!(
            stack.is_complete() && stack.has("thread"),
            "{}",
            stack.text()
        );
        let below = stack.from("thread").expect("it has").len() - 1;
        assert_eq!(below, 2, "{}", stack.text());
    }
    let mut threads: Vec<u32> = burn.iter().map(|stack| stack.tid).collect();
    threads.sort_unstable();
    threads.dedup();
    assert_eq!(threads.len(), 5, "{threads:?}");
    // Between the two looks at the clock and the two ends of the run: some milliseconds, in which
    // it may get the larger part of two CPUs.
    let n = profile.samples() as f64;
    let expected = seconds * HERTZ;
    let bound = count_bound(expected) + 0.05 * expected;
    assert!(
        (n - expected).abs() <= bound,
        "{n} samples, {expected} expected: {:?}",
        profile.ledger
    );
}

#[test]
fn with_children() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let script = format!(
        "echo ready; read line; exec {} children 0.3 4",
        program.display()
    );
    for (option, seen) in [(Some("--children"), true), (None, false)] {
        let target = Target::start(Command::new("sh").args(["-c", &format!("{script}; :")]));
        let pid = target.pid().to_string();
        let mut running = Rprof::new(&scratch, option.into_iter().chain(["-p", &pid])).start();
        running.wait_until_sampling();
        // The end of its input starts the children.
        let (said, _) = target.end();
        let profile = running.finish().ok();
        assert_eq!(said.lines().count(), 4, "{said}");
        let n = profile.count(|stack| stack.has("burn") && stack.pid.to_string() != pid) as f64;
        let expected = if seen { 1.2 * HERTZ } else { 0.0 };
        let bound = if seen { count_bound(expected) } else { 0.0 };
        assert!(
            (n - expected).abs() <= bound,
            "{option:?}: {n} samples, {expected} expected"
        );
    }
}

#[test]
fn the_end_of_the_process_ends_the_run() {
    let scratch = Scratch::new();
    let target = burning(&scratch, &["threads", "60", "1"]);
    let mut running = Rprof::new(&scratch, ["-p", &target.pid().to_string()]).start();
    running.wait_until_sampling();
    let pid = target.pid();
    // It has burned since before it was sampled, on a slow machine for seconds.
    let enough = cpu_seconds(pid) + machine::longer(Duration::from_millis(500)).as_secs_f64();
    machine::wait_for("half a second of its CPU", Duration::from_secs(20), || {
        (cpu_seconds(pid) > enough).then_some(())
    });
    kill_process(Pid::from_raw(pid as i32).expect("a pid"), Signal::KILL).expect("our own");
    drop(target);
    let run = running.finish().expect(0);
    assert!(
        run.took < machine::patience(Duration::from_secs(5)),
        "{:?}",
        run.took
    );
    // Its file can be read on after its end: what was sampled has names.
    assert!(
        run.profile()
            .count(|stack| stack.has("burn") && stack.is_complete())
            > 20
    );
}

#[test]
fn what_is_no_process() {
    let scratch = Scratch::new();
    let target = burning(&scratch, &["threads", "60", "1"]);
    let threads = std::fs::read_dir(format!("/proc/{}/task", target.pid())).expect("it runs");
    let ids = threads
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let thread = ids
        .into_iter()
        .find(|id| *id != target.pid().to_string())
        .expect("a second thread");
    let pid = target.pid().to_string();
    let unknown = "2147483646".to_string();
    for (typed, said) in [
        (unknown.clone(), "2147483646"),
        (format!("{pid},{unknown}"), "2147483646"),
        (thread.clone(), "thread"),
        ("0".into(), "0"),
        ("-5".into(), "-5"),
        ("x".into(), "x"),
    ] {
        let run = Rprof::new(&scratch, ["-p", &typed]).run().expect(2);
        assert!(run.stderr.contains(said), "{typed}: {}", run.stderr);
        assert!(!run.output.exists());
    }
}
