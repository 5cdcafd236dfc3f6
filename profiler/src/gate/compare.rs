//! Profiles that exist are compared: files come in, a verdict and what explains it leave.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hashbrown::HashMap;

use super::costs::{self, Function, RunCosts};
use super::explain::{self, Explained, Functions};
use super::matching::Matched;
use super::statistics::design::{Design, Side};
use super::statistics::verdict::{Judged, Rule, Verdict, judge};
use crate::cli::Failure;
use crate::cli::retype::quoted;
use crate::push::pprof_file;

/// Exchanges of sides under which functions are looked at, at most.
const EXCHANGES: usize = 10_000;
/// A function's growth is worth a line from this share of the threshold on.
const WORTH: f64 = 0.25;
/// Runs of one block, where they were interleaved.
const BLOCK: usize = 4;
/// Bytes of a file at most.
const MAX_FILE: u64 = 256 << 20;
/// Of what the clock of a run's processes says its samples tell this share less or more, at most.
const UNSAMPLED: f64 = 0.05;

/// What is to be compared, and how.
#[derive(Clone, Debug)]
pub struct Compare {
    /// A profile for each run of what was there before.
    pub base: Vec<PathBuf>,
    /// And of what is to take its place.
    pub head: Vec<PathBuf>,
    /// When a change is one.
    pub rule: Rule,
    /// For what is left to chance.
    pub seed: u64,
}

/// What a comparison came to.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The verdict, and how far the change may lie from the estimate.
    pub judged: Judged,
    /// As it was asked for.
    pub rule: Rule,
    /// Nanoseconds of each run: side, and what it took.
    pub runs: Vec<(Side, f64)>,
    /// Which functions explain it.
    pub explained: Explained,
    /// By number.
    pub functions: Vec<Function>,
    /// What is to be known of it: conditions that were not given, say.
    pub notes: Vec<String>,
    /// For what was left to chance.
    pub seed: u64,
}

impl Comparison {
    /// What a run of this side took, on average.
    pub fn mean(&self, side: Side) -> f64 {
        let of: Vec<f64> = self.of(side).collect();
        of.iter().sum::<f64>() / of.len().max(1) as f64
    }

    /// What each run of this side took.
    pub fn of(&self, side: Side) -> impl Iterator<Item = f64> {
        let of = self.runs.iter().filter(move |(of, _)| *of == side);
        of.map(|(_, total)| *total)
    }
}

/// Compares them.
///
/// # Errors
/// A file that cannot be read, or that is no profile of CPU time; too few; profiles that do not go together.
pub fn compare(wanted: &Compare) -> Result<Comparison, Failure> {
    for (side, files) in [("--base", &wanted.base), ("--head", &wanted.head)] {
        if files.len() < 2 {
            return Err(Failure::usage(format!(
                "{side} has {} run{}: how much runs differ by chance is not known from less than two",
                files.len(),
                if files.len() == 1 { "" } else { "s" },
            ))
            .next("rprof gate compare --base a1.pb.gz a2.pb.gz … --head b1.pb.gz b2.pb.gz …"));
        }
    }
    let base = wanted.base.iter().map(|path| (Side::Base, path.as_path()));
    let head = wanted.head.iter().map(|path| (Side::Head, path.as_path()));
    let files: Vec<(Side, &Path)> = base.chain(head).collect();
    let mut runs = read_all(&files)?;
    go_together(&files, &runs)?;
    let mut order: Vec<usize> = (0..runs.len()).collect();
    let known = runs.iter().all(|run| run.start > 0);
    if known {
        order.sort_by_key(|&n| runs[n].start);
    }
    let sides: Vec<Side> = order.iter().map(|&n| files[n].0).collect();
    let blocks = blocks(&sides).filter(|_| known);
    let mut notes = Vec::new();
    if blocks.is_none() {
        notes.push(
            "The runs were not interleaved: what drifted on the machine between them counts as change."
                .to_string(),
        );
    }
    let blocks = blocks.unwrap_or_else(|| vec![0; sides.len()]);
    runs = {
        let mut left: Vec<Option<RunCosts>> = runs.into_iter().map(Some).collect();
        order.iter().filter_map(|&n| left[n].take()).collect()
    };
    judge_runs(sides, &blocks, &runs, wanted, notes)
}

fn judge_runs(
    sides: Vec<Side>,
    blocks: &[u32],
    runs: &[RunCosts],
    wanted: &Compare,
    mut notes: Vec<String>,
) -> Result<Comparison, Failure> {
    let placed: Vec<(Side, u32)> = sides.iter().copied().zip(blocks.iter().copied()).collect();
    let costs: Vec<(Side, u32, f64)> = (placed.iter().zip(runs))
        .map(|(&(side, block), run)| (side, block, run.total))
        .collect();
    let rule = wanted.rule;
    let judged = judge(&costs, &[], costs.len(), &rule, wanted.seed);
    let (Some(mut judged), Some(design)) = (judged, Design::new(&placed)) else {
        return Err(Failure::new("no runs of both sides were made side by side"));
    };
    let totals: Vec<f64> = runs.iter().map(|run| run.total).collect();
    let exchanges = design.exchanges(EXCHANGES, wanted.seed);
    let functions = functions(&sides, runs);
    let base: Vec<f64> = (costs.iter().filter(|(side, ..)| *side == Side::Base))
        .map(|(.., total)| *total)
        .collect();
    let least = WORTH * rule.threshold * base.iter().sum::<f64>() / base.len().max(1) as f64;
    let explained = explain::explain(&functions, &totals, least, &design, &exchanges);
    if judged.estimate.far > 0 {
        notes.push(format!(
            "{} of {} runs were far off the others, and count only as a little off.",
            judged.estimate.far,
            runs.len()
        ));
    }
    if let Some(why) = unsampled(&sides, runs, judged.change()) {
        judged.verdict = Verdict::Inconclusive;
        notes.push(why);
    }
    Ok(Comparison {
        judged,
        rule,
        runs: sides.into_iter().zip(totals).collect(),
        explained,
        functions: functions.functions,
        notes,
        seed: wanted.seed,
    })
}

