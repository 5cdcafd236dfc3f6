//! Real programs: each is run many times under `rprof`, and its runs are split into base and head by chance. All
//! comparisons of a program share its runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rprof_profiler::gate::costs::{self, Function};
use rprof_profiler::gate::statistics::verdict::{Rule, Verdict};
use rprof_profiler::gate::statistics::watch::Plan;
use rprof_profiler::push::pprof_file;
use rprof_tests::rprof::binary;
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};

use crate::Tally;
use crate::experiments::{Sum, each, percent};
use crate::peers::share_grew;
use crate::runs::{BLOCK, places};

/// Runs of each program.
const RUNS: usize = 200;
/// Blocks of a comparison.
const BLOCKS: usize = 5;
/// Functions with less of all samples than this are not looked at.
const LEAST_SHARE: f64 = 0.01;

/// Runs of one program.
struct Pool {
    name: &'static str,
    /// Nanoseconds of each, in the order in which they were made.
    totals: Vec<f64>,
    /// Samples of each, all together and of each function by itself.
    samples: Vec<(f64, Vec<f64>)>,
}

pub(crate) fn table(folder: &Path, splits: u64) {
    let scratch = Scratch::new();
    let pools: Vec<Pool> = programs(&scratch)
        .into_iter()
        .map(|(name, program)| {
            let folder = folder.join(name.replace(": ", "-").replace(' ', "-"));
            fill(&folder, &program);
            read(name, &folder)
        })
        .collect();
    println!(
        "\n## Real programs\n\nRuns of each program under `rprof -F 999`, split {splits} times at random into 10 \
         base and 10 head runs: five blocks of four consecutive runs, two of each side. The comparisons of a \
         program share its runs. A change of 5 % is made by multiplying head's totals.\n"
    );
    println!(
        "| program | runs | CPU of a run | varies by | nothing changed: passed / regressed / inconclusive | 5 % \
         dearer | one run against one: alarms | found | benchstat: alarms | found | shares: functions said to have \
         grown | some function in |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let plan = Plan::new(&places(BLOCKS as u32), 4 * BLOCKS, 1).expect("both sides");
    for pool in &pools {
        let same = pool.split(&plan, splits, 0.0);
        let dearer = pool.split(&plan, splits, 0.05);
        let runs = pool.totals.len() as f64;
        let mean = pool.totals.iter().sum::<f64>() / runs;
        let squares: f64 = pool.totals.iter().map(|x| (x - mean).powi(2)).sum();
        let [grown, functions, some] = same.1;
        println!(
            "| {} | {runs} | {:.0} ms | {:.1} % | {} | {} | {} % | {} % | {} % | {} % | {} % of {} | {} % |",
            pool.name,
            mean / 1e6,
            100.0 * (squares / (runs - 1.0)).sqrt() / mean,
            same.0.gate.shares(),
            dearer.0.gate.shares(),
            percent(same.0.single, splits),
            percent(dearer.0.single, splits),
            percent(same.0.benchstat, splits),
            percent(dearer.0.benchstat, splits),
            percent(grown, functions),
            functions / splits.max(1),
            percent(some, splits),
        );
    }
}

/// What is run: of each program its name and its words.
fn programs(scratch: &Scratch) -> [(&'static str, Vec<PathBuf>); 3] {
    let python = source_file("gate_json.py");
    [
        (
            "C: sorting",
            vec![scratch.cc("gate_sort.c", "gate_sort", OPTIMIZED)],
        ),
        ("Python: JSON", vec!["python3.11".into(), python]),
        (
            "Rust: counting words",
            vec![scratch.rustc("gate_words.rs", "gate_words", &[])],
        ),
    ]
}

/// Runs a program until there are enough runs.
fn fill(folder: &Path, program: &[PathBuf]) {
    std::fs::create_dir_all(folder).expect("a folder for runs");
    for n in 0..RUNS {
        let file = folder.join(format!("{n:04}.pb.gz"));
        if file.exists() {
            continue;
        }
        // A run that is ended before its time is none.
        let part = folder.join("part.pb.gz");
        let run = Command::new(binary())
            .args(["-F", "999", "-q", "-o"])
            .arg(&part)
            .arg("--")
            .args(program)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(run.expect("rprof runs").success(), "{program:?}");
        std::fs::rename(part, file).expect("a file of ours");
    }
}

fn read(name: &'static str, folder: &Path) -> Pool {
    let mut pool = Pool {
        name,
        totals: Vec::new(),
        samples: Vec::new(),
    };
    let mut numbers: HashMap<Function, usize> = HashMap::new();
    for n in 0..RUNS {
        let file = folder.join(format!("{n:04}.pb.gz"));
        let bytes = std::fs::read(&file).expect("a profile");
        let profile = pprof_file::read(&bytes).expect("a profile");
        let run =
            costs::of(&profile, &[]).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let mut own = vec![0.0; numbers.len()];
        for (function, cost) in run.functions {
            let next = numbers.len();
            let number = *numbers.entry(function).or_insert(next);
            own.resize(own.len().max(number + 1), 0.0);
            own[number] += cost.own / run.period;
        }
        pool.totals.push(run.total);
        pool.samples.push((run.sampled / run.period, own));
    }
    let all: f64 = pool.samples.iter().map(|(all, _)| all).sum();
    let of = |function: usize| -> f64 {
        let own = pool.samples.iter().filter_map(|(_, own)| own.get(function));
        own.sum()
    };
    let wanted: Vec<usize> = (0..numbers.len())
        .filter(|&function| of(function) >= LEAST_SHARE * all)
        .collect();
    for (_, own) in &mut pool.samples {
        let get = |&function: &usize| own.get(function).copied().unwrap_or(0.0);
        *own = wanted.iter().map(get).collect();
    }
    pool
}

/// The gate's and others' verdicts; functions whose share is said to have grown, functions, and comparisons in
/// which that is said of any.
#[derive(Default)]
struct Split(Tally, [u64; 3]);

impl Sum for Split {
    fn sum(&mut self, other: Self) {
        self.0.sum(other.0);
        self.1.sum(other.1);
    }
}

impl Pool {
    fn split(&self, plan: &Plan, splits: u64, change: f64) -> Split {
        each(splits, |n, sum: &mut Split| {
            let mut chance = ChaCha8Rng::seed_from_u64(n);
            let mut blocks: Vec<usize> = (0..self.totals.len() / BLOCK.len()).collect();
            blocks.shuffle(&mut chance);
            blocks.truncate(BLOCKS);
            let mut runs = Vec::new();
            for block in blocks {
                let mut of_block = [0, 1, 2, 3].map(|run| BLOCK.len() * block + run);
                of_block.shuffle(&mut chance);
                runs.extend(of_block);
            }
            let costs: Vec<f64> = (runs.iter().zip(BLOCK.iter().cycle()))
                .map(|(&run, side)| {
                    let dearer = if *side == BLOCK[3] { change } else { 0.0 };
                    self.totals[run] * (1.0 + dearer)
                })
                .collect();
            let verdict = plan.watch(&Rule::default()).verdict(&costs);
            sum.0.add(verdict.unwrap_or(Verdict::Inconclusive), &costs);
            let of_side = |side| {
                let of = runs.iter().zip(BLOCK.iter().cycle());
                of.filter(move |(_, of)| **of == side).map(|(&run, _)| run)
            };
            let sums = |side| {
                let mut sum = (0.0, vec![0.0; self.samples[0].1.len()]);
                for run in of_side(side) {
                    let (all, own) = &self.samples[run];
                    sum.0 += all;
                    sum.1.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                }
                sum
            };
            let (base, head) = (sums(BLOCK[0]), sums(BLOCK[3]));
            let grew = |(of_base, of_head): (&f64, &f64)| {
                share_grew((*of_base, base.0), (*of_head, head.0))
            };
            let grown = base
                .1
                .iter()
                .zip(&head.1)
                .filter(|&both| grew(both))
                .count() as u64;
            sum.1[0] += grown;
            sum.1[1] += base.1.len() as u64;
            sum.1[2] += u64::from(grown > 0);
        })
    }
}
