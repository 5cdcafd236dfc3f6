//! Promise: `rprof -- COMMAND` profiles a command and all its descendants from its first instruction
//! to its end, changes nothing of what it does, and passes its exit code on.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::rprof::{Rprof, Run};
use rprof_tests::scratch::{OPTIMIZED, Scratch, finish};
use rprof_tests::statistics::count_bound;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// `rprof`'s default for commands.
const HERTZ: f64 = 199.0;

fn shell(scratch: &Scratch, script: &str) -> Run {
    Rprof::new(scratch, ["--", "sh", "-c", script]).run()
}

/// `NAME VALUE` lines of what a program said.
fn values<T: std::str::FromStr>(text: &str, name: &str) -> Vec<T> {
    let words = text.lines().filter_map(|line| line.split_once(' '));
    words
        .filter(|(n, _)| *n == name)
        .filter_map(|(_, value)| value.parse().ok())
        .collect()
}

/// Samples in `burn`, complete, of the processes that `pids` names, against the seconds they burnt.
fn burnt(profile: &Profile, pids: &[u32], seconds: f64, through: &str) {
    let mut n = 0;
    for stack in profile.stacks.iter().filter(|stack| stack.has("burn")) {
        if pids.is_empty() || pids.contains(&stack.pid) {
            assert!(
                stack.is_complete() && stack.has(through),
                "{}",
                stack.text()
            );
            n += stack.count;
        }
    }
    let expected = seconds * HERTZ;
    assert!(
        (n as f64 - expected).abs() <= count_bound(expected),
        "{n} samples in burn, {expected} expected: {:?}",
        profile.ledger
    );
}

#[test]
fn its_exit_code_is_passed_on() {
    let scratch = Scratch::new();
    for code in [0, 1, 7, 126, 127, 255] {
        let run = shell(&scratch, &format!("exit {code}")).expect(code);
        // A short command may end before the first tick; the file is there all the same.
        run.profile();
    }
}

#[test]
fn its_signal_is_passed_on() {
    let scratch = Scratch::new();
    for signal in [Signal::TERM, Signal::KILL, Signal::SEGV] {
        let n = signal.as_raw();
        shell(&scratch, &format!("ulimit -c 0; kill -{n} $$"))
            .expect(128 + n)
            .profile();
    }
}

#[test]
fn what_cannot_be_run() {
    let scratch = Scratch::new();
    let plain = scratch.write("plain", "no program\n");
    let cases = [
        ("no-such-command".into(), 127, "no-such-command"),
        ("/no/such/command".into(), 127, "/no/such/command"),
        (plain.display().to_string(), 126, "plain"),
        (scratch.path().display().to_string(), 126, "rprof-test-"),
    ];
    for (command, code, said) in cases {
        let run = Rprof::new(&scratch, ["--", &command]).run().expect(code);
        assert!(run.stderr.contains(said), "{}", run.stderr);
        assert!(
            run.stdout.is_empty() && !run.output.exists(),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn its_streams_are_its_own() {
    let scratch = Scratch::new();
    let run = shell(&scratch, "printf 'to out'; printf 'to err' >&2").expect(0);
    assert_eq!(run.text(), "to out");
    assert!(run.stderr.starts_with("to err"), "{}", run.stderr);

    let text: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let input = File::open(scratch.write("input", &text)).expect("just written");
    let run = Rprof::new(&scratch, ["--", "cat"])
        .stdin(input)
        .run()
        .expect(0);
    assert_eq!(run.text(), text);
}

/// What a process inherits, with and without rprof.
fn inherited(scratch: &Scratch, words: &[&str]) -> [String; 2] {
    let mut plain = std::process::Command::new(words[0]);
    plain
        .args(&words[1..])
        .current_dir(scratch.path())
        .stdin(Stdio::null());
    let run = Rprof::new(scratch, ["--"]).args(words).run().expect(0);
    [finish(&mut plain), run.text()]
}

#[test]
fn it_inherits_what_it_would_without_rprof() {
    let scratch = Scratch::new();
    // Not by way of a shell, which has signals of its own. 32 and 33 are glibc's own.
    let status = [
        "grep",
        "-E",
        "^(Sig(Blk|Ign)|Cap|NoNewPrivs|Seccomp:)",
        "/proc/self/status",
    ];
    let [plain, under_rprof] = inherited(&scratch, &status).map(|text| {
        let signals = |line: &str| {
            let mask = line
                .strip_prefix("SigIgn:\t")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok());
            mask.map_or(line.to_string(), |mask| {
                format!("SigIgn: {:x}", mask & 0x7fff_ffff)
            })
        };
        text.lines().map(signals).collect::<Vec<_>>()
    });
    assert_eq!(under_rprof, plain);
    let script = "ls /proc/self/fd; ulimit -a; cat /proc/self/oom_score_adj; umask; nice; env | grep -v ^PWD | sort";
    let [plain, under_rprof] = inherited(&scratch, &["sh", "-c", script]);
    assert_eq!(under_rprof, plain);
}

#[test]
fn from_the_first_instruction() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let run = Rprof::new(&scratch, ["--"])
        .arg(&program)
        .args(["constructor", "1"])
        .run()
        .expect(0);
    let profile = run.profile();
    burnt(&profile, &[], 1.0, "before_main");
    // The loader, the constructor, the end: all of it is one process's CPU.
    let seconds: Vec<f64> = values(&run.text(), "seconds");
    let all = profile.count(|stack| stack.comm == "burn") as f64;
    let expected = seconds[0] * HERTZ;
    assert!(
        (all - expected).abs() <= count_bound(expected),
        "{all} of {expected} samples"
    );
}

#[test]
fn its_children() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let run = Rprof::new(&scratch, ["--"])
        .arg(&program)
        .args(["children", "0.25", "6"])
        .run()
        .expect(0);
    let pids: Vec<u32> = values(&run.text(), "pid");
    assert_eq!(pids.len(), 6);
    burnt(&run.profile(), &pids, 1.5, "run_children");
    for &pid in &pids {
        let n: u64 = run.profile().of(pid).map(|stack| stack.count).sum();
        assert!(
            n as f64 > 0.25 * HERTZ - count_bound(0.25 * HERTZ),
            "{n} samples of {pid}"
        );
    }
}