/// Samples of one side tell less than those of the other, by more than the change: why nothing can be said.
fn unsampled(sides: &[Side], runs: &[RunCosts], change: f64) -> Option<String> {
    let share = |wanted: Side| {
        let of = sides.iter().zip(runs).filter(|(side, _)| **side == wanted);
        let (sampled, total) = of.fold((0.0, 0.0), |(sampled, total), (_, run)| {
            (sampled + run.sampled, total + run.total)
        });
        sampled / total
    };
    let (base, head) = (share(Side::Base), share(Side::Head));
    let differ = (head - base).abs();
    (differ > UNSAMPLED && differ > change.abs()).then(|| {
        format!(
            "The samples tell {:.1} % of the CPU time of base and {:.1} % of head's: too much was lost to say \
             more.",
            100.0 * base,
            100.0 * head
        )
    })
}

/// The number of each run's block: fours with two of each side, as they follow each other. `None`: they do not.
fn blocks(sides: &[Side]) -> Option<Vec<u32>> {
    let heads = |sides: &[Side]| sides.iter().filter(|side| **side == Side::Head).count();
    let fours = sides.chunks(BLOCK);
    let are_balanced = fours.clone().all(|four| 2 * heads(four) == four.len());
    are_balanced.then(|| {
        let numbered = (0u32..).zip(fours);
        numbered
            .flat_map(|(n, four)| four.iter().map(move |_| n))
            .collect()
    })
}

/// Reads files side by side.
fn read_all(files: &[(Side, &Path)]) -> Result<Vec<RunCosts>, Failure> {
    let next = Mutex::new(0..files.len());
    let read = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..cores.min(files.len()) {
            scope.spawn(|| {
                loop {
                    let n = next.lock().ok().and_then(|mut next| next.next());
                    let Some((n, (_, path))) = n.and_then(|n| Some((n, files.get(n)?))) else {
                        return;
                    };
                    let costs = read_one(path);
                    if let Ok(mut read) = read.lock() {
                        read.push((n, costs));
                    }
                }
            });
        }
    });
    let mut read = read.into_inner().unwrap_or_default();
    read.sort_by_key(|(n, _)| *n);
    read.into_iter().map(|(_, costs)| costs).collect()
}

fn read_one(path: &Path) -> Result<RunCosts, Failure> {
    let name = quoted(&path.to_string_lossy());
    let failed =
        |error: std::io::Error| Failure::file("read", path, &error).next(format!("ls -l {name}"));
    let not = |why: String| {
        Failure::new(format!("{} cannot be compared: {why}", path.display()))
            .next(format!("go tool pprof -raw {name} | head"))
    };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(not(format!("it has more than {} MiB", MAX_FILE >> 20)));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    costs::of(&pprof_file::read(&bytes).map_err(not)?).map_err(not)
}

/// Whether all are counted in the same, at the same frequency.
fn go_together(files: &[(Side, &Path)], runs: &[RunCosts]) -> Result<(), Failure> {
    let (Some(first), Some((_, first_file))) = (runs.first(), files.first()) else {
        return Ok(());
    };
    for ((_, file), run) in files.iter().zip(runs) {
        let what = if run.unit != first.unit {
            format!("{} and {}", first.unit, run.unit)
        } else if (run.period - first.period).abs() > 1e-6 * first.period.abs() {
            format!("samples of {} ns and of {} ns", first.period, run.period)
        } else {
            continue;
        };
        return Err(Failure::new(format!(
            "{} and {} do not go together: they hold {what}",
            first_file.display(),
            file.display()
        ))
        .next(format!(
            "go tool pprof -raw {} | head",
            quoted(&file.to_string_lossy())
        )));
    }
    Ok(())
}

/// Functions of all runs: what each cost in each of them, in parts of the run's total.
fn functions(sides: &[Side], runs: &[RunCosts]) -> Functions {
    let of = |wanted: Side| -> BTreeSet<Function> {
        let of = sides.iter().zip(runs).filter(|(side, _)| **side == wanted);
        of.flat_map(|(_, run)| run.functions.iter().map(|(function, _)| function.clone()))
            .collect()
    };
    let matched = Matched::new(&of(Side::Base), &of(Side::Head));
    let none = || vec![vec![0.0; runs.len()]; matched.functions.len()];
    let (mut own, mut all) = (none(), none());
    let mut calls: HashMap<(u32, u32), Vec<f64>> = HashMap::new();
    for (n, run) in runs.iter().enumerate() {
        let scale = run.total / run.sampled;
        let numbers: Vec<u32> = (run.functions.iter())
            .map(|(function, _)| matched.number(function).unwrap_or(0))
            .collect();
        for (&number, (_, cost)) in numbers.iter().zip(&run.functions) {
            own[number as usize][n] += scale * cost.own;
            all[number as usize][n] += scale * cost.all;
        }
        for (&(callee, caller), &cost) in &run.calls {
            let call = (numbers[callee as usize], numbers[caller as usize]);
            calls.entry(call).or_insert_with(|| vec![0.0; runs.len()])[n] += scale * cost;
        }
    }
    Functions {
        functions: matched.functions,
        own,
        all,
        calls,
    }
}
