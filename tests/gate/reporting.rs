//! What is written where something fails: reports that say so, files that are whole or not there, and sentences that
//! blame who it was.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rprof_tests::rprof::binary;
use rprof_tests::scratch::{OPTIMIZED, Scratch, finish};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::answer::{FAILED, INCONCLUSIVE, MISTAKE, PASSED, REGRESSED};
use crate::profiles::sides;

/// What a run of rprof left.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().expect("rprof runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    };
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    said
}

fn gate(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("gate").args(args).current_dir(folder);
    command
}

/// All reports that have a file.
const REPORTS: [&str; 10] = [
    "--json",
    "a.json",
    "--junit",
    "a.xml",
    "--markdown",
    "a.md",
    "--gitlab",
    "g.json",
    "--flamegraph",
    "a.svg",
];

fn read(scratch: &Scratch, name: &str) -> String {
    std::fs::read_to_string(scratch.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn read_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// They say that nothing was compared, and why.
fn is_reported(scratch: &Scratch, stdout: &str, why: &str) {
    let json = read_json(&read(scratch, "a.json"));
    assert_eq!(json["verdict"], "failed");
    let headline = json["headline"].as_str().expect("a headline");
    assert!(headline.contains(why), "{why}: {headline}");
    let junit = read(scratch, "a.xml");
    assert!(junit.contains("errors=\"1\""), "{junit}");
    assert!(junit.contains("<error message="), "{junit}");
    let markdown = read(scratch, "a.md");
    assert!(
        markdown.starts_with("### ⛔ rprof gate: failed\n\n**"),
        "{markdown}"
    );
    assert_eq!(
        read_json(&read(scratch, "g.json")),
        Value::Array(Vec::new())
    );
    assert!(!scratch.file("a.svg").exists());
    let annotation = "::error title=rprof gate%3A failed::";
    assert!(stdout.starts_with(annotation), "{stdout}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
}

#[test]
fn what_failed_is_reported() {
    let scratch = Scratch::new();
    let [base, head] = sides(&scratch, 2, [500, 500]);
    std::fs::write(&head[1], "no profile").expect("our own");
    let files = [&base, &head].map(|files| {
        let files = files.iter().map(|file| file.to_str().expect("a path"));
        files.collect::<Vec<&str>>()
    });
    let compare = [
        &["compare", "--base"],
        &files[0][..],
        &["--head"],
        &files[1][..],
    ]
    .concat();
    let shouts = "printf '::stop-commands::x\\n#''#[error]y\\n'; exit 7";
    let run = |base, head| vec!["run", "--base", base, "--head", head];
    for (args, why) in [
        (run(shouts, "true"), "failed with exit code 7"),
        (run("./nothing-here", "true"), "nothing-here"),
        (
            [&run("sleep 60", "true")[..], &["--budget", "1s"]].concat(),
            "the time was over",
        ),
        (compare, "is not in the format of pprof"),
    ] {
        for name in ["a.json", "a.xml", "a.md", "g.json"] {
            let _ = std::fs::remove_file(scratch.file(name));
        }
        let args = [&args[..], &REPORTS[..], &["--github"]].concat();
        let said = said(&mut gate(scratch.path(), &args));
        assert_eq!(said.code, Some(FAILED), "{}", said.stderr);
        is_reported(&scratch, &said.stdout, why);
        let obeyed = said
            .stderr
            .lines()
            .any(|line| line.trim().starts_with("::"));
        assert!(!obeyed && !said.stderr.contains("##["), "{}", said.stderr);
    }
    // What a project has agreed on is no part of the command line.
    std::fs::write(scratch.file("gate.toml"), "treshold = 1").expect("our own");
    let _ = std::fs::remove_file(scratch.file("a.md"));
    let args = [&run("true", "true")[..], &REPORTS[..], &["--github"]].concat();
    let toml = said(&mut gate(scratch.path(), &args));
    assert_eq!(toml.code, Some(MISTAKE), "{}", toml.stderr);
    is_reported(&scratch, &toml.stdout, "gate.toml");
    // To standard output, too.
    let json = [&run("exit 7", "true")[..], &["--json", "-"]].concat();
    std::fs::remove_file(scratch.file("gate.toml")).expect("our own");
    let json = said(&mut gate(scratch.path(), &json));
    assert_eq!(
        read_json(&json.stdout)["verdict"],
        "failed",
        "{}",
        json.stderr
    );
}

/// Commands that leave a trace when they run.
const TRACES: [&str; 5] = ["run", "--base", "touch ran", "--head", "touch ran"];

#[test]
fn where_reports_go_is_looked_at_first() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.file("folder")).expect("our own");
    std::fs::write(scratch.file("file"), "as it was").expect("our own");
    std::os::unix::fs::symlink("file", scratch.file("link")).expect("our own");
    let before = names(scratch.path());
    for option in [
        "--json",
        "--junit",
        "--markdown",
        "--gitlab",
        "--flamegraph",
    ] {
        for (path, why) in [
            ("none/report", "No such file or directory"),
            ("folder", "is a directory"),
            ("file/report", "Not a directory"),
            ("link", "is a symbolic link"),
            ("/proc/report", "cannot create /proc/report"),
        ] {
            let args = [&TRACES[..], &[option, path]].concat();
            let said = said(&mut gate(scratch.path(), &args));
            assert_eq!(said.code, Some(FAILED), "{option} {path}: {}", said.stderr);
            assert!(
                said.stderr.contains(why),
                "{option} {path}: {}",
                said.stderr
            );
            let next = said.stderr.matches("\n  try: ").count();
            assert_eq!(
                (next, said.stderr.lines().count()),
                (1, 2),
                "{}",
                said.stderr
            );
        }
    }
    assert_eq!(names(scratch.path()), before);
    // What can be written is as it was until there is something to be written.
    let args = ["run", "--base", "cat file; exit 7", "--head", "true"];
    for option in ["--json", "--markdown"] {
        let seen = said(&mut gate(
            scratch.path(),
            &[&args[..], &[option, "file"]].concat(),
        ));
        assert!(seen.stderr.contains("  as it was\n"), "{}", seen.stderr);
        std::fs::write(scratch.file("file"), "as it was").expect("our own");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn no_two_reports_go_to_the_same_file() {
    let scratch = Scratch::new();
    std::fs::write(scratch.file("there"), "").expect("our own");
    std::fs::hard_link(scratch.file("there"), scratch.file("same")).expect("our own");
    let here = scratch.file("x");
    let here = here.to_str().expect("a path");
    let before = names(scratch.path());
    for (reports, why) in [
        (
            &["--json", "x", "--junit", "x"][..],
            "--json and --junit both go to x",
        ),
        (
            &["--json", "x", "--junit", "./x"],
            "--json and --junit both go to ./x",
        ),
        (&["--markdown", here, "--gitlab", "x"], "both go to x"),
        (
            &["--json", "there", "--flamegraph", "same"],
            "both go to same",
        ),
        (
            &["--json", "-", "--markdown", "-"],
            "both go to standard output",
        ),
        (
            &["--json", "-", "--markdown", "/dev/stdout"],
            "both go to standard output",
        ),
        (
            &["--github", "--json", "-"],
            "--github and --json both go to standard output",
        ),
        (
            &["--github", "--junit", "-"],
            "--github and --junit both go to standard output",
        ),
    ] {
        let said = said(&mut gate(scratch.path(), &[&TRACES[..], reports].concat()));
        assert_eq!(said.code, Some(MISTAKE), "{reports:?}: {}", said.stderr);
        assert!(said.stderr.contains(why), "{reports:?}: {}", said.stderr);
        assert_eq!(said.stderr.lines().count(), 2, "{}", said.stderr);
        assert_eq!(said.stdout, "");
    }
    assert_eq!(names(scratch.path()), before);
    // Nothing is lost where nothing is kept.
    let args = [&["run", "--base", "exit 7", "--head", "true"][..]];
    let args = [args[0], &["--json", "/dev/null", "--junit", "/dev/null"]].concat();
    assert_eq!(said(&mut gate(scratch.path(), &args)).code, Some(FAILED));
}

#[test]
fn what_an_inconclusive_answer_counts_as_is_said() {
    let scratch = Scratch::new();
    // Two runs a side decide nothing.
    let files = sides(&scratch, 2, [500, 505]).map(|files| {
        let names = files.iter().map(|file| file.display().to_string());
        names.collect::<Vec<String>>()
    });
    let mut args = vec!["compare", "--base"];
    args.extend(files[0].iter().map(String::as_str));
    args.push("--head");
    args.extend(files[1].iter().map(String::as_str));
    let plain = said(&mut gate(scratch.path(), &args));
    assert_eq!(plain.code, Some(INCONCLUSIVE), "{}", plain.stderr);
    assert!(plain.stderr.contains("INCONCLUSIVE: "), "{}", plain.stderr);
    for (as_what, word, code) in [("pass", "passed", PASSED), ("fail", "regressed", REGRESSED)] {
        let args = [
            &args[..],
            &["--inconclusive", as_what, "--github"],
            &REPORTS[..],
        ]
        .concat();
        let said = said(&mut gate(scratch.path(), &args));
        assert_eq!(said.code, Some(code), "{}", said.stderr);
        let words = format!(", which counts as {word}");
        let headline = format!("INCONCLUSIVE{words}: ");
        assert!(said.stderr.contains(&headline), "{}", said.stderr);
        assert!(
            said.stdout.contains(&words.replace(',', "%2C")),
            "{}",
            said.stdout
        );
        for name in ["a.md", "a.xml", "a.svg"] {
            assert!(read(&scratch, name).contains(&words), "{name}");
        }
        let json = read_json(&read(&scratch, "a.json"));
        assert_eq!(json["verdict"], "inconclusive");
        assert_eq!(json["counts_as"], word);
    }
}

#[test]
fn files_are_as_readable_as_those_of_other_tools() {
    let scratch = Scratch::new();
    let program = scratch.cc("gate.c", "gate", OPTIMIZED);
    let command = format!("{} alpha 100", program.display());
    let args = [
        "run", "--base", &command, "--head", &command, "--budget", "6s",
    ];
    for (umask, mode) in [(0o022, 0o644), (0o007, 0o660)] {
        for name in names(scratch.path()) {
            if name.contains('.') {
                let _ = std::fs::remove_file(scratch.file(&name));
            }
        }
        let kept = format!("kept{umask}");
        let mut command = gate(
            scratch.path(),
            &[&args[..], &REPORTS[..], &["--keep", &kept]].concat(),
        );
        command.env("SUDO_UID", "1234").env("SUDO_GID", "1235");
        // SAFETY: a system call between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::umask(umask);
                Ok(())
            });
        }
        let said = said(&mut command);
        assert_ne!(said.code, Some(FAILED), "{}", said.stderr);
        let mut files: Vec<PathBuf> = vec![];
        files.extend(
            REPORTS
                .iter()
                .skip(1)
                .step_by(2)
                .map(|name| scratch.file(name)),
        );
        let profiles = names(&scratch.file(&kept));
        assert!(profiles.len() >= 4, "{profiles:?}");
        files.extend(profiles.iter().map(|name| scratch.file(&kept).join(name)));
        for file in files {
            let about = std::fs::metadata(&file).expect("it was written");
            assert_eq!(
                about.permissions().mode() & 0o7777,
                mode,
                "{}",
                file.display()
            );
            assert_eq!(
                (about.uid(), about.gid()),
                (1234, 1235),
                "{}",
                file.display()
            );
        }
    }
}

