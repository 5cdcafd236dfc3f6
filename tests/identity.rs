//! Promise: what is known of a process hangs on what it is at the sample. No name crosses an `exec`, a pid
//! that was given to another, or memory in which other code stands by now; and a process whose first thread
//! has ended is still one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rprof_tests::machine;
use rprof_tests::profile::{Frame, Profile, Stack};
use rprof_tests::python;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};
use rprof_tests::statistics::count_bound;
use rustix::process::Signal;

/// Who reads names: first the sample itself, or user space alone.
const WAYS: [&str; 2] = ["auto", "process-vm"];

fn hertz() -> f64 {
    machine::rate(999.0)
}

/// How often something short is done, and how many times longer each takes: user space reads what was sampled a
/// quarter of a second ago, a slow machine seconds ago.
fn times(reads: &str, count: usize) -> (usize, usize) {
    match reads {
        "process-vm" => (count / 10 + 2, 30),
        _ => (count, 1),
    }
}

/// Microseconds of CPU that programs printed, by number.
fn printed(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let numbers = lines.filter(|(name, _)| name.bytes().all(|b| b.is_ascii_digit()));
    numbers
        .map(|(name, micros)| (name.to_owned(), micros.parse().expect("microseconds")))
        .collect()
}

/// Samples by the number in the name of the function, which begins so, that stands in their stacks.
fn by_number(stacks: impl Iterator<Item = Stack>, prefix: &str) -> BTreeMap<String, u64> {
    let mut samples = BTreeMap::new();
    for stack in stacks {
        let numbers = stack
            .interpreted()
            .filter_map(|f| f.function.strip_prefix(prefix));
        let numbers: BTreeSet<&str> = numbers.collect();
        assert!(numbers.len() < 2, "of two at once: {}", stack.text());
        if let Some(number) = numbers.first() {
            *samples.entry((*number).to_owned()).or_default() += stack.count;
        }
    }
    samples
}

/// Each number has as many samples as its CPU time says, but for `start` seconds that it may have spent
/// elsewhere; what stood there before or after would have them otherwise. What is read after the sample may
/// have ended by then: then it has fewer.
fn as_the_clocks_say(
    reads: &str,
    samples: &BTreeMap<String, u64>,
    micros: &BTreeMap<String, f64>,
    start: f64,
) {
    let unknown: Vec<_> = samples
        .keys()
        .filter(|number| !micros.contains_key(*number))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let mut all = (0, 0.0);
    for (number, micros) in micros {
        let n = *samples.get(number).unwrap_or(&0);
        let expected = micros / 1e6 * hertz();
        let bound = count_bound(expected) + 1.0;
        let elsewhere = machine::patience(Duration::from_secs_f64(start)).as_secs_f64() * hertz();
        let is_enough = n as f64 + elsewhere >= expected - bound || reads == "process-vm";
        assert!(
            n as f64 <= expected + bound && is_enough,
            "{reads}: {number}: {n} samples, {expected:.1} expected"
        );
        all = (all.0 + n, all.1 + expected);
    }
    println!(
        "{reads}: {} of {}: {} samples, {:.0} expected",
        samples.len(),
        micros.len(),
        all.0,
        all.1
    );
}

fn profile_of(scratch: &Scratch, reads: &str, words: &[String]) -> (Profile, String) {
    // Ten times the usual time: at this rate, deep in the interpreter's start, ticks take more than 1 %.
    let rate = hertz().to_string();
    let rprof = Rprof::new(scratch, ["-F", &rate, "--reads", reads, "--"]).args(words);
    let run = rprof.env("RPROF_FAULT", "slow-machine:10").run().expect(0);
    (run.profile(), run.text())
}

