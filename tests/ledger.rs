//! Promise: every expected tick ends in exactly one column. A loss that is brought about on purpose
//! shows in its own column and in no other, and the rest of the profile is there.

use std::process::Command;
use std::time::Duration;

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
    processes_add_up(profile);
    // A sample is worth exactly 1/frequency: the file's nanoseconds say the same as its counts.
    let nanos: i64 = profile.stacks.iter().map(|stack| stack.nanos).sum();
    let worth = profile.samples() as i64 * profile.period;
    assert!(
        (nanos - worth).abs() <= profile.samples() as i64,
        "{nanos} ns of {worth}"
    );
}

/// What a process kept is what the profile has of it; and no column of all processes is more than
/// the machine's.
fn processes_add_up(profile: &Profile) {
    let ledger = &profile.ledger;
    let kept = ["resolved", "resolved by frame pointer", "truncated"];
    for (pid, name, _) in &ledger.processes {
        let rows = ledger.processes.iter().filter(|(other, ..)| other == pid);
        let ticks = rows.map(|(.., row)| kept.iter().filter_map(|&c| row.get(c)).sum::<u64>());
        let ticks: u64 = ticks.sum();
        let samples: u64 = profile.of(*pid).map(|stack| stack.count).sum();
        assert_eq!(ticks, samples, "{name}, pid {pid}: {ledger:?}");
    }
    let columns = ledger
        .columns
        .iter()
        .filter(|(column, _)| kept.contains(&column.as_str()));
    for (column, &machine) in columns {
        let rows = ledger
            .processes
            .iter()
            .filter_map(|(.., row)| row.get(column));
        let sum: u64 = rows.sum();
        let fits = if ledger.not_listed == 0 {
            sum == machine
        } else {
            sum <= machine
        };
        assert!(
            fits,
            "{column}: processes have {sum} of {machine}: {ledger:?}"
        );
    }
    for (column, &n) in ledger.processes.iter().flat_map(|(.., row)| row) {
        assert!(
            n <= ledger.get(column),
            "{column}: one process has more than the machine: {ledger:?}"
        );
    }
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

/// Seconds of all CPUs since boot in a column of `/proc/stat` (proc(5): 4 idle, 5 iowait, 8 steal).
fn seconds(columns: &[usize]) -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("the kernel's statistics");
    let first = stat.lines().next().expect("a line of all CPUs");
    let words: Vec<&str> = first.split_whitespace().collect();
    // In hundredths of a second.
    columns
        .iter()
        .map(|&n| words[n].parse::<f64>().expect("a number") / 100.0)
        .sum()
}

#[test]
fn idle_time_is_the_kernels() {
    const HERTZ: f64 = 49.0;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut running = Rprof::new(&scratch, ["--all", "-F", "49"]).start();
    running.wait_until_sampling();
    let before = seconds(&[4, 5]);
    std::thread::sleep(Duration::from_secs(4));
    let idle = seconds(&[4, 5]) - before;
    running.signal(Signal::INT);
    let profile = running.finish().ok();
    adds_up(&profile);
    expects_time(&profile, HERTZ);
    // The kernel counts idle time by its own clock, rprof by ticks; both ends of the run lie some
    // milliseconds beyond the two looks.
    let (shown, expected) = (profile.ledger.get("idle") as f64, idle * HERTZ);
    let bound = count_bound(expected) + 0.02 * profile.ledger.expected as f64;
    // A virtual machine's host may let the timer of an idle CPU pass: those ticks are not delivered,
    // and it cannot be told what the CPU did.
    let most = shown + profile.ledger.get("not delivered by the kernel") as f64;
    println!("{shown} to {most} idle ticks, {expected:.0} by the kernel's account");
    assert!(
        shown <= expected + bound && most >= expected - bound,
        "{shown} idle, {expected:.0} expected: {:?}",
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
    let before = seconds(&[8]);
    let profile = Rprof::new(&scratch, ["--all", "-F", "199", "-d", "8s"])
        .run()
        .ok();
    let stolen = seconds(&[8]) - before;
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

/// Two programs at the same time, while something in rprof is made to fail.
fn with_fault(fault: &str) -> Profile {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let script = format!("{0} main 2 & {0} main 2; wait", program.display());
    let rprof = Rprof::new(&scratch, ["--", "sh", "-c", &script]);
    rprof.env("RPROF_FAULT", fault).run().ok()
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