/// A small file system, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn new(scratch: &Scratch, name: &str, size: &str) -> Self {
        let folder = scratch.file(name);
        std::fs::create_dir(&folder).expect("our own");
        let options = format!("size={size}");
        finish(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "rprof"])
                .arg(&folder),
        );
        Self(folder)
    }

    /// All of it but so many bytes are taken.
    fn fill(&self, but: u64) {
        let about = rustix::fs::statvfs(&self.0).expect("our own");
        let taken = (about.f_bavail * about.f_frsize).saturating_sub(but);
        std::fs::write(self.0.join("taken"), vec![0; taken as usize]).expect("room");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What rprof may have saved elsewhere.
fn saved() -> Vec<String> {
    let folders = ["/var/tmp", "/tmp"].map(Path::new);
    let all = folders.into_iter().flat_map(|folder| {
        let names = names(folder).into_iter();
        names.map(move |name| folder.join(name).display().to_string())
    });
    all.filter(|path| {
        path.contains("/rprof-")
            && [".svg", ".pb.gz", ".folded"]
                .iter()
                .any(|end| path.ends_with(end))
    })
    .collect()
}

#[test]
fn a_full_disk_leaves_no_reports_and_no_copies() {
    let scratch = Scratch::new();
    let small = Small::new(&scratch, "small", "64k");
    // A page: what is added needs another.
    let summary = "before\n".repeat(1024)[..4096].to_string();
    std::fs::write(small.0.join("summary.md"), &summary).expect("room");
    small.fill(0);
    let before = names(&small.0);
    let elsewhere = saved();
    let [base, head] = sides(&scratch, 10, [500, 600]);
    for (option, file) in [
        ("--json", "a.json"),
        ("--junit", "a.xml"),
        ("--markdown", "a.md"),
        ("--markdown", "summary.md"),
        ("--flamegraph", "a.svg"),
        ("--gitlab", "g.json"),
    ] {
        let mut command = gate(
            scratch.path(),
            &["compare", option, &format!("small/{file}")],
        );
        command.arg("--base").args(&base).arg("--head").args(&head);
        let said = said(&mut command);
        assert_eq!(said.code, Some(FAILED), "{option}: {}", said.stderr);
        let why = format!(
            "rprof: cannot write small/{file}: No space left on device\n  try: df -h small\n"
        );
        assert!(said.stderr.ends_with(&why), "{option}: {}", said.stderr);
        assert_eq!(names(&small.0), before, "{option}");
    }
    let left = std::fs::read_to_string(small.0.join("summary.md")).expect("it was there");
    assert_eq!(left, summary);
    let new = saved().into_iter().filter(|path| !elsewhere.contains(path));
    assert_eq!(new.collect::<Vec<String>>(), Vec::<String>::new());
}

#[test]
fn a_flame_graph_that_fails_leaves_nothing() {
    let scratch = Scratch::new();
    let [base, head] = sides(&scratch, 10, [500, 600]);
    std::fs::write(scratch.file("main.c"), "int main(void) {}\n").expect("our own");
    let mut command = gate(
        scratch.path(),
        &["compare", "--flamegraph", "main.c", "--json", "a.json"],
    );
    command.arg("--base").args(&base).arg("--head").args(&head);
    let elsewhere = saved();
    let said = said(&mut command);
    assert_eq!(said.code, Some(FAILED), "{}", said.stderr);
    assert!(said.stderr.contains("is not a profile"), "{}", said.stderr);
    assert_eq!(read(&scratch, "main.c"), "int main(void) {}\n");
    let new = saved().into_iter().filter(|path| !elsewhere.contains(path));
    assert_eq!(new.count(), 0);
}

#[test]
fn a_full_temporary_folder_is_not_the_commands_fault() {
    let scratch = Scratch::new();
    let elsewhere = saved();
    for (n, but) in [0, 4096, 300 << 10].into_iter().enumerate() {
        let small = Small::new(&scratch, &format!("small{n}"), "2m");
        small.fill(but);
        // Says more than there is room for, and fails by that.
        for command in ["true", "head -c 4000000 /dev/zero"] {
            if command == "true" && but > 4096 {
                continue;
            }
            let args = [
                "run", "--base", command, "--head", "true", "--json", "a.json",
            ];
            let said = said(gate(scratch.path(), &args).env("TMPDIR", &small.0));
            let what = format!("{command} {but}: {}", said.stderr);
            assert_eq!(said.code, Some(FAILED), "{what}");
            let folder = small.0.display().to_string();
            let says = ["no room left", "No space left on device"];
            assert!(says.iter().any(|says| said.stderr.contains(says)), "{what}");
            assert!(
                said.stderr.contains(&format!("\n  try: df -h {folder}")),
                "{what}"
            );
            let is_blamed = said.stderr.contains(" failed with exit code 1\n")
                || said.stderr.contains("could not be");
            assert!(!is_blamed, "{what}");
            assert_eq!(read_json(&read(&scratch, "a.json"))["verdict"], "failed");
            assert_eq!(names(&small.0), ["taken"], "{what}");
        }
    }
    let new = saved().into_iter().filter(|path| !elsewhere.contains(path));
    assert_eq!(new.collect::<Vec<String>>(), Vec::<String>::new());
}

#[test]
fn who_may_not_profile_is_told_what_to_type() {
    let scratch = Scratch::new();
    let folder = scratch.file("of-all");
    std::fs::create_dir(&folder).expect("our own");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).expect("our own");
    let program = folder.join("rprof");
    std::fs::copy(binary(), &program).expect("room");
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
        ])
        .arg(&program)
        .args([
            "gate", "run", "--base", "./a b", "--head", "true", "--json", "a.json",
        ])
        .current_dir(&folder);
    let said = said(&mut command);
    assert_eq!(said.code, Some(FAILED), "{}", said.stderr);
    let program = program.display();
    let wanted = format!(
        "rprof: profiling needs root, or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE\n  \
         try: sudo {program} gate run --base './a b' --head true --json a.json\n"
    );
    assert_eq!(said.stderr, wanted);
    let json = std::fs::read_to_string(folder.join("a.json")).expect("a report");
    assert_eq!(read_json(&json)["verdict"], "failed");
    // What the recorder alone can find out is said without its own command line.
    let args = ["run", "--base", "./none", "--head", "true"];
    let none = self::said(&mut gate(scratch.path(), &args));
    assert!(
        none.stderr
            .contains("rprof: \"./none\" could not be run: cannot run ./none: "),
        "{}",
        none.stderr
    );
    assert!(
        none.stderr.contains("\n  try: ls -l ./none\n"),
        "{}",
        none.stderr
    );
    assert!(!none.stderr.contains("--quiet"), "{}", none.stderr);
}

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

