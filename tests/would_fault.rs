//! Promise: what is not in memory is never fetched for a profile. A sample that needs it is lost under
//! `would fault`, or kept and marked, as `--on-fault` says; the rest of the profile is as it was. The
//! programs keep their words and names in files, so that taking them out of memory loses nothing, and say
//! themselves that they were out of memory before and after.

use std::process::Command;

use rprof_tests::machine;
use rprof_tests::profile::{Profile, Stack};
use rprof_tests::python;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};
use rprof_tests::statistics::count_bound;
use rprof_tests::target::Target;

const HERTZ: f64 = 199.0;
const SECONDS: &str = "1";
const MARK: &str = "[would fault]";

/// Profiles a program that says what was away, under `--on-fault HOW`.
fn record(scratch: &Scratch, how: &str, words: &[String], pages: u32) -> Profile {
    let run = Rprof::new(scratch, ["--on-fault", how, "--"])
        .args(words)
        .run()
        .expect(0);
    let said = format!("away {pages}\nstill {pages}\nreturned\n");
    assert_eq!(run.text(), said, "{}", run.stderr);
    run.profile()
}

/// About all samples of the second that the program burns, and no others.
fn is_about_all(n: u64, profile: &Profile) {
    println!("{n} samples: {:?}", profile.ledger);
    let bound = count_bound(HERTZ);
    assert!(
        (n as f64 - HERTZ).abs() <= bound,
        "{n} samples: {:?}",
        profile.ledger
    );
}

/// What is lost on any machine, and by a slow one that does not yet know the interpreter.
fn beside_the_point(profile: &Profile) -> u64 {
    let get = |column| profile.ledger.get(column);
    let learning = match machine::slower() {
        1 => 0,
        _ => get("runtime being learned"),
    };
    get("not delivered by the kernel") + learning
}

/// They are lost under that reason, on the machine and for the process, and nothing else is.
fn is_lost(profile: &Profile, program: &str) {
    let ledger = &profile.ledger;
    let lost = ledger.get("would fault");
    is_about_all(lost, profile);
    assert_eq!(
        ledger.lost(),
        lost + beside_the_point(profile),
        "{ledger:?}"
    );
    let rows = ledger
        .processes
        .iter()
        .filter(|(.., row)| row.contains_key("would fault"));
    let rows: Vec<_> = rows
        .map(|(_, name, row)| (name.as_str(), row["would fault"]))
        .collect();
    assert_eq!(rows, [(program, lost)], "{ledger:?}");
    assert_eq!(profile.count(|stack| stack.has(MARK)), 0);
}

/// They are in the profile, each with one mark, and nothing is lost.
fn is_marked<'a>(profile: &'a Profile, program: &'a str) -> Vec<&'a Stack> {
    let ledger = &profile.ledger;
    let marked: Vec<&Stack> = profile
        .named(program)
        .filter(|stack| stack.has(MARK))
        .collect();
    let n = marked.iter().map(|stack| stack.count).sum();
    is_about_all(n, profile);
    assert_eq!(n, profile.count(|stack| stack.has(MARK)));
    assert_eq!(ledger.truncated.get("would fault"), Some(&n), "{ledger:?}");
    assert_eq!(ledger.lost(), beside_the_point(profile), "{ledger:?}");
    marked
}

fn functions(stack: &Stack) -> Vec<&str> {
    stack.user().map(|frame| frame.function.as_str()).collect()
}

#[test]
fn a_part_of_the_stack() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("evicted.c", "evicted", OPTIMIZED);
    let words = [program, scratch.file("stack"), SECONDS.into()];
    let words = words.map(|word| word.display().to_string());

    let profile = record(&scratch, "drop", &words, 8);
    is_lost(&profile, "evicted");
    assert_eq!(profile.count(|stack| stack.has("burn")), 0);

    let profile = record(&scratch, "mark", &words, 8);
    is_whole_above_the_hole(&profile);
}

fn is_whole_above_the_hole(profile: &Profile) {
    let mut beside = 0;
    for stack in is_marked(profile, "evicted") {
        // What is above the hole is there, and then there is the mark instead of a root.
        // A sample or two were taken right before it burns, or after that; on a slow machine more.
        let whole = ["burn", "evict", "over_the_hole", MARK];
        let frames = functions(stack);
        let callees = (0..3).find(|&callees| frames.ends_with(&whole[callees..]));
        assert!(callees.is_some(), "{}", stack.text());
        beside += if callees == Some(0) { 0 } else { stack.count };
    }
    assert!(beside <= 2 || machine::slower() > 1, "{beside}");
}

