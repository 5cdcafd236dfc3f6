//! Two programs that nothing is wrong with, beside one that misbehaves: all are sampled together, and the
//! two have all of their samples.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account::adds_up;
use crate::machine::{Cgroup, cpus, longer, patience, slower, wait_for};
use crate::profile::{Profile, Stack};
use crate::python::{self, Interpreter};
use crate::rprof::{Rprof, Running};
use crate::scratch::{OPTIMIZED, Scratch, source_file};
use crate::statistics::count_bound;
use crate::target::Target;
use crate::tasks::{Task, lives, of_children, of_group, of_process, waits_in};
use crate::usage::cpu_seconds;

/// So that a machine on which much else runs is within what rprof may cost. Arguments may say another.
const HERTZ: f64 = 99.0;
/// How long rprof samples, at least: long enough for some hundred samples, and to learn files first.
pub fn window() -> Duration {
    longer(WINDOW)
}
const WINDOW: Duration = Duration::from_millis(1500);
/// CPU seconds that who wants a CPU is to get in each half of it, some dozen samples; and how many times longer
/// it is for that at most, on a machine on which much else runs. (With the other half it ends before what is
/// in quarantine is asked again.)
const ENOUGH: f64 = 0.25;
const LONGER: u32 = 4;
/// From Ctrl-C to the end: names are looked up and a profile is written, on a machine on which other
/// things run. What is stuck is so for ever.
const ON_TIME: Duration = Duration::from_secs(10);

/// CPU seconds of processes while they were looked at, and how long that was.
pub struct Used {
    cpu: HashMap<u32, f64>,
    window: Duration,
}

impl Used {
    /// Whether a process was there from the first look to the last.
    pub fn has(&self, pid: u32) -> bool {
        self.cpu.contains_key(&pid)
    }
}

/// Two programs that nothing is wrong with.
pub struct Neighbours {
    /// Burns in `burn`.
    pub c: Target,
    /// Runs `neighbour.py`.
    pub python: Target,
}

impl Neighbours {
    /// Starts both.
    pub fn start(scratch: &Scratch) -> Self {
        Self::with(scratch, &python::system())
    }

    /// The same, with an interpreter.
    pub fn with(scratch: &Scratch, interpreter: &Interpreter) -> Self {
        let burn = scratch.cc("burn.c", "burn", OPTIMIZED);
        let script = source_file("neighbour.py");
        Self {
            c: Target::start(Command::new(burn).args(["threads", "600", "1"])),
            python: Target::start(&mut interpreter.command(&script)),
        }
    }

    /// All of their samples are there, with their whole stacks.
    ///
    /// # Panics
    /// If they are not.
    pub fn check(&self, profile: &Profile, used: &Used) {
        let in_c = |stack: &Stack| stack.has("burn") && stack.has("thread");
        check(profile, self.c.pid(), used, in_c);
        let in_python = |stack: &Stack| {
            let names: Vec<_> = stack.interpreted().map(|f| f.function.as_str()).collect();
            names.ends_with(&["middle", "root", "<module>"]) && !stack.has("[unknown]")
        };
        check(profile, self.python.pid(), used, in_python);
    }
}

/// The end of a stack in a file that was not known yet.
pub const LEARNED: &str = "[truncated: module being learned]";
/// What a stack of such a file may end in for moments, which a slow machine has many samples of.
const ALMOST: [&str; 7] = [
    "[truncated: stack not copied]",
    "[truncated: file not found]",
    "[truncated: no unwind row]",
    "[truncated: native]",
    "[truncated: module being read]",
    "[truncated: stack slice]",
    "[truncated: time]",
];
const LEARNING: &str = "runtime being learned";

/// Whether a stack was cut because a file was not known yet.
pub fn is_early(stack: &Stack) -> bool {
    stack.has(LEARNED) || slower() > 1 && ALMOST.iter().any(|end| stack.has(end))
}

/// The part of a run's samples that may be early: what learning takes is the same for each run, and a
/// slow machine may share its processors with whatever emulates them. Where a run had to be longer because
/// its programs had to wait for CPUs ([`ENOUGH`]), rprof had to wait as well, and no process has more samples.
fn early_share(profile: &Profile) -> f64 {
    if slower() > 1 {
        return 0.5;
    }
    let ticks = profile.ledger.expected as f64 / cpus().len() as f64;
    let ran = ticks * profile.period as f64 / 1e9;
    0.05 * (ran / window().as_secs_f64()).clamp(1.0, f64::from(LONGER))
}