#[test]
fn nobody_else() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let mut other = std::process::Command::new(&program);
    let other = rprof_tests::target::Target::start(other.args(["threads", "60", "1"]));
    let run = Rprof::new(&scratch, ["--", "sleep", "1"]).run().expect(0);
    let profile = run.profile();
    assert_eq!(profile.of(other.pid()).count(), 0);
    // Still, its ticks are accounted for.
    assert!(
        profile.ledger.get("not selected") as f64 > 0.5 * HERTZ,
        "{:?}",
        profile.ledger
    );
}

#[test]
fn a_daemon_with_wait_all() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let run = Rprof::new(&scratch, ["--wait-all", "--"])
        .arg(&program)
        .args(["daemon", "1"])
        .run()
        .expect(0);
    let pids: Vec<u32> = values(&run.text(), "pid");
    assert_eq!(pids.len(), 1);
    burnt(&run.profile(), &pids, 1.0, "run_daemon");
}

#[test]
fn a_daemon_without_wait_all() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    // The command goes on for half a second of its own CPU after it started the daemon, which gets
    // about as much.
    let script = format!("{0} daemon 30; {0} main 0.5", program.display());
    let run = shell(&scratch, &script).expect(0);
    assert!(
        run.took < machine::patience(Duration::from_secs(15)),
        "{:?}",
        run.took
    );
    let pids: Vec<u32> = values(&run.text(), "pid");
    let n: u64 = run.profile().of(pids[0]).map(|stack| stack.count).sum();
    assert!(n > 20, "{n} samples of the daemon");
    // It is left alone.
    let daemon = Pid::from_raw(pids[0] as i32).expect("a pid");
    test_kill_process(daemon).expect("the daemon runs on");
    kill_process(daemon, Signal::KILL).expect("our own program");
}

#[test]
fn a_duration_ends_sampling_but_not_the_command() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let script = format!("{} main 2; echo done; exit 7", program.display());
    let run = Rprof::new(&scratch, ["-d", "1s", "--", "sh", "-c", &script])
        .run()
        .expect(7);
    assert_eq!(run.text(), "done\n");
    let profile = run.profile();
    let seconds = profile.duration as f64 / 1e9;
    assert!((1.0..1.3).contains(&seconds), "{seconds} s");
    let n = profile.count(|stack| stack.has("burn")) as f64;
    assert!(
        n < 1.3 * HERTZ + count_bound(1.3 * HERTZ),
        "{n} samples in a second"
    );
}

#[test]
fn as_another_user() {
    let scratch = Scratch::new();
    let run = Rprof::new(
        &scratch,
        [
            "--user",
            "nobody",
            "--",
            "sh",
            "-c",
            "id -un; id -Gn; echo $HOME",
        ],
    )
    .run()
    .expect(0);
    let said = run.text();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "nobody");
    assert_eq!(lines[1], "nogroup");
    assert_ne!(lines[2], "/root");
    run.profile();
}
