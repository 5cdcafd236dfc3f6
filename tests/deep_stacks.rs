//! Promise: a stack is delivered whole up to 1,024 frames, in any mixture; a deeper one keeps its
//! leaf part and says so at its root. The chain is what the program says it called.

use rprof_tests::machine;
use rprof_tests::profile::{Frame, Profile, Stack};
use rprof_tests::python::{self, Interpreter};
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::statistics::count_bound;

/// Most frames of a stack, `[truncated: depth]` not counted.
const DEEPEST: usize = 1024;
/// Slow enough that 1,000 frames a sample stay below the 1 % of a CPU that the programs may use;
/// beyond it they would lower the rate.
const HERTZ: f64 = 49.0;
/// CPU seconds that the programs burn in their leaf.
const SECONDS: f64 = 2.0;

/// Without frame pointers, and no call in tail position becomes a jump.
const DEEP: &[&str] = &[
    "-O2",
    "-g",
    "-fomit-frame-pointer",
    "-fno-optimize-sibling-calls",
];

/// Profiles a program that describes itself: the chain from root to leaf, and the profile.
/// `patient`: a tick may take ten times as long as usual. On a busy virtual machine 1,000 frames may take
/// more than 250 µs, and that such a stack is cut is another promise than that it can be walked; what
/// share is whole in the usual time is tested, and said, by [`in_the_usual_time`].
fn record(scratch: &Scratch, command: &[String], patient: bool) -> (Vec<String>, Profile) {
    let mut rprof = Rprof::new(scratch, ["-F", "49", "--"]).args(command);
    if patient {
        rprof = rprof.env("RPROF_FAULT", "slow-machine:10");
    }
    let run = rprof.run().expect(0);
    (
        run.text().lines().map(String::from).collect(),
        run.profile(),
    )
}

/// The stacks that were taken while the program was in its leaf. Their number follows from the CPU
/// time the program burned there, so that none can be missing because it was cut above the leaf.
fn in_leaf<'a>(profile: &'a Profile, leaf: &str) -> Vec<&'a Stack> {
    let stacks: Vec<&Stack> = profile.stacks.iter().filter(|s| s.has(leaf)).collect();
    let n: u64 = stacks.iter().map(|stack| stack.count).sum();
    // Deep enough that on a slow day they cost more than a CPU's hundredth.
    let taken = n + profile.ledger.get("rate lowered");
    let expected = SECONDS * HERTZ;
    assert!(
        (taken as f64 - expected).abs() <= count_bound(expected),
        "{n} samples in the leaf, {expected} expected; {:?}",
        profile.ledger
    );
    if machine::slower() == 1 {
        return stacks;
    }
    // What emulates a processor may take it away in the middle of a tick.
    let late = |stack: &&&Stack| stack.has("[truncated: time]");
    let whole: Vec<&Stack> = stacks.iter().filter(|s| !late(s)).copied().collect();
    let of_whole: u64 = whole.iter().map(|stack| stack.count).sum();
    assert!(
        of_whole * 20 >= n * 19,
        "{of_whole} of {n}: {:?}",
        profile.ledger
    );
    whole
}

fn native(scratch: &Scratch, depth: usize, more: &[&str]) -> (Vec<String>, Profile) {
    record(scratch, &native_words(scratch, depth, more), true)
}

fn native_words(scratch: &Scratch, depth: usize, more: &[&str]) -> [String; 3] {
    let program = scratch.cc("deep.c", "deep", &[DEEP, more].concat());
    [
        program.display().to_string(),
        depth.to_string(),
        SECONDS.to_string(),
    ]
}

/// Names of functions without those that are inlined.
fn physical(frames: &[Frame]) -> Vec<&str> {
    frames
        .iter()
        .filter(|f| !f.inlined)
        .map(|f| f.function.as_str())
        .collect()
}

#[test]
fn native_1000_deep() {
    native_is_whole(&[]);
}

