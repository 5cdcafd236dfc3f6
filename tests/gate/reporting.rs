//! What is written where something fails: reports that say so, files that are whole or not there, and sentences that
//! blame who it was.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rprof_tests::rprof::binary;
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use serde_json::Value;

use crate::answer::{FAILED, INCONCLUSIVE, MISTAKE, PASSED, REGRESSED};
use crate::profiles::sides;
use crate::said::{REPORTS, gate, names, read, read_json, said};

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
    std::fs::create_dir(scratch.file("earlier")).expect("our own");
    std::fs::write(scratch.file("earlier/head-01.pb.gz"), "").expect("our own");
    let shouts = "printf '::stop-commands::x\\n#''#[error]y\\n'; exit 7";
    let run = |base, head| vec!["run", "--base", base, "--head", head];
    for (args, why) in [
        (run(shouts, "true"), "failed with exit code 7"),
        (run("./nothing-here", "true"), "nothing-here"),
        (
            [&run("sleep 60", "true")[..], &["--budget", "1s"]].concat(),
            "the time was over",
        ),
        (
            [&run("true", "true")[..], &["--keep", "earlier"]].concat(),
            "earlier has profiles of an earlier comparison",
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
    // What makes no sense, too.
    for (args, why) in [
        (
            vec![
                "compare",
                "--base",
                files[0][0],
                files[0][1],
                "--head",
                files[1][0],
            ],
            "--head has one run",
        ),
        (
            vec![
                "compare",
                "--base",
                files[0][0],
                files[0][0],
                "--head",
                files[1][0],
                files[1][1],
            ],
            "is named twice",
        ),
    ] {
        let _ = std::fs::remove_file(scratch.file("a.md"));
        let args = [&args[..], &REPORTS[..], &["--github"]].concat();
        let said = said(&mut gate(scratch.path(), &args));
        assert_eq!(said.code, Some(MISTAKE), "{}", said.stderr);
        is_reported(&scratch, &said.stdout, why);
    }
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
    let args = ["run", "--base", &command, "--head", &command, "--runs", "8"];
    for (umask, mode) in [(0o022, 0o644), (0o007, 0o660)] {
        for name in names(scratch.path()) {
            if name.contains('.') {
                let _ = std::fs::remove_file(scratch.file(&name));
            }
        }
        let kept = format!("of{umask}/kept");
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
        // So are folders that were made for them.
        let folders = [scratch.file(&kept), scratch.file(&format!("of{umask}"))];
        for file in files.iter().chain(&folders) {
            let about = std::fs::metadata(file).expect("it was written");
            let is = about.permissions().mode() & 0o7777;
            assert!(about.is_dir() || is == mode, "{is:o}: {}", file.display());
            assert_eq!(
                (about.uid(), about.gid()),
                (1234, 1235),
                "{}",
                file.display()
            );
        }
    }
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
