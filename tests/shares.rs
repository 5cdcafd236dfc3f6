//! Promise: a function's share of the samples is its share of the CPU. The truth are the programs'
//! own thread clocks, read where a phase begins and ends; phases come in random order and length.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use rprof_tests::profile::Profile;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};
use rprof_tests::statistics::{count_bound, share_bound};
use rprof_tests::usage::{Started, Usage, start};
use rprof_tests::{machine, python};
use rustix::process::Signal;

const HERTZ: f64 = 499.0;
/// CPU seconds that each program spends in its phases. Four of them on two CPUs take twice as long,
/// and give some 2,000 samples each: 4 standard errors of a share of 30 % are 4.1 %.
const SECONDS: &str = "4";

/// Beside the statistical bound: what the thread clock does not count and the sampler does, or the
/// other way round (interrupts, the hypervisor's share), where it falls on one phase more than on
/// others.
const SHARE_ALLOWANCE: f64 = 0.01;
/// The same for a whole process: ticks are charged whole to whoever runs, interrupts included.
const TOTAL_ALLOWANCE: f64 = 0.03;

struct Program {
    name: &'static str,
    started: Started,
    said: PathBuf,
}

fn program(scratch: &Scratch, name: &'static str, mut command: Command) -> Program {
    let said = scratch.file(&format!("{name}.said"));
    let output = File::create(&said).expect("a file for what it says");
    Program {
        name,
        started: start(command.arg(SECONDS).stdout(output)),
        said,
    }
}

/// Nanoseconds of each phase, as the program measured them.
fn phases(said: &str) -> Vec<(String, f64)> {
    let words = said.lines().filter_map(|line| line.split_once(' '));
    words
        .map(|(name, nanos)| (name.into(), nanos.parse().expect("nanoseconds")))
        .collect()
}

/// Function names of C++ and Rust have more around the name.
fn is_named(function: &str, name: &str) -> bool {
    let end = function.split('(').next().unwrap_or(function);
    end.rsplit("::").next() == Some(name)
}

fn compare(profile: &Profile, name: &str, usage: Usage, phases: &[(String, f64)]) {
    let of = |phase: &str| -> u64 {
        let with = profile
            .of(usage.pid)
            .filter(|s| s.frames.iter().any(|f| is_named(&f.function, phase)));
        with.map(|stack| stack.count).sum()
    };
    let sampled: Vec<u64> = phases.iter().map(|(phase, _)| of(phase)).collect();
    let n: u64 = sampled.iter().sum();
    let whole: f64 = phases.iter().map(|(_, nanos)| nanos).sum();
    assert_eq!(phases.len(), 4, "{name} said too little");
    for ((phase, nanos), &k) in phases.iter().zip(&sampled) {
        let (truth, shown) = (nanos / whole, k as f64 / n as f64);
        let bound = share_bound(truth, n) + SHARE_ALLOWANCE;
        println!("{name} {phase}: {truth:.4} in truth, {shown:.4} of {n} samples, ± {bound:.4}");
        assert!(
            (truth - shown).abs() <= bound,
            "{name} {phase}: {truth:.4}, shown {shown:.4} ± {bound:.4}"
        );
    }
    let all: u64 = profile.of(usage.pid).map(|stack| stack.count).sum();
    let expected = usage.cpu.as_secs_f64() * HERTZ;
    let bound = count_bound(expected) + TOTAL_ALLOWANCE * expected;
    println!("{name}: {expected:.0} samples in truth, {all} shown, ± {bound:.0}");
    assert!(
        (all as f64 - expected).abs() <= bound,
        "{name}: {all} samples, {expected:.0} ± {bound:.0}: {:?}",
        profile.ledger
    );
    let complete: u64 = profile
        .of(usage.pid)
        .filter(|s| s.is_complete())
        .map(|s| s.count)
        .sum();
    let cut = profile.of(usage.pid).filter(|s| !s.is_complete());
    let ends: BTreeSet<&str> = cut
        .filter_map(|s| s.frames.last().map(|f| f.function.as_str()))
        .collect();
    println!("{name}: {complete} of {all} stacks are complete, others end in {ends:?}");
    assert!(
        complete * 100 >= all * 99,
        "{name}: {complete} of {all} stacks are complete, others end in {ends:?}"
    );
}

#[test]
fn four_languages_at_once() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let c = scratch.cc("shares.c", "shares-c", OPTIMIZED);
    let cc = scratch.cc("shares.cc", "shares-cc", OPTIMIZED);
    let rust = scratch.rustc("shares.rs", "shares-rust", &[]);
    let script = source_file("shares.py");

    let mut running = Rprof::new(&scratch, ["--all", "-F", "499"]).start();
    running.wait_until_sampling();
    let programs = [
        program(&scratch, "C", Command::new(c)),
        program(&scratch, "C++", Command::new(cc)),
        program(&scratch, "Rust", Command::new(rust)),
        program(&scratch, "Python", python::system().command(&script)),
    ];
    let ended = programs.map(|program| (program.name, program.started.finish(), program.said));
    running.signal(Signal::INT);
    let profile = running.finish().ok();

    for (name, usage, said) in ended {
        let said = std::fs::read_to_string(said).expect("what the program said");
        compare(&profile, name, usage, &phases(&said));
    }
}
