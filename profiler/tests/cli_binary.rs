//! The real binary, as people meet it: each mistake has its sentence, its next command and its exit
//! code; what was asked for comes on standard output and everything else on standard error.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const RPROF: &str = env!("CARGO_BIN_EXE_rprof");

fn rprof<S: AsRef<OsStr>>(words: &[S]) -> Output {
    let mut command = Command::new(RPROF);
    command.args(words).stdin(Stdio::null());
    command.output().unwrap()
}

fn run(line: &str) -> Output {
    rprof(&line.split_whitespace().collect::<Vec<_>>())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs as a user without any privilege, from a folder that user may write to.
fn unprivileged(words: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    // Where the build is kept, another user may not look.
    let binary = folder.path().join("rprof");
    // By another process: a child of another test could have it open for writing for a moment, and then
    // it cannot be run.
    let copied = Command::new("cp")
        .args([RPROF.as_ref(), binary.as_os_str()])
        .status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(&binary);
    command
        .args(words)
        .stdin(Stdio::null())
        .current_dir(&folder);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    command.output().unwrap()
}

#[test]
fn nothing_typed_gives_short_help() {
    let output = run("");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let help = stderr(&output);
    let examples = help
        .lines()
        .filter(|line| line.starts_with("  sudo rprof "));
    assert_eq!(examples.count(), 3, "{help}");
    assert!(help.lines().count() < 10, "{help}");
}

#[test]
fn each_mistake_has_a_sentence_a_next_command_and_a_code() {
    let cases = [
        ("-F 20", 2, "say what to profile: --all, -p PID or -- CMD"),
        ("--", 2, "say what to profile: --all, -p PID or -- CMD"),
        ("--all -p 1", 2, "--all, -p and -- CMD exclude each other"),
        ("-p 1 -- true", 2, "--all, -p and -- CMD exclude each other"),
        ("-p 2147483646", 2, "no process has the pid 2147483646"),
        (
            "-p 2147483646,1,2147483647",
            2,
            "no process has the pids 2147483646, 2147483647",
        ),
        (
            "--all -F 0",
            2,
            "--freq '0': at 0 samples a second there is no profile",
        ),
        (
            "--all -F 4000000000",
            2,
            "4000000000 samples a second are more than this kernel allows: from 1 to ",
        ),
        (
            "--all -d 10",
            2,
            "--duration '10': a time is a number and a unit",
        ),
        (
            "--all --cpus 8000",
            2,
            "8000 is not an online CPU of this machine",
        ),
        (
            "--all --max-memory 5",
            2,
            "--max-memory '5': a size is a number and a unit",
        ),
        (
            "-p 4000000000",
            2,
            "--pid '4000000000': pids end at 4194304",
        ),
        ("-p 1,", 2, "--pid '1,': a comma is too many"),
        ("-p -1", 2, "--pid '-1': a pid is a positive number"),
        (
            "--all -d -1s",
            2,
            "--duration '-1s': time does not run backwards",
        ),
        (
            "--all -d 1s -d 2s",
            2,
            "--duration is given as 1s and as 2s",
        ),
        (
            "--all -q -v",
            2,
            "--quiet and --verbose contradict each other",
        ),
        (
            "--all --cpus 7-3",
            2,
            "--cpus '7-3': the range 7-3 runs backwards",
        ),
        (
            "--all --max-memory 1B",
            2,
            "--max-memory '1B': the least that works is 16MiB",
        ),
        ("--all --comm [", 2, "--comm '[': '[' has no ']'"),
        (
            "--all --comm=",
            2,
            "--comm '': an empty pattern matches no name",
        ),
        ("--all --format png", 2, "'png' is not a value of --format"),
        (
            "--all --label pid=1",
            2,
            "--label 'pid=1': rprof sets the label 'pid' itself",
        ),
        ("--all --children", 2, "--children goes with -p only"),
        ("--all --user root", 2, "--user goes with a command only"),
        (
            "--user no-such-user -- true",
            2,
            "there is no user 'no-such-user' on this machine",
        ),
        (
            "--all --cgroup /no/such",
            2,
            "there is no cgroup (v2) /no/such",
        ),
        ("--all --frequency 20", 2, "there is no option --frequency"),
        (
            "./server",
            2,
            "'./server' is no task of rprof; a command to run stands after --",
        ),
        ("top", 2, "top is not in this version yet"),
        ("view x.pb.gz", 2, "view is not in this version yet"),
        ("push x --to y", 2, "'y' is no URL of a server"),
        ("gate --quick", 2, "rprof gate knows no option --quick"),
        (
            "--all --interval 10s",
            2,
            "--interval goes with --push only",
        ),
        (
            "-- /no/such/command",
            127,
            "cannot run /no/such/command: No such file or directory",
        ),
        (
            "-- no-such-command",
            127,
            "there is no command 'no-such-command' along PATH",
        ),
        ("-- /etc", 126, "cannot run /etc: Is a directory"),
        (
            "-- /etc/passwd",
            126,
            "cannot run /etc/passwd: Permission denied",
        ),
    ];
    for (line, code, sentence) in cases {
        let output = run(line);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(
            said.starts_with(&format!("rprof: {sentence}")),
            "{line}: {said}"
        );
        let mut lines = said.lines().skip(1).peekable();
        assert!(lines.peek().is_some(), "{line} has no next command: {said}");
        assert!(
            lines.all(|next| next.starts_with("  try: ")),
            "{line}: {said}"
        );
        assert_eq!(stdout(&output), "", "{line}");
    }
}

#[test]
fn the_next_command_keeps_what_was_right() {
    let output = run("--all -F 4000000000 -d 5s --comm py*");
    let limit = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").unwrap();
    let next = format!(
        "  try: {RPROF} --all -d 5s --comm 'py*' -F {}\n",
        limit.trim()
    );
    assert!(stderr(&output).contains(&next), "{}", stderr(&output));
}

#[test]
fn without_privileges_the_next_command_is_the_same_as_root() {
    let output = unprivileged(&["--all", "-d", "10s", "-o", "a b.svg"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let sentence = "rprof: profiling needs root, or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE\n";
    assert!(said.starts_with(sentence), "{said}");
    assert!(said.contains("\n  try: sudo /"), "{said}");
    assert!(
        said.ends_with("/rprof --all -d 10s -o 'a b.svg'\n"),
        "{said}"
    );
}

/// State, name and finding of each line.
fn lines(said: &str) -> Vec<(String, String, String)> {
    said.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.trim_start().starts_with("try: "))
        .map(|line| {
            let (state, rest) = line.split_at(9);
            let (name, found) = rest.split_at(16);
            (state.trim().into(), name.trim().into(), found.into())
        })
        .collect()
}

#[test]
fn check_says_what_this_machine_allows() {
    let output = run("check");
    let said = stderr(&output);
    assert_eq!(stdout(&output), "");
    let lines = lines(&said);
    let names: Vec<&str> = lines.iter().map(|(_, name, _)| name.as_str()).collect();
    for name in [
        "kernel",
        "kernel types",
        "privileges",
        "lockdown",
        "sample rate",
        "event",
        "names",
    ] {
        assert!(names.contains(&name), "{name}: {said}");
    }
    for (state, name, found) in &lines {
        assert!(
            ["ok", "warning", "missing"].contains(&state.as_str()),
            "{name}: {said}"
        );
        assert!(!found.is_empty(), "{name}: {said}");
    }
    let works = lines.iter().all(|(state, ..)| state != "missing");
    assert_eq!(output.status.code(), Some(i32::from(!works)), "{said}");
    assert_eq!(said.contains("\nProfiling works here"), works, "{said}");
}

#[test]
fn check_without_privileges_fails_and_says_how_to_get_them() {
    let output = unprivileged(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let line =
        "missing  privileges      profiling needs root, or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE\n";
    assert!(said.contains(line), "{said}");
    let missing = lines(&said)
        .iter()
        .filter(|(state, ..)| state == "missing")
        .count();
    assert_eq!(missing, 1, "one cause, one line: {said}");
}

#[test]
fn check_as_json_is_data_on_standard_output() {
    let output = run("check --json");
    assert_eq!(stderr(&output), "");
    let mut python = match Command::new("python3")
        .args([
            "-c",
            "import json,sys; d=json.load(sys.stdin); print(d['works'], len(d['checks']))",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(python) => python,
        Err(error) => panic!("python3 reads the JSON in this test: {error}"),
    };
    python
        .stdin
        .take()
        .unwrap()
        .write_all(&output.stdout)
        .unwrap();
    let read = stdout(&python.wait_with_output().unwrap());
    let (works, count) = read.trim().split_once(' ').expect("valid JSON");
    assert_eq!(works == "True", output.status.code() == Some(0));
    assert_eq!(count.parse(), Ok(lines(&stderr(&run("check"))).len()));
}

#[test]
fn completions_are_scripts_that_parse() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&format!("completions {shell}"));
        assert!(output.status.success());
        let script = stdout(&output);
        assert!(script.contains("on-fault"), "{shell}");
        // What a task of a task has, too.
        for word in ["gate", "calibrate", "baseline"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
        if shell == "bash" {
            let mut bash = Command::new("bash")
                .arg("-n")
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            bash.stdin
                .take()
                .unwrap()
                .write_all(&output.stdout)
                .unwrap();
            assert!(bash.wait().unwrap().success());
        }
    }
}

/// What bash offers at the end of a line.
fn offered(line: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("rprof.bash");
    std::fs::write(&script, run("completions bash").stdout).unwrap();
    let complete = r#"
        source "$1"
        shift
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _rprof rprof "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["-c", complete, "bash"])
        .arg(&script)
        .args(line.split(' '))
        .output()
        .unwrap();
    stdout(&output)
}

#[test]
fn bash_completes_tasks_of_tasks() {
    for (line, words) in [
        ("rprof ga", &["gate"][..]),
        ("rprof gate ", &["run", "compare", "calibrate"]),
        ("rprof gate run --", &["--base", "--budget", "--keep"]),
        ("rprof gate compare --ba", &["--base", "--baseline"]),
        ("rprof gate calibrate --", &["--cmd", "--threshold"]),
        ("rprof gate run --inconclusive ", &["pass", "fail"]),
    ] {
        let offered = offered(line);
        let offered: Vec<&str> = offered.split_whitespace().collect();
        let has = |word: &&&str| offered.contains(word);
        assert_eq!(
            words.iter().find(|word| !has(word)),
            None,
            "{line}: {offered:?}"
        );
    }
}

#[test]
fn the_manual_page_renders() {
    let page = run("man");
    assert!(page.status.success());
    assert!(stdout(&page).contains(".TH rprof"));
    let mut man = match Command::new("man")
        .args(["--warnings", "-l", "-"])
        .env("MANWIDTH", "80")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(man) => man,
        // No man on this machine: that it is roff has been seen.
        Err(_) => return,
    };
    man.stdin.take().unwrap().write_all(&page.stdout).unwrap();
    let rendered = man.wait_with_output().unwrap();
    assert!(rendered.status.success());
    let text = String::from_utf8_lossy(&rendered.stdout).into_owned();
    for words in [
        "--on-fault",
        "OPTIONS OF RPROF GATE RUN\n       --base <CMD>",
        "OPTIONS OF RPROF GATE COMPARE\n       --base <FILE>",
        "OPTIONS OF RPROF GATE CALIBRATE\n       --cmd <CMD>",
        "EXIT STATUS\n         0    done\n         1    failed\n",
        "EXAMPLES\n         sudo rprof --all -d 10s   ",
        "LEDGER\n       Where each tick of each CPU ended:\n         idle   ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn help_and_version_are_answers() {
    for word in ["-h", "--help", "-V", "--version"] {
        let output = run(word);
        assert_eq!(output.status.code(), Some(0), "{word}");
        assert_eq!(stderr(&output), "", "{word}");
        assert!(
            stdout(&output).contains(if word.len() == 2 || word == "--help" {
                "r"
            } else {
                "rprof "
            })
        );
    }
    let version = format!("rprof {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&run("--version")), version);
}

/// The writing end of a pipe that nobody reads.
fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_left_is_no_failure() {
    for word in ["--help", "man", "--version"] {
        let output = Command::new(RPROF)
            .arg(word)
            .stdout(broken_pipe())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{word}");
        assert_eq!(stderr(&output), "", "{word}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(RPROF)
        .arg("man")
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.starts_with("rprof: cannot write to standard output: No space left on device\n"),
        "{said}"
    );
}

#[test]
fn the_exit_code_tells_even_where_nobody_listens() {
    for (line, code) in [("", 2), ("-p 2147483647", 2), ("-- /no/such", 127)] {
        let mut command = Command::new(RPROF);
        command.args(line.split_whitespace()).stderr(broken_pipe());
        assert_eq!(command.status().unwrap().code(), Some(code), "{line}");
    }
}

#[test]
fn color_only_where_it_is_allowed() {
    let escapes = |command: &mut Command| stderr(&command.output().unwrap()).contains('\x1b');
    assert!(!escapes(Command::new(RPROF).arg("check")));
    assert!(escapes(
        Command::new(RPROF).args(["check", "--color", "always"])
    ));
    assert!(escapes(
        Command::new(RPROF)
            .args(["check", "--color=always"])
            .env("NO_COLOR", "1")
    ));
    assert!(!escapes(
        Command::new(RPROF).args(["check", "--color", "never"])
    ));
}

#[test]
fn odd_words_are_refused_without_a_panic() {
    let long = "x".repeat(100_000);
    let bytes = OsString::from_vec(vec![b'-', 0xff, 0xfe]);
    let mut lines: Vec<Vec<OsString>> = [
        "-",
        "---",
        "--=",
        "-p -1",
        "-p ,",
        "-p 1,",
        "-p 99999999999999999999",
        "-a -F -1",
        "-a -F 18446744073709551616",
        "-a -d 1e400s",
        "-a -d .",
        "-a -d NaNs",
        "-a --cpus -",
        "-a --cpus 0-4294967295",
        "-a --max-memory 1e999MiB",
        "-a --label =",
        "-a --freq=",
        "-a --color=pink",
        "check check",
        "completions",
        "man man",
        "-q",
        "-vvvvvvvvvvvv",
        "-g",
        "--all=1",
        "help",
    ]
    .iter()
    .map(|line| line.split_whitespace().map(OsString::from).collect())
    .collect();
    for option in [
        "-p",
        "-F",
        "-d",
        "--cpus",
        "--max-memory",
        "--event",
        "--user",
        "--label",
    ] {
        lines.push(vec!["-a".into(), option.into(), bytes.clone()]);
        lines.push(vec![
            "-a".into(),
            option.into(),
            "".into(),
            "-p".into(),
            "0".into(),
        ]);
        lines.push(vec![
            "-a".into(),
            option.into(),
            long.clone().into(),
            "-x".into(),
        ]);
    }
    lines.push(vec![bytes.clone()]);
    lines.push(vec!["--".into(), bytes]);
    lines.push(vec!["--".into(), long.into()]);
    lines.push(vec!["--".into(), "".into()]);
    for words in lines {
        let shown: String = format!("{words:?}").chars().take(80).collect();
        let output = rprof(&words);
        let said = stderr(&output);
        assert_eq!(output.status.signal(), None, "{shown}");
        let code = output.status.code().unwrap();
        assert!([2, 126, 127].contains(&code), "{shown}: {code}: {said}");
        assert!(
            said.starts_with("rprof: ") && !said.contains("panicked"),
            "{shown}: {said}"
        );
    }
}

#[test]
fn outputs_are_looked_at_before_sampling() {
    if !rustix::process::geteuid().is_root() {
        // Privileges are asked for first.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("notes.svg");
    std::fs::write(&foreign, "not a profile").unwrap();
    for file in [
        folder.path().join("none/x.svg"),
        folder.path().to_path_buf(),
        foreign.clone(),
    ] {
        let output = rprof(&[
            "--all".as_ref(),
            "-d".as_ref(),
            "1h".as_ref(),
            "-o".as_ref(),
            file.as_os_str(),
        ]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(file.to_str().unwrap()), "{said}");
        assert!(said.contains("\n  try: "), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "not a profile");
    let left: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(left, [foreign]);
}
