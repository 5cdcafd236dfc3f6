//! Each report of one comparison, read back as its readers would. Names in it are as hostile as they come.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use super::places::Places;
use super::told::Told;
use std::path::Path;

use super::*;
use crate::gate::costs::Function;
use crate::gate::explain::{Amount, Changed, Explained, Move, Moved};
use crate::gate::judging::Ruled;
use crate::gate::runs::Clock;
use crate::gate::statistics::change::Estimate;
use crate::gate::statistics::design::Side::{Base, Head};
use crate::gate::statistics::verdict::{Judged, Rule, Verdict};

const HOSTILE: &str = "::error::x|`</code><script>@all</script>\x1b[31m\r\n::stop-commands::##[error]&\"'%0A]]>\u{202e}\u{fffe}";

fn function(name: &str, file: &str) -> Function {
    Function {
        name: name.into(),
        file: file.into(),
        module: "server".into(),
    }
}

fn judged(verdict: Verdict, change: f64, between: (f64, f64)) -> Judged {
    Judged {
        verdict,
        estimate: Estimate {
            change: f64::ln_1p(change),
            deviation: 0.013,
            far: 0,
            far_of_head: 0,
        },
        between: (f64::ln_1p(between.0), f64::ln_1p(between.1)),
        p: 0.0001,
        level: 0.002,
    }
}

fn changed(function: u32, base: f64, growth: f64, way: &[u32]) -> Changed {
    let amount = Amount {
        base: base * 1e6,
        growth: growth * 1e6,
        between: (growth * 0.9e6, growth * 1.1e6),
    };
    Changed {
        function,
        all: amount,
        own: amount,
        p: 0.001,
        way: way.to_vec(),
    }
}

/// Runs of 100 ms, and of 110 ms.
pub(super) fn comparison() -> Comparison {
    let runs = [(Base, 100e6), (Head, 110e6), (Head, 110e6), (Base, 100e6)];
    Comparison {
        verdict: Verdict::Regressed,
        reasons: Vec::new(),
        judged: judged(Verdict::Regressed, 0.10, (0.08, 0.12)),
        instructions: None,
        rule: Rule::default(),
        seed: 1,
        runs: runs.to_vec(),
        clock: Clock::Processes,
        ruled: vec![
            Ruled {
                is_met: true,
                name: HOSTILE.into(),
                accepted: Some((HOSTILE.into(), "2026-12-31".into())),
                threshold: 0.05,
                judged: Some(judged(Verdict::Passed, 0.01, (0.0, 0.02))),
            },
            Ruled {
                is_met: true,
                name: "rare".into(),
                accepted: None,
                threshold: 0.05,
                judged: None,
            },
        ],
        explained: Explained {
            likely: None,
            guilty: vec![
                changed(0, 20.0, 9.0, &[2]),
                changed(1, 5.0, 1.0, &[1]),
                changed(4, 0.0, 8.1, &[2]),
            ],
            callers: vec![changed(2, 100.0, 10.0, &[])],
            cheaper: vec![changed(3, 8.0, -8.0, &[2])],
            moved: vec![Move {
                how: Moved::Renamed(3, 4),
                went: 8e6,
                came: 8.1e6,
            }],
        },
        functions: vec![
            function("alpha", "/elsewhere/src/gate/report/tests.rs"),
            function(HOSTILE, HOSTILE),
            function("main", "main.c"),
            function("old_name", "old.c"),
            function("new_name", "new.c"),
        ],
        lines: vec![12, 0, 3, 0, 0],
        accepted: vec![false; 5],
        notes: vec![HOSTILE.into()],
    }
}

fn inconclusive() -> Comparison {
    Comparison {
        verdict: Verdict::Inconclusive,
        judged: Judged {
            between: (f64::NEG_INFINITY, f64::INFINITY),
            ..judged(Verdict::Inconclusive, 0.01, (0.0, 0.0))
        },
        explained: Explained::default(),
        ..comparison()
    }
}

fn places() -> Places {
    Places::of(Path::new(env!("CARGO_MANIFEST_DIR")))
}

