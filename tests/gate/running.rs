//! How `rprof gate run` and `calibrate` go on and end: early, in time, when they are told to, and what they leave.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rprof_tests::machine;
use rprof_tests::rprof::binary;
use rprof_tests::scratch::{OPTIMIZED, Scratch};

use crate::answer::{FAILED, INCONCLUSIVE, REGRESSED, gate};
use crate::said::until;

/// A program that takes some 50 ms, and one that takes twice as long.
fn programs(scratch: &Scratch) -> [String; 2] {
    let program = scratch.cc("gate.c", "gate", OPTIMIZED);
    ["alpha 100", "alpha 200"].map(|phases| format!("{} {phases}", program.display()))
}

fn count(folder: &Path, begin: &str) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with(begin) && name.ends_with(".pb.gz"))
        .count()
}

#[test]
fn it_ends_when_the_answer_is_clear_and_keeps_what_it_compared() {
    let scratch = Scratch::new();
    let [base, head] = programs(&scratch);
    let args = ["--base", &base, "--head", &head, "--keep", "kept"];
    let answer = gate(
        scratch.path(),
        &[&["run", "--runs", "60"], &args[..]].concat(),
    );
    answer.expect(REGRESSED).says("that is clear");
    let kept = scratch.file("kept");
    let made = count(&kept, "base-");
    assert!((6..60).contains(&made), "{made}: {}", answer.said);
    assert_eq!(count(&kept, "head-"), made);
    assert_eq!(std::fs::read_dir(&kept).expect("kept").count(), 2 * made);
    // The same files give the same answer, again and again.
    let files = |side: &str| -> Vec<String> {
        (1..=made)
            .map(|n| format!("kept/{side}-{n:02}.pb.gz"))
            .collect()
    };
    let (base, head) = (files("base"), files("head"));
    let words = |files: &[String]| files.to_vec();
    let mut args = vec!["compare".to_string(), "--base".into()];
    args.extend(words(&base));
    args.push("--head".into());
    args.extend(words(&head));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let first = gate(scratch.path(), &args);
    first.expect(REGRESSED);
    assert!(!first.said.contains("not interleaved"), "{}", first.said);
    assert_eq!(gate(scratch.path(), &args).said, first.said);
}

#[test]
fn it_ends_in_time_with_the_answer_that_there_is() {
    let _alone = machine::alone();
    let scratch = Scratch::new();
    let [base, _] = programs(&scratch);
    let started = Instant::now();
    // Nothing changes, and the threshold is too small to be decided.
    let args = ["--threshold", "0.01%", "--runs", "500", "--budget", "8s"];
    let both = ["run", "--base", &base, "--head", &base];
    let answer = gate(scratch.path(), &[&both[..], &args[..]].concat());
    answer.expect(4).says("the time is over");
    let took = started.elapsed();
    // A block that was begun is ended; one that takes longer than any before is not foreseen.
    assert!(took < Duration::from_secs(16), "{took:?}: {}", answer.said);
    let args = [&both[..], &args[..], &["--inconclusive"]].concat();
    for (counts_as, code) in [("pass", 0), ("fail", REGRESSED)] {
        gate(scratch.path(), &[&args[..], &[counts_as]].concat()).expect(code);
    }
}

/// Whether a process runs that was started with this word.
fn runs(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let mut lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.any(|line| line.split('\0').any(|of| of == word) && !line.contains("gate"))
}

#[test]
fn a_command_that_never_ends_and_does_not_listen() {
    let _alone = machine::alone();
    let scratch = Scratch::new();
    let [base, _] = programs(&scratch);
    // Both words are of this run alone.
    let (sleeps, deaf) = (
        "1000.0625",
        "trap '' TERM INT; while :; do sleep 33.03125; done",
    );
    for (head, word) in [
        (format!("sleep {sleeps}"), sleeps),
        (deaf.into(), "33.03125"),
    ] {
        let started = Instant::now();
        let args = ["run", "--budget", "3s", "--base", &base, "--head", &head];
        let answer = gate(scratch.path(), &args);
        answer.expect(FAILED).says("the time was over");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(25), "{took:?}: {}", answer.said);
        assert!(!runs(word), "{head} goes on");
    }
}

#[test]
fn who_says_stop_gets_the_answer_that_there_is() {
    let _alone = machine::alone();
    let scratch = Scratch::new();
    let [base, _] = programs(&scratch);
    let kept = scratch.file("kept");
    // Stopped when so many profiles are kept.
    let stopped = |profiles: usize| {
        let mut child = Command::new(binary())
            .args(["gate", "run", "--base", &base, "--head", &base])
            .args(["--runs", "500", "--threshold", "0.01%", "--keep"])
            .arg(&kept)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("rprof runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        // It says so once it listens.
        stderr.read_line(&mut said).expect("text");
        until(Duration::from_secs(60), || {
            count(&kept, "base-") + count(&kept, "head-") >= profiles
        });
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        stderr.read_to_string(&mut said).expect("text");
        (child.wait().expect("it ends").code(), said)
    };
    let left = || std::fs::read_dir(&kept).expect("our own").count();
    let (code, said) = stopped(0);
    assert_eq!(code, Some(FAILED), "{said}");
    assert!(said.contains("stopped before"), "{said}");
    assert_eq!(left(), 0);
    // Nothing changes, and that it is less than 0.01 % is decided by no number of runs that fits in here.
    let (code, said) = stopped(6);
    assert_eq!(code, Some(INCONCLUSIVE), "{said}");
    // What belongs to whole blocks is left, and nothing else.
    let made = count(&kept, "base-");
    assert!(made >= 2 && made.is_multiple_of(2), "{made}: {said}");
    assert_eq!((count(&kept, "head-"), left()), (made, 2 * made), "{said}");
    let words: Vec<&str> = said.split_whitespace().collect();
    for word in ["CPU time a run", "It was stopped before it was done."] {
        assert!(words.join(" ").contains(word), "{word}: {said}");
    }
}

#[test]
fn calibration() {
    let scratch = Scratch::new();
    let [base, _] = programs(&scratch);
    let args = ["calibrate", "--cmd", &base, "--runs", "8", "--quiet"];
    let answer = gate(scratch.path(), &args);
    answer.expect(0).says("in 16 runs of the same command");
    for word in ["noise", "drift", "neighbours", "A against A", "runs a side"] {
        answer.says(word);
    }
    // Nothing is called regressed that is the same.
    assert!(!answer.said.contains("regressed"), "{}", answer.said);
}
