//! Promise: native and interpreted frames stand in one stack, in the order in which they called each
//! other, with qualified names, files and current lines in any script. The chain is what the program
//! says it called.

use std::path::Path;

use rprof_tests::machine;
use rprof_tests::profile::{Frame, Profile, Stack};
use rprof_tests::python::{self, Interpreter};
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::statistics::count_bound;

fn hertz() -> f64 {
    machine::rate(199.0)
}
/// CPU seconds that the program burns in its leaf.
const SECONDS: f64 = 2.0;

/// A line of what `mixed.py` says.
#[derive(Debug)]
enum Said {
    Python {
        function: String,
        file: String,
        line: i64,
    },
    /// C functions between two Python frames, from root to leaf.
    Native(Vec<String>),
}

fn said(text: &str) -> Vec<Said> {
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split('\t').collect();
            match words.as_slice() {
                ["python", function, file, line] => Said::Python {
                    function: (*function).into(),
                    file: (*file).into(),
                    line: line.parse().expect("a line"),
                },
                ["native", names @ ..] => Said::Native(names.iter().map(|&n| n.into()).collect()),
                _ => panic!("the program says {line:?}"),
            }
        })
        .collect()
}

/// Profiles the program; the script has a name that is not ASCII. A tick has ten times its usual time: each
/// stack has to be whole here, and on a machine that others use as well one may be cut at its usual
/// time (`deep_stacks` tests what share is whole in that).
fn record(scratch: &Scratch, interpreter: &Interpreter, more: &[&str]) -> (Vec<Said>, Profile) {
    let text = std::fs::read_to_string(source_file("mixed.py")).expect("the script");
    let script = scratch.write("mixed_größe_日本.py", &text);
    let flags = interpreter.extension_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    scratch.cc("crossing.c", "crossing.so", &flags);
    let folder = scratch.path().display().to_string();
    let seconds = SECONDS.to_string();
    let words = interpreter.words(&script, &[&[folder.as_str(), &seconds], more].concat());
    let run = Rprof::new(scratch, ["-F", &hertz().to_string(), "--"])
        .args(words)
        .env("RPROF_FAULT", "slow-machine:10")
        .run()
        .expect(0);
    (said(&run.text()), run.profile())
}

/// A stack against what was said, from leaf to root. `at`: the line of the leaf, if it is known.
fn check(stack: &Stack, chain: &[Said], at: Option<i64>) {
    let mut frames = stack.user().skip_while(|f| !f.is_interpreted()).peekable();
    let mut first = true;
    for said in chain.iter().rev() {
        match said {
            Said::Python {
                function,
                file,
                line,
            } => {
                let frame = frames.next();
                let line = if first { at } else { Some(*line) };
                let fits = frame.is_some_and(|f| {
                    f.is_interpreted()
                        && (&f.function, &f.file) == (function, file)
                        && line.is_none_or(|line| f.line == line)
                });
                assert!(
                    fits,
                    "{said:?} with line {line:?}, but {frame:?}\n{}",
                    stack.text()
                );
            }
            Said::Native(names) => {
                let mut run: Vec<&Frame> = Vec::new();
                while let Some(frame) = frames.next_if(|f| !f.is_interpreted()) {
                    run.push(frame);
                }
                assert!(!run.is_empty(), "nothing at {said:?}\n{}", stack.text());
                let ours = run
                    .iter()
                    .rev()
                    .filter(|f| f.module.ends_with("/crossing.so"));
                let ours: Vec<&str> = ours.map(|f| f.function.as_str()).collect();
                assert_eq!(ours, *names, "{}", stack.text());
            }
        }
        first = false;
    }
    // Below the outermost Python frame there is nothing but native ones.
    assert!(frames.all(|f| !f.is_interpreted()), "{}", stack.text());
}

/// All stacks that were taken in the leaf, and how many those must be.
fn check_all(chain: &[Said], profile: &Profile) {
    let (mut python, mut native) = (0, 0);
    let burning = burning_line();
    for stack in profile.stacks.iter().filter(|stack| stack.has("leaf")) {
        assert!(stack.is_complete(), "{}", stack.text());
        if stack.has("crossing_spin") {
            let leaf: Vec<&str> = stack
                .user()
                .filter(|f| f.module.ends_with("/crossing.so"))
                .take(2)
                .map(|f| f.function.as_str())
                .collect();
            assert_eq!(leaf, ["crossing_spin", "crossing_burn"], "{}", stack.text());
            check(stack, chain, Some(burning));
            native += stack.count;
        } else {
            check(stack, chain, None);
            python += stack.count;
        }
    }
    let expected = SECONDS * hertz();
    let n = (python + native) as f64;
    assert!(
        (n - expected).abs() <= count_bound(expected),
        "{n} samples, {expected} expected: {:?}",
        profile.ledger
    );
    // Both parts of the leaf take a good part of its time.
    let few = 20 / u64::from((machine::slower() / 4).max(1));
    assert!(
        python > few && native > few,
        "{python} in Python, {native} in C"
    );
}

/// The line of the script that burns in C.
fn burning_line() -> i64 {
    let text = std::fs::read_to_string(source_file("mixed.py")).expect("the script");
    let at = text
        .lines()
        .position(|line| line.contains("crossing.burn("));
    at.expect("a line that burns") as i64 + 1
}

/// The chain has each of the shapes that the test is about.
fn is_mixed(chain: &[Said], script: &str) {
    let names: Vec<&str> = chain
        .iter()
        .filter_map(|said| match said {
            Said::Python { function, .. } => Some(function.as_str()),
            Said::Native(_) => None,
        })
        .collect();
    for shape in [
        "sorts.<locals>.<lambda>",
        "Maker.method.<locals>.inner",
        "größe",
        "名前.value",
        "from_string",
        "class_body.<locals>.Body",
        "coroutine",
        "Gothic.make.<locals>.<listcomp>",
        "Gothic.𐌰𐌱",
        "leaf",
    ] {
        assert!(names.contains(&shape), "no {shape} in {names:?}");
    }
    let files = chain.iter().filter(|said| match said {
        Said::Python { file, .. } => Path::new(file).ends_with(script),
        Said::Native(_) => false,
    });
    assert!(files.count() > 10, "{chain:?}");
}

fn holds(interpreter: impl Fn(&Scratch) -> Interpreter, more: &[&str]) {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (chain, profile) = record(&scratch, &interpreter(&scratch), more);
    is_mixed(&chain, "mixed_größe_日本.py");
    check_all(&chain, &profile);
}

#[test]
fn in_the_distributions_python() {
    holds(|_| python::system(), &[]);
}

#[test]
fn in_a_thread() {
    holds(|_| python::system(), &["thread"]);
}

#[test]
fn with_the_interpreter_in_a_library() {
    holds(python::with_library, &[]);
}