#[test]
fn native_1000_deep_with_realigned_frames() {
    native_is_whole(&["-DREALIGNED"]);
}

fn native_is_whole(flags: &[&str]) {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    // libc's two frames, _start and what the leaf calls make 1,000 of 994.
    let (chain, profile) = native(&scratch, 994, flags);
    assert_eq!(chain.len(), 994);
    for stack in in_leaf(&profile, "leaf") {
        assert!(stack.is_complete(), "{}", stack.text());
        let mut frames = physical(stack.from("leaf").expect("they have a leaf"));
        frames.reverse();
        // Below main: _start, and two functions of glibc (since 2.34), whatever they are called.
        let (below, known) = frames.split_at(3.min(frames.len()));
        assert_eq!(known, chain, "{}", stack.text());
        assert_eq!(below.first(), Some(&"_start"));
        let outer: Vec<&Frame> = stack
            .frames
            .iter()
            .rev()
            .filter(|f| !f.inlined)
            .take(3)
            .collect();
        assert!(outer[0].module.ends_with("/deep"), "{:?}", outer[0]);
        assert!(
            outer[1..].iter().all(|f| f.module.ends_with("/libc.so.6")),
            "{outer:?}"
        );
    }
}

#[test]
fn native_2000_deep_keeps_the_leaf_part() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (chain, profile) = native(&scratch, 2000, &[]);
    for stack in in_leaf(&profile, "leaf") {
        let mut frames = physical(stack.from("leaf").expect("they have a leaf"));
        assert_eq!(frames.pop(), Some("[truncated: depth]"), "{}", stack.text());
        let leafward: Vec<&str> = chain
            .iter()
            .rev()
            .take(frames.len())
            .map(|s| &**s)
            .collect();
        assert_eq!(frames, leafward, "{}", stack.text());
        let all = stack.user().filter(|f| !f.inlined).count() - 1;
        assert!((1000..=DEEPEST).contains(&all), "{all} frames");
    }
    assert!(
        profile.ledger.truncated.contains_key("depth"),
        "{:?}",
        profile.ledger
    );
}

/// In the 250 µs that a tick may take. A stack that takes longer is cut there, says so, and keeps its
/// leaf part. How many are whole is for `cargo xtask bench` to measure, and only said here: it is not all
/// where the machine's processors and caches are shared.
#[test]
fn in_the_usual_time() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (chain, profile) = record(&scratch, &native_words(&scratch, 994, &[]), false);
    let (mut whole, mut all, mut delivered, mut shortest) = (0, 0, 0, usize::MAX);
    for stack in in_leaf(&profile, "leaf") {
        let mut frames = physical(stack.from("leaf").expect("they have a leaf"));
        if stack.is_complete() {
            assert_eq!(frames.len(), chain.len() + 3, "{}", stack.text());
            whole += stack.count;
        } else {
            assert_eq!(frames.pop(), Some("[truncated: time]"), "{}", stack.text());
        }
        let known = frames.len().min(chain.len());
        let leafward: Vec<&str> = chain.iter().rev().take(known).map(|s| &**s).collect();
        assert_eq!(frames[..known], leafward, "{}", stack.text());
        all += stack.count;
        delivered += known as u64 * stack.count;
        shortest = shortest.min(known);
    }
    let frames = all * chain.len() as u64;
    println!("{whole} of {all} stacks whole, {delivered} of {frames} frames, {shortest} at least");
}

/// What `deep.py` says of a frame.
struct Line {
    function: String,
    file: String,
    line: i64,
}

