//! Promise: rprof needs nobody's consent. A process of another user, one that may not be dumped, and one in a
//! user namespace of its own are sampled and named as all others; what a security module forbids is not read,
//! and that is said.

use std::process::Command;

use rprof_tests::beside::{as_its_clock_says, group, is_early, lost_of, run, ticks_of};
use rprof_tests::profile::{Profile, Stack};
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::target::Target;
use rprof_tests::{machine, python, skipped};

/// Ways to start a program as somebody else.
const OTHER_USER: &[&str] = &[
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];
const USER_NAMESPACE: &[&str] = &["unshare", "--user"];
/// `prctl(PR_SET_DUMPABLE, 0)`
const NOT_DUMPABLE: &str = "import ctypes; ctypes.CDLL(None).prctl(4, 0)\n";

/// A Python program, started by some words; `first` is what it does first.
fn start(words: &[&str], first: &str) -> Target {
    // Not as a file: another user may not get at this folder.
    let text = std::fs::read_to_string(source_file("neighbour.py")).expect("a target");
    let text = format!("{first}{text}");
    let program = python::system().program.display().to_string();
    let words = words.iter().copied();
    let mut words = words.chain([program.as_str(), "-u", "-c", &text]);
    let mut command = Command::new(words.next().expect("a program"));
    // A folder that everybody may be in.
    Target::start(command.args(words).current_dir("/"))
}

fn is_named(stack: &Stack) -> bool {
    let names = stack.interpreted().map(|f| f.function.as_str());
    names.collect::<Vec<_>>().ends_with(&["root", "<module>"])
}

fn record(scratch: &Scratch, targets: &[&Target], reads: &str) -> Profile {
    let pids: Vec<u32> = targets.iter().map(|target| target.pid()).collect();
    let group = group("permission");
    pids.iter().for_each(|&pid| group.take(pid));
    let folder = group.folder().display().to_string();
    let args = ["--all", "--cgroup", &folder, "--reads", reads];
    let (profile, used) = run(scratch, &args, &pids, |_| ());
    for &pid in &pids {
        as_its_clock_says(&profile, pid, &used, ticks_of(&profile, pid));
    }
    profile
}

#[test]
fn a_process_of_anyone() {
    let test = "a_process_of_anyone";
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let targets = [
        ("another user's", start(OTHER_USER, "")),
        ("not dumpable", start(&[], NOT_DUMPABLE)),
        ("in a user namespace", start(USER_NAMESPACE, "")),
        (
            "all of that",
            start(&[OTHER_USER, USER_NAMESPACE].concat(), NOT_DUMPABLE),
        ),
    ];
    for reads in machine::ways_to_read(test, &["auto", "process-vm"]) {
        let all: Vec<&Target> = targets.iter().map(|(_, target)| target).collect();
        let profile = record(&scratch, &all, reads);
        for (what, target) in &targets {
            let pid = target.pid();
            let named = profile.count(|stack| stack.pid == pid && is_named(stack));
            println!(
                "{reads}: {what}: {named} named of {}",
                ticks_of(&profile, pid)
            );
            assert_eq!(lost_of(&profile, pid), Vec::<&str>::new(), "{what}");
            let mut stacks = profile.of(pid).filter(|stack| !is_early(stack));
            let nameless = stacks.find(|stack| !is_named(stack));
            assert_eq!(nameless.map(Stack::text), None, "{what}");
            assert!(named > 5, "{what}: {:?}", profile.ledger);
        }
        if reads == "process-vm" {
            machine::read_by_flags(test, &profile);
        }
    }
}

/// Yama's strictest setting lets nobody read another process's memory, whatever they may do otherwise. It
/// cannot be taken back: only where the machine ends with its tests.
#[test]
fn what_a_security_module_forbids() {
    const SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";
    let test = "what_a_security_module_forbids";
    if !machine::reads_without_waiting() || machine::slower() == 1 {
        return skipped(test, "it is forbidden until this machine ends");
    }
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let target = start(&[], "");
    std::fs::write(SCOPE, "3").expect("a kernel with Yama");
    let pid = target.pid();
    // The sample itself reads its own process.
    for (reads, lost) in [("auto", &[][..]), ("process-vm", &["not permitted"])] {
        let profile = record(&scratch, &[&target], reads);
        assert_eq!(lost_of(&profile, pid), lost, "{:?}", profile.ledger);
        let named = profile.count(|stack| stack.pid == pid && is_named(stack));
        println!("{reads}: {named} named: {:?}", profile.ledger);
        assert_eq!(named > 5, lost.is_empty(), "{:?}", profile.ledger);
    }
}