#[test]
fn code_made_where_other_code_was() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    for reads in machine::ways_to_read("code_made_where_other_code_was", &WAYS) {
        let (count, longer) = times(reads, 120);
        let args = [count, longer].map(|n| n.to_string());
        let words =
            python::system().words(&source_file("reborn.py"), &args.each_ref().map(|s| &**s));
        let (profile, text) = profile_of(&scratch, reads, &words);
        let addresses = text
            .lines()
            .find_map(|line| line.strip_prefix("addresses "));
        let addresses: u32 = addresses
            .and_then(|n| n.parse().ok())
            .expect("their number");
        assert!(
            (addresses as usize) < (count / 2).min(30),
            "{addresses} addresses: nothing was made in the same place"
        );
        let wrong = |frame: &Frame| {
            let Some(number) = frame.function.strip_prefix("born_") else {
                return false;
            };
            let first = number.parse::<i64>().expect("a number") % 50 + 1;
            frame.file != format!("/generation/{number}.py")
                || !(first..first + 4).contains(&frame.line)
        };
        for stack in &profile.stacks {
            let found = stack.frames.iter().find(|frame| wrong(frame));
            assert_eq!(found, None, "{}", stack.text());
        }
        let samples = by_number(profile.stacks.iter().cloned(), "born_");
        as_the_clocks_say(reads, &samples, &printed(&text), 0.0);
        // What was read too late is nobody's, and said; and some were read in time.
        let changed = profile.ledger.get("changed");
        println!("{changed} changed: {:?}", profile.ledger);
        if reads == "process-vm" {
            assert!(changed > 0 && !samples.is_empty(), "{:?}", profile.ledger);
        }
    }
}

/// Scripts of which each has a function of its own name.
fn scripts(scratch: &Scratch, count: usize) -> Vec<String> {
    let text = std::fs::read_to_string(source_file("chain.py")).expect("a target");
    let write = |n: usize| {
        scratch
            .write(&format!("{n:04}.py"), &text)
            .display()
            .to_string()
    };
    (0..count).map(write).collect()
}

#[test]
fn a_process_that_becomes_another() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let scripts = scripts(&scratch, 12);
    for reads in machine::ways_to_read("a_process_that_becomes_another", &WAYS) {
        let (_, longer) = times(reads, 1);
        let mut words = python::system().words(scripts[0].as_ref(), &[&(60 * longer).to_string()]);
        words.extend_from_slice(&scripts[1..]);
        let (profile, text) = profile_of(&scratch, reads, &words);
        // A slow machine has samples of rprof's own readers before they are known for that.
        let is_reader = |stack: &Stack| stack.comm == "exe" || stack.comm.starts_with("rprof");
        let others = |stack: &&Stack| machine::slower() == 1 || !is_reader(stack);
        let pids = profile.stacks.iter().filter(others).map(|stack| stack.pid);
        let pids: BTreeSet<u32> = pids.collect();
        assert!(pids.len() <= 2, "{pids:?}");
        let file = |f: &Frame| {
            f.function
                .strip_prefix("burn_")
                .map(|n| f.file.ends_with(&format!("/{n}.py")))
        };
        let wrong = |stack: &&Stack| stack.frames.iter().any(|frame| file(frame) == Some(false));
        assert_eq!(profile.stacks.iter().find(wrong).map(Stack::text), None);
        let samples = by_number(profile.stacks.iter().cloned(), "burn_");
        // The interpreter's start is in what it prints, too.
        as_the_clocks_say(reads, &samples, &printed(&text), 0.06);
        assert!(samples.len() > 3, "{samples:?}: {:?}", profile.ledger);
    }
}

