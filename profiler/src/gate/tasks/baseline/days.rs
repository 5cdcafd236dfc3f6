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
    // All of a run, and each entry of the project's file: verdict, change, and what is allowed.
    let total = &comparison.judged;
    let entries = comparison.ruled.iter().filter_map(|entry| {
        let change = entry.judged.as_ref()?.change();
        Some((entry.verdict(), change, entry.threshold))
    });
    let parts: Vec<(Verdict, f64, f64)> = entries
        .chain([(total.verdict, total.change(), comparison.rule.threshold)])
        .collect();
    // Today may differ from those days by as much again, either way.
    let is_doubtful = |&&(verdict, change, threshold): &&(Verdict, f64, f64)| match verdict {
        Verdict::Regressed => change - threshold < DAYS * moved,
        _ => threshold - change < DAYS * moved,
    };
    let mut regressed = parts.iter().filter(|part| part.0 == Verdict::Regressed);
    if regressed.any(|part| !is_doubtful(&part)) {
        return;
    }
    if let Some((_, change, threshold)) = parts.iter().find(is_doubtful) {
        comparison.reasons.push(format!(
            "The baseline's own {} sets differ by {:.1} %: runs of different times cannot decide a change of \
             {:.1} %.",
            means.len(),
            100.0 * moved,
            100.0 * change.abs().max(*threshold)
        ));
        comparison.verdict = Verdict::Inconclusive;
    }
}
