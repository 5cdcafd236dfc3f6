//! What cannot be run, read or compared: a sentence says why, and the exit code that it is no verdict.

use std::path::{Path, PathBuf};

use pprof::protos::{Profile, ValueType};
use rprof_tests::scratch::Scratch;

use crate::answer::{Answer, FAILED, MISTAKE, compare, gate};
use crate::profiles::{profile, sides, written};

/// It failed with this code and a sentence, and with what to do next.
fn is_mistake(answer: &Answer, code: i32, why: &str) {
    let words: Vec<&str> = answer.said.split_whitespace().collect();
    let said = words.join(" ");
    assert_eq!(answer.code, code, "{why}: {}", answer.said);
    assert!(said.contains(why), "{why}: {}", answer.said);
    assert!(said.contains("rprof: "), "{why}: {}", answer.said);
    let verdicts = ["PASSED: ", "REGRESSED: ", "INCONCLUSIVE: "];
    let judged = verdicts.iter().any(|verdict| said.contains(verdict));
    assert!(!judged, "{why}: {}", answer.said);
}

#[test]
fn what_is_typed() {
    let scratch = Scratch::new();
    for (args, why) in [
        (&["compare", "--base", "--head"][..], "--base needs a value"),
        (
            &["compare", "--base", "a", "b"],
            "--head <FILE>... is missing",
        ),
        (
            &["compare", "--base", "a", "--head", "b", "c"],
            "--base has one run",
        ),
        (
            &["compare", "--base", "a", "b", "--head", "c"],
            "--head has one run",
        ),
        (
            &[
                "compare", "--base", "a", "b", "--head", "c", "d", "--update",
            ],
            "--base cannot stand together with --update",
        ),
        (&["run", "--base", "true"], "--head <CMD> is missing"),
        (&["run", "--base", "", "--head", "true"], "--base"),
        (
            &["run", "--base", " ", "--head", "true"],
            "there is nothing to run",
        ),
        (
            &["run", "--base", "true", "--head", "true", "--runs", "1"],
            "--runs '1': it is a number from 8 to 500",
        ),
        (
            &["run", "--base", "true", "--head", "true", "--budget", "0s"],
            "--budget '0s'",
        ),
        (
            &["nonsense"],
            "rprof gate knows no nonsense, only run, compare, calibrate try: rprof gate --help",
        ),
        (
            &[],
            "rprof gate needs one of run, compare, calibrate try: rprof gate --help",
        ),
        (
            &["run", "--base", "true", "--ruins", "8"],
            "rprof gate run knows no option --ruins try: rprof gate run --help",
        ),
        (
            &["compare", "--base", "a", "b"],
            "is missing try: rprof gate compare --help",
        ),
        (
            &["run", "--base", "true", "--head", "true", "--runs", "-3"],
            "--runs '-3': it is a number from 8 to 500",
        ),
        (
            &["run", "--base", "true", "--head", "true", "--budget", "-3s"],
            "--budget '-3s': time does not run backwards",
        ),
        (
            &[
                "compare", "--base", "a", "b", "--head", "c", "d", "--seed", "-1",
            ],
            "--seed '-1': a seed is a whole number from 0",
        ),
    ] {
        is_mistake(&gate(scratch.path(), args), MISTAKE, why);
    }
}

#[test]
fn more_samples_than_the_kernel_makes() {
    let scratch = Scratch::new();
    let ran = scratch.file("ran");
    let command = format!("touch {}", ran.display());
    for commands in [
        &["run", "--base", &command, "--head", &command][..],
        &["calibrate", "--cmd", &command],
    ] {
        let answer = gate(scratch.path(), &[commands, &["-F", "100000000"]].concat());
        let why = "100000000 samples a second are more than this kernel allows: from 1 to ";
        is_mistake(&answer, MISTAKE, why);
        assert!(!ran.exists(), "{}", answer.said);
    }
}

#[test]
fn thresholds() {
    let scratch = Scratch::new();
    let range = "it is a share from 0.01 % to 1000 %";
    for (threshold, why) in [
        ("0", range),
        ("0%", range),
        ("-3%", range),
        ("1e-9%", range),
        ("5", "a share is written 2% or 0.02"),
        ("5000%", range),
        ("nan", range),
        ("inf", range),
        ("much", range),
        ("", "--threshold"),
    ] {
        let args = ["compare", "--base", "a", "b", "--head", "c", "d"];
        let args = [&args[..], &["--threshold", threshold]].concat();
        is_mistake(&gate(scratch.path(), &args), MISTAKE, why);
    }
}

#[test]
fn commands_that_fail() {
    let scratch = Scratch::new();
    let ok = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    for (command, why) in [
        ("echo the disk is full; exit 7", "the disk is full"),
        ("echo to the other >&2; exit 7", "failed with exit code 7"),
        ("kill -KILL $$", "failed with exit code 137"),
        ("./nothing-here --size=3", "nothing-here"),
        ("nothing-here && true", "not found"),
    ] {
        for commands in [[command, ok], [ok, command]] {
            let args = ["run", "--base", commands[0], "--head", commands[1]];
            is_mistake(&gate(scratch.path(), &args), FAILED, why);
        }
    }
}

