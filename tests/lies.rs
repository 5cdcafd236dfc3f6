//! Promise: a program that lies about itself costs bounded work, and a counted loss of its own samples; no
//! other process has a wrong name for it. The liar embeds the same interpreter as the Python program beside
//! it, and writes over its structures (see `targets/liar.c`).

use std::process::Command;

use rprof_tests::beside::{Neighbours, as_its_clock_says, group, lost_of, run_this, ticks_of};
use rprof_tests::cost::{Stats, run_time};
use rprof_tests::machine;
use rprof_tests::python::Interpreter;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::Scratch;
use rprof_tests::target::Target;

/// Microseconds that a tick of the liar may take, if it is charged with all other ticks of the machine, too:
/// its walk ends after 250.
const MOST: f64 = 500.0;

/// So that a program whose every tick takes its 250 µs is within the hundredth of a CPU that ticks may take:
/// beyond it, the rate is lowered for its neighbours, too.
const HERTZ: &str = "33";

/// Runs the liar beside two honest programs; what ends its stacks at the root.
fn liar(what: &str, lost: &[&str]) -> Vec<(String, u64)> {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let flags = ["-O2", "-g", "-I/usr/include/python3.11", "-lpython3.11"];
    let honest = Interpreter {
        program: scratch.cc("embedded_python.c", "python3.11", &flags),
        shared: true,
    };
    let liar = scratch.cc("liar.c", "liar", &flags);
    let group = group("lies");
    let target = Target::start(Command::new(liar).arg(what));
    let neighbours = Neighbours::with(&scratch, &honest);
    let pid = target.pid();
    let pids = [pid, neighbours.c.pid(), neighbours.python.pid()];
    pids.iter().for_each(|&pid| group.take(pid));
    let folder = group.folder().display().to_string();
    let _stats = Stats::on();
    let mut before = Default::default();
    let mut spent = None;
    let mut rprof = Rprof::new(&scratch, ["--all", "--cgroup", &folder, "-F", HERTZ]);
    if machine::slower() > 1 {
        // A liar's stacks are of the deepest; who empties the ring may not run for seconds there.
        rprof = rprof.env("RPROF_FAULT", "ring-bytes:8388608");
    }
    let (profile, used) = run_this(rprof, &pids, |running| {
        before = run_time(running.pid());
        std::thread::sleep(std::time::Duration::from_secs(1));
        spent = Some(run_time(running.pid()));
    });
    neighbours.check(&profile, &used);
    as_its_clock_says(&profile, pid, &used, ticks_of(&profile, pid));
    for column in lost_of(&profile, pid) {
        // A reader that is at work is not silent; on a slow machine it may look as if it were.
        let is_slow = machine::slower() > 1 && column == "quarantined";
        assert!(
            lost.contains(&column) || is_slow,
            "{column}: {:?}",
            profile.ledger
        );
    }
    let lies = |name: &str| name.starts_with("lie");
    for stack in profile.stacks.iter().filter(|stack| stack.pid != pid) {
        let lie = stack.frames.iter().find(|frame| lies(&frame.function));
        assert_eq!(lie, None, "{}", stack.text());
    }
    // All ticks, those of others too, in a second of the run.
    let after = spent.expect("it ran");
    let ticks = (after.ticks - before.ticks) as f64;
    let micros = (after.nanos - before.nanos) as f64 / 1e3;
    let share = ticks_of(&profile, pid) as f64 / (profile.ledger.total() as f64);
    let each = micros / (ticks * share);
    println!("{what}: {micros:.0} µs in {ticks} ticks, at most {each:.0} µs for each of the liar");
    // There a tick may take fifty times as long (see `Rprof::start`).
    let most = if machine::slower() > 1 {
        50.0 * MOST
    } else {
        MOST
    };
    assert!(each < most, "{each} µs: {:?}", profile.ledger);
    let mut ends: Vec<(String, u64)> = Vec::new();
    for stack in profile.of(pid) {
        let end = stack.frames.last().map_or("", |frame| &frame.function);
        match ends.iter_mut().find(|(other, _)| other == end) {
            Some((_, n)) => *n += stack.count,
            None => ends.push((end.into(), stack.count)),
        }
    }
    println!("{what}: {ends:?}; lost: {:?}", lost_of(&profile, pid));
    ends
}

#[test]
fn a_frame_that_is_its_own_caller() {
    let ends = liar("cycle", &[]);
    assert!(
        ends.iter().all(|(end, _)| end.starts_with("[truncated: ")),
        "{ends:?}"
    );
}

#[test]
fn frames_in_the_kernel() {
    liar("kernel", &["would fault"]);
}

#[test]
fn names_without_end() {
    liar("lengths", &["would fault", "names not read"]);
}

#[test]
fn a_code_object_that_changes() {
    liar("changing", &["would fault", "names not read", "changed"]);
}

#[test]
fn threads_without_end() {
    liar("threads", &[]);
}
