//! Promise: no target can stall rprof, nor another target's samples. Each way to get stuck stands beside a
//! C and a Python program that do not, is profiled with `--all` and by its pid, and says itself for how
//! long it could not map memory meanwhile (see `targets/stuck.c`).

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rprof_tests::beside::{
    Neighbours, as_its_clock_says, group, is_early, lost_of, run, ticks_of, window,
};
use rprof_tests::machine::{self, Cgroup};
use rprof_tests::profile::{Profile, Stack};
use rprof_tests::python;
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};
use rprof_tests::silent::{Reading, Silent};
use rprof_tests::skipped;
use rprof_tests::target::Target;
use rprof_tests::tasks::{Stopped, state_of_thread};
use rustix::process::Signal;

/// What may happen to a thread on its own: page tables are written, interrupts come.
const NOISE: Duration = Duration::from_millis(20);

/// A program that is stuck.
struct Stuck {
    // Dropped first: until then the program's end may wait for it.
    #[expect(dead_code, reason = "answers for as long as it lives")]
    silent: Option<Silent>,
    target: Target,
}

impl Stuck {
    fn start(scratch: &Scratch, how: &[&str]) -> Self {
        let program = scratch.cc("stuck.c", "stuck", OPTIMIZED);
        Self {
            silent: None,
            target: Target::start(Command::new(program).args(how)),
        }
    }

    /// Over a file, or in the folder, of a file system that does not answer; `None` where there is no such.
    fn on_silent(scratch: &Scratch, test: &str, how: &str, reading: Reading) -> Option<Self> {
        let silent = Silent::mount_with(scratch, &source_file("stuck.c"), reading);
        let silent = silent.map_err(|why| skipped(test, &why)).ok()?;
        silent.silence();
        let at = if how == "core" {
            silent.folder().to_path_buf()
        } else {
            silent.program()
        };
        let program = scratch.cc("stuck.c", "stuck", OPTIMIZED);
        // If it does not start, `silent` goes first.
        let target = Target::start(Command::new(program).arg(how).arg(at));
        Some(Self {
            silent: Some(silent),
            target,
        })
    }

    /// Its longest round of mapping and unmapping since it was last asked, and the part of that in which
    /// it neither ran nor waited for a CPU.
    fn longest(&mut self) -> [Duration; 2] {
        let answer = self.target.ask("longest");
        let mut numbers = answer.split_whitespace().map(|word| word.parse());
        let mut next = || Duration::from_nanos(numbers.next().expect("two").expect("numbers"));
        [next(), next()]
    }
}

/// A stuck program is profiled, with all others and alone, and asked between the runs and in them how long
/// it could not map memory.
fn never_waits(
    scratch: &Scratch,
    group: &Cgroup,
    stuck: &mut Stuck,
    asked: bool,
    strike: impl FnOnce(&mut Target),
) -> [Profile; 2] {
    let neighbours = Neighbours::start(scratch);
    let pid = stuck.target.pid();
    let pids = [pid, neighbours.c.pid(), neighbours.python.pid()];
    pids.iter().for_each(|&pid| group.take(pid));
    let folder = group.folder().display().to_string();
    let mut stalls = Vec::new();
    let mut strike = Some(strike);
    let profiles = [
        vec!["--all", "--cgroup", &folder],
        vec!["-p", &pid.to_string()],
    ]
    .map(|args| {
        let longest = |stuck: &mut Stuck| asked.then(|| stuck.longest());
        longest(stuck);
        sleep(if asked { window() } else { Duration::ZERO });
        let without = longest(stuck);
        let (profile, used) = run(scratch, &args, &pids, |_| {
            if let Some(strike) = strike.take() {
                strike(&mut stuck.target);
            }
        });
        stalls.extend(without.zip(longest(stuck)));
        if args[0] == "--all" {
            neighbours.check(&profile, &used);
        } else {
            assert_eq!(profile.count(|stack| stack.pid != pid), 0);
        }
        if used.has(pid) {
            as_its_clock_says(&profile, pid, &used, ticks_of(&profile, pid));
        }
        profile
    });
    for ([wall, without], [wall_with, with]) in &stalls {
        println!(
            "longest round of mapping: {wall:?} without rprof, {wall_with:?} with it; not running: {without:?}, {with:?}"
        );
    }
    let worst = |of: fn(&([Duration; 2], [Duration; 2])) -> Duration| stalls.iter().map(of).max();
    let (without, with) = (worst(|s| s.0[1]), worst(|s| s.1[1]));
    assert!(
        with <= without.map(|without| without + machine::patience(NOISE)),
        "{stalls:?}"
    );
    profiles
}

