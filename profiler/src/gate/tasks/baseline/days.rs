//! What days differ by: runs of several sets come in, and a verdict that such a difference could explain leaves as
//! inconclusive.

use std::collections::BTreeMap;

use super::numbers;
use crate::gate::comparison::Comparison;
use crate::gate::runs::Runs;
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;

/// What days differ by, so many times, is between the threshold and a change that is believed.
const DAYS: f64 = 2.0;

/// Runs of several days say how much days differ: a change that is not more than that is none.
pub(in crate::gate::tasks) fn look(runs: &Runs, comparison: &mut Comparison) {
    let mut sets: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let each = runs.sides.iter().zip(&runs.files).zip(&runs.costs);
    for ((side, file), run) in each {
        if let (Side::Base, Some((set, _))) = (side, numbers(file)) {
            sets.entry(set).or_default().push(run.total);
        }
    }
    let means: Vec<f64> = (sets.values())
        .map(|totals| totals.iter().sum::<f64>() / totals.len().max(1) as f64)
        .collect();
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let most = means.iter().copied().fold(0.0, f64::max);
    let moved = most / least - 1.0;
    if means.len() < 2 {
        comparison.reasons.push(
            "The baseline has runs of one time only: how much the machine differs from day to day is not known."
                .into(),
        );
        comparison.verdict = Verdict::Inconclusive;
        return;
    }
    let change = comparison.judged.change();
    let threshold = comparison.rule.threshold;
    // Today may differ from those days by as much again, either way.
    let is_doubtful = match comparison.verdict {
        Verdict::Regressed => change - threshold < DAYS * moved,
        _ => threshold - change < DAYS * moved,
    };
    if is_doubtful {
        comparison.reasons.push(format!(
            "The baseline's own {} sets differ by {:.1} %: runs of different times cannot decide a change of \
             {:.1} %.",
            means.len(),
            100.0 * moved,
            100.0 * change.abs().max(comparison.rule.threshold)
        ));
        comparison.verdict = Verdict::Inconclusive;
    }
}