/// Nothing but the kernel's count of its `exec`s tells what a process is from what it was.
#[test]
fn a_process_that_becomes_its_twin() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let text = std::fs::read_to_string(source_file("twin.py")).expect("a target");
    let [a, b] = ["twin_a.py", "twin_b.py"].map(|name| scratch.write(name, &text));
    let ways = ["context", "auto", "process-vm"];
    for reads in machine::ways_to_read("a_process_that_becomes_its_twin", &ways) {
        let rate = hertz().to_string();
        let rounds = if reads == "process-vm" {
            "0008"
        } else {
            "0020"
        };
        let millis = format!("{:04}", 60 * times(reads, 1).1);
        let args = ["0", &a.display().to_string(), rounds, &millis];
        let words = python::system().words(&b, &args);
        let run = Rprof::new(&scratch, ["-F", &rate, "--reads", reads, "--"]).args(&words);
        let run = run.env("RPROF_FAULT", "slow-machine:10").run().expect(0);
        let text = run.text();
        let twins: Vec<(&str, &str)> = text.lines().filter_map(|l| l.split_once(' ')).collect();
        let alike = twins.windows(2).filter(|two| two[0].1 == two[1].1).count();
        assert!(alike > twins.len() / 2 && alike > 3, "{text}");

        let profile = run.profile();
        let mut named = 0;
        for stack in &profile.stacks {
            let Some(letter) = stack.comm.strip_prefix("twin-") else {
                continue;
            };
            let own = format!("/twin_{letter}.py");
            for frame in stack.interpreted().filter(|f| f.file.contains("/twin_")) {
                assert!(
                    letter == "0" || frame.file.ends_with(&own),
                    "{}",
                    stack.text()
                );
                named += stack.count;
            }
        }
        println!(
            "{reads}: {alike} alike, {named} frames named: {:?}",
            profile.ledger
        );
        // What the sample itself brought is all there; what was read too late is nobody's, and said.
        let changed = profile.ledger.get("changed");
        let is_enough = if reads == "process-vm" {
            named > 30 && changed > 0
        } else {
            named as f64 > hertz()
        };
        assert!(
            is_enough,
            "{reads}: {named} named, {changed} changed: {:?}",
            profile.ledger
        );
    }
}

#[test]
fn a_pid_that_is_given_to_another() {
    const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
    const PROGRAMS: usize = 20;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let scripts = scripts(&scratch, PROGRAMS);
    for reads in machine::ways_to_read("a_pid_that_is_given_to_another", &WAYS) {
        let (count, longer) = times(reads, PROGRAMS);
        let count = count.max(8);
        let rate = hertz().to_string();
        let mut running = Rprof::new(&scratch, ["--all", "-F", &rate, "--reads", reads])
            .env("RPROF_FAULT", "slow-machine:10")
            .start();
        running.wait_until_sampling();
        let interpreter = python::system();
        let mut text = String::new();
        let mut wanted = None;
        let mut same = 0;
        for script in scripts.iter().take(count) {
            if let Some(pid) = wanted {
                std::fs::write(LAST_PID, format!("{}", pid - 1)).expect("root may");
            }
            let mut command = interpreter.command(script.as_ref());
            let child = command
                .arg((60 * longer).to_string())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("it runs");
            let pid = child.id();
            same += u32::from(wanted.replace(pid) == Some(pid));
            let output = child.wait_with_output().expect("it ends");
            text += std::str::from_utf8(&output.stdout).expect("text");
        }
        running.signal(Signal::INT);
        let profile = running.finish().ok();
        println!("{reads}: {same} had the pid of the one before");
        // Others fork, too.
        assert!(same as usize * 4 > count, "{same} of {count}");
        let samples = by_number(profile.stacks.iter().cloned(), "burn_");
        as_the_clocks_say(reads, &samples, &printed(&text), 0.06);
        assert!(samples.len() > 3, "{samples:?}: {:?}", profile.ledger);
    }
}

/// All samples of a thread's CPU time are in a function, with their whole stacks, under one pid.
fn all_in(profile: &Profile, function: &str, root: &str, seconds: f64) {
    let expected = seconds * hertz();
    let fits = |stack: &Stack| stack.is_complete() && stack.has(function) && stack.has(root);
    let n = profile.count(fits);
    println!("{function}: {n} samples, {expected:.0} expected");
    assert!(
        (n as f64 - expected).abs() <= count_bound(expected) + 0.01 * expected,
        "{function}: {n} samples, {expected:.0} expected: {:?}",
        profile.ledger
    );
}

