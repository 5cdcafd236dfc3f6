//! Promise: in a process with many call chains of Python (threads, sub-interpreters, threads of a C
//! program that come and go, greenlets) each sample has the frames of its own chain, all of them, and
//! none of another's. Chains are what the program says.

use std::collections::HashMap;

use rprof_tests::machine;
use rprof_tests::profile::{Frame, Profile, Stack};
use rprof_tests::python;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{Scratch, source_file};
use rprof_tests::statistics::count_bound;

fn hertz() -> f64 {
    machine::rate(499.0)
}
/// CPU seconds that each chain burns in its leaf.
const SECONDS: &str = "0.8";

/// What the program says of a chain.
struct Chain {
    name: String,
    /// Samples that its leaf must have.
    expected: f64,
    /// Python functions from the root to the leaf.
    functions: Vec<String>,
}

fn said(text: &str) -> Vec<Chain> {
    text.lines()
        .map(|line| {
            let mut words = line.split(' ').map(String::from);
            let name = words.next().expect("a name");
            let nanos: f64 = words.next().and_then(|n| n.parse().ok()).expect("a time");
            Chain {
                name,
                expected: nanos / 1e9 * hertz(),
                functions: words.collect(),
            }
        })
        .collect()
}

/// Profiles a command, with time enough for a tick (see `deep_stacks`).
fn record(scratch: &Scratch, words: Vec<String>) -> (Vec<Chain>, Profile) {
    let run = Rprof::new(scratch, ["-F", &hertz().to_string(), "--"])
        .args(words)
        .env("RPROF_FAULT", "slow-machine:10")
        .run()
        .expect(0);
    (said(&run.text()), run.profile())
}

fn script(scratch: &Scratch, what: &str) -> (Vec<Chain>, Profile) {
    let script = source_file("python_threads.py");
    record(scratch, python::system().words(&script, &[what, SECONDS]))
}

/// The chain that a function belongs to, by its name: `lambda_CHAIN.<locals>.called_CHAIN`.
fn chain_of<'a>(frame: &'a Frame, chains: &[Chain]) -> Option<&'a str> {
    let (_, name) = frame.function.rsplit_once('_')?;
    let name = name.split('.').next().unwrap_or(name);
    chains.iter().any(|c| c.name == name).then_some(name)
}

/// What stacks of a chain end in, towards the root.
type Root = fn(&Stack) -> bool;

/// Every stack holds functions of one chain at most, and none that is not the program's; in its leaf
/// a complete stack is the whole chain; and nearly all stacks are complete, all of them seen.
fn check(chains: &[Chain], profile: &Profile, root: impl Fn(&str) -> Root) {
    let mut seen: HashMap<&str, (u64, u64)> = HashMap::new();
    let mut cut: HashMap<&str, &Stack> = HashMap::new();
    for stack in &profile.stacks {
        let mut here: Vec<&str> = stack
            .interpreted()
            .filter_map(|f| chain_of(f, chains))
            .collect();
        here.dedup();
        assert!(here.len() <= 1, "{here:?} in one\n{}", stack.text());
        assert!(
            !(stack.thread.starts_with("caller-") && stack.has("doomed_leaf")),
            "of a thread that ended\n{}",
            stack.text()
        );
        assert!(
            !stack.has("between_calls")
                || stack.has("unlocked")
                || stack.interpreted().count() == 0,
            "not in Python\n{}",
            stack.text()
        );
        let Some(chain) = chains
            .iter()
            .find(|c| c.functions.last().is_some_and(|leaf| stack.has(leaf)))
        else {
            continue;
        };
        let (complete, all) = seen.entry(&chain.name).or_default();
        *all += stack.count;
        if !stack.is_complete() {
            cut.insert(&chain.name, stack);
            continue;
        }
        *complete += stack.count;
        let functions: Vec<&str> = stack
            .interpreted()
            .rev()
            .map(|f| f.function.as_str())
            .collect();
        assert_eq!(functions, chain.functions, "{}", stack.text());
        assert!(root(&chain.name)(stack), "root\n{}", stack.text());
    }
    for chain in chains {
        let &(complete, all) = seen.get(chain.name.as_str()).unwrap_or(&(0, 0));
        println!(
            "{}: {complete} of {all} complete, {:.0} expected",
            chain.name, chain.expected
        );
        let bound = count_bound(chain.expected);
        assert!(
            (all as f64 - chain.expected).abs() <= bound + chain.expected * 0.05,
            "{}: {all} samples, {:.0} expected: {:?}",
            chain.name,
            chain.expected,
            profile.ledger
        );
        assert!(
            complete as f64 >= 0.99 * all as f64,
            "{}: {complete} of {all} are complete: {:?}\n{}",
            chain.name,
            profile.ledger,
            cut[&*chain.name].text()
        );
    }
}

