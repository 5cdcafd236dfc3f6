//! Runs of two sides go in; verdicts of all of a run, and of what the project has agreed on, come out.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::Config;
use super::runs::{Clock, Runs};
use super::statistics::design::Side;
use super::statistics::verdict::{Judged, Rule, Verdict, judge};
use crate::cli::Failure;

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

/// What runs come to; what explains it takes much longer to find.
pub(super) struct Decided {
    /// All of a run, but for what is accepted.
    pub(super) judged: Judged,
    /// Entries of the project's file.
    pub(super) ruled: Vec<Ruled>,
    /// Instructions, where all runs counted them.
    pub(super) instructions: Option<Judged>,
}

impl Decided {
    /// The worst of it: regressed before inconclusive before passed.
    pub(super) fn verdict(&self) -> Verdict {
        let rank = |verdict: &Verdict| match verdict {
            Verdict::Passed => 0,
            Verdict::Inconclusive => 1,
            Verdict::Regressed => 2,
        };
        let entries = self.ruled.iter().map(Ruled::verdict);
        let all = entries.chain([self.judged.verdict]);
        all.max_by_key(rank).unwrap_or(self.judged.verdict)
    }
}

/// Judges runs.
///
/// # Errors
/// No runs of both sides are there, or were made side by side.
pub(super) fn decide(runs: &Runs, judging: &Judging) -> Result<Decided, Failure> {
    runs.design()?;
    let totals = runs.totals();
    let base = runs.mean(Side::Base, &totals);
    let verdicts = Verdicts {
        runs,
        places: &runs.places(),
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
    places: &'a [(Side, u32)],
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

    fn rule(&self, threshold: f64) -> Rule {
        let entries = self.judging.config.patterns.len();
        self.judging.rule.of_entry(threshold, entries)
    }

    fn judge(&self, costs: &[f64], rule: &Rule) -> Option<Judged> {
        let runs: Vec<(Side, u32, f64)> = (self.places.iter().zip(costs))
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
