//! What the arguments come to on a made-up machine.

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::cli::args::Args;

fn machine() -> Machine {
    Machine {
        max_sample_rate: Some(1000),
        online: Cpus(vec![0, 1, 2, 3]),
        ..Machine::default()
    }
}

fn resolve_on(machine: &Machine, line: &str) -> Result<Settings, Failure> {
    let words = std::iter::once("rprof").chain(line.split_whitespace());
    let words: Vec<OsString> = words.map(OsString::from).collect();
    let typed = Args::try_parse_from(&words).unwrap().record;
    Settings::resolve(&typed, machine, &Retype::new(&words))
}

fn settings(line: &str) -> Settings {
    resolve_on(&machine(), line).unwrap()
}

fn refused(line: &str) -> Failure {
    resolve_on(&machine(), line).unwrap_err()
}

#[test]
fn defaults() {
    let all = settings("--all");
    assert_eq!(all.frequency, 20);
    assert_eq!((all.output, all.format), (Some("rprof.pb.gz".into()), None));
    assert_eq!((all.cpus, all.new_cpus), (Cpus(vec![0, 1, 2, 3]), true));
    assert_eq!(all.max_memory, 256 << 20);
    assert!(all.kernel && all.inline && all.duration.is_none());
    assert_eq!(all.verbosity, Verbosity::Normal);
    assert_eq!(settings("-p 1").frequency, 199);
    assert_eq!(settings("-- true").frequency, 199);
    assert_eq!(
        settings("-a -d 2m").duration,
        Some(Duration::from_secs(120))
    );
}

/// The refusal of a line that no machine would accept.
fn misused(line: &str) -> Failure {
    let failure = refused(line);
    assert_eq!(failure.exit_code(), 2, "{line}");
    failure
}

#[test]
fn exactly_one_target() {
    for line in [
        "-F 20",
        "-a -p 1",
        "-a -- true",
        "-p 1 -- true",
        "-a -p 1 -- true",
    ] {
        let failure = misused(line);
        assert!(!failure.next_commands().is_empty(), "{line}");
    }
    let next = |line| misused(line).next_commands().join(" | ");
    assert_eq!(next("-aq -p 1"), "rprof -aq | rprof -q -p 1");
    assert_eq!(next("-a -- x"), "rprof -a | rprof -- x");
    assert_eq!(next("-p 1 -q -- x"), "rprof -p 1 -q | rprof -q -- x");
}

#[test]
fn options_that_belong_to_one_target() {
    for line in [
        "-a --children",
        "-p 1 --wait-all",
        "-a --user root",
        "-p 1 --cgroup /",
        "-p 1 --comm x",
    ] {
        let failure = misused(line);
        assert!(
            failure.to_string().contains(" only\n  try: rprof "),
            "{failure}"
        );
    }
}

#[test]
fn the_kernels_limit() {
    assert_eq!(settings("-a -F 1000").frequency, 1000);
    assert_eq!(
        refused("-a -F 1001").to_string(),
        "rprof: 1001 samples a second are more than this kernel allows: from 1 to 1000\n  \
         try: rprof -a -F 1000\n  \
         try: sudo sysctl kernel.perf_event_max_sample_rate=1001"
    );
}

#[test]
fn pids() {
    let own = std::process::id();
    let expected = Target::Pids {
        pids: vec![own],
        children: false,
    };
    assert_eq!(settings(&format!("-p {own},{own}")).target, expected);
    // Pids end at 4,194,304.
    assert_eq!(
        refused("-p 2147483647").to_string(),
        "rprof: no process has the pid 2147483647\n  try: ps -eo pid,pcpu,comm --sort=-pcpu | head"
    );
    assert_eq!(
        refused(&format!("-p 2147483647,{own},2147483646")).to_string(),
        format!("rprof: no process has the pids 2147483646, 2147483647\n  try: rprof -p {own}")
    );
}

#[test]
fn a_thread_is_not_a_process() {
    let thread = std::thread::spawn(|| {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        refused(&format!("-p {thread}"))
            .to_string()
            .replace(&thread.to_string(), "N")
    });
    assert_eq!(
        thread.join().unwrap(),
        format!(
            "rprof: N is a thread, not a process\n  try: rprof -p {}",
            std::process::id()
        )
    );
}

#[test]
fn what_the_machine_lacks() {
    let failure = refused("-a --event cycles");
    assert_eq!(failure.next_commands(), ["rprof -a"]);
    let failure = refused("-a --reads process-vm");
    assert_eq!(failure.next_commands(), ["rprof -a"]);
    let failure = refused("-a --cpus 0,4-7");
    assert_eq!(
        failure.to_string(),
        "rprof: 4-7 are not online CPUs of this machine\n  try: rprof -a --cpus 0-3"
    );
    let full = Machine {
        pmu: true,
        process_vm_pidfd: true,
        process_vm_nowait: true,
        ..machine()
    };
    let settings = resolve_on(&full, "-a --event cycles --reads process-vm --cpus 1").unwrap();
    assert_eq!(settings.event, Event::Cycles);
    assert_eq!((settings.cpus, settings.new_cpus), (Cpus(vec![1]), false));
}

