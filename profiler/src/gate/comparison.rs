//! Runs of two sides go in; a verdict, and what explains it, come out.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::Config;
use super::costs::Function;
use super::explain::{self, Explained, Functions};
use super::matching::Matched;
use super::runs::{Clock, Runs};
use super::sanity;
use super::statistics::design::{Design, Side};
use super::statistics::verdict::{Judged, Rule, Verdict, judge};
use crate::cli::Failure;

/// Exchanges of sides under which functions are looked at, at most.
const EXCHANGES: usize = 10_000;
/// A function's growth is worth a line from this share of the threshold on.
const WORTH: f64 = 0.25;
/// Where so much of the runs has no sample of a function, nothing is said of it.
const EMPTY: f64 = 0.25;

/// How runs are judged.
#[derive(Clone, Debug, Default)]
pub struct Judging {
    /// When a change is one.
    pub rule: Rule,
    /// For what is left to chance.
    pub seed: u64,
    /// After how many runs they were judged before.
    pub looks: Vec<usize>,
    /// How many runs were to be made at most; 0: as many as there are.
    pub planned: usize,
    /// What the project has agreed on.
    pub config: Config,
}

/// What a comparison came to.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The worst of what follows.
    pub verdict: Verdict,
    /// Why nothing can be said, whatever the figures are: sentences.
    pub reasons: Vec<String>,
    /// What all of a run says, but for what is accepted.
    pub judged: Judged,
    /// What instructions say, where all runs counted them.
    pub instructions: Option<Judged>,
    /// As it was asked for.
    pub rule: Rule,
    /// For what was left to chance.
    pub seed: u64,
    /// Each run's side, and the nanoseconds it took.
    pub runs: Vec<(Side, f64)>,
    /// Whether totals are clocks of processes, not samples.
    pub clocked: bool,
    /// Entries of the project's file, and what they came to.
    pub ruled: Vec<Ruled>,
    /// Which functions explain it.
    pub explained: Explained,
    /// By number.
    pub functions: Vec<Function>,
    /// By number: the line of the function that cost most, in head if it is there; 0: not known.
    pub lines: Vec<u32>,
    /// By number: whether its cost is accepted.
    pub accepted: Vec<bool>,
    /// What else is to be known: sentences.
    pub notes: Vec<String>,
}

/// An entry of the project's file.
#[derive(Clone, Debug)]
pub struct Ruled {
    /// Its pattern.
    pub name: String,
    /// Why it is accepted, and until when.
    pub accepted: Option<(String, String)>,
    /// How much dearer it may be: of what it cost, or, if it is accepted, of a run.
    pub threshold: f64,
    /// What came of it; `None`: too few samples for an answer, or none.
    pub judged: Option<Judged>,
    /// Whether any function is meant by it.
    pub is_met: bool,
}