/// What no line of a log may hold.
fn obeyed(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("::")
        || line.contains("##[")
        || line.contains(crate::report::drives_a_terminal)
}

fn plain(of: &Comparison) -> String {
    text::plain(of, &Told::new(of, None), &places())
}

fn junit(of: &Comparison, inconclusive: Option<Inconclusive>, text: &str) -> String {
    let text = junit::text(of, &Told::new(of, inconclusive), text).unwrap();
    String::from_utf8(text).unwrap()
}

fn cells(text: &str) -> String {
    text.split_whitespace().collect::<Vec<&str>>().join(" ")
}

#[test]
fn text_says_it_at_a_glance() {
    let text = plain(&comparison());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "REGRESSED: +10.0 % CPU time a run, where 2 % is allowed"
    );
    let at = |what: &str| {
        let found = lines.iter().position(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("no {what} in\n{text}"))
    };
    assert!(
        lines[at("all CPU time of a run")].contains("+8.0 %"),
        "{text}"
    );
    assert!(at("all CPU time of a run") < at("alpha"));
    assert!(at("alpha") < at("their callers"));
    assert_eq!(
        cells(lines[at("alpha")]),
        "20.0 ms 29.0 ms +9.0 % +8.1 % +9.9 % alpha"
    );
    assert!(
        text.contains("src/gate/report/tests.rs:12, called by main"),
        "{text}"
    );
    // What only moved is nowhere else.
    assert_eq!(text.matches("new_name").count(), 1, "{text}");
    assert!(text.contains("old_name seems to be new_name now"), "{text}");
    for line in lines {
        assert!(!obeyed(line), "{line:?}");
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn text_of_what_is_not_known() {
    let text = plain(&inconclusive());
    assert!(
        text.starts_with(
            "INCONCLUSIVE: +1.0 % CPU time a run, but these are too few runs to tell it from 2 %,"
        ),
        "{text}"
    );
    assert!(cells(&text).contains("+1.0 % unknown unknown"), "{text}");
    assert!(
        text.contains("more runs a side would show that it is below 2 %"),
        "{text}"
    );
    let unsure = Comparison {
        reasons: vec!["The runs were made on different processors: a, b.".into()],
        ..inconclusive()
    };
    let text = plain(&unsure);
    assert!(
        text.contains("  - The runs were made on different processors"),
        "{text}"
    );
    assert!(!text.contains("more runs"), "{text}");
}

#[test]
fn what_grew_on_the_way_is_guilty() {
    let mut of = comparison();
    of.explained.guilty[2] = changed(4, 0.0, 10.0, &[2]);
    of.explained.moved[0].came = 10e6;
    let told = Told::new(&of, None);
    assert!(
        told.guilty
            .iter()
            .any(|row| &*row.function.name == "new_name")
    );
    assert!(told.cheaper.is_empty());
    assert!((told.moved[0].net() - 2e6).abs() < 1.0);
}

#[test]
fn callers_are_those_of_the_repository() {
    let mut of = comparison();
    let here = "src/gate/report/tests.rs";
    of.functions = vec![
        function("alpha", here),
        function("std::invoke", "/usr/include/invoke.h"),
        function("std::function", "/usr/include/function.h"),
        function("dispatch", here),
        function("std::thread", "/usr/include/thread.h"),
        function("_start", ""),
    ];
    of.explained = Explained {
        guilty: vec![changed(0, 20.0, 9.0, &[1, 2, 3, 4, 5])],
        ..Explained::default()
    };
    let said = |of: &Comparison| {
        let told = Told::new(of, None);
        told.guilty[0].called_by(&places(), 3, &str::to_string)
    };
    assert_eq!(said(&of), "… ← dispatch");
    // None of them is.
    of.functions[3] = function("dispatch", "/elsewhere/main.c");
    assert_eq!(said(&of), "std::invoke ← std::function ← dispatch");
}

#[test]
fn markdown_holds_names_as_code() {
    let of = comparison();
    let text = markdown::text(&of, &Told::new(&of, None), &places());
    assert!(text.starts_with("### ❌ rprof gate: regressed\n"), "{text}");
    // Outside of code there is nothing of a name.
    for line in text.lines() {
        let outside: String = line.split('`').step_by(2).collect();
        for bad in ["<script", "</code", "@all", "##["] {
            assert!(!outside.contains(bad), "{outside}");
        }
        assert!(!line.contains(crate::report::drives_a_terminal) || line.contains("@\u{200b}all"));
        assert_eq!(line.matches('`').count() % 2, 0, "{line}");
    }
    // All rows of a table have its columns.
    let mut columns = None;
    for line in text.lines() {
        let bars = line.replace("\\|", "").matches('|').count();
        match (line.starts_with('|'), columns) {
            (true, None) => columns = Some(bars),
            (true, Some(known)) => assert_eq!(bars, known, "{line}"),
            (false, _) => columns = None,
        }
    }
    assert!(text.contains("| `alpha`<br>`src/gate/report/tests.rs:12` called by `main` | 20.0 ms"));
    assert!(text.contains("<details><summary>Their callers"));
}

#[test]
fn json_can_be_read_back() {
    let of = comparison();
    let text = json::text(&of, &Runs::default(), &Told::new(&of, None), &places());
    assert!(text.lines().all(|line| !obeyed(line)), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["version"], 1);
    assert_eq!(value["verdict"], "regressed");
    assert!((value["total"]["change"].as_f64().unwrap() - 0.1).abs() < 1e-9);
    assert_eq!(value["total"]["base"]["runs"], 2);
    assert_eq!(value["runs"][1]["side"], "head");
    assert_eq!(value["guilty"][0]["path"], "src/gate/report/tests.rs");
    assert_eq!(value["guilty"][0]["line"], 12);
    assert_eq!(value["guilty"][0]["callers"][0], "main");
    // To the last character.
    assert_eq!(value["guilty"][1]["name"], HOSTILE);
    assert_eq!(value["guilty"][1]["line"], Value::Null);
    assert_eq!(value["moved"][0]["kind"], "renamed");
    assert_eq!(value["moved"][0]["to"]["own"]["growth"], 8.1e6);
    assert_eq!(value["entries"][0]["accepted"]["until"], "2026-12-31");
    assert_eq!(value["entries"][1]["change"], Value::Null);
    let of = inconclusive();
    let text = json::text(&of, &Runs::default(), &Told::new(&of, None), &places());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["total"]["at_least"], Value::Null);
    assert_eq!(value["total"]["at_most"], Value::Null);
}