#[test]
fn commands_and_users() {
    let Target::Command(command) = settings("--user root --wait-all -- sh -c true").target else {
        panic!("not a command");
    };
    assert!(command.file.ends_with("sh") && command.file.is_absolute());
    assert_eq!(command.words, ["sh", "-c", "true"]);
    assert!(command.wait_all);
    assert_eq!(command.user.map(|user| user.uid), Some(0));
    assert_eq!(refused("-- no-such-command-here").exit_code(), 127);
    assert_eq!(refused("-- /etc").exit_code(), 126);
    assert_eq!(refused("--user no-such-user -- true").exit_code(), 2);
    assert_eq!(refused("-a --cgroup /no/such/group").exit_code(), 2);
}

#[test]
fn how_much_is_said() {
    assert_eq!(settings("-a -q").verbosity, Verbosity::Quiet);
    assert_eq!(settings("-a -v").verbosity, Verbosity::Verbose);
    assert_eq!(settings("-a -vvv").verbosity, Verbosity::Most);
    assert!(settings("-a --color always").color);
    assert!(!settings("-a --color never").color);
}

#[test]
fn names_that_the_kernel_cuts() {
    for glob in ["fifteen-letters", "*-letters*", "a[0-9]-very-long", "[ab]*"] {
        settings(&format!("-a --comm {glob}"));
    }
    assert_eq!(
        refused("-a --comm sixteen-letters!").to_string(),
        "rprof: --comm 'sixteen-letters!' matches nothing: the kernel cuts the names of processes \
         to 15 bytes\n  try: rprof -a --comm 'sixteen-letter*'"
    );
    assert_eq!(refused("-a --comm ééééééééé").exit_code(), 2);
}

#[test]
fn patterns_that_are_none() {
    assert_eq!(
        refused("-a --comm [a").to_string(),
        "rprof: --comm '[a': '[' has no ']'\n  try: ps -eo comm | sort -u"
    );
    assert_eq!(refused("-a --comm=").exit_code(), 2);
    assert_eq!(refused("-a --comm a[0-9]-very-long-one").exit_code(), 2);
}

#[test]
fn contradictions() {
    for (line, said) in [
        (
            "-a -d 1s -F 9 --duration=2s",
            "--duration is given as 1s and as 2s\n  try: rprof -a -F 9 -d 2s",
        ),
        (
            "-a -qv",
            "--quiet and --verbose contradict each other\n  try: rprof -a -q\n  try: rprof -a -v",
        ),
        (
            "-a --label a=b --label x=y --label a=c",
            "the label 'a' is given as b and as c\n  try: rprof -a --label a=c --label x=y",
        ),
    ] {
        assert_eq!(misused(line).to_string(), format!("rprof: {said}"));
    }
    settings("-a -d 1s -d1s --label a=b --label a=b -a --cpus 0,0");
}

#[test]
fn a_process_that_nobody_has_waited_for() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    let ended = || field(pid, "State:").is_some_and(|state| state.starts_with('Z'));
    while !ended() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let own = std::process::id();
    assert_eq!(
        refused(&format!("-p {pid}")).to_string(),
        format!(
            "rprof: process {pid} (true) has already ended; its parent {own} has not waited for \
             it\n  try: rprof -p {own}"
        )
    );
    let next = format!("\n  try: rprof -p {own}");
    assert!(
        refused(&format!("-p {pid},{own}"))
            .to_string()
            .ends_with(&next)
    );
    child.wait().unwrap();
}

#[test]
fn cgroups_are_those_of_version_2() {
    // A version 1 group, or no group at all.
    for folder in [
        "/sys/fs/cgroup/cpu",
        "/sys/fs/cgroup/memory",
        "/proc",
        "/tmp",
    ] {
        let v2 = Path::new("/sys/fs/cgroup").join(folder.trim_start_matches('/'));
        if !v2.exists() {
            let failure = refused(&format!("-a --cgroup {folder}"));
            assert!(
                failure.to_string().contains("there is no cgroup (v2)"),
                "{failure}"
            );
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let v2 = |root: &str| mounts.contains(&format!(" {root} cgroup2 "));
    let Some(root) = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .find(|r| v2(r))
    else {
        return;
    };
    let Target::All { cgroup, .. } = settings("-a --cgroup /").target else {
        panic!("not all");
    };
    assert_eq!(cgroup.as_deref(), Some(Path::new(root)));
}