#[test]
fn a_process_whose_first_thread_has_ended() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("identity.c", "identity", OPTIMIZED);
    let words = [&program.display().to_string(), "leader", "1"].map(str::to_owned);
    let (profile, text) = profile_of(&scratch, "auto", &words);
    all_in(
        &profile,
        "alone",
        "leader",
        text.trim().parse().expect("seconds"),
    );
    let pids: BTreeSet<(u32, bool)> = profile
        .stacks
        .iter()
        .map(|s| (s.pid, s.tid == s.pid))
        .collect();
    // The first thread has few samples, if any; the other is no process of its own.
    let processes: BTreeSet<u32> = pids.iter().map(|(pid, _)| *pid).collect();
    assert!(processes.len() <= 2, "{pids:?}");
}

#[test]
fn a_thread_that_becomes_a_program() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("identity.c", "identity", OPTIMIZED);
    let words = [&program.display().to_string(), "exec", "1"].map(str::to_owned);
    let (profile, text) = profile_of(&scratch, "auto", &words);
    let seconds: Vec<f64> = text
        .lines()
        .map(|line| line.parse().expect("seconds"))
        .collect();
    assert_eq!(seconds.len(), 2, "{text}");
    all_in(&profile, "before", "exec", seconds[0]);
    all_in(&profile, "after", "main", seconds[1]);
    let both = profile.count(|stack| stack.has("before") && stack.has("after"));
    assert_eq!(both, 0);
    let after = |stack: &&Stack| stack.has("after");
    let threads: BTreeSet<(u32, u32)> = profile
        .stacks
        .iter()
        .filter(after)
        .map(|s| (s.pid, s.tid))
        .collect();
    assert!(threads.iter().all(|(pid, tid)| pid == tid), "{threads:?}");
}

#[test]
fn forked_children_have_their_own_names() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    // All children make their code after the fork, at addresses that they share.
    let script = scratch.write(
        "forks.py",
        "import os, sys\nfrom time import thread_time_ns\n\
         for n in range(8):\n    if os.fork() == 0:\n        text = '\\n' * n + f'def child_{n}(end, now):\\n    while now() < end:\\n        sum(range(500))\\n'\n        \
         scope = {}\n        exec(compile(text, f'/child/{n}.py', 'exec'), scope)\n        \
         scope[f'child_{n}'](thread_time_ns() + int(sys.argv[1]) * 1_000_000, thread_time_ns)\n        os._exit(0)\n\
         for n in range(8):\n    os.wait()\n",
    );
    for reads in machine::ways_to_read("forked_children_have_their_own_names", &WAYS) {
        let millis = (150 * times(reads, 1).1).to_string();
        let words = python::system().words(&script, &[&millis]);
        let (profile, _) = profile_of(&scratch, reads, &words);
        let mut numbers: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for stack in &profile.stacks {
            for frame in stack
                .interpreted()
                .filter(|f| f.function.starts_with("child_"))
            {
                let number = frame.function.trim_start_matches("child_");
                assert_eq!(
                    frame.file,
                    format!("/child/{number}.py"),
                    "{}",
                    stack.text()
                );
                numbers
                    .entry(stack.pid)
                    .or_default()
                    .insert(number.to_owned());
            }
        }
        println!("{reads}: {numbers:?}: {:?}", profile.ledger);
        // Some may have ended before they were read.
        let all = if reads == "process-vm" { 3 } else { 8 };
        assert!((all..=8).contains(&numbers.len()), "{numbers:?}");
        assert!(
            numbers.values().all(|names| names.len() == 1),
            "{numbers:?}"
        );
        let distinct: BTreeSet<&String> = numbers.values().flatten().collect();
        assert_eq!(distinct.len(), numbers.len(), "{numbers:?}");
    }
}
