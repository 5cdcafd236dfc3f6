//! Promise: whatever is missing or wrong on a machine, rprof says what, and what to do about it, or
//! does without and says so. It never panics (each run here would fail), never hangs, and never
//! leaves a file that looks like a result.

use std::process::Command;

use rprof_tests::machine;
use rprof_tests::profile::Frame;
use rprof_tests::rprof::{Rprof, Run, binary};
use rprof_tests::scratch::{OPTIMIZED, Scratch, finish};

/// `rprof` for half a second, as the last words of another command.
fn within(scratch: &Scratch, words: &[&str], args: &[&str]) -> Run {
    let mut command = Command::new(words[0]);
    // Where the build is kept, another user may not look.
    let copy = scratch.file("rprof");
    // By another process: a test beside this one may start a program while it is being written, and
    // would keep it open for writing.
    finish(Command::new("cp").arg(binary()).arg(&copy));
    command.args(&words[1..]).arg(copy);
    let run = Rprof::within(scratch, command);
    std::fs::set_permissions(
        run.folder(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .expect("our own folder");
    let output = run.output().to_path_buf();
    run.arg("-o").arg(output).args(args).run()
}

/// In a mount namespace of its own, after a script; `$@` is rprof.
fn with_mounts(scratch: &Scratch, script: &str, args: &[&str]) -> Run {
    let script = format!("set -e; {script}; exec \"$@\"");
    within(
        scratch,
        &[
            "unshare",
            "--mount",
            "--propagation=private",
            "sh",
            "-c",
            &script,
            "sh",
        ],
        args,
    )
}

/// It was refused with one sentence that holds a word, with what to type next, and without a file.
fn refused(run: &Run, word: &str) {
    assert!(
        run.code() == 1 || run.code() == 2,
        "{}: {}",
        run.code(),
        run.stderr
    );
    assert!(run.stderr.contains(word), "no {word:?}: {}", run.stderr);
    assert!(
        !run.stderr.contains("Error {") && !run.stderr.contains("Os {"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.lines().count() <= 12,
        "too long to be read: {}",
        run.stderr
    );
    assert!(!run.output.exists(), "{}", run.stderr);
}

const SHORT: &[&str] = &["--all", "-d", "500ms"];

#[test]
fn without_privileges() {
    let scratch = Scratch::new();
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let run = within(&scratch, &nobody, SHORT);
    refused(&run, "root");
    assert!(run.stderr.contains("sudo"), "{}", run.stderr);
}

#[test]
fn root_without_one_capability() {
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let program = program.to_str().expect("plain");
    let args = ["-F", "199", "--", program, "main", "0.5"];
    for (capability, enough) in [
        // With CAP_SYS_ADMIN the kernel asks for neither of the two.
        ("bpf", true),
        ("perfmon", true),
        // The kernel hides its addresses then, and with them its names.
        ("syslog", true),
        ("sys_resource", true),
        ("ipc_lock", true),
        ("dac_read_search", true),
        // Files of other users' processes; modules and names.
        ("sys_ptrace", false),
        ("sys_admin", false),
    ] {
        let list = format!("-{capability}");
        let words = ["setpriv", "--bounding-set", &list, "--inh-caps", &list];
        let run = within(&scratch, &words, &args);
        if run.code() == 0 {
            let profile = run.profile();
            let n = profile.count(|stack| stack.has("burn") && stack.is_complete());
            assert!(
                n > 50,
                "without {capability}: {n} samples: {:?}",
                profile.ledger
            );
        } else {
            // A clear error will do where rprof cannot do without.
            assert!(!enough, "without {capability}: {}", run.stderr);
            refused(&run, &format!("CAP_{}", capability.to_uppercase()));
        }
    }
}

#[test]
fn root_without_any_capability() {
    let scratch = Scratch::new();
    let run = within(
        &scratch,
        &["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
        SHORT,
    );
    refused(&run, "CAP_");
}

#[test]
fn without_kernel_names() {
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let program = program.to_str().expect("plain");
    // What kptr_restrict=2 shows: all addresses zero; and nothing at all.
    let zero = "sed 's/^[0-9a-f]*/0000000000000000/' /proc/kallsyms > /dev/shm/zero.$$; \
                mount --bind /dev/shm/zero.$$ /proc/kallsyms; rm /dev/shm/zero.$$";
    for script in [zero, "mount --bind /dev/null /proc/kallsyms"] {
        let args = ["-F", "499", "--", program, "children", "0.01", "100"];
        let profile = with_mounts(&scratch, script, &args).ok();
        let kernel: Vec<&Frame> = profile
            .stacks
            .iter()
            .flat_map(|stack| &stack.frames)
            .filter(|f| f.is_kernel())
            .collect();
        assert!(!kernel.is_empty(), "{:?}", profile.ledger);
        let named = kernel.iter().find(|frame| frame.is_named());
        assert_eq!(named, None, "where does it have that name from?");
    }
}

#[test]
fn without_tracefs_and_debugfs() {
    let scratch = Scratch::new();
    let script = "for fs in /sys/kernel/tracing /sys/kernel/debug; do \
                  mkdir -p $fs 2>/dev/null || true; mount -t tmpfs none $fs; done";
    let profile = with_mounts(&scratch, script, SHORT).ok();
    assert!(profile.ledger.expected > 0);
}

#[test]
fn without_a_list_of_modules() {
    let scratch = Scratch::new();
    // A kernel without modules does not have it anyway.
    let script = "if [ -e /proc/modules ]; then mount --bind /dev/null /proc/modules; fi";
    with_mounts(&scratch, script, SHORT).ok();
}

#[test]
fn without_btf() {
    let scratch = Scratch::new();
    let run = with_mounts(&scratch, "mount -t tmpfs none /sys/kernel/btf", SHORT);
    refused(&run, "/sys/kernel/btf/vmlinux");
    let broken = "mount -t tmpfs none /sys/kernel/btf; echo nonsense > /sys/kernel/btf/vmlinux";
    refused(
        &with_mounts(&scratch, broken, SHORT),
        "/sys/kernel/btf/vmlinux",
    );
    let cut = "cp /sys/kernel/btf/vmlinux /dev/shm/cut.$$; truncate -s 100000 /dev/shm/cut.$$; \
               mount -t tmpfs none /sys/kernel/btf; mv /dev/shm/cut.$$ /sys/kernel/btf/vmlinux";
    refused(
        &with_mounts(&scratch, cut, SHORT),
        "/sys/kernel/btf/vmlinux",
    );
}

#[test]
fn without_proc() {
    let scratch = Scratch::new();
    // A /proc that shows nobody else (hidepid) is a wish of many machines; none at all is a mistake.
    let run = with_mounts(&scratch, "mount -t tmpfs none /proc", SHORT);
    assert!(run.code() <= 2, "{}: {}", run.code(), run.stderr);
    assert!(run.code() == 0 || !run.output.exists(), "{}", run.stderr);
}

#[test]
fn frequencies_that_cannot_be() {
    let scratch = Scratch::new();
    let limit = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate");
    let limit: u64 = limit.expect("a limit").trim().parse().expect("a number");
    for (frequency, said) in [
        ("0".to_string(), "0"),
        ("-1".into(), "-1"),
        ("fast".into(), "fast"),
        ((limit + 1).to_string(), "perf_event_max_sample_rate"),
        ("99999999999999999999".into(), "99999999999999999999"),
    ] {
        let run = Rprof::new(&scratch, ["--all", "-d", "500ms", "-F", &frequency])
            .run()
            .expect(2);
        assert!(run.stderr.contains(said), "{}", run.stderr);
        assert!(!run.output.exists());
    }
}

#[test]
fn more_descriptors_than_there_may_be() {
    let scratch = Scratch::new();
    let words = ["prlimit", "--nofile=16:16"];
    let run = within(&scratch, &words, SHORT);
    if run.code() == 0 {
        run.profile();
    } else {
        refused(&run, "open files");
        let next = "\n  try: ulimit -n 1024; ";
        assert!(run.stderr.contains(next), "{}", run.stderr);
    }
}

#[test]
fn a_stack_that_may_hardly_grow() {
    let scratch = Scratch::new();
    let run = within(&scratch, &["prlimit", "--stack=65536:"], SHORT);
    run.expect(0).profile();
    // The command has what it would have without rprof.
    let args = ["--", "sh", "-c", "ulimit -s; ulimit -Hs"];
    let limits = within(&scratch, &["prlimit", "--stack=65536:"], &args)
        .expect(0)
        .text();
    let hard = limits.lines().nth(1).expect("two lines");
    assert_eq!(limits, format!("64\n{hard}\n"));
    assert_ne!(hard, "64");
}

#[test]
fn files_that_may_not_grow() {
    let scratch = Scratch::new();
    // Its standard error is a file, too.
    let some = [
        "-F",
        "999",
        "-q",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8 9; do ls -lR /usr/lib > /dev/null; done",
    ];
    let run = within(&scratch, &["prlimit", "--fsize=1024"], &some).expect(1);
    let said: Vec<&str> = run.stderr.lines().collect();
    let [what, next] = said[..] else {
        panic!("{said:?}");
    };
    assert!(
        what.contains("cannot write") && what.contains("File too large"),
        "{what}"
    );
    assert!(next.starts_with("  try: ulimit -f unlimited; "), "{next}");
}

#[test]
fn standard_output_that_is_closed() {
    let scratch = Scratch::new();
    let script = "exec \"$@\" -o - >&-";
    let words = ["sh", "-c", script, "sh"];
    let copy = Rprof::within(&scratch, Command::new(words[0])).args(&words[1..]);
    let run = copy.arg(binary()).args(SHORT).run().expect(1);
    let said = "rprof: standard output is closed\n  try: ";
    assert!(run.stderr.starts_with(said), "{}", run.stderr);
    assert!(run.stderr.ends_with(" -o rprof.pb.gz\n"), "{}", run.stderr);
}

#[test]
fn a_folder_of_path_that_may_not_be_searched() {
    let scratch = Scratch::new();
    let hidden = scratch.file("hidden");
    std::fs::create_dir(&hidden).expect("a folder");
    let nobody = "setpriv --reuid=65534 --clear-groups";
    let script = format!(
        "chmod 700 {0}; PATH={0}:$PATH; exec {nobody} \"$@\" -- no-such-command",
        hidden.display()
    );
    // As a shell says it.
    let run = within(&scratch, &["sh", "-c", &script, "sh"], &[]).expect(127);
    assert!(
        run.stderr.contains("no command 'no-such-command'"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_pattern_that_nothing_matches() {
    let scratch = Scratch::new();
    let args = ["--all", "-d", "300ms", "--comm", "no-such-[a-z]*"];
    let run = Rprof::new(&scratch, args).run().expect(0);
    let ran = "No samples: no process that ran on a CPU was called 'no-such-[a-z]*'.\n";
    // Or no CPU was busy at any of the few ticks.
    let idle = "No tick fell into this time";
    let said = run.stderr.starts_with(ran) || run.stderr.starts_with(idle);
    assert!(said, "{}", run.stderr);
}

#[test]
fn two_at_once() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let runs: Vec<_> = (0..3)
        .map(|_| Rprof::new(&scratch, SHORT).start())
        .collect();
    for run in runs {
        run.finish().ok();
    }
}

#[test]
fn nothing_in_dev() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let burn = scratch
        .cc("burn.c", "burn", OPTIMIZED)
        .display()
        .to_string();
    let run = with_mounts(
        &scratch,
        "mount -t tmpfs none /dev",
        &["--", &burn, "main", "1"],
    );
    let profile = run.ok();
    let named = profile.count(|stack| stack.is_complete() && stack.has("burn"));
    assert!(named > 100, "{named}: {:?}", profile.ledger);
}

#[test]
fn what_is_not_mounted() {
    let scratch = Scratch::new();
    for (folder, next) in [
        ("/proc", "mount -t proc proc /proc"),
        ("/sys", "mount -t sysfs sysfs /sys"),
    ] {
        let run = with_mounts(
            &scratch,
            &format!("umount -l {folder}"),
            &["--all", "-d", "1s"],
        );
        refused(&run, &format!("{folder} is not mounted"));
        assert!(run.stderr.contains(next), "{}", run.stderr);
    }
}

#[test]
fn a_user_that_one_may_not_become() {
    let scratch = Scratch::new();
    let words = ["setpriv", "--bounding-set=-setuid,-setgid"];
    let run = within(&scratch, &words, &["--user", "nobody", "--", "true"]).expect(126);
    assert!(
        run.stderr.contains("cannot become nobody"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("CAP_SETUID, CAP_SETGID"),
        "{}",
        run.stderr
    );
}
