//! Promise: what rprof writes is complete or not there at all, in the format and in the place that
//! were asked for.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::rprof::{Rprof, Run, binary};
use rprof_tests::scratch::{OPTIMIZED, Scratch, finish};
use rustix::process::Signal;

/// Half a second of a C program, written as told.
fn burn(scratch: &Scratch, args: &[&str]) -> Run {
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    Rprof::bare(scratch, args)
        .arg("--")
        .arg(program)
        .args(["main", "0.5"])
        .run()
}

#[test]
fn labels() {
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let mut command = Command::new(&program);
    let target = rprof_tests::target::Target::start(command.args(["threads", "60", "2"]));
    let profile = Rprof::new(&scratch, ["-d", "1s", "-p", &target.pid().to_string()])
        .run()
        .ok();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", target.pid())).expect("it runs");
    let tids: Vec<u32> = tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect();
    assert!(profile.samples() > 20);
    for stack in &profile.stacks {
        assert_eq!(stack.pid, target.pid());
        assert!(
            tids.contains(&stack.tid),
            "{} is not in {tids:?}",
            stack.tid
        );
        assert_eq!((&*stack.comm, &*stack.thread), ("burn", "burn"));
    }
}

#[test]
fn folded() {
    let scratch = Scratch::new();
    for args in [&["-o", "x.folded"][..], &["--format", "folded", "-o", "x"]] {
        let run = burn(&scratch, args).expect(0);
        let file = run.output.with_file_name(args.last().expect("a name"));
        let text = std::fs::read_to_string(file).expect("the output");
        let mut samples = 0;
        for line in text.lines() {
            let (stack, count) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let frames: Vec<&str> = stack.split(';').collect();
            assert_eq!(frames[0], "burn", "{line}");
            assert!(!frames.contains(&""), "{line}");
            let n: u64 = count.parse().unwrap_or_else(|_| panic!("{line}"));
            if let [_, "_start", .., "main", "burn"] = frames.as_slice() {
                samples += n;
            }
        }
        assert!(samples > 50, "{text}");
    }
}