/// The outermost function that has a name of its own, whatever libc's own are called.
fn begins_in(stack: &Stack, module: &str, functions: &[&str]) -> bool {
    stack.user().last().is_some_and(|outermost| {
        outermost.module.contains(module) && functions.contains(&outermost.function.as_str())
    })
}

fn in_main(stack: &Stack) -> bool {
    begins_in(stack, "", &["_start"])
}

fn in_thread(stack: &Stack) -> bool {
    begins_in(stack, "libc", &["clone3", "__clone3", "clone", "__clone"])
}

/// A greenlet's stack begins where the library made it, whoever's stack is above.
fn in_greenlet(stack: &Stack) -> bool {
    let outermost = stack.user().last();
    outermost.is_some_and(|frame| frame.module.contains("/_greenlet."))
}

#[test]
fn threads() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (chains, profile) = script(&scratch, "threads");
    assert_eq!(chains.len(), 5);
    check(&chains, &profile, |_| in_thread);
}

#[test]
fn sub_interpreters() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (chains, profile) = script(&scratch, "interpreters");
    assert_eq!(chains.len(), 5);
    check(&chains, &profile, |chain| match chain {
        "s2" => in_thread,
        _ => in_main,
    });
}

/// A thread state that another thread made, and that does not hold the lock, cannot be known for the
/// one that runs: such stacks say so.
#[test]
fn what_cannot_be_known_is_not_complete() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (chains, profile) = script(&scratch, "unlocked");
    assert_eq!(chains.len(), 1);
    let mut unknown = 0;
    for stack in profile.stacks.iter().filter(|s| s.has("run")) {
        let functions: Vec<&str> = stack
            .interpreted()
            .rev()
            .map(|f| f.function.as_str())
            .collect();
        let end = &stack.frames.last().expect("a frame").function;
        if stack.is_complete() {
            // With the lock: somewhere on the way, or in the leaf.
            let inside = stack.frames.iter().any(|f| f.module.contains("/zlib"));
            assert!(!inside || stack.has("leaf_u0"), "{}", stack.text());
        } else if end == "[truncated: runtime frames]" {
            assert!(
                functions.iter().all(|f| !f.ends_with("_u0")),
                "{}",
                stack.text()
            );
            unknown += stack.count;
        }
    }
    println!("{unknown} not known, {:.0} expected", chains[0].expected);
    assert!(
        unknown as f64 >= 0.9 * chains[0].expected,
        "{unknown} of {:.0}",
        chains[0].expected
    );
}

#[test]
fn thread_states_that_come_and_go() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let flags = ["-O2", "-g", "-I/usr/include/python3.11", "-lpython3.11"];
    let program = scratch.cc("python_callers.c", "python_callers", &flags);
    let words = vec![program.display().to_string(), SECONDS.into()];
    let (chains, profile) = record(&scratch, words);
    assert_eq!(chains.len(), 4);
    check(&chains, &profile, |_| in_thread);
    for stack in &profile.stacks {
        let number = stack.thread.strip_prefix("caller-");
        let chain = stack.interpreted().find_map(|f| chain_of(f, &chains));
        if let (Some(number), Some(chain)) = (number, chain) {
            assert_eq!(chain.strip_prefix('c'), Some(number), "{}", stack.text());
        }
    }
}

#[test]
fn greenlets() {
    python::require_greenlet();
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let (chains, profile) = script(&scratch, "greenlets");
    assert_eq!(chains.len(), 3);
    check(&chains, &profile, |chain| match chain {
        "g2" => in_main,
        _ => in_greenlet,
    });
}
