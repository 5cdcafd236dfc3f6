//! Promise: no signal that rprof may get by mistake or by habit takes its samples with it, and none that is
//! for the command stays with rprof.

use std::process::Command;
use std::time::Duration;

use rprof_tests::machine;
use rprof_tests::rprof::{self, Rprof, Running};
use rprof_tests::scratch::Scratch;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A shell that says when its traps are set, and then uses a CPU.
fn shell(scratch: &Scratch, traps: &str) -> Running {
    let script = format!("{traps}; echo set; while :; do :; done");
    let mut running = Rprof::new(scratch, ["--", "sh", "-c", &script])
        .heeds_hangups()
        .start();
    running.wait_until_sampling();
    let output = running.folder().join("stdout");
    machine::wait_for("the trap is set", Duration::from_secs(10), || {
        let text = std::fs::read_to_string(&output).ok()?;
        (text == "set\n").then_some(())
    });
    running
}

#[test]
fn those_that_end_a_recording() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    for signal in [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::XCPU,
    ] {
        let mut running = Rprof::new(&scratch, ["--all"]).heeds_hangups().start();
        running.wait_until_sampling();
        std::thread::sleep(Duration::from_millis(200));
        running.signal(signal);
        let profile = running.finish().ok();
        assert!(profile.duration > 100_000_000, "{signal:?}");
    }
}

#[test]
fn a_hangup_is_not_for_who_said_nohup() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut nohup = Command::new("nohup");
    nohup.arg(rprof::binary());
    let rprof = Rprof::within(&scratch, nohup).args(["-o", "out.pb.gz", "--all"]);
    let mut running = rprof.start();
    running.wait_until_sampling();
    running.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(500));
    running.signal(Signal::INT);
    let profile = running.finish().ok();
    assert!(profile.duration > 450_000_000, "{} ns", profile.duration);
}

#[test]
fn those_that_say_nothing_to_it() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut running = Rprof::new(&scratch, ["--all"]).start();
    running.wait_until_sampling();
    let others = [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
    ];
    for signal in others.into_iter().chain([Signal::IO, Signal::POWER]) {
        running.signal(signal);
        std::thread::sleep(Duration::from_millis(50));
    }
    running.signal(Signal::INT);
    let profile = running.finish().ok();
    assert!(profile.duration > 300_000_000, "{} ns", profile.duration);
}

#[test]
fn the_command_gets_its_own() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::USR1, "USR1"),
        (Signal::HUP, "HUP"),
    ] {
        let running = shell(&scratch, &format!("trap 'echo got it; exit 9' {name}"));
        running.signal(signal);
        let run = running.finish().expect(9);
        assert_eq!(run.text(), "set\ngot it\n", "{name}");
        run.profile();
    }
}

#[test]
fn a_command_that_runs_on_is_said() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let running = shell(&scratch, "trap '' INT");
    running.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::INT);
    let run = running.finish().expect(130);
    let said = run.stderr.trim_end();
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default();
    assert!(
        first.starts_with("rprof: waiting for the command (pid "),
        "{said}"
    );
    let stopped = lines.next().unwrap_or_default();
    let pid =
        stopped.strip_prefix("rprof: stopped without a profile; the command runs on, as process ");
    let pid = pid.unwrap_or_else(|| panic!("{said}"));
    let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a pid");
    assert!(test_kill_process(pid).is_ok(), "it runs");
    kill_process(pid, Signal::KILL).expect("it runs");
    assert!(!run.output.exists());
    let left = std::fs::read_dir(run.output.parent().expect("a folder")).expect("the folder");
    let left: Vec<_> = left.flatten().map(|file| file.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_command_that_may_not_be_told() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut without = Command::new("setpriv");
    without.arg("--bounding-set=-kill").arg(rprof::binary());
    let rprof = Rprof::within(&scratch, without);
    let mut running = rprof
        .args(["-o", "out.pb.gz", "--user", "nobody", "--", "sleep", "20"])
        .start();
    running.wait_until_sampling();
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::TERM);
    let run = running.finish().expect(0);
    assert!(run.stderr.contains("(CAP_KILL)"), "{}", run.stderr);
    assert!(
        run.took < machine::patience(Duration::from_secs(10)),
        "{:?}",
        run.took
    );
    let sampled = run.profile().duration;
    assert!(sampled > 200_000_000, "{sampled} ns");
}