/// Two files of a side that is as it should be, and two that this made.
fn of(scratch: &Scratch, change: impl Fn(&mut Profile)) -> [Vec<PathBuf>; 2] {
    let file = |n: i64, change: &dyn Fn(&mut Profile)| {
        let mut profile = profile(n, 500 + n);
        change(&mut profile);
        written(scratch, &format!("{n}.pb.gz"), &profile)
    };
    let as_it_was = |_: &mut Profile| {};
    [
        vec![file(0, &as_it_was), file(3, &as_it_was)],
        vec![file(1, &change), file(2, &change)],
    ]
}

fn without_counts(profile: &mut Profile) {
    profile.sample_type.remove(0);
    profile.sample.iter_mut().for_each(|sample| {
        sample.value.remove(0);
    });
}

fn without_times(profile: &mut Profile) {
    profile.sample_type.truncate(1);
    let samples = profile.sample.iter_mut();
    samples.for_each(|sample| sample.value.truncate(1));
}

#[test]
fn profiles_of_something_else() {
    type Change = fn(&mut Profile);
    let scratch = Scratch::new();
    let changes: [(&str, Change); 12] = [
        ("samples of 1000000 ns and of 2000000 ns", |p| {
            p.period = 2_000_000;
        }),
        ("it holds wall/nanoseconds, no CPU time", |p| {
            p.string_table[3] = "wall".into();
            without_counts(p);
        }),
        (
            "it holds samples/count, wall/nanoseconds, no CPU time",
            |p| {
                p.string_table[3] = "wall".into();
            },
        ),
        (
            "it holds contentions/count, delay/nanoseconds, no CPU time",
            |p| {
                p.string_table[1] = "contentions".into();
                p.string_table[3] = "delay".into();
            },
        ),
        ("it holds alloc_space/bytes, no CPU time", |p| {
            p.string_table[3] = "alloc_space".into();
            p.string_table[4] = "bytes".into();
            without_counts(p);
        }),
        ("not how much CPU time a sample stands for", |p| {
            without_times(p);
            p.period_type = None;
            p.period = 0;
        }),
        ("is not in the format of pprof", |p| p.sample_type.clear()),
        ("cpu/nanoseconds and task/nanoseconds", |p| {
            p.string_table[3] = "task".into();
            without_counts(p);
            p.period_type = Some(ValueType { ty: 3, unit: 4 });
        }),
        ("it has no samples", |p| p.sample.clear()),
        ("it has samples of less than nothing", |p| {
            p.sample[0].value[1] = -5;
        }),
        ("its command failed with exit code 3", |p| {
            p.string_table.push("command exit: 3".into());
            p.comment = vec![p.string_table.len() as i64 - 1];
        }),
        ("the CPU time of a command that ended", |p| {
            p.string_table.push("command cpu ns: 500000000".into());
            p.comment = vec![p.string_table.len() as i64 - 1];
        }),
    ];
    for (why, change) in changes {
        is_mistake(&compare(&scratch, &of(&scratch, change), &[]), FAILED, why);
    }
}

#[test]
fn samples_that_a_period_tells_the_worth_of() {
    let scratch = Scratch::new();
    let answer = compare(&scratch, &of(&scratch, without_times), &[]);
    let base = &answer.told["total"]["base"];
    assert_eq!(base["mean"].as_f64(), Some(511.5e6), "{}", answer.said);
    assert_eq!(base["runs"], 2);
}

