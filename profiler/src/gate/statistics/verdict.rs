//! Passed, regressed, or not known: of runs of two sides, what their costs say.

use std::fmt;

use super::change::{Costs, Estimate};
use super::design::{Design, Side};
use super::looks::level;

/// Exchanges of sides that are looked at, at most.
const EXCHANGES: usize = 50_000;

/// When a change is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// How much dearer head may be: 0.02 is 2 %.
    pub threshold: f64,
    /// The chance to say "regressed" of what has not changed, all looks together.
    pub alarm: f64,
    /// The chance to say "passed" of what is dearer by the threshold, all looks together.
    pub miss: f64,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            threshold: 0.02,
            // At most 1 % is promised. Where a run varies by 5 % or more, all of it would be used.
            alarm: 0.002,
            miss: 0.05,
        }
    }
}

/// What runs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Head is not dearer by the threshold.
    Passed,
    /// It is dearer than base, and by more than the threshold as far as can be told.
    Regressed,
    /// It may be or not.
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Regressed => "regressed",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// What it came to.
    pub verdict: Verdict,
    /// How much dearer head is.
    pub estimate: Estimate,
    /// Logarithms between which the change lies: below the first, or above the second, with the chance that
    /// [`Rule::miss`] leaves to this look.
    pub between: (f64, f64),
    /// The share of exchanges that make as much of the runs as how it was.
    pub p: f64,
    /// What that share must not be larger than.
    pub level: f64,
}

impl Judged {
    /// How much dearer head is: 0.05 is 5 %.
    pub fn change(&self) -> f64 {
        self.estimate.change.exp_m1()
    }

    /// Between which changes it lies.
    pub fn interval(&self) -> (f64, f64) {
        (self.between.0.exp_m1(), self.between.1.exp_m1())
    }
}

/// Judges runs (side, block and what they took, all more than nothing) at the last of some looks: after so many runs
/// each, of as many as are planned. `None`: no block has both sides.
pub fn judge(
    runs: &[(Side, u32, f64)],
    looks: &[usize],
    planned: usize,
    rule: &Rule,
    seed: u64,
) -> Option<Judged> {
    let of = |runs: &[(Side, u32, f64)]| {
        let places: Vec<(Side, u32)> = runs.iter().map(|&(side, block, _)| (side, block)).collect();
        let costs: Vec<f64> = runs.iter().map(|&(.., cost)| cost).collect();
        Some((Design::new(&places)?, costs))
    };
    let (design, costs) = of(runs)?;
    let exchanges = design.exchanges(EXCHANGES, seed);
    let costs = Costs::new(&design, &costs);
    let estimate = costs.estimate();
    let threshold = rule.threshold.ln_1p();
    let (mut dearer, mut cheaper) = (Vec::new(), Vec::new());
    for &look in looks.iter().filter(|&&look| look < runs.len()) {
        let (design, costs) = of(&runs[..look])?;
        let costs = Costs::new(&design, &costs);
        let made = |change| costs.against(change, &exchanges);
        dearer.push(made(0.0));
        cheaper.push(negative(made(threshold)));
    }
    let made = costs.against(0.0, &exchanges);
    let was = made.first().copied().unwrap_or(0.0);
    let close = 1e-6
        * made
            .iter()
            .fold(0.0, |most: f64, made| most.max(made.abs()));
    let as_much = made.iter().filter(|made| **made >= was - close).count();
    let p = as_much as f64 / exchanges.len() as f64;
    dearer.push(made);
    cheaper.push(negative(costs.against(threshold, &exchanges)));
    let spent = |all: f64| -> Vec<f64> {
        let before = looks.iter().filter(|&&look| look < runs.len());
        let part = |&look: &usize| all * (look as f64 / planned as f64).min(1.0);
        before.chain([&runs.len()]).map(part).collect()
    };
    let alarm = level(&dearer, &spent(rule.alarm));
    let miss = level(&cheaper, &spent(rule.miss));
    let between = costs.interval(&estimate, miss, &exchanges);
    let verdict = if p <= alarm && estimate.change > threshold {
        Verdict::Regressed
    } else if between.1 < threshold {
        Verdict::Passed
    } else {
        Verdict::Inconclusive
    };
    Some(Judged {
        verdict,
        estimate,
        between,
        p,
        level: alarm,
    })
}

fn negative(mut of: Vec<f64>) -> Vec<f64> {
    of.iter_mut().for_each(|of| *of = -*of);
    of
}