/// Well-formed in what can go wrong here: elements close in order, and text is escaped.
fn check_xml(text: &str) -> HashMap<String, usize> {
    let (mut open, mut seen) = (Vec::new(), HashMap::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        for reference in before.split('&').skip(1) {
            assert!(reference.contains(';'), "a bare & before {:.60}", after);
        }
        let end = if after.starts_with("![CDATA[") {
            after.find("]]>").map(|n| n + 2)
        } else if after.starts_with("!--") {
            after.find("-->").map(|n| n + 2)
        } else {
            after.find('>')
        };
        let end = end.unwrap_or_else(|| panic!("no end: {after:.60}"));
        let tag = &after[..end];
        rest = &after[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(
                open.pop().as_deref(),
                Some(name.trim()),
                "closed in the wrong order"
            );
        } else if !tag.starts_with(['!', '?']) {
            let name = tag
                .split([' ', '/', '\n'])
                .next()
                .unwrap_or_default()
                .to_string();
            *seen.entry(name.clone()).or_default() += 1;
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    seen
}

#[test]
fn svg() {
    let scratch = Scratch::new();
    let run = burn(&scratch, &["-o", "x.svg"]).expect(0);
    let text = std::fs::read_to_string(run.output.with_file_name("x.svg")).expect("the output");
    let elements = check_xml(&text);
    assert!(elements.contains_key("svg"), "{elements:?}");
    assert!(
        elements.get("title").is_some_and(|&n| n >= 4),
        "{elements:?}"
    );
    assert!(text.contains("<title>burn ("), "the function is not in it");
}

#[test]
fn firefox() {
    let scratch = Scratch::new();
    let run = burn(&scratch, &["-o", "x.json"]).expect(0);
    let file = File::open(run.output.with_file_name("x.json")).expect("the output");
    let profile: serde_json::Value = serde_json::from_reader(file).expect("JSON");
    assert_eq!(profile["meta"]["product"], "rprof");
    let threads = profile["threads"].as_array().expect("threads");
    let names = threads[0]["stringArray"].as_array().expect("names");
    assert!(names.contains(&"main".into()) && names.contains(&"burn".into()));
    let weights = threads[0]["samples"]["weight"].as_array().expect("weights");
    let samples: u64 = weights.iter().filter_map(serde_json::Value::as_u64).sum();
    assert!(samples > 50, "{samples}");
}

#[test]
fn to_a_pipe() {
    let scratch = Scratch::new();
    let run = burn(&scratch, &["-o", "-"]).expect(0);
    assert!(Profile::decode(&run.stdout).count(|stack| stack.has("burn")) > 50);
    let run = burn(&scratch, &["-o", "-", "--format", "folded", "-q"]).expect(0);
    assert!(
        run.text().lines().any(|line| line.contains(";main;burn ")),
        "{}",
        run.text()
    );
    assert_eq!(run.stderr, "");

    // A pipe that somebody named.
    let pipe = scratch.file("pipe");
    finish(Command::new("mkfifo").arg(&pipe));
    let running = {
        let program = scratch.cc("burn.c", "burn", OPTIMIZED);
        Rprof::bare(&scratch, ["-o"])
            .arg(&pipe)
            .arg("--")
            .arg(program)
            .args(["main", "0.5"])
            .start()
    };
    let mut bytes = Vec::new();
    File::open(&pipe)
        .and_then(|mut pipe| pipe.read_to_end(&mut bytes))
        .expect("a pipe to read");
    running.finish().expect(0);
    assert!(Profile::decode(&bytes).samples() > 50);
}

#[test]
fn a_reader_that_leaves() {
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let script = format!(
        "{} -o - -- {} main 0.3 | true",
        binary().display(),
        program.display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    // It was gone before anything was written.
    let saved = said.split("Broken pipe; the profile is in ").nth(1);
    let saved = saved.and_then(|rest| rest.lines().next());
    let saved = Path::new(saved.unwrap_or_else(|| panic!("not saved: {said}")));
    let profile = Profile::read(saved);
    let _ = std::fs::remove_file(saved);
    assert!(profile.count(|stack| stack.has("burn")) > 20, "{said}");
}

/// Files in a run's folder but for its two streams.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder)
        .expect("the run's folder")
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name != "stdout" && name != "stderr")
        .collect();
    names.sort();
    names
}

#[test]
fn the_first_interrupt_writes() {
    let scratch = Scratch::new();
    for signal in [Signal::INT, Signal::TERM] {
        let rprof = Rprof::new(&scratch, ["--all"]);
        let folder = rprof.folder().to_path_buf();
        let mut running = rprof.start();
        running.wait_until_sampling();
        running.signal(signal);
        let run = running.finish().expect(0);
        assert!(run.stderr.contains("ticks expected"), "{}", run.stderr);
        assert!(run.stderr.contains("out.pb.gz"), "{}", run.stderr);
        run.profile();
        assert_eq!(files(&folder), ["out.pb.gz"]);
    }
}

#[test]
fn the_second_interrupt_leaves_nothing() {
    let scratch = Scratch::new();
    // The second one may come before, while or after the file is written: what is there at the end
    // is complete or nothing, whenever that was. The largest program here gives names to look up.
    for milliseconds in [0, 1, 2, 5, 10, 20, 40, 80] {
        let rprof = Rprof::new(&scratch, ["--all", "-F", "199"]);
        let folder = rprof.folder().to_path_buf();
        let mut running = rprof.start();
        running.wait_until_sampling();
        running.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(milliseconds));
        running.signal(Signal::INT);
        let run = running.finish();
        match run.code() {
            0 => drop(run.profile()),
            code => assert_eq!(code, 130, "{}", run.stderr),
        }
        let left = files(&folder);
        match left.as_slice() {
            [] => {}
            [one] if one == "out.pb.gz" => drop(run.profile()),
            _ => panic!("after {milliseconds} ms there is {left:?}"),
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused_before_sampling() {
    let scratch = Scratch::new();
    let other = scratch.write("notes.txt", "my notes\n");
    let folder = scratch.path().display().to_string();
    for (output, said) in [
        ("/no/such/folder/x.pb.gz", "/no/such/folder"),
        ("/proc/x.pb.gz", "/proc"),
        (folder.as_str(), folder.as_str()),
        // Not a profile: somebody else's file.
        (other.to_str().expect("plain"), "notes.txt"),
    ] {
        let run = Rprof::bare(&scratch, ["-o", output, "--", "touch", "it-ran"]).run();
        assert_ne!(run.code(), 0, "{output}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{output}: {}", run.stderr);
        assert!(
            !run.output.with_file_name("it-ran").exists(),
            "the command ran: {}",
            run.stderr
        );
    }
    assert_eq!(
        std::fs::read_to_string(&other).expect("it is there"),
        "my notes\n"
    );
}

#[test]
fn a_full_disk_loses_nothing_silently() {
    let scratch = Scratch::new();
    // /dev/full takes nothing, and says so only when written to.
    let run = burn(&scratch, &["-o", "/dev/full"]);
    assert_eq!(run.code(), 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("/dev/full") && run.stderr.contains("No space left"),
        "{}",
        run.stderr
    );
    // What was sampled is saved elsewhere, and the path is printed.
    let saved = run
        .stderr
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| "'\",.:;".contains(c)))
        .find(|word| word.starts_with('/') && word.ends_with(".pb.gz"));
    let saved = saved.unwrap_or_else(|| panic!("no path is printed:\n{}", run.stderr));
    let profile = Profile::read(Path::new(saved));
    let _ = std::fs::remove_file(saved);
    assert!(profile.count(|stack| stack.has("burn")) > 50);
}

#[test]
fn an_existing_profile_is_replaced() {
    let scratch = Scratch::new();
    let output = scratch.file("x.pb.gz");
    let output = output.to_str().expect("plain");
    burn(&scratch, &["-o", output]).expect(0);
    let first = std::fs::metadata(output).expect("written").ino();
    burn(&scratch, &["-o", output]).expect(0);
    assert_ne!(std::fs::metadata(output).expect("written").ino(), first);
    Profile::read(Path::new(output));
}

#[test]
fn mode_and_owner() {
    let scratch = Scratch::new();
    let run = burn(&scratch, &["-o", "out.pb.gz"]).expect(0);
    let file = std::fs::metadata(&run.output).expect("written");
    // A profile names what runs on the machine: nobody but its owner is to write, or to read, it.
    assert_eq!(
        file.permissions().mode() & 0o077 & 0o022,
        0,
        "{:o}",
        file.permissions().mode()
    );
    assert_eq!((file.uid(), file.gid()), (0, 0));

    // Under sudo it belongs to the user who called.
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let run = Rprof::new(&scratch, ["--"])
        .arg(program)
        .args(["main", "0.1"])
        .env("SUDO_UID", "65534")
        .env("SUDO_GID", "65534")
        .env("SUDO_USER", "nobody")
        .run()
        .expect(0);
    let file = std::fs::metadata(&run.output).expect("written");
    assert_eq!((file.uid(), file.gid()), (65534, 65534));
}

#[test]
fn the_summary() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let run = burn(&scratch, &["-o", "out.pb.gz"]).expect(0);
    assert_eq!(run.text(), "");
    let ledger = run.profile().ledger;
    for text in [
        format!("{}  ticks expected", ledger.expected),
        format!("{}  resolved", ledger.get("resolved")),
        "burn".into(),
        "go tool pprof".into(),
        "speedscope".into(),
    ] {
        assert!(
            run.stderr.contains(&text),
            "no {text:?} in:\n{}",
            run.stderr
        );
    }
    assert!(!run.stderr.contains('\u{1b}'), "colors, but no terminal");
    assert_eq!(
        burn(&scratch, &["-q", "-o", "out.pb.gz"]).expect(0).stderr,
        ""
    );
}