/// The tests of a report: names, and what stands in them, with messages.
fn read_junit(text: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let mut reader = Reader::from_str(text);
    let (mut tests, mut counts) = (Vec::<(String, Vec<String>)>::new(), Vec::new());
    loop {
        let event = reader.read_event().unwrap();
        let (Event::Start(element) | Event::Empty(element)) = &event else {
            if event == Event::Eof {
                return (tests, counts);
            }
            continue;
        };
        let value = |name: &str| {
            let found = element.try_get_attribute(name).unwrap();
            found.map_or(String::new(), |found| {
                let value = String::from_utf8(found.value.to_vec()).unwrap();
                quick_xml::escape::unescape(&value).unwrap().into_owned()
            })
        };
        match element.name().as_ref() {
            b"testsuite" => {
                counts = ["tests", "failures", "errors", "skipped"]
                    .map(value)
                    .to_vec()
            }
            b"testcase" => tests.push((value("name"), Vec::new())),
            b"failure" | b"error" | b"skipped" => {
                let kind = String::from_utf8(element.name().as_ref().to_vec()).unwrap();
                let test = tests.last_mut().unwrap();
                test.1.push(format!("{kind}: {}", value("message")));
            }
            _ => {}
        }
    }
}

#[test]
fn junit_can_be_read_back() {
    let of = comparison();
    let text = junit(&of, None, &plain(&of));
    let is_legal = |c: char| matches!(c, '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}');
    assert!(text.chars().all(is_legal), "{text}");
    let (tests, counts) = read_junit(&text);
    assert_eq!(counts, ["3", "1", "0", "1"]);
    assert_eq!(tests[0].0, "CPU time of a run");
    assert_eq!(
        tests[0].1,
        ["failure: +10.0 % CPU time a run, where 2 % is allowed"]
    );
    assert!(
        tests[1].0.starts_with("::error::x|`</code><script>"),
        "{}",
        tests[1].0
    );
    assert!(tests[1].1.is_empty());
    assert_eq!(tests[2].0, "rare");
    assert!(tests[2].1[0].starts_with("skipped: too few samples"));
    let of = inconclusive();
    let (tests, counts) = read_junit(&junit(&of, None, "text"));
    assert_eq!(counts, ["3", "0", "0", "2"]);
    assert!(tests[0].1[0].starts_with("skipped: +1.0 % CPU time a run, but"));
    assert!(tests[0].1[0].contains("more runs a side"));
}

