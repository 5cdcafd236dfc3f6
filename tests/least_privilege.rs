//! Promise: rprof gives up what sampling does not need, its readers nearly all; the command that it starts has
//! what it would have without rprof.

use std::process::Command;
use std::time::Duration;

use rprof_tests::machine;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::target::Target;
use rprof_tests::tasks::{of_children, of_group};
use rustix::process::Signal;

/// Numbers of `include/uapi/linux/capability.h`: chown, dac_override, dac_read_search, fowner, kill, ipc_lock,
/// sys_ptrace, syslog, perfmon, bpf, checkpoint_restore.
const SAMPLING: [u32; 11] = [0, 1, 2, 3, 5, 14, 19, 34, 38, 39, 40];
/// dac_read_search, ipc_lock, sys_ptrace, checkpoint_restore.
const READING: [u32; 4] = [2, 14, 19, 40];

fn set(numbers: &[u32]) -> u64 {
    numbers.iter().map(|number| 1 << number).sum()
}

/// A field of a status file.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name}: {text}"))
        .trim()
        .to_owned()
}

/// Capabilities that a thread has, could take and would give on.
fn capabilities(text: &str) -> u64 {
    ["CapInh:", "CapPrm:", "CapEff:"]
        .iter()
        .map(|name| u64::from_str_radix(&field(text, name), 16).expect("a set"))
        .fold(0, |all, set| all | set)
}

#[test]
fn threads_and_readers_have_what_they_need() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let burn = scratch.cc("burn.c", "burn", OPTIMIZED);
    let _target = Target::start(Command::new(burn).args(["threads", "600", "1"]));
    let mut running = Rprof::new(&scratch, ["--all", "-F", "49"]).start();
    running.wait_until_sampling();
    let (mut threads, mut readers) = (0, 0);
    let status_of = |tid| std::fs::read_to_string(format!("/proc/{tid}/status")).ok();
    machine::wait_for(
        "the main thread gives up its own",
        Duration::from_secs(5),
        || {
            let status = status_of(running.pid())?;
            (capabilities(&status) & !set(&SAMPLING) == 0).then_some(())
        },
    );
    // A reader ends when nobody asks for long; the first ones are there now.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        for task in of_group(running.pid()) {
            let Some(status) = status_of(task.tid) else {
                continue;
            };
            let more = capabilities(&status) & !set(&SAMPLING);
            assert_eq!(more, 0, "{task:?} has {more:#x} too many");
            threads += 1;
        }
        for task in of_children(running.pid()) {
            // One that has just been started has not come that far.
            let Some(status) = status_of(task.tid) else {
                continue;
            };
            if field(&status, "NoNewPrivs:") == "1" {
                // That is the first thing that it does, and this the next.
                readers +=
                    machine::wait_for("it has what it needs", Duration::from_secs(2), || {
                        let Some(status) = status_of(task.tid) else {
                            return Some(0);
                        };
                        (capabilities(&status) & !set(&READING) == 0).then_some(1)
                    });
            }
        }
    }
    running.signal(Signal::INT);
    let profile = running.finish().ok();
    assert!(
        profile.count(|stack| stack.has("burn") && stack.is_complete()) > 20,
        "{:?}",
        profile.ledger
    );
    println!("{threads} looks at threads, {readers} at readers");
    assert!(threads > 60 && readers > 10, "{threads}, {readers}");
}

#[test]
fn a_command_has_all_that_it_would_have() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let status = ["cat", "/proc/self/status"];
    let run = Rprof::new(&scratch, ["--"]).args(status).run().expect(0);
    let text = run.text();
    let own = std::fs::read_to_string("/proc/self/status").expect("our own");
    for name in [
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
    ] {
        assert_eq!(field(&text, name), field(&own, name), "{name}");
    }
}
