//! Promise: the first sample of a process nobody has seen is complete and named, and none of its
//! CPU time is missing, however short it lives.

use std::process::Command;

use rprof_tests::beside::group;
use rprof_tests::machine;
use rprof_tests::profile::{Profile, Stack};
use rprof_tests::python;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::statistics::{Chance, count_bound};
use rprof_tests::usage::{Usage, start};
use rustix::process::Signal;

const HERTZ: f64 = 199.0;
const PROGRAMS: usize = 40;

/// Profiles the machine while the programs run one after the other, with these faults. Only they are looked
/// into: what new files of others (a compiler beside it) need of rows and slices is their affair.
fn record(scratch: &Scratch, commands: Vec<Command>, faults: &str) -> (Vec<Usage>, Profile) {
    let group = group("first");
    let folder = group.folder().display().to_string();
    let rprof = Rprof::new(scratch, ["--all", "-F", "199", "-v", "--cgroup", &folder]);
    let mut running = rprof.env("RPROF_FAULT", faults).start();
    running.wait_until_sampling();
    let usages = commands
        .into_iter()
        .map(|mut command| {
            group.enters(&mut command);
            start(&mut command).finish()
        })
        .collect();
    running.signal(Signal::INT);
    let run = running.finish();
    println!("{}", run.stderr);
    (usages, run.ok())
}

/// Files that are found late, as all are on a busy machine, have rows as soon as they are: of a stack this deep
/// a slice is never the whole.
#[test]
fn of_a_file_that_is_found_late() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let flags = [
        "-O2",
        "-g",
        "-fomit-frame-pointer",
        "-fno-optimize-sibling-calls",
    ];
    let mut deep = Command::new(scratch.cc("deep.c", "deep", &flags));
    deep.args(["994", "2"]);
    let (usages, profile) = record(&scratch, vec![deep], "late-files:300,slow-machine:10");
    let in_leaf = |stack: &Stack| stack.pid == usages[0].pid && stack.has("leaf");
    let all = profile.count(in_leaf);
    let whole = profile.count(|stack| in_leaf(stack) && stack.is_complete());
    println!("{whole} of {all} whole");
    assert!(
        all > 200 && whole * 2 > all,
        "{whole} of {all} whole: {:?}",
        profile.ledger
    );
}

/// How long each program burns: 30 to 200 ms.
fn milliseconds() -> impl Iterator<Item = String> {
    let mut chance = Chance(42);
    std::iter::repeat_with(move || (30 + chance.next(171)).to_string())
}

/// All samples of the programs, against the CPU time that the kernel says they used.
fn all_is_seen<'a>(usages: &[Usage], profile: &'a Profile) -> Vec<&'a Stack> {
    let stacks: Vec<&Stack> = profile
        .stacks
        .iter()
        .filter(|s| usages.iter().any(|u| u.pid == s.pid))
        .collect();
    let n: u64 = stacks.iter().map(|stack| stack.count).sum();
    let seconds: f64 = usages.iter().map(|usage| usage.cpu.as_secs_f64()).sum();
    let expected = seconds * HERTZ;
    println!("{n} samples, {expected:.0} expected");
    assert!(
        (n as f64 - expected).abs() <= count_bound(expected),
        "{n} samples, {expected:.0} expected: {:?}",
        profile.ledger
    );
    stacks
}

/// Complete, and every frame that has to have a name has one; but for one sample in 300: one that comes while
/// the interpreter changes its own list of threads cannot be whole. 0 or 1 of 1,000 here; which, is said.
fn whole_and_named(stacks: &[&Stack], must_be_named: impl Fn(&str) -> bool) {
    // A process that ends gives its memory back first: then it has no user side any more, and says so.
    let ends =
        |stack: &&&Stack| stack.has("do_exit") && stack.has("[truncated: no user registers]");
    let bad: Vec<&&Stack> = stacks
        .iter()
        .filter(|stack| !ends(stack))
        .filter(|stack| {
            let unnamed =
                |f: &&rprof_tests::profile::Frame| !f.is_named() && must_be_named(&f.module);
            !stack.is_complete() || stack.frames.iter().find(unnamed).is_some()
        })
        .collect();
    let n: u64 = bad.iter().map(|stack| stack.count).sum();
    let shown: String = bad.iter().take(5).map(|stack| stack.text()).collect();
    let all: u64 = stacks.iter().map(|stack| stack.count).sum();
    println!("{n} of {all} samples are not complete or not named:\n{shown}");
    assert!(
        n * 300 <= all,
        "{n} of {all} samples are not complete or not named:\n{shown}"
    );
}