#[test]
fn a_page_that_nobody_brings() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let group = group("stuck");
    let mut stuck = Stuck::start(&scratch, &["userfaultfd"]);
    let pid = stuck.target.pid();
    assert_ne!(state_of_thread(pid, "waiting"), Some('R'));
    for profile in never_waits(&scratch, &group, &mut stuck, true, |_| ()) {
        assert_eq!(
            lost_of(&profile, pid),
            ["would fault"],
            "{:?}",
            profile.ledger
        );
        // None has a root: it stands on the other side of such pages. Before the file is known, a sample
        // is cut where its slice of the stack is.
        let of = |stack: &&Stack| stack.pid == pid && stack.has("burn");
        for stack in profile.stacks.iter().filter(of) {
            let cut = stack.has("[truncated: stack slice]") || is_early(stack);
            assert!(cut, "{}", stack.text());
        }
        let ledger = &profile.ledger;
        assert!(ledger.get("would fault") > 5, "{ledger:?}");
    }
}

fn a_file_system_that_does_not_answer(test: &str, reading: Reading) {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let group = group("stuck");
    let Some(mut stuck) = Stuck::on_silent(&scratch, test, "page", reading) else {
        return;
    };
    let pid = stuck.target.pid();
    assert_ne!(state_of_thread(pid, "waiting"), Some('R'));
    for profile in never_waits(&scratch, &group, &mut stuck, true, |_| ()) {
        assert_eq!(lost_of(&profile, pid), Vec::<&str>::new());
    }
}

#[test]
fn a_file_that_is_not_read() {
    a_file_system_that_does_not_answer("a_file_that_is_not_read", Reading::Waiting);
}

#[test]
fn a_file_that_is_not_read_ahead() {
    a_file_system_that_does_not_answer("a_file_that_is_not_read_ahead", Reading::Ahead);
}

#[test]
fn mappings_that_are_locked() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let test = "mappings_that_are_locked";
    let group = group("stuck");
    let Some(mut stuck) = Stuck::on_silent(&scratch, test, "lock", Reading::Waiting) else {
        return;
    };
    let pid = stuck.target.pid();
    for thread in ["waiting", "mapping"] {
        assert_ne!(state_of_thread(pid, thread), Some('R'), "{thread}");
    }
    for profile in never_waits(&scratch, &group, &mut stuck, false, |_| ()) {
        assert_eq!(lost_of(&profile, pid), Vec::<&str>::new());
        let whole = |stack: &Stack| stack.is_complete() && stack.has("burning");
        assert!(profile.count(|stack| stack.pid == pid && whole(stack)) > 5);
    }
}

#[test]
fn a_stopped_process() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let group = group("stuck");
    let mut stuck = Stuck::start(&scratch, &["not"]);
    let pid = stuck.target.pid();
    never_waits(&scratch, &group, &mut stuck, false, |target| {
        target.signal(Signal::STOP);
    });
    assert_eq!(state_of_thread(pid, "burning"), Some('T'));
}

#[test]
fn a_traced_process() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let group = group("stuck");
    let mut stuck = Stuck::start(&scratch, &["not"]);
    let pid = stuck.target.pid();
    let mut stopped = None;
    never_waits(&scratch, &group, &mut stuck, false, |target| {
        stopped = Some(Stopped::all_threads(target.pid()));
    });
    assert_eq!(state_of_thread(pid, "burning"), Some('t'));
}

#[test]
fn a_frozen_process() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let group = group("stuck");
    let mut stuck = Stuck::start(&scratch, &["not"]);
    // Within the other, whose processes are sampled.
    let frozen = Cgroup::new(&format!("rprof-test-{}-stuck/frozen", std::process::id()));
    never_waits(&scratch, &group, &mut stuck, false, |target| {
        frozen.take(target.pid());
        std::fs::write(frozen.folder().join("cgroup.freeze"), "1").expect("a freezer");
    });
    let events = std::fs::read_to_string(frozen.folder().join("cgroup.events"));
    assert!(events.is_ok_and(|text| text.contains("frozen 1")));
}

