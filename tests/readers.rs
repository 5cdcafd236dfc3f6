//! Promise: a file that never answers costs the frames in it, and nothing else. rprof itself never
//! asks it anything; whatever else runs is complete and named, and the end comes as soon as ever.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rprof_tests::beside::group;
use rprof_tests::profile::{Profile, Stack};
use rprof_tests::rprof::{Rprof, Run, binary};
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::silent::{Silent, Towards};
use rprof_tests::statistics::count_bound;
use rprof_tests::target::Target;
use rprof_tests::tasks::{Task, lives, of_children, waits_in};
use rprof_tests::usage::{Usage, cpu_seconds, cpu_seconds_of_children, start};
use rprof_tests::{machine, skipped};
use rustix::process::{Pid, Signal, kill_process};

fn hertz() -> f64 {
    machine::rate(199.0)
}
/// Programs that nobody has seen, beside the one on the silent file system.
const PROGRAMS: usize = 20;

/// What was recorded beside a process on a file system that is silent towards rprof.
struct Recorded {
    run: Run,
    profile: Profile,
    /// The process.
    pid: u32,
    /// The other programs.
    others: Vec<Usage>,
    /// From Ctrl-C to the end.
    ending: Duration,
}

/// Where the silent file system is mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Here,
    /// In a mount namespace of the process beside alone; rprof looks for files when those who ran them are gone.
    Inside,
}

/// `None`: there is no FUSE here.
fn record(test: &str, towards: Towards, mounted: Where) -> Option<Recorded> {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let others: Vec<_> = (0..PROGRAMS).map(|n| unseen(&scratch, n)).collect();
    // Dropped last: it may wait for the file system, too.
    let target;
    let silent = match Silent::mount_towards(&scratch, &program, towards) {
        Ok(silent) => silent,
        Err(why) => {
            skipped(test, &why);
            return None;
        }
    };
    // Only these: what new files of others (a compiler beside it) need of slices is their affair.
    let group = group("hangs");
    let folder = group.folder().display().to_string();
    let mut command = match mounted {
        Where::Here => Command::new(silent.program()),
        Where::Inside => Command::new("unshare"),
    };
    match mounted {
        Where::Here => command.args(["threads", "60", "1"]),
        Where::Inside => command.args(["-m", "sh", "-c", "echo ready; while :; do :; done"]),
    };
    target = Target::start(&mut command);
    group.take(target.pid());
    let rate = hertz().to_string();
    let mut rprof = Rprof::new(&scratch, ["--all", "-F", &rate, "--cgroup", &folder]);
    if mounted == Where::Inside {
        silent.hide();
        rprof = rprof.env("RPROF_FAULT", "late-files:60");
    }
    let mut running = rprof.start();
    silent.is_rprof(running.pid());
    running.wait_until_sampling();
    let others = others.into_iter().enumerate().map(|(n, mut command)| {
        // One that is on the silent file system, and soon gone.
        let mut soon_gone = match mounted {
            Where::Here => Command::new(silent.program()),
            Where::Inside => Command::new("nsenter"),
        };
        if mounted == Where::Inside {
            let pid = target.pid().to_string();
            soon_gone.args(["-m", "-t", &pid]).arg(silent.copy(n));
        }
        group.enters(&mut soon_gone);
        let _ = soon_gone.args(["main", "0.02"]).status();
        group.enters(&mut command);
        start(&mut command).finish()
    });
    let others = others.collect();
    let asked = Instant::now();
    running.signal(Signal::INT);
    let run = running.finish().expect(0);
    let ending = asked.elapsed();
    let said = match mounted {
        Where::Here => silent.program(),
        Where::Inside => silent.folder().to_owned(),
    };
    let said = said.display().to_string();
    assert!(run.stderr.contains(&said), "{}", run.stderr);
    let askers: Vec<String> = silent.askers().into_iter().collect();
    println!("{ending:?} to end; asked by {askers:?}");
    assert_eq!(askers, ["rprof-reader"]);
    drop(silent);
    Some(Recorded {
        profile: run.profile(),
        run,
        pid: target.pid(),
        others,
        ending,
    })
}