fn python(
    scratch: &Scratch,
    interpreter: &Interpreter,
    depth: usize,
    every: usize,
) -> (Vec<Line>, Profile) {
    let script = source_file("deep.py");
    let args = [depth.to_string(), every.to_string(), SECONDS.to_string()];
    let words = interpreter.words(&script, &args.each_ref().map(|s| s.as_str()));
    let (said, profile) = record(scratch, &words, true);
    let lines = said.iter().map(|line| {
        let mut words = line.split('\t').map(String::from);
        let mut word = || words.next().expect("three words a line");
        Line {
            function: word(),
            file: word(),
            line: word().parse().expect("a line"),
        }
    });
    let chain: Vec<Line> = lines.collect();
    assert_eq!(chain.len(), depth, "the program miscounts its frames");
    let sorting = sorting_lines();
    let crossings = chain
        .iter()
        .filter(|line| sorting.contains(&line.line))
        .count();
    assert_eq!(
        crossings,
        (depth - 4).checked_div(every).unwrap_or(0),
        "it sorts too seldom"
    );
    (chain, profile)
}

/// Compares Python's frames, leaf first, with what the program said, as far as they go.
fn compare(stack: &Stack, chain: &[Line]) -> usize {
    let frames: Vec<&Frame> = stack.interpreted().collect();
    for (n, (frame, line)) in frames.iter().zip(chain.iter().rev()).enumerate() {
        assert_eq!(frame.function, line.function, "frame {n}\n{}", stack.text());
        assert_eq!(frame.file, line.file, "frame {n}\n{}", stack.text());
        // The leaf went on after it had spoken.
        if n > 0 {
            assert_eq!(frame.line, line.line, "frame {n}\n{}", stack.text());
        }
    }
    frames.len()
}

/// Between a frame and its caller through C stands something native, between others nothing.
fn crossings(stack: &Stack, chain: &[Line]) {
    let frames: Vec<&Frame> = stack.user().collect();
    let places: Vec<usize> = (0..frames.len())
        .filter(|&n| frames[n].is_interpreted())
        .collect();
    let sorting = sorting_lines();
    for (n, pair) in places.windows(2).enumerate() {
        let caller = &chain[chain.len() - 2 - n];
        let through_c = sorting.contains(&caller.line);
        assert_eq!(
            pair[1] - pair[0] > 1,
            through_c,
            "frame {n}\n{}",
            stack.text()
        );
    }
}

/// The lines of `deep.py` that call through C.
fn sorting_lines() -> Vec<i64> {
    let text = std::fs::read_to_string(source_file("deep.py")).expect("the script");
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.contains("sorted("))
        .map(|(n, _)| n)
        .collect()
}

fn python_is_whole(scratch: &Scratch, interpreter: &Interpreter, depth: usize, every: usize) {
    let (chain, profile) = python(scratch, interpreter, depth, every);
    for stack in in_leaf(&profile, "leaf") {
        assert!(stack.is_complete(), "{}", stack.text());
        assert_eq!(compare(stack, &chain), depth, "{}", stack.text());
        crossings(stack, &chain);
        let root = stack.frames.last().map(|f| f.function.as_str());
        // A stripped executable has no name for its entry.
        assert!(
            root.is_some_and(|f| f == "_start" || f.starts_with("python3.11+0x")),
            "{root:?}"
        );
    }
}

#[test]
fn python_1000_deep_in_one_activation() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    for interpreter in [python::system(), python::with_library(&scratch)] {
        python_is_whole(&scratch, &interpreter, 990, 0);
    }
}

#[test]
fn python_deep_through_c() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    // About 12 frames of C a crossing: 20 of them and 600 of Python stay below 1,024.
    for interpreter in [python::system(), python::with_library(&scratch)] {
        python_is_whole(&scratch, &interpreter, 600, 30);
    }
}

#[test]
fn python_too_deep_through_c_keeps_the_leaf_part() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (chain, profile) = python(&scratch, &python::system(), 1000, 4);
    for stack in in_leaf(&profile, "leaf") {
        let root = stack.frames.last().map(|f| f.function.as_str());
        assert_eq!(root, Some("[truncated: depth]"), "{}", stack.text());
        let kept = compare(stack, &chain);
        crossings(stack, &chain);
        let all = stack.user().filter(|f| !f.inlined).count() - 1;
        assert!(
            (1000..=DEEPEST).contains(&all),
            "{all} frames, {kept} of Python"
        );
    }
}