/// Programs of which no two are the same file.
fn binaries(scratch: &Scratch) -> Vec<Command> {
    let commands = milliseconds().take(PROGRAMS).enumerate().map(|(n, time)| {
        let unique = format!("-DUNIQUE=\"{n} of {}\"", std::process::id());
        let mut command = Command::new(scratch.cc(
            "short.c",
            &format!("short-{n}"),
            &["-O2", "-g", "-fno-optimize-sibling-calls", &unique],
        ));
        command.arg(time);
        command
    });
    commands.collect()
}

fn check_binaries(usages: &[Usage], profile: &Profile) {
    let stacks = all_is_seen(usages, profile);
    // libc may be stripped: what it does not export has no name.
    whole_and_named(&stacks, |module| module.contains("/short-"));
    let mut burning = 0;
    for stack in stacks.iter().filter(|stack| stack.has("burn")) {
        let chain: Vec<&str> = stack
            .from("burn")
            .expect("it has")
            .iter()
            .map(|f| f.function.as_str())
            .collect();
        assert_eq!(chain[..3], ["burn", "outer", "main"], "{}", stack.text());
        assert_eq!(chain.last(), Some(&"_start"), "{}", stack.text());
        burning += stack.count;
    }
    // Nearly all that they do is burning; the rest is their start and end.
    let n: u64 = stacks.iter().map(|stack| stack.count).sum();
    assert!(
        burning * 10 >= n * 9,
        "{burning} of {n} samples are in burn"
    );
}

#[test]
fn of_binaries_nobody_has_seen() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let commands = binaries(&scratch);
    let (usages, profile) = record(&scratch, commands, "");
    check_binaries(&usages, &profile);
}

#[test]
fn where_few_files_find_room() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let commands = binaries(&scratch);
    // Rows of libc and little more; an interpreter's take the place of others.
    let (usages, profile) = record(&scratch, commands, "modules:8,row-bytes:524288");
    check_binaries(&usages, &profile);
    let (usages, profile) = short_python(&scratch, "modules:8,row-bytes:1048576");
    check_python(&usages, &profile);
}

/// A file of many MiB takes long to read, and all of it is read only if that pays: until then each of its
/// samples is unwound from a copy of its stack.
#[test]
fn of_large_binaries() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut commands = binaries(&scratch);
    commands.truncate(6);
    for (n, command) in commands.iter_mut().enumerate() {
        use std::io::Write;
        let file = std::fs::OpenOptions::new()
            .append(true)
            .open(command.get_program());
        let bytes: Vec<u8> = (0..9u64 << 20)
            .map(|at| ((at * 31) >> (n + 3)) as u8)
            .collect();
        file.and_then(|mut file| file.write_all(&bytes))
            .expect("room for it");
        // The first few samples; and enough that its rows are made meanwhile.
        *command = Command::new(command.get_program());
        command.arg(["100", "800"][n % 2]);
    }
    let (usages, profile) = record(&scratch, commands, "");
    check_binaries(&usages, &profile);
}

#[test]
fn of_short_python_processes() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (usages, profile) = short_python(&scratch, "");
    check_python(&usages, &profile);
}

fn short_python(scratch: &Scratch, faults: &str) -> (Vec<Usage>, Profile) {
    let interpreter = python::system();
    // One that runs when sampling begins: from then on the interpreter is known.
    let script = scratch.write("known.py", "print('ready', flush=True); input()");
    let known = rprof_tests::target::Target::start(&mut interpreter.command(&script));
    let commands = milliseconds().take(PROGRAMS).map(|time| {
        let mut command = interpreter.command(&source_file("short.py"));
        command.arg(time);
        command
    });
    let commands = commands.collect();
    let recorded = record(scratch, commands, faults);
    drop(known);
    recorded
}

fn check_python(usages: &[Usage], profile: &Profile) {
    let stacks = all_is_seen(usages, profile);
    whole_and_named(&stacks, str::is_empty);
    let mut burning = 0;
    for stack in stacks
        .iter()
        .filter(|s| s.interpreted().any(|f| f.function == "burn"))
    {
        let chain: Vec<&str> = stack.interpreted().map(|f| f.function.as_str()).collect();
        assert_eq!(chain, ["burn", "outer", "<module>"], "{}", stack.text());
        burning += stack.count;
    }
    // The start of an interpreter takes 10 to 20 ms of each.
    let n: u64 = stacks.iter().map(|stack| stack.count).sum();
    assert!(
        burning * 10 >= n * 7,
        "{burning} of {n} samples are in burn"
    );
}