impl Ruled {
    /// What it counts as.
    pub fn verdict(&self) -> Verdict {
        let judged = self.judged.as_ref();
        let change = judged.map_or(0.0, Judged::change);
        match judged.map_or(Verdict::Passed, |judged| judged.verdict) {
            // It was accepted to be dearer by so much: that it may be by a little more is no reason to ask again.
            Verdict::Inconclusive if self.accepted.is_some() && change <= self.threshold => {
                Verdict::Passed
            }
            verdict => verdict,
        }
    }
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

/// Judges runs.
///
/// # Errors
/// No runs of both sides are there, or were made side by side.
pub fn compare(runs: &Runs, judging: &Judging) -> Result<Comparison, Failure> {
    let Decided {
        judged,
        ruled,
        instructions,
    } = decide(runs, judging)?;
    let placed = placed(runs);
    let design = Design::new(&placed).ok_or_else(not_side_by_side)?;
    let config = &judging.config;
    let totals = runs.totals();
    let base = runs.mean(Side::Base, &totals);
    let functions = functions(runs);
    let exchanges = design.exchanges(EXCHANGES, judging.seed);
    let least = WORTH * judging.rule.threshold * base;
    let explained = explain::explain(&functions, &totals, least, &design, &exchanges);
    let found = sanity::look(runs, &judged);
    let worst = worst(&judged, &ruled);
    let mut notes = config.over.clone();
    notes.extend(found.notes);
    if let Some(counted) = &instructions {
        let (least, most) = counted.interval();
        notes.push(format!(
            "Instructions, which vary less: {:+.2} % ({:+.2} to {:+.2} %) a run.",
            100.0 * counted.change(),
            100.0 * least,
            100.0 * most
        ));
    }
    for entry in ruled.iter().filter(|entry| entry.judged.is_none()) {
        let name = &entry.name;
        notes.push(match entry.is_met {
            true => format!("{name} has too few samples for a verdict of its own."),
            false => format!("{name} is no function that was sampled."),
        });
    }
    Ok(Comparison {
        verdict: if found.reasons.is_empty() {
            worst
        } else {
            Verdict::Inconclusive
        },
        reasons: found.reasons,
        judged,
        instructions,
        rule: judging.rule,
        seed: judging.seed,
        runs: runs.sides.iter().copied().zip(totals).collect(),
        clocked: runs.clock != Clock::Samples,
        ruled,
        explained,
        lines: functions.lines,
        accepted: (functions.functions.iter())
            .map(|function| {
                let mut accepted = config.accepted.iter();
                accepted.any(|of| config.patterns[of.pattern].is_of(function))
            })
            .collect(),
        functions: functions.functions,
        notes,
    })
}

/// What runs come to, without what explains it.
struct Decided {
    judged: Judged,
    ruled: Vec<Ruled>,
    instructions: Option<Judged>,
}

/// The verdict of runs alone, which is found much sooner than what explains it.
///
/// # Errors
/// As [`compare`].
pub fn verdict(runs: &Runs, judging: &Judging) -> Result<(Verdict, Judged), Failure> {
    let decided = decide(runs, judging)?;
    Ok((worst(&decided.judged, &decided.ruled), decided.judged))
}

fn decide(runs: &Runs, judging: &Judging) -> Result<Decided, Failure> {
    let placed = placed(runs);
    Design::new(&placed).ok_or_else(not_side_by_side)?;
    let totals = runs.totals();
    let base = runs.mean(Side::Base, &totals);
    let verdicts = Verdicts {
        runs,
        placed: &placed,
        judging,
    };
    let accepted = runs.costs.iter().map(|run| run.scale() * run.accepted);
    let without = as_before(runs, &totals, &accepted.collect::<Vec<f64>>());
    let all = judging.rule;
    let without = match runs.clock {
        Clock::Samples => between_steps(runs, without, judging.seed),
        Clock::Processes | Clock::Counter => without,
    };
    let judged = verdicts
        .judge(&without, &all)
        .ok_or_else(|| Failure::new("a run took no time at all"))?;
    let counted = runs.costs.iter().map(|run| run.command.instructions);
    let counted: Option<Vec<f64>> = counted.map(|n| n.map(|n| n as f64)).collect();
    Ok(Decided {
        judged,
        ruled: verdicts.entries(base),
        instructions: counted.and_then(|counted| verdicts.judge(&counted, &all)),
    })
}

fn placed(runs: &Runs) -> Vec<(Side, u32)> {
    let blocks = runs.blocks.iter().copied();
    runs.sides.iter().copied().zip(blocks).collect()
}

fn not_side_by_side() -> Failure {
    Failure::new("no runs of both sides were made side by side")
}

fn worst(judged: &Judged, ruled: &[Ruled]) -> Verdict {
    let entries = ruled.iter().map(Ruled::verdict);
    entries.fold(judged.verdict, worse)
}

/// Regressed before inconclusive before passed.
fn worse(a: Verdict, b: Verdict) -> Verdict {
    let rank = |verdict| match verdict {
        Verdict::Passed => 0,
        Verdict::Inconclusive => 1,
        Verdict::Regressed => 2,
    };
    if rank(a) >= rank(b) { a } else { b }
}

/// Totals as if a part of each run had cost what it cost base.
fn as_before(runs: &Runs, totals: &[f64], part: &[f64]) -> Vec<f64> {
    let before = runs.mean(Side::Base, part);
    let both = totals.iter().zip(part);
    both.map(|(total, part)| total - part + before).collect()
}

/// Totals that samples were counted for have steps of one: where most runs are equal, they are not known to be. A
/// part of a step is added by chance to each.
fn between_steps(runs: &Runs, mut totals: Vec<f64>, seed: u64) -> Vec<f64> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    for (total, run) in totals.iter_mut().zip(&runs.costs) {
        let part = chance.random_range(-0.5..0.5) * run.of_a_sample();
        *total = (*total + part).max(0.5 * *total);
    }
    totals
}

struct Verdicts<'a> {
    runs: &'a Runs,
    placed: &'a [(Side, u32)],
    judging: &'a Judging,
}