#[test]
fn github_finds_only_commands_that_are_meant() {
    let of = comparison();
    let text = annotations::github(&of, &Told::new(&of, None), &places());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(
        lines[0],
        "::error title=rprof gate%3A regressed::+10.0 %25 CPU time a run, where 2 %25 is allowed"
    );
    assert!(
        lines[1].starts_with(
            "::error file=src/gate/report/tests.rs,line=12,title=+9.0 %25 of a run in alpha::alpha takes 9.0 %25 more"
        ),
        "{}",
        lines[1]
    );
    // The hostile one has no file, and only its own command.
    assert!(lines[2].starts_with("::error title="), "{}", lines[2]);
    assert!(!lines[2].contains("file="));
    let title = lines[2].strip_prefix("::error title=").unwrap();
    let title = title.split("::").next().unwrap();
    assert!(title.contains("%3A%3Aerror%3A%3Ax|"), "{title}");
    assert!(lines.iter().all(|line| !line.contains("##[")));
    let of = inconclusive();
    let text = annotations::github(&of, &Told::new(&of, None), &places());
    assert!(text.starts_with("::warning title=rprof gate%3A inconclusive::"));
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn what_is_accepted_needs_no_eyes() {
    let mut of = comparison();
    of.accepted[0] = true;
    let github = annotations::github(&of, &Told::new(&of, None), &places());
    assert!(!github.contains("in alpha"), "{github}");
    assert_eq!(
        annotations::gitlab(&of, &Told::new(&of, None), &places()),
        "[]\n"
    );
    let text = plain(&of);
    assert!(
        cells(&text).contains("tests.rs:12, accepted, called by main"),
        "{text}"
    );
}

#[test]
fn gitlab_reads_a_list_of_issues() {
    let mut of = comparison();
    // Two of the same name in the same file, as instances of a template are.
    of.functions[1] = of.functions[0].clone();
    let text = annotations::gitlab(&of, &Told::new(&of, None), &places());
    let issues: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(issues.len(), 2);
    assert_eq!(issues[0]["location"]["path"], "src/gate/report/tests.rs");
    assert_eq!(issues[0]["location"]["lines"]["begin"], 12);
    assert_eq!(issues[1]["location"]["lines"]["begin"], 1);
    assert_eq!(issues[0]["severity"], "major");
    assert_ne!(issues[0]["fingerprint"], issues[1]["fingerprint"]);
    // The same in the next report, wherever the function has gone.
    of.lines[0] = 99;
    let again: Vec<Value> =
        serde_json::from_str(&annotations::gitlab(&of, &Told::new(&of, None), &places())).unwrap();
    assert_eq!(issues[0]["fingerprint"], again[0]["fingerprint"]);
    let none = Comparison {
        explained: Explained::default(),
        ..comparison()
    };
    assert_eq!(
        annotations::gitlab(&none, &Told::new(&none, None), &places()),
        "[]\n"
    );
}

#[test]
fn what_can_be_written_is() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = Reports {
        markdown: Some(folder.path().join("none/a.md")),
        json: Some(folder.path().join("a.json")),
        junit: Some(folder.path().to_path_buf()),
        ..Reports::default()
    };
    let failure = write(&comparison(), &Runs::default(), None, &wanted).unwrap_err();
    let said = failure.to_string();
    assert!(
        said.contains("none/a.md: No such file or directory; "),
        "{said}"
    );
    assert!(said.contains("\n  try: mkdir -p "), "{said}");
    assert_eq!(failure.next_commands().len(), 2, "{said}");
    let json = std::fs::read_to_string(folder.path().join("a.json")).unwrap();
    assert!(json.contains("\"verdict\": \"regressed\""));
}

