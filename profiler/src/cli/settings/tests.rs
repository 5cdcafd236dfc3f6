//! What the arguments come to on a made-up machine.

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
    Settings::resolve(&Args::try_parse_from(words).unwrap().record, machine)
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
    assert_eq!(all.output, Output::File("rprof.pb.gz".into()));
    assert_eq!(all.format, Format::Pprof);
    assert_eq!(all.cpus, Cpus(vec![0, 1, 2, 3]));
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

#[test]
fn exactly_one_target() {
    for line in [
        "-F 20",
        "-a -p 1",
        "-a -- true",
        "-p 1 -- true",
        "-a -p 1 -- true",
    ] {
        let failure = refused(line);
        assert_eq!(failure.exit_code(), 2, "{line}");
        assert!(!failure.next_commands().is_empty(), "{line}");
    }
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
        let failure = refused(line);
        assert_eq!(failure.exit_code(), 2, "{line}");
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
        "rprof: 1001 samples a second are more than this kernel allows, 1000\n  \
         try: rprof --all -F 1000\n  \
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
        "rprof: no process has the pid 2147483647\n  try: pgrep -a NAME"
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
fn formats() {
    for (file, format) in [
        ("x.pb.gz", Format::Pprof),
        ("x.FOLDED", Format::Folded),
        ("x.svg", Format::Svg),
        ("x.json", Format::Firefox),
        ("-", Format::Pprof),
        ("/dev/null", Format::Pprof),
        ("x.svg --format folded", Format::Folded),
        ("x --format firefox", Format::Firefox),
    ] {
        // `-` is refused on a terminal, where tests may run.
        if file != "-" || !io::stdout().is_terminal() {
            assert_eq!(settings(&format!("-a -o {file}")).format, format, "{file}");
        }
    }
    let failure = refused("-a -o profile");
    assert_eq!(failure.exit_code(), 2);
    assert_eq!(
        failure.next_commands(),
        [
            "rprof --all -o profile.pb.gz",
            "rprof --all -o profile --format pprof"
        ]
    );
}

#[test]
fn outputs_that_could_not_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none/x.pb.gz");
    let failure = refused(&format!("-a -o {}", path.display()));
    assert_eq!(failure.exit_code(), 1);
    assert!(
        failure
            .to_string()
            .contains("there is no such folder\n  try: mkdir -p "),
        "{failure}"
    );
    let named_like_a_file = folder.path().join("x.svg");
    std::fs::create_dir(&named_like_a_file).unwrap();
    let failure = refused(&format!("-a -o {}", named_like_a_file.display()));
    assert!(failure.to_string().contains("it is a folder"), "{failure}");
}

#[test]
fn what_the_machine_lacks() {
    let failure = refused("-a --event cycles");
    assert_eq!(failure.next_commands(), ["rprof --all --event cpu-clock"]);
    let failure = refused("-a --reads process-vm");
    assert_eq!(failure.next_commands(), ["rprof --all --reads auto"]);
    let failure = refused("-a --cpus 0,4-7");
    assert_eq!(
        failure.to_string(),
        "rprof: 4-7 are not online CPUs of this machine\n  try: rprof --all --cpus 0-3"
    );
    let full = Machine {
        pmu: true,
        process_vm_pidfd: true,
        process_vm_nowait: true,
        ..machine()
    };
    let settings = resolve_on(&full, "-a --event cycles --reads process-vm --cpus 1").unwrap();
    assert_eq!(settings.event, Event::Cycles);
    assert_eq!(settings.cpus, Cpus(vec![1]));
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
    assert_eq!(settings("-a -q -v").verbosity, Verbosity::Quiet);
    assert_eq!(settings("-a -v").verbosity, Verbosity::Verbose);
    assert_eq!(settings("-a -vvv").verbosity, Verbosity::Most);
    assert!(settings("-a --color always").color);
    assert!(!settings("-a --color never").color);
}
