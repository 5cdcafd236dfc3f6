//! Runs of two sides go in; a verdict, and what explains it, come out.

use super::costs::Function;
use super::explain::{self, Explained, Functions};
use super::judging::{Decided, Judging, Ruled, decide};
use super::runs::{Clock, Runs};
use super::sanity;
use super::statistics::design::{EXCHANGES, Side};
use super::statistics::verdict::{Judged, Rule, Verdict};
use crate::cli::Failure;

/// A function's growth is worth a line from this share of the threshold on.
const WORTH: f64 = 0.25;

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
    /// What totals are by.
    pub clock: Clock,
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
    let decided = decide(runs, judging)?;
    let worst = decided.verdict();
    let Decided {
        judged,
        ruled,
        instructions,
    } = decided;
    let design = runs.design()?;
    let config = &judging.config;
    let totals = runs.totals();
    let base = runs.mean(Side::Base, &totals);
    let functions = Functions::of(runs);
    let exchanges = design.exchanges(EXCHANGES, judging.seed);
    let least = WORTH * judging.rule.threshold * base;
    let explained = explain::explain(&functions, &totals, least, &design, &exchanges);
    let found = sanity::look(runs, &judged);
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
        clock: runs.clock,
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