#[test]
fn a_process_that_dumps_its_core() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let test = "a_process_that_dumps_its_core";
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    if pattern.contains(['|', '/', '@']) {
        // Where cores go is the machine's setting.
        return skipped(
            test,
            "cores do not go to the folder of the program that crashed",
        );
    }
    let group = group("stuck");
    let Some(mut stuck) = Stuck::on_silent(&scratch, test, "core", Reading::Waiting) else {
        return;
    };
    let pid = stuck.target.pid();
    never_waits(&scratch, &group, &mut stuck, false, |target| {
        target.say("go")
    });
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it dumps");
    assert!(status.contains("CoreDumping:\t1"), "{status}");
}

#[test]
fn a_process_that_frees_much() {
    const GIB: &str = "2";
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let stuck = Stuck::start(&scratch, &["exit", GIB]);
    let Stuck { mut target, .. } = stuck;
    let pid = target.pid();
    let neighbours = Neighbours::start(&scratch);
    let pids = [neighbours.c.pid(), neighbours.python.pid()];
    // Its own threads and helpers are in the group as well: what they tear down would show.
    let group = group("frees");
    pids.iter()
        .chain([&pid, &std::process::id()])
        .for_each(|&pid| group.take(pid));
    let args = ["--all", "--cgroup", &group.folder().display().to_string()];
    let (profile, used) = run(&scratch, &args, &pids, |_| target.say("go"));
    neighbours.check(&profile, &used);
    // It tears its memory down itself: nobody else held it.
    let frees = |stack: &Stack| stack.has("exit_mmap");
    let itself = profile.count(|stack| stack.pid == pid && frees(stack));
    // A reader that ends, or becomes one, frees what it had itself: on a slow machine that shows.
    let own = |stack: &Stack| stack.has("do_exit") || stack.has("exec_mmap");
    let rprof =
        profile.count(|stack| stack.comm.starts_with("rprof") && frees(stack) && !own(stack));
    // Its own is given back before it is freed: there is no user side any more, and that is said.
    let whole = profile.count(|stack| stack.pid == pid && frees(stack) && stack.is_complete());
    assert_eq!(whole, 0, "{:?}", profile.ledger);
    println!("freeing {GIB} GiB: {itself} samples in itself, {rprof} in rprof");
    assert!(
        itself > 0 && rprof == 0,
        "{itself}, {rprof}: {:?}",
        profile.ledger
    );
}

#[test]
fn a_name_that_nobody_brings() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let script = source_file("stuck.py");
    let start = |script: &Path| Target::start(&mut python::system().command(script));
    let target = start(&script);
    let neighbours = Neighbours::start(&scratch);
    let pids = [target.pid(), neighbours.c.pid(), neighbours.python.pid()];
    let group = group("names");
    pids.iter().for_each(|&pid| group.take(pid));
    let folder = group.folder().display().to_string();
    let ways: &[&str] = match machine::reads_without_waiting() {
        true => &["auto", "context", "process-vm"],
        false => &["auto", "context"],
    };
    for reads in ways {
        let args = ["--all", "--cgroup", &folder, "--reads", reads];
        let (profile, used) = run(&scratch, &args, &pids, |_| ());
        neighbours.check(&profile, &used);
        let pid = target.pid();
        as_its_clock_says(&profile, pid, &used, ticks_of(&profile, pid));
        // Only what needs the name is lost.
        assert_eq!(lost_of(&profile, pid), ["would fault"]);
        let of = |name| profile.count(|stack| stack.pid == pid && stack.has(name));
        let (plain, lost) = (of("plain"), profile.ledger.get("would fault"));
        println!("{reads}: {plain} of the other thread, {lost} lost");
        assert!(plain > 5 && lost > 5, "{:?}", profile.ledger);
        let hidden = |stack: &Stack| {
            stack
                .interpreted()
                .any(|f| f.function.starts_with("hidden"))
        };
        assert_eq!(profile.count(hidden), 0);
        if *reads == "process-vm" {
            // Names that readers brought, beside one that they could not.
            machine::read_by_flags("a_name_that_nobody_brings", &profile);
        }
    }
}
