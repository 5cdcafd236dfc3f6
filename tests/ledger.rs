//! Promise: every expected tick ends in exactly one column. A loss that is brought about on purpose
//! shows in its own column and in no other, and the rest of the profile is there.

use std::process::Command;

use rprof_tests::ledger::Ledger;
use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::statistics::count_bound;
use rprof_tests::usage::start;
use rustix::process::Signal;

/// What each run has to keep to, whatever happens in it.
fn adds_up(profile: &Profile) {
    let ledger = &profile.ledger;
    assert_eq!(ledger.total(), ledger.expected, "{ledger:?}");
    let kept = ["resolved", "resolved by frame pointer", "truncated"].map(|name| ledger.get(name));
    assert_eq!(kept.iter().sum::<u64>(), profile.samples(), "{ledger:?}");
    let truncated = profile.count(|stack| !stack.is_complete());
    assert_eq!(ledger.get("truncated"), truncated, "{ledger:?}");
    assert_eq!(
        ledger.truncated.values().sum::<u64>(),
        truncated,
        "{ledger:?}"
    );
    // A sample is worth exactly 1/frequency: the file's nanoseconds say the same as its counts.
    let nanos: i64 = profile.stacks.iter().map(|stack| stack.nanos).sum();
    let worth = profile.samples() as i64 * profile.period;
    assert!(
        (nanos - worth).abs() <= profile.samples() as i64,
        "{nanos} ns of {worth}"
    );
}

/// Expected ticks come from the events' enabled time, and so from nothing but time: frequency ×
/// seconds × CPUs, but for one tick of each of the up to eight events of a CPU, and for the
/// milliseconds that events are enabled before and after the run's own clock looks.
fn expects_time(profile: &Profile, hertz: f64) {
    let cpus = machine::cpus().len() as f64;
    let seconds = profile.duration as f64 / 1e9;
    let time = hertz * seconds * cpus;
    let bound = 8.0 * cpus + 0.005 * time;
    let expected = profile.ledger.expected as f64;
    assert!(
        (expected - time).abs() <= bound,
        "{expected} ticks expected in {time:.1} ticks' time"
    );
}

/// Ticks in which the hypervisor ran something else, of all CPUs, since boot (`/proc/stat`).
fn stolen() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("the kernel's statistics");
    let first = stat.lines().next().expect("a line of all CPUs");
    let steal = first.split_whitespace().nth(8).expect("a column for steal");
    // In hundredths of a second.
    steal.parse::<f64>().expect("a number") / 100.0
}

#[test]
fn an_idle_machine() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let profile = Rprof::new(&scratch, ["--all", "-d", "3s"]).run().ok();
    adds_up(&profile);
    expects_time(&profile, 20.0);
    // rprof itself is all that it adds; what else runs here is not ours to say.
    let own = profile.count(|stack| stack.comm.starts_with("rprof")) as f64;
    assert!(
        own <= 0.1 * profile.ledger.expected as f64,
        "{own} samples of rprof: {:?}",
        profile.ledger
    );
}

#[test]
fn busy_cpus() {
    const HERTZ: f64 = 199.0;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let cpus = machine::cpus();
    // More CPU seconds than there are: all CPUs are busy to the end.
    let burners: Vec<_> = cpus
        .iter()
        .map(|cpu| {
            let mut command = Command::new("taskset");
            command
                .args(["-c", &cpu.to_string()])
                .arg(&program)
                .args(["main", "9"]);
            start(&mut command)
        })
        .collect();
    let before = stolen();
    let profile = Rprof::new(&scratch, ["--all", "-F", "199", "-d", "8s"])
        .run()
        .ok();
    let stolen = stolen() - before;
    for burner in burners {
        burner.finish();
    }
    adds_up(&profile);
    expects_time(&profile, HERTZ);
    let ledger = &profile.ledger;
    let idle = ledger.get("idle") as f64;
    assert!(idle <= 0.01 * ledger.expected as f64, "{ledger:?}");
    // Within 1 % of frequency × time. A tick that falls into time that the hypervisor gave to
    // somebody else is late, and late ticks of one event come as one.
    let missing = ledger.get("not delivered by the kernel") as f64;
    let bound = 0.01 * ledger.expected as f64 + stolen * HERTZ;
    println!(
        "{missing} not delivered of {}; {stolen} s stolen",
        ledger.expected
    );
    assert!(
        missing <= bound,
        "{missing} ticks not delivered, at most {bound:.0}: {ledger:?}"
    );
    // And of nothing else is lost much.
    let rest = ledger.lost() as f64 - missing;
    assert!(rest <= 0.005 * ledger.expected as f64, "{ledger:?}");
}

#[test]
fn a_command_and_its_neighbours() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let profile = Rprof::new(&scratch, ["--"])
        .arg(program)
        .args(["main", "2"])
        .run()
        .ok();
    adds_up(&profile);
    expects_time(&profile, 199.0);
    let kept = profile.samples() as f64;
    assert!(
        (kept - 398.0).abs() <= count_bound(398.0),
        "{:?}",
        profile.ledger
    );
}

/// A run of two programs in which something is made to fail.
fn with_fault(fault: &str) -> Profile {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let mut running = Rprof::new(&scratch, ["--all", "-F", "199"])
        .env("RPROF_FAULT", fault)
        .start();
    running.wait_until_sampling();
    let burners: Vec<_> = (0..2)
        .map(|_| start(Command::new(&program).args(["main", "2"])))
        .collect();
    for burner in burners {
        burner.finish();
    }
    running.signal(Signal::INT);
    running.finish().ok()
}

/// The columns that are losses, but for what a virtual machine loses on its own: a few ticks.
fn losses(ledger: &Ledger) -> Vec<&str> {
    let mut names: Vec<&str> = ledger.lost.iter().map(String::as_str).collect();
    let few = ledger.expected / 50;
    names.retain(|&name| name != "not delivered by the kernel" || ledger.get(name) > few);
    names
}

#[test]
fn a_full_ring() {
    // One page: a few samples, while the reader wakes a few times a second.
    let profile = with_fault("ring-bytes:4096");
    adds_up(&profile);
    assert_eq!(
        losses(&profile.ledger),
        ["ring full"],
        "{:?}",
        profile.ledger
    );
    let lost = profile.ledger.get("ring full");
    assert!(lost > 50, "{:?}", profile.ledger);
    // What found room is in the profile, with its names.
    let kept = profile.count(|stack| stack.is_complete() && stack.has("burn"));
    assert!(kept > 10, "{kept} samples are left: {:?}", profile.ledger);
}

#[test]
fn a_killed_worker() {
    let profile = with_fault("worker-panic:7");
    adds_up(&profile);
    assert_eq!(
        losses(&profile.ledger),
        ["worker lost"],
        "{:?}",
        profile.ledger
    );
    let lost = profile.ledger.get("worker lost");
    // The sample it died of, those in its queue, and all of its processes from then on; of two
    // programs at the same time at least one is another worker's or was seen before.
    assert!(lost >= 1, "{:?}", profile.ledger);
    let kept = profile.count(|stack| stack.is_complete() && stack.has("burn"));
    assert!(kept >= 6, "{kept} samples are left: {:?}", profile.ledger);
}
