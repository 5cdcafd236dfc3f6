//! Nothing that a comparison has started goes on when it ends, however it ends.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rprof_tests::machine::patience;
use rprof_tests::scratch::Scratch;
use rustix::process::{Pid, Signal, kill_process};

use crate::answer::FAILED;
use crate::said::{gate, read, read_json, until};

/// Processes, recorders among them, that were started with this word, but for gate itself.
fn running(word: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines
        .filter(|line| line.contains(word) && !line.contains(" gate run "))
        .collect()
}

/// Starts a comparison of a command that goes on, and waits until it runs.
fn started(scratch: &Scratch, command: &str, word: &str) -> Child {
    let mut gate = gate(
        scratch.path(),
        &[
            "run", "--base", command, "--head", "true", "--json", "a.json",
        ],
    );
    // Who is killed cannot remove what was there.
    let child = gate
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rprof runs");
    until(Duration::from_secs(20), || {
        running(word).iter().any(|line| line.starts_with("sleep"))
    });
    child
}

#[test]
fn nothing_runs_on_when_it_is_killed_or_told_to_stop() {
    let scratch = Scratch::new();
    let scripts = [
        // A shell, its child, and one that nobody waits for.
        "sleep WORD & sleep WORD; true",
        // None of them listens.
        "trap '' TERM INT; sleep WORD & sleep WORD; sleep WORD; true",
        // It makes a group of its own, and a shell that ends leaves it behind.
        "timeout 60 sleep WORD; true",
        "trap '' TERM INT; timeout 60 sh -c \"trap '' TERM INT; sleep WORD; true\"; sleep WORD; true",
    ];
    for (n, signal) in [Signal::KILL, Signal::INT, Signal::TERM]
        .into_iter()
        .enumerate()
    {
        for (m, script) in scripts.iter().enumerate() {
            let word = format!("77{n}.{m}0625");
            let mut gate = started(&scratch, &script.replace("WORD", &word), &word);
            let began = Instant::now();
            kill_process(Pid::from_child(&gate), signal).expect("it runs");
            let status = gate.wait().expect("it ends");
            let mut said = String::new();
            gate.stderr
                .take()
                .expect("a pipe")
                .read_to_string(&mut said)
                .expect("text");
            match signal {
                Signal::KILL => assert_eq!(status.code(), None),
                _ => {
                    assert_eq!(status.code(), Some(FAILED), "{said}");
                    assert!(said.contains("stopped before"), "{said}");
                    let took = began.elapsed();
                    assert!(
                        took < patience(Duration::from_secs(15)),
                        "{script}: {took:?}"
                    );
                    assert_eq!(read_json(&read(&scratch, "a.json"))["verdict"], "failed");
                    // Who does not listen was given time.
                    let is_deaf = script.starts_with("trap");
                    assert!(!is_deaf || took > Duration::from_secs(5), "{took:?}");
                }
            }
            until(Duration::from_secs(5), || running(&word).is_empty());
        }
    }
}