/// A program whose file nobody has seen.
fn unseen(scratch: &Scratch, n: usize) -> Command {
    let unique = format!("-DUNIQUE=\"{n} of {}\"", std::process::id());
    let flags = ["-O2", "-g", "-fno-optimize-sibling-calls", &unique];
    let mut command = Command::new(scratch.cc("short.c", &format!("short-{n}"), &flags));
    command.arg("100");
    command
}

/// Samples of some processes against the CPU time that the kernel says they used.
fn compare(what: &str, samples: u64, seconds: f64) {
    let expected = seconds * hertz();
    println!("{what}: {samples} samples, {expected:.0} expected");
    assert!(
        (samples as f64 - expected).abs() <= count_bound(expected),
        "{what}: {samples} samples, {expected:.0} expected"
    );
}

impl Recorded {
    /// The others are in the profile as if nothing was there, and the end came soon.
    fn nothing_else_suffered(&self) {
        self.others_are_whole(99);
    }

    /// As many of 100.
    fn others_are_whole(&self, least: u64) {
        let is_other = |stack: &&Stack| self.others.iter().any(|usage| usage.pid == stack.pid);
        let others: Vec<&Stack> = self.profile.stacks.iter().filter(is_other).collect();
        let all: u64 = others.iter().map(|stack| stack.count).sum();
        let seconds = self.others.iter().map(|usage| usage.cpu.as_secs_f64());
        compare("others", all, seconds.sum());
        let good = |stack: &&&Stack| {
            let own =
                |module: &str| Path::new(module).starts_with("/") && module.contains("/short-");
            let named = stack.frames.iter().all(|f| f.is_named() || !own(&f.module));
            stack.is_complete() && named
        };
        let n: u64 = others.iter().filter(good).map(|stack| stack.count).sum();
        let bad: Vec<&&Stack> = others.iter().filter(|stack| !good(stack)).collect();
        let shown: String = bad.iter().take(5).map(|stack| stack.text()).collect();
        assert!(
            n * 100 >= all * least,
            "{n} of {all} are complete and named:\n{shown}{}",
            self.run.stderr
        );
        let lost: Vec<&String> = self.profile.ledger.lost.iter().collect();
        assert!(!lost.iter().any(|name| *name == "quarantined"), "{lost:?}");
        // Each file that was asked for lately may take its second.
        assert!(
            self.ending < machine::patience(Duration::from_secs(if least < 99 { 8 } else { 4 })),
            "{:?}",
            self.ending
        );
    }

    /// The process's own samples are there, but cut where the file is, and nearly all say why.
    fn cut(&self) {
        let end = |stack: &Stack| stack.frames.last().map(|frame| frame.function.clone());
        let mut ends: BTreeMap<String, u64> = BTreeMap::new();
        for stack in self.profile.of(self.pid) {
            *ends.entry(end(stack).unwrap_or_default()).or_default() += stack.count;
        }
        println!("the process on it: {ends:?}");
        let all: u64 = ends.values().sum();
        assert!(all > 100, "{all} samples: {}", self.run.stderr);
        let of = |reason: &str| ends.get(&format!("[truncated: {reason}]")).unwrap_or(&0);
        let silent = of("file does not answer");
        // Until it is taken to be silent, and whenever it is asked again.
        let early = of("module being learned") + of("module being read") + of("stack not copied");
        // Asked by way of one of the others that was gone by then, it was just not found.
        let lost = of("file not found");
        assert_eq!(silent + early + lost, all, "{ends:?}");
        assert!(*silent > all / 4 && lost * 20 < all, "{ends:?}");
    }
}

#[test]
fn a_file_whose_reads_hang() {
    if let Some(recorded) = record("a_file_whose_reads_hang", Towards::Reads, Where::Here) {
        recorded.nothing_else_suffered();
        recorded.cut();
    }
}

#[test]
fn a_file_whose_close_hangs() {
    if let Some(recorded) = record("a_file_whose_close_hangs", Towards::Flush, Where::Here) {
        recorded.nothing_else_suffered();
    }
}

#[test]
fn a_file_whose_lookups_hang() {
    if let Some(recorded) = record("a_file_whose_lookups_hang", Towards::Lookups, Where::Here) {
        recorded.nothing_else_suffered();
    }
}

#[test]
fn a_file_whose_lookups_hang_where_only_others_see_it() {
    let test = "a_file_whose_lookups_hang_where_only_others_see_it";
    if let Some(recorded) = record(test, Towards::Lookups, Where::Inside) {
        // Theirs are found late as well. Were the learner to wait for the one that hangs, next to none would be.
        recorded.others_are_whole(80);
    }
}