/// A process has as many samples as its CPU clock says, complete and named, and lost none.
fn check(profile: &Profile, pid: u32, used: &Used, whole: impl Fn(&Stack) -> bool) {
    let n = profile.count(|stack| stack.pid == pid);
    as_its_clock_says(profile, pid, used, ticks_of(profile, pid));
    let whole = |stack: &Stack| stack.is_complete() && whole(stack);
    let good = profile.count(|stack| stack.pid == pid && whole(stack));
    let early = profile.count(|stack| stack.pid == pid && is_early(stack));
    let bad = profile
        .of(pid)
        .find(|stack| !whole(stack) && !is_early(stack));
    println!("pid {pid}: {good} of {n} whole, {early} before its files were known");
    let few = |most: f64, some: u64| is_few(most, some, n);
    assert!(
        n > 5 && few(early_share(profile), early) && few(0.01, n - early - good),
        "pid {pid}: {good} of {n} are whole, {early} early; {}{:?}",
        bad.map_or(String::new(), Stack::text),
        profile.ledger
    );
    let mut lost = lost_of(profile, pid);
    let ticks = ticks_of(profile, pid);
    // While the kernel moves a page it is nowhere: on an emulated processor for long enough to be met.
    if slower() > 1 && few(0.01, profile.ledger.get("would fault")) {
        lost.retain(|column| *column != "would fault");
    }
    assert!(
        lost.is_empty() && few(early_share(profile), ticks - n),
        "pid {pid}: {lost:?}, {n} of {ticks}: {:?}",
        profile.ledger
    );
}

/// Learning begins with the run, and shares CPUs and disk with whatever else runs.
fn is_few(most: f64, some: u64, of: u64) -> bool {
    some as f64 <= most * of as f64 + 1.0
}

/// A process has as many ticks as its CPU clock says.
///
/// # Panics
/// If it has not.
pub fn as_its_clock_says(profile: &Profile, pid: u32, used: &Used, ticks: u64) {
    let expected = used.cpu[&pid] * 1e9 / profile.period as f64;
    // Between the looks at the clock and the two ends of the run lie some milliseconds.
    let bound = count_bound(expected) + 0.05 * expected;
    let [fewer, more] = if slower() > 1 {
        beside_the_window(profile, used.window)
    } else {
        [0.0; 2]
    };
    let n = ticks as f64;
    assert!(
        n <= expected + bound + more && n >= expected - bound - fewer,
        "pid {pid}: {ticks} ticks, {expected:.0} expected: {:?}",
        profile.ledger
    );
}

/// Ticks for which the CPUs were not sampled yet when the looks at the clock began: a slow machine opens its
/// events one after the other, and begins with the last. And those for which they were sampled still after the
/// second look: whoever is to end that has to get a CPU.
fn beside_the_window(profile: &Profile, window: Duration) -> [f64; 2] {
    let all = window.as_secs_f64() * 1e9 / profile.period as f64 * cpus().len() as f64;
    let fewer = all - profile.ledger.expected as f64;
    [fewer.max(0.0), (-fewer).max(0.0)]
}

/// The columns in which a process lost samples; but for the few of before its runtime was known.
pub fn lost_of(profile: &Profile, pid: u32) -> Vec<&str> {
    let ledger = &profile.ledger;
    let rows = ledger.processes.iter().filter(|(other, ..)| *other == pid);
    let ticks = ticks_of(profile, pid);
    let early = |row: &BTreeMap<String, u64>| {
        let early = row.get(LEARNING).copied().unwrap_or(0);
        slower() > 1 || is_few(early_share(profile), early, ticks)
    };
    rows.flat_map(|(.., row)| row.keys().map(move |column| (column.as_str(), row)))
        .filter(|(column, row)| *column != LEARNING || !early(row))
        .map(|(column, _)| column)
        .filter(|&column| ledger.lost.iter().any(|lost| lost == column))
        .collect()
}

/// Ticks of a process in its row of the ledger.
pub fn ticks_of(profile: &Profile, pid: u32) -> u64 {
    let ledger = &profile.ledger;
    let rows = ledger.processes.iter().filter(|(other, ..)| *other == pid);
    rows.flat_map(|(.., row)| row.values()).sum()
}