#[test]
fn files_that_are_no_profiles() {
    let scratch = Scratch::new();
    let whole = std::fs::read(written(&scratch, "whole.pb.gz", &profile(0, 500))).expect("a file");
    let bytes = |name: &str, bytes: &[u8]| {
        let path = scratch.file(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let folder = scratch.file("folder");
    std::fs::create_dir(&folder).expect("our own");
    for (file, why) in [
        (scratch.file("none"), "No such file"),
        (folder, "is a folder"),
        (bytes("empty", &[]), "cannot be compared"),
        (bytes("text", b"a text\n"), "is not in the format of pprof"),
        (bytes("zeros", &[0; 4096]), "cannot be compared"),
        (
            bytes("cut", &whole[..whole.len() / 2]),
            "cannot be compared",
        ),
        (bytes("head", &whole[..5]), "cannot be compared"),
        (PathBuf::from("/dev/null"), "is no file"),
    ] {
        let [base, mut head] = sides(&scratch, 2, [500, 500]);
        head[1] = file;
        let code = if head[1].is_dir() { MISTAKE } else { FAILED };
        is_mistake(&compare(&scratch, &[base, head], &[]), code, why);
    }
}

#[test]
fn the_same_run_twice() {
    let scratch = Scratch::new();
    let [base, head] = sides(&scratch, 2, [500, 500]);
    let name = |file: &Path| file.display().to_string();
    let link = scratch.file("link.pb.gz");
    std::os::unix::fs::symlink(&base[0], &link).expect("a link");
    let copy = scratch.file("copy.pb.gz");
    std::fs::copy(&head[0], &copy).expect("a copy");
    let other = scratch.file("other.pb.gz");
    std::fs::copy(&base[1], &other).expect("a copy");
    for (second, why) in [
        (&head[0], format!("{} is named twice", name(&head[0]))),
        (&base[1], format!("{} is named twice", name(&base[1]))),
        (
            &link,
            format!("{} and {} are the same file", name(&base[0]), name(&link)),
        ),
        (
            &copy,
            format!("{} and {} hold the same run", name(&head[0]), name(&copy)),
        ),
        (
            &other,
            format!("{} and {} hold the same run", name(&base[1]), name(&other)),
        ),
    ] {
        let files = [base.clone(), vec![head[0].clone(), second.clone()]];
        let answer = compare(&scratch, &files, &[]);
        is_mistake(&answer, MISTAKE, &why);
        answer.says("each run counts once");
    }
}

#[test]
fn a_folder_as_a_profile() {
    let scratch = Scratch::new();
    sides(&scratch, 2, [500, 500]);
    let folder = scratch.file("runs of base");
    std::fs::create_dir(&folder).expect("our own");
    for (args, why) in [
        (
            [
                "--base",
                "runs of base/",
                "--head",
                "made-1.pb.gz",
                "made-2.pb.gz",
            ],
            "is a folder; --base takes files: --base 'runs of base'/*.pb.gz",
        ),
        (
            ["--base", "made-0.pb.gz", "made-3.pb.gz", "--head", "."],
            ". is a folder; --head takes files: --head ./*.pb.gz",
        ),
    ] {
        let answer = gate(scratch.path(), &[&["compare"], &args[..]].concat());
        is_mistake(&answer, MISTAKE, why);
    }
}

#[test]
fn profiles_that_lie() {
    type Change = fn(&mut Profile);
    let scratch = Scratch::new();
    let changes: [Change; 7] = [
        |p| p.sample[0].value[1] = i64::MAX,
        |p| p.sample[0].location_id = vec![77, 2, u64::MAX, 1],
        |p| p.sample[0].location_id.clear(),
        |p| p.sample[0].value.clear(),
        |p| p.function.iter_mut().for_each(|f| f.name = 1 << 40),
        |p| p.function.iter_mut().for_each(|f| f.name = -1),
        |p| (p.time_nanos, p.duration_nanos) = (i64::MIN, i64::MIN),
    ];
    for change in changes {
        // Whatever comes out: no panic, and no regression that two runs could not show.
        let answer = compare(&scratch, &of(&scratch, change), &[]);
        assert!([0, 1, 4].contains(&answer.code), "{}", answer.said);
    }
}

#[test]
fn a_config_that_makes_no_sense() {
    let scratch = Scratch::new();
    let files = sides(&scratch, 2, [500, 500]);
    let config = scratch.file("gate.toml");
    let said = |text: &str| {
        std::fs::write(&config, text).expect("a file");
        compare(&scratch, &files, &[])
    };
    for (text, why) in [
        ("\n= 3", "gate.toml: line 2: "),
        ("treshold = \"2%\"", "there is no key \"treshold\""),
        ("threshold = \"much\"", "a share from 0.01 %"),
        ("threshold = 5", "a share is written"),
        (
            "[[function]]\nname = \"work\"",
            "line 1: this entry has no threshold",
        ),
        (
            "[[function]]\nname = \"\"\nthreshold = 0.1",
            "an empty pattern",
        ),
        (
            "[[accepted]]\nname = \"work\"\nby = \"5%\"\nreason = \"\"\nuntil = 2999-12-31",
            "a reason must be given",
        ),
        (
            "[[accepted]]\nname = \"work\"\nby = \"5%\"\nreason = \"safe\"\nuntil = \"2026-13-99\"",
            "gate.toml: line 5: until: a day is expected, like 2026-12-31: without quotes, and without a time",
        ),
        (
            "[[accepted]]\nname = \"work\"\nby = true",
            "gate.toml: line 3: by: a share is expected, like \"2%\" or 0.02",
        ),
        (
            &"[[function]]\nname = \"work\"\nthreshold = \"5%\"\n".repeat(21),
            "gate.toml: it has 21 entries, and 20 are the most",
        ),
    ] {
        is_mistake(&said(text), MISTAKE, why);
    }
    let named = |path: &Path| {
        let path = path.to_str().expect("a path");
        compare(&scratch, &files, &["--config", path])
    };
    is_mistake(&named(&scratch.file("none.toml")), FAILED, "No such file");
    is_mistake(&named(scratch.path()), FAILED, "cannot read");
    // A file that is there, and is not: without a word everything it says would be lost.
    std::fs::remove_file(&config).expect("a file");
    std::os::unix::fs::symlink(scratch.file("gone.toml"), &config).expect("a link");
    let answer = compare(&scratch, &files, &[]);
    is_mistake(&answer, FAILED, "cannot read gate.toml: No such file");
}