fn until(patience: Duration, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < patience, "it takes too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn nothing_runs_on_when_it_is_killed_or_told_to_stop() {
    let scratch = Scratch::new();
    for (n, signal) in [Signal::KILL, Signal::INT, Signal::TERM]
        .into_iter()
        .enumerate()
    {
        // A shell, its child, and one that nobody waits for; none of them listens.
        for (m, before) in ["", "trap '' TERM INT; "].into_iter().enumerate() {
            let word = format!("77{n}.{m}0625");
            let command = format!("{before}sleep {word}; sleep {word} & sleep {word}; true");
            let command = command.replacen("; sleep", " & sleep", 1);
            let mut gate = started(&scratch, &command, &word);
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
                    assert!(began.elapsed() < Duration::from_secs(10), "{said}");
                    assert_eq!(read_json(&read(&scratch, "a.json"))["verdict"], "failed");
                }
            }
            until(Duration::from_secs(5), || running(&word).is_empty());
        }
    }
}

#[test]
fn what_only_a_shell_knows() {
    let scratch = Scratch::new();
    for (command, why) in [
        ("exit 7", "\"exit 7\" failed with exit code 7"),
        ("ulimit -x", "ulimit"),
    ] {
        let said = said(&mut gate(
            scratch.path(),
            &["run", "--base", command, "--head", "true"],
        ));
        assert_eq!(said.code, Some(FAILED));
        assert!(said.stderr.contains(why), "{}", said.stderr);
        assert!(!said.stderr.contains("could not be"), "{}", said.stderr);
    }
}