/// No thread of rprof waits for what the stuck program waits for: its pages, its file system, its locks.
/// For this long, or until those of these processes that want a CPU had one.
fn watch(running: &Running, window: Duration, pids: &[u32]) {
    /// Looks in a row: the kernel's own locks are held for moments, and threads of one process wait for each
    /// other.
    const MOMENTS: u32 = 5;
    let start = Instant::now();
    let mut waiting: HashMap<u32, u32> = HashMap::new();
    let before: Vec<f64> = pids.iter().map(|&pid| cpu_seconds(pid)).collect();
    let mut enough = 0;
    while start.elapsed() < window || enough < MOMENTS && start.elapsed() < LONGER * window {
        let wants = |pid: u32| of_process(pid).iter().any(|task| task.state == 'R');
        let starves =
            |(&pid, before): (&u32, &f64)| cpu_seconds(pid) < before + ENOUGH && wants(pid);
        enough = match pids.iter().zip(&before).any(starves) {
            true => 0,
            false => enough + 1,
        };
        let mut still = HashMap::new();
        for task in of_group(running.pid()).iter().filter(|t| t.state == 'D') {
            let stack = waits_in(task);
            // A disk may take its time.
            if ["fuse", "userfault", "rwsem", "pagemap", "process_vm"]
                .iter()
                .any(|what| stack.contains(what))
            {
                let looks = waiting.get(&task.tid).map_or(1, |n| n + 1);
                assert!(looks < MOMENTS, "{task:?}:\n{stack}");
                still.insert(task.tid, looks);
            }
        }
        waiting = still;
        sleep(Duration::from_millis(50));
    }
}

/// Waits on a slow machine until rprof has learned what runs: there that takes longer than all else does here.
fn settle(running: &Running) {
    /// Looks in a row at which no reader was at work.
    const QUIET: u32 = 30;
    let (start, longest) = (Instant::now(), patience(Duration::from_secs(1)));
    let mut quiet = 0;
    while slower() > 1 && quiet < QUIET && start.elapsed() < longest {
        sleep(Duration::from_millis(50));
        let at_work = of_children(running.pid()).iter().any(|t| t.state == 'R');
        quiet = if at_work { 0 } else { quiet + 1 };
    }
}

/// What is sampled with `--all`, so that nothing else on the machine is in these figures.
pub fn group(name: &str) -> Cgroup {
    Cgroup::new(&format!("rprof-test-{}-{name}", std::process::id()))
}

/// A run of `window`, ended by Ctrl-C: its profile, and the CPU seconds of these processes meanwhile.
///
/// # Panics
/// If it takes long, does not add up, waits for what is stuck, or leaves something behind.
pub fn run(
    scratch: &Scratch,
    args: &[&str],
    pids: &[u32],
    strike: impl FnOnce(&Running),
) -> (Profile, Used) {
    let mut rprof = Rprof::new(scratch, args);
    if !args.contains(&"-F") {
        rprof = rprof.args(["-F", &HERTZ.to_string()]);
    }
    println!("{args:?}");
    run_this(rprof, pids, strike)
}

/// The same, with a run of any kind.
///
/// # Panics
/// As [`run`].
pub fn run_this(rprof: Rprof, pids: &[u32], strike: impl FnOnce(&Running)) -> (Profile, Used) {
    let mut running = rprof.start();
    running.wait_until_sampling();
    let clocks = || pids.iter().map(|&pid| (pid, cpu_seconds(pid)));
    let (began, before) = (Instant::now(), clocks().collect::<HashMap<u32, f64>>());
    settle(&running);
    watch(&running, window() / 2, pids);
    strike(&running);
    watch(&running, window() / 2, pids);
    let used = clocks().filter_map(|(pid, after)| Some((pid, after - before.get(&pid)?)));
    let used = Used {
        cpu: used.collect(),
        window: began.elapsed(),
    };
    let group = running.pid();
    let readers = of_children(group);
    let stopped = Instant::now();
    running.signal(Signal::INT);
    let run = running.finish();
    let took = stopped.elapsed();
    println!("ended in {took:?}");
    assert!(took < patience(ON_TIME), "{took:?}: {}", run.stderr);
    let profile = run.ok();
    adds_up(&profile);
    wait_for("rprof's processes are gone", Duration::from_secs(1), || {
        // A reader that not even SIGKILL ends lives as long as what it waits for.
        let stays = |task: &&Task| lives(task) && !waits_in(task).contains("fuse");
        let mut left = of_group(group);
        left.extend(readers.iter().filter(stays).cloned());
        left.is_empty().then_some(())
    });
    (profile, used)
}
