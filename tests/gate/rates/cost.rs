//! What a comparison costs: real profiles, many and large, are given to `rprof gate compare`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::protos::{Function, Line, Location, Message, Profile, Sample, ValueType};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rprof_profiler::gate::statistics::design::Side;
use rprof_profiler::gate::statistics::verdict::{Rule, judge};
use rprof_tests::rprof::binary;
use rprof_tests::scratch::Scratch;

use crate::runs::{Shape, normal, places, runs};

const RUNS: usize = 20;
const SAMPLES: usize = 20_000;
const FUNCTIONS: usize = 5_000;
/// Nanoseconds of a sample.
const PERIOD: i64 = 1_001_001;
/// A function's caller is one of so many before it: stacks are about 25 deep.
const CALLERS: usize = 400;

pub(crate) fn table() {
    let scratch = Scratch::new();
    let mut files = [Vec::new(), Vec::new()];
    for n in 0..2 * RUNS {
        let side = usize::from([false, true, true, false][n % 4]);
        let path = scratch.file(&format!("{n}.pb.gz"));
        write(&path, n);
        files[side].push(path);
    }
    let mut command = Command::new(binary());
    command.args(["gate", "compare", "--base"]).args(&files[0]);
    command.arg("--head").args(&files[1]);
    let mut took: Vec<(Duration, i64)> = (0..3).map(|_| measured(&mut command)).collect();
    took.sort();
    println!(
        "\n## Cost\n\n`rprof gate compare` of {RUNS} and {RUNS} profiles of {SAMPLES} samples each, with {FUNCTIONS} \
         functions, at 10,000 exchanges of sides: the middle of three takes {:.2} s and {} MiB at its peak.",
        took[1].0.as_secs_f64(),
        took[1].1 >> 10
    );
    let (looks, all) = ((12..2 * RUNS).step_by(4).collect::<Vec<_>>(), 2 * RUNS);
    let places = places(RUNS as u32 / 2);
    let together = places.iter().map(|&(side, _)| (side, 0)).collect();
    let [last, one] = [(places, looks.as_slice()), (together, &[])].map(|(places, looks)| {
        let costs = runs(RUNS as u32 / 2, 0.02, 0.0, Shape::Normal, 1);
        let runs: Vec<(Side, u32, f64)> = (places.iter().zip(costs))
            .map(|(&(side, block), cost)| (side, block, cost))
            .collect();
        let took = (0..5).map(|_| {
            let begun = Instant::now();
            std::hint::black_box(judge(&runs, looks, all, &Rule::default(), 1));
            begun.elapsed()
        });
        let mut took: Vec<Duration> = took.collect();
        took.sort();
        1000.0 * took[2].as_secs_f64()
    });
    println!(
        "\nA judgement of their totals takes {last:.0} ms, at the last of {} looks; {one:.0} ms where all runs are in \
         one block.",
        looks.len() + 1
    );
}

/// How long a program takes, and kilobytes of its memory at most.
fn measured(command: &mut Command) -> (Duration, i64) {
    let begun = Instant::now();
    #[expect(clippy::zombie_processes, reason = "wait4 below waits for it")]
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("rprof runs");
    let mut status = 0;
    // SAFETY: all zeros are a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = child.id() as libc::pid_t;
    // SAFETY: pointers to our own variables; the child is ours and not yet waited for.
    let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    assert_eq!(waited, pid);
    // Whatever it came to, it compared: 1 and 2 are for what it could not do.
    let code = libc::WEXITSTATUS(status);
    assert!(
        libc::WIFEXITED(status) && ![1, 2].contains(&code),
        "exit {code}"
    );
    (begun.elapsed(), usage.ru_maxrss)
}

/// A run's profile: stacks are the same in all runs, how often each was seen differs.
fn write(path: &Path, n: usize) {
    let mut tree = ChaCha8Rng::seed_from_u64(0);
    let callers: Vec<usize> = (0..FUNCTIONS)
        .map(|function| match function {
            0 => 0,
            function => tree.random_range(function.saturating_sub(CALLERS)..function),
        })
        .collect();
    let mut chance = ChaCha8Rng::seed_from_u64(n as u64 + 1);
    let leaves: Vec<f64> = (0..FUNCTIONS)
        .map(|_| tree.random::<f64>().powi(4) * (0.02 * normal(&mut chance)).exp())
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let all = leaves.last().copied().unwrap_or(1.0);
    let mut texts: Vec<String> = ["", "samples", "count", "cpu", "nanoseconds"]
        .map(String::from)
        .to_vec();
    let mut known: HashMap<String, i64> = HashMap::new();
    let mut text = |of: String| {
        *known.entry(of.clone()).or_insert_with(|| {
            texts.push(of);
            texts.len() as i64 - 1
        })
    };
    let function: Vec<Function> = (0..FUNCTIONS)
        .map(|n| Function {
            id: n as u64 + 1,
            name: text(format!("function_{n}")),
            filename: text(format!("src/part_{}.c", n / 50)),
            ..Function::default()
        })
        .collect();
    let location = (1..=FUNCTIONS as u64).map(|id| Location {
        id,
        line: vec![Line {
            function_id: id,
            line: 1,
        }],
        ..Location::default()
    });
    let sample = (0..SAMPLES).map(|_| {
        let at = chance.random::<f64>() * all;
        let mut function = leaves.partition_point(|sum| *sum < at).min(FUNCTIONS - 1);
        let mut stack = vec![function as u64 + 1];
        while function > 0 {
            function = callers[function];
            stack.push(function as u64 + 1);
        }
        Sample {
            location_id: stack,
            value: vec![1, PERIOD],
            ..Sample::default()
        }
    });
    let sample: Vec<Sample> = sample.collect();
    let total = SAMPLES as f64 * PERIOD as f64 * (0.02 * normal(&mut chance)).exp();
    let comment = vec![text(format!("command cpu ns: {total:.0}"))];
    let profile = Profile {
        sample_type: vec![ValueType { ty: 1, unit: 2 }, ValueType { ty: 3, unit: 4 }],
        sample,
        location: location.collect(),
        function,
        string_table: texts,
        time_nanos: 1_800_000_000_000_000_000 + n as i64 * 30_000_000_000,
        duration_nanos: 20_000_000_000,
        period_type: Some(ValueType { ty: 3, unit: 4 }),
        period: PERIOD,
        comment,
        ..Profile::default()
    };
    let file = File::create(path).expect("a file of ours");
    let mut packed = GzEncoder::new(file, Compression::fast());
    packed.write_all(&profile.encode_to_vec()).expect("a file");
    packed.finish().expect("a file");
}
