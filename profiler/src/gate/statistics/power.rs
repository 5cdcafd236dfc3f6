//! What so many runs can show, as far as runs vary by chance as a normal distribution does: for planning, not for
//! verdicts.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::verdict::Rule;

/// Runs of a block.
const BLOCK: usize = 4;
/// How often what can be shown is shown.
pub const POWER: f64 = 0.9;

/// The least change (as 0.05 is 5 %) that so many runs a side call regressed, [`POWER`] of the time, where one run
/// varies by `deviation`; infinite: no change.
pub fn found(runs: usize, deviation: f64, rule: &Rule) -> f64 {
    let Some((error, t)) = spread(runs, deviation) else {
        return f64::INFINITY;
    };
    if rarest(runs) > rule.alarm {
        return f64::INFINITY;
    }
    let by_chance = (t(rule.alarm) + t(1.0 - POWER)) * error;
    let over_threshold = rule.threshold.ln_1p() + t(1.0 - POWER) * error;
    by_chance.max(over_threshold).exp_m1()
}

/// The least threshold that so many runs a side are shown to be below, [`POWER`] of the time, if nothing has changed;
/// infinite: none.
pub fn passes(runs: usize, deviation: f64, rule: &Rule) -> f64 {
    let Some((error, t)) = spread(runs, deviation) else {
        return f64::INFINITY;
    };
    if rarest(runs) > rule.miss {
        return f64::INFINITY;
    }
    ((t(rule.miss) + t(1.0 - POWER)) * error).exp_m1()
}

/// The least number of runs a side, of blocks of four, for which something holds; `None`: more than `most`.
pub fn least(most: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    (2..=most).step_by(2).find(|&runs| holds(runs))
}

/// The share that one exchange of sides is of all: less than that cannot be told.
fn rarest(runs: usize) -> f64 {
    6f64.powi(-((2 * runs / BLOCK) as i32))
}

/// The standard error of a change, and by how many of it what happens with a chance is off.
fn spread(runs: usize, deviation: f64) -> Option<(f64, impl Fn(f64) -> f64)> {
    let freedom = (2 * runs).checked_sub(2 * runs / BLOCK + 1)?;
    let distribution = StudentsT::new(0.0, 1.0, freedom as f64).ok()?;
    let error = deviation * (2.0 / runs as f64).sqrt();
    Some((error, move |chance: f64| {
        distribution.inverse_cdf(1.0 - chance)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_facts_say_of_ten_runs_a_side() {
        let rule = Rule::default();
        // 1 %: a pass at 2 % nearly always, and 5 % is found.
        assert!(
            passes(10, 0.01, &rule) < 0.02,
            "{}",
            passes(10, 0.01, &rule)
        );
        assert!(found(10, 0.01, &rule) < 0.05);
        // 2 %: 5 % is found more than 9 times of 10, A/A passes less often.
        assert!(found(10, 0.02, &rule) < 0.05, "{}", found(10, 0.02, &rule));
        assert!(passes(10, 0.02, &rule) > 0.02);
        // 5 %: neither.
        assert!(found(10, 0.05, &rule) > 0.08);
    }

    #[test]
    fn more_runs_show_more() {
        let rule = Rule::default();
        let all: Vec<f64> = [4, 8, 10, 20, 100].map(|n| found(n, 0.03, &rule)).to_vec();
        assert!(all.is_sorted_by(|a, b| a >= b), "{all:?}");
        assert_eq!(found(4, 0.001, &rule), f64::INFINITY);
        assert_eq!(least(100, |n| passes(n, 0.01, &rule) < 0.02), Some(6));
        assert_eq!(least(100, |n| passes(n, 1.0, &rule) < 0.02), None);
    }
}