#[test]
fn what_an_inconclusive_answer_counts_as() {
    let of = inconclusive();
    for (as_what, word, outcomes) in [
        (Inconclusive::Pass, "passed", ["3", "0", "0", "2"]),
        (Inconclusive::Fail, "regressed", ["3", "1", "0", "1"]),
    ] {
        let as_what = Some(as_what);
        let told = Told::new(&of, as_what);
        let said = text::plain(&of, &told, &places());
        let begin = format!("INCONCLUSIVE, which counts as {word}: +1.0 % CPU time a run, but");
        assert!(said.starts_with(&begin), "{said}");
        assert!(
            said.lines().all(|line| line.chars().count() <= 100),
            "{said}"
        );
        let markdown = markdown::text(&of, &told, &places());
        let begin = format!("### ⚠️ rprof gate: inconclusive, which counts as {word}\n");
        assert!(markdown.starts_with(&begin), "{markdown}");
        let json = json::text(&of, &Runs::default(), &told, &places());
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["verdict"], "inconclusive");
        assert_eq!(value["counts_as"], word);
        let (tests, counts) = read_junit(&junit(&of, as_what, "text"));
        assert_eq!(counts, outcomes);
        let message = format!(": inconclusive, which counts as {word}: +1.0 % CPU time");
        assert!(tests[0].1[0].contains(&message), "{tests:?}");
        let github = annotations::github(&of, &told, &places());
        let level = if word == "passed" { "warning" } else { "error" };
        let begin =
            format!("::{level} title=rprof gate%3A inconclusive%2C which counts as {word}::");
        assert!(github.starts_with(&begin), "{github}");
        // What is known counts as what it is.
        let known = comparison();
        assert_eq!(Told::new(&known, as_what).counts_as, None);
    }
}

#[test]
fn nothing_to_compare() {
    let why = Failure::new(format!("\"{HOSTILE}\" failed with exit code 7"))
        .said(vec![words::harmless(HOSTILE)])
        .next("./bench");
    let github = annotations::github_failure(&why);
    assert!(
        github.starts_with("::error title=rprof gate%3A failed::"),
        "{github}"
    );
    assert_eq!(github.lines().count(), 1, "{github}");
    assert!(!github.contains("##["), "{github}");
    assert!(github.contains("%0Atry: ./bench"), "{github}");
    let issues: Vec<Value> = serde_json::from_str(&annotations::gitlab_nothing()).unwrap();
    assert!(issues.is_empty());
    let json = json::failure(&why);
    assert!(json.lines().all(|line| !obeyed(line)), "{json}");
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["verdict"], "failed");
    assert!(value["headline"].as_str().unwrap().ends_with("exit code 7"));
    assert_eq!(value["next"][0], "./bench");
    let text = String::from_utf8(junit::failure(&why).unwrap()).unwrap();
    let (tests, counts) = read_junit(&text);
    assert_eq!(counts, ["1", "0", "1", "0"]);
    assert!(
        tests[0].1[0].ends_with("failed with exit code 7"),
        "{tests:?}"
    );
    let markdown = markdown::failure(&why);
    assert!(
        markdown.starts_with("### ⛔ rprof gate: failed\n\n**"),
        "{markdown}"
    );
    for line in markdown.lines().filter(|line| !line.starts_with("    ")) {
        for bad in ["<script", "</code", "@all", "##["] {
            assert!(!line.contains(bad), "{line}");
        }
    }
}