/// Where there are no rows, user space unwinds a copy of the stack, in which the same pages are missing.
#[test]
fn a_part_of_a_stack_that_is_copied() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("evicted.c", "evicted", OPTIMIZED);
    let words = [program, scratch.file("stack"), SECONDS.into()];
    for how in ["drop", "mark"] {
        let rprof = Rprof::new(&scratch, ["--on-fault", how, "--"]).args(&words);
        // 200 copies a second may cost more than is allowed for copies.
        let run = rprof.env("RPROF_FAULT", "row-bytes:4096,slow-machine:10");
        let run = run.run().expect(0);
        assert_eq!(run.text(), "away 8\nstill 8\nreturned\n", "{}", run.stderr);
        let profile = run.profile();
        match how {
            "drop" => is_lost(&profile, "evicted"),
            _ => is_whole_above_the_hole(&profile),
        }
    }
}

#[test]
fn a_name() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let script = source_file("evicted.py");
    let file = scratch.file("name").display().to_string();
    let words = python::system().words(&script, &[&file, SECONDS]);

    let profile = record(&scratch, "drop", &words, 1);
    is_lost(&profile, "python3.11");

    let profile = record(&scratch, "mark", &words, 1);
    for stack in is_marked(&profile, "python3.11") {
        // A page of its stack may be away where the program starts, where a slow machine has samples.
        let starts = || {
            let mut frames = stack.frames.iter();
            frames.any(|f| f.module.contains("/ld-linux") || f.function == "_start")
        };
        if machine::slower() > 1 && starts() {
            continue;
        }
        // The function without a name has the mark in its place, so that its time is nobody else's.
        let frames = functions(stack);
        let at = frames.iter().position(|&frame| frame == MARK);
        let caller = at.and_then(|at| frames.get(at + 1));
        assert_eq!(caller, Some(&"<module>"), "{}", stack.text());
        let callees = stack.user().take(at.unwrap_or(0));
        assert_eq!(
            callees.filter(|f| f.is_interpreted()).count(),
            0,
            "{}",
            stack.text()
        );
        assert!(frames.contains(&"_start"), "{}", stack.text());
    }
}

/// Two programs at once of which one loses nearly all that it burns; the row of its losses in the summary,
/// and the sentence about the order, if there is one.
fn beside(losing: &str, other: &str) -> (Profile, String, Option<String>) {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let evicted = scratch.cc("evicted.c", "evicted", OPTIMIZED);
    let burn = scratch.cc("burn.c", "burn", OPTIMIZED);
    // Ticks of idle CPUs may not be delivered, and so may be anyone's: there are none.
    let _busy: Vec<Target> = machine::cpus()
        .iter()
        .map(|_| Target::start(Command::new(&burn).args(["threads", "600", "1"])))
        .collect();
    let script = format!(
        "{} {} {losing} & {} main {other} & wait",
        evicted.display(),
        scratch.file("stack").display(),
        burn.display()
    );
    let run = Rprof::new(&scratch, ["--", "sh", "-c", &script])
        .run()
        .expect(0);
    let find = |start: &str| run.stderr.lines().find(|line| line.starts_with(start));
    let row = find("  evicted (pid ").unwrap_or_else(|| panic!("{}", run.stderr));
    let order = find("The losses could change this order: ").map(String::from);
    (run.profile(), row.into(), order)
}

#[test]
fn who_lost_is_named_where_it_could_change_the_order() {
    // Some 200 samples lost, some 80 of the other in the profile.
    let (profile, row, order) = beside("1", "0.4");
    let lost = profile.ledger.get("would fault");
    let mut rows = profile
        .ledger
        .processes
        .iter()
        .filter(|(.., row)| row.contains_key("would fault"));
    let (pid, ..) = rows.next().expect("a process that lost");
    assert_eq!(rows.next(), None, "{:?}", profile.ledger);
    let kept = profile.of(*pid).map(|stack| stack.count).sum::<u64>();
    let expected = format!(
        "  evicted (pid {pid}) lost {lost} of {}: {lost} would fault",
        lost + kept
    );
    assert_eq!(row, expected);
    let order = order.expect("a sentence about the order");
    println!("{order}");
    // Ticks that were not delivered are told of beside the others.
    assert!(order.contains(" order: evicted is "), "{order}");
    let says = [format!("may have lost {lost}."), format!(": {lost}, and ")];
    assert!(says.iter().any(|says| order.contains(says)), "{order}");

    // Some 20 lost, behind some 200: it stays behind.
    let (_, _, order) = beside("0.1", "1");
    println!("{order:?}");
    assert!(order.is_none_or(|order| !order.contains(" behind burn")));
}