impl Verdicts<'_> {
    /// Entries of the project's file.
    fn entries(&self, base: f64) -> Vec<Ruled> {
        let config = &self.judging.config;
        let mut ruled = Vec::new();
        for &(pattern, threshold) in &config.functions {
            ruled.push(self.of_function(pattern, threshold));
        }
        for accepted in &config.accepted {
            ruled.push(Ruled {
                accepted: Some((accepted.reason.clone(), accepted.until.clone())),
                ..self.of_part(accepted.pattern, accepted.by, base)
            });
        }
        ruled
    }

    /// The chance to be wrong that all of a run has, once more for all entries together.
    fn rule(&self, threshold: f64) -> Rule {
        let entries = self.judging.config.patterns.len().max(1);
        Rule {
            threshold,
            alarm: self.judging.rule.alarm / entries as f64,
            ..self.judging.rule
        }
    }

    fn judge(&self, costs: &[f64], rule: &Rule) -> Option<Judged> {
        let runs: Vec<(Side, u32, f64)> = (self.placed.iter().zip(costs))
            .map(|(&(side, block), &cost)| (side, block, cost))
            .collect();
        if runs.iter().any(|(.., cost)| *cost <= 0.0) {
            return None;
        }
        let planned = match self.judging.planned {
            0 => runs.len(),
            planned => planned,
        };
        judge(&runs, &self.judging.looks, planned, rule, self.judging.seed)
    }

    /// What the functions of a pattern cost in each run.
    fn part(&self, pattern: usize) -> Vec<f64> {
        let of = self.runs.costs.iter();
        of.map(|run| run.scale() * run.matched[pattern]).collect()
    }

    /// Functions that may be dearer by a share of what they cost themselves.
    fn of_function(&self, pattern: usize, threshold: f64) -> Ruled {
        let part = self.part(pattern);
        let empty = |side: Side| {
            let of = self.runs.sides.iter().zip(&part);
            let costs: Vec<f64> = of.filter(|(of, _)| **of == side).map(|(_, c)| *c).collect();
            costs.iter().filter(|cost| **cost <= 0.0).count() as f64 / costs.len().max(1) as f64
        };
        // What is new in head was not there in base.
        let is_known = empty(Side::Base).min(empty(Side::Head)) < EMPTY;
        // A run without a sample of them had less than one.
        let costs: Vec<f64> = (part.iter().zip(&self.runs.costs))
            .map(|(cost, run)| cost.max(0.5 * run.of_a_sample()))
            .collect();
        let costs = between_steps(self.runs, costs, self.judging.seed);
        let judged = is_known.then(|| self.judge(&costs, &self.rule(threshold)));
        Ruled {
            name: self.name(pattern),
            accepted: None,
            threshold,
            judged: judged.flatten(),
            is_met: part.iter().any(|cost| *cost > 0.0),
        }
    }

    /// Functions that may be dearer by a share of a run.
    fn of_part(&self, pattern: usize, by: f64, base: f64) -> Ruled {
        let part = self.part(pattern);
        let before = self.runs.mean(Side::Base, &part);
        let costs: Vec<f64> = part.iter().map(|cost| base + cost - before).collect();
        let costs = between_steps(self.runs, costs, self.judging.seed);
        Ruled {
            name: self.name(pattern),
            accepted: None,
            threshold: by,
            judged: self.judge(&costs, &self.rule(by)),
            is_met: part.iter().any(|cost| *cost > 0.0),
        }
    }

    fn name(&self, pattern: usize) -> String {
        let pattern = &self.judging.config.patterns[pattern];
        match &pattern.file {
            None => pattern.name.text().to_string(),
            Some(file) => format!("{} ({})", pattern.name.text(), file.text()),
        }
    }
}

/// Functions of all runs: what each cost in each of them.
fn functions(runs: &Runs) -> Functions {
    let of = |wanted: Side| -> BTreeSet<Function> {
        let of = runs.sides.iter().zip(&runs.costs);
        of.filter(|(side, _)| **side == wanted)
            .flat_map(|(_, run)| run.functions.iter().map(|(function, _)| function.clone()))
            .collect()
    };
    let matched = Matched::new(&of(Side::Base), &of(Side::Head));
    let count = runs.costs.len();
    let none = || vec![vec![0.0; count]; matched.functions.len()];
    let (mut own, mut all) = (none(), none());
    let mut calls: HashMap<(u32, u32), Vec<f64>> = HashMap::new();
    // What of a line is head's comes first.
    let mut of_lines: HashMap<(u32, u32), (f64, f64)> = HashMap::new();
    for (n, (run, side)) in runs.costs.iter().zip(&runs.sides).enumerate() {
        let scale = run.scale();
        let numbers: Vec<u32> = (run.functions.iter())
            .map(|(function, _)| matched.number(function).unwrap_or(0))
            .collect();
        for (&number, (_, cost)) in numbers.iter().zip(&run.functions) {
            own[number as usize][n] += scale * cost.own;
            all[number as usize][n] += scale * cost.all;
        }
        for (&(callee, caller), &cost) in &run.calls {
            let call = (numbers[callee as usize], numbers[caller as usize]);
            calls.entry(call).or_insert_with(|| vec![0.0; count])[n] += scale * cost;
        }
        for (&(function, line), &cost) in &run.lines {
            let of = of_lines
                .entry((numbers[function as usize], line))
                .or_default();
            match side {
                Side::Head => of.0 += cost,
                Side::Base => of.1 += cost,
            }
        }
    }
    let mut lines = vec![(0, (0.0, 0.0)); matched.functions.len()];
    for ((function, line), costs) in of_lines {
        let best = &mut lines[function as usize];
        // The lower of two equals, so that the same files give the same answer.
        if line > 0 && (costs > best.1 || (costs == best.1 && line < best.0)) {
            *best = (line, costs);
        }
    }
    Functions {
        functions: matched.functions,
        own,
        all,
        calls,
        lines: lines.into_iter().map(|(line, _)| line).collect(),
    }
}