#[test]
fn a_large_file_that_is_no_program() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("foreign.c", "foreign", OPTIMIZED);
    let file = scratch.file("foreign-file");
    let target = Target::start(Command::new(program).arg(&file));
    let mut running = Rprof::new(&scratch, ["--all", "-F", "99"]).start();
    running.wait_until_sampling();
    let used = || cpu_seconds(running.pid()) + cpu_seconds_of_children(running.pid());
    let before = used();
    std::thread::sleep(Duration::from_secs(3));
    let used = used() - before;
    running.signal(Signal::INT);
    let profile = running.finish().ok();
    let pid = target.pid();
    let through = |stack: &Stack| {
        stack
            .frames
            .iter()
            .any(|f| f.module.contains("/foreign-file"))
    };
    let all = profile.count(|stack| stack.pid == pid);
    let known = profile.count(|stack| stack.pid == pid && through(stack));
    println!("{used:.2} s of CPU; {known} of {all} samples know the file");
    assert!(
        all > 100 && known * 10 > all * 9,
        "{known} of {all}: {:?}",
        profile.ledger
    );
    // It is read once, and not for each sample.
    assert!(used < 0.5, "{used} s of CPU: {:?}", profile.ledger);
}

/// Ids of the eBPF programs that a process has open.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs");
    let texts = folder
        .flatten()
        .filter_map(|info| std::fs::read_to_string(info.path()).ok());
    let ids = texts.filter_map(|text| {
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:"))?;
        id.trim().parse().ok()
    });
    ids.collect()
}

/// Readers that not even SIGKILL ends outlive rprof; what they have of it is nothing that anybody waits for.
#[test]
fn a_reader_that_cannot_be_ended() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    // Dropped last: it may wait for the file system, too.
    let _target;
    let silent = match Silent::mount_towards(&scratch, &program, Towards::Reads) {
        Ok(silent) => silent,
        Err(why) => return skipped("a_reader_that_cannot_be_ended", &why),
    };
    let mut command = Command::new(silent.program());
    _target = Target::start(command.args(["threads", "60", "1"]));
    let [said, copy] = ["said", "copy.pb.gz"].map(|name| scratch.file(name));
    let file = |path| std::fs::File::create(path).expect("a file in the folder");
    let mut rprof = Command::new(binary());
    rprof
        .args(["--all", "-F", "199", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(file(&said));
    let mut rprof = rprof.spawn().expect("rprof");
    silent.is_rprof(rprof.id());
    let mut cat = Command::new("cat");
    cat.stdin(rprof.stdout.take().expect("piped"))
        .stdout(file(&copy));
    let mut cat = cat.spawn().expect("cat");

    let stuck = machine::wait_for("a reader waits", Duration::from_secs(9), || {
        let waits = |task: &Task| task.state == 'D' && waits_in(task).contains("fuse");
        of_children(rprof.id()).into_iter().find(waits)
    });
    let programs = programs_of(rprof.id());
    assert!(!programs.is_empty());
    // Long enough to be given up, so that more are lost.
    std::thread::sleep(Duration::from_secs(2));

    let asked = Instant::now();
    kill_process(Pid::from_child(&rprof), Signal::INT).expect("it runs");
    let ends = |child: &mut Child| {
        machine::wait_for("the end", Duration::from_secs(20), || {
            child.try_wait().expect("our own child")
        });
        asked.elapsed()
    };
    let took = [ends(&mut rprof), ends(&mut cat)];
    println!("rprof, and cat behind it, ended after {took:?}");
    let said = std::fs::read_to_string(said).expect("what it said");
    assert!(lives(&stuck), "it can be ended: {said}");
    assert!(took[1] < Duration::from_secs(4), "{took:?}: {said}");
    let loaded = aya::programs::loaded_programs().filter_map(Result::ok);
    let left: Vec<u32> = loaded.map(|program| program.id()).collect();
    assert!(!programs.iter().any(|id| left.contains(id)), "{programs:?}");
    assert!(Profile::read(&copy).samples() > 100, "{said}");
    drop(silent);
    machine::wait_for(
        "it ends with what it waits for",
        Duration::from_secs(2),
        || (!lives(&stuck)).then_some(()),
    );
}
