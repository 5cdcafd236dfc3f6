//! What so many runs a side can show, as far as runs vary by chance as a normal distribution does: for planning, not
//! for verdicts.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::design::BLOCK;
use super::verdict::Rule;

/// Runs, and how they are judged.
#[derive(Clone, Copy, Debug)]
pub struct Power<'a> {
    /// When a change is one.
    pub rule: &'a Rule,
    /// What one run varies by, within its block.
    pub deviation: f64,
    /// How often what can be shown is to be shown.
    pub often: f64,
}

impl Power<'_> {
    /// The least change (a logarithm) that so many runs a side tell from none; infinite: no change.
    pub fn told(&self, runs: usize) -> f64 {
        self.distance(runs, self.rule.alarm)
    }

    /// How much less than the threshold (a logarithm) a change must be for so many to show that it is; infinite: no
    /// change is.
    pub fn below(&self, runs: usize) -> f64 {
        self.distance(runs, self.rule.miss)
    }

    /// The least change (as 0.05 is 5 %) that so many call regressed: that is over the threshold as well.
    pub fn found(&self, runs: usize) -> f64 {
        let over = self.off(runs, 1.0 - self.often);
        let over = over.map_or(f64::INFINITY, |off| self.rule.threshold.ln_1p() + off);
        self.told(runs).max(over).exp_m1()
    }

    /// The least threshold that so many show to be kept, if nothing has changed.
    pub fn passes(&self, runs: usize) -> f64 {
        self.below(runs).exp_m1()
    }

    fn distance(&self, runs: usize, chance: f64) -> f64 {
        // Less than the share of one exchange of all cannot be told.
        let rarest = 6f64.powi(-((2 * runs / BLOCK) as i32));
        let both = self.off(runs, chance).zip(self.off(runs, 1.0 - self.often));
        let both = both.filter(|_| rarest <= chance);
        both.map_or(f64::INFINITY, |(chance, often)| chance + often)
    }

    /// How far off an estimate is in this share of cases.
    fn off(&self, runs: usize, chance: f64) -> Option<f64> {
        let freedom = (2 * runs).checked_sub(2 * runs / BLOCK + 1)?;
        let distribution = StudentsT::new(0.0, 1.0, freedom as f64).ok()?;
        let error = self.deviation * (2.0 / runs as f64).sqrt();
        Some(distribution.inverse_cdf(1.0 - chance) * error)
    }
}

/// The least number of runs a side, of blocks of four, for which something holds; `None`: more than `most`.
pub fn least(most: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    (2..=most).step_by(2).find(|&runs| holds(runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rule: &Rule, deviation: f64) -> Power<'_> {
        Power {
            rule,
            deviation,
            often: 0.9,
        }
    }

    #[test]
    fn as_facts_say_of_ten_runs_a_side() {
        let rule = Rule::default();
        let (found, passes) = (
            |deviation| of(&rule, deviation).found(10),
            |deviation| of(&rule, deviation).passes(10),
        );
        // 1 %: a pass at 2 % nearly always, and 5 % is found.
        assert!(passes(0.01) < 0.02 && found(0.01) < 0.05);
        // 2 %: 5 % is found more than 9 times of 10, A/A passes less often.
        assert!(passes(0.02) > 0.02 && found(0.02) < 0.05);
        // 5 %: neither.
        assert!(found(0.05) > 0.08);
    }

    #[test]
    fn more_runs_show_more() {
        let rule = Rule::default();
        let all: Vec<f64> = [4, 8, 10, 20, 100]
            .map(|n| of(&rule, 0.03).found(n))
            .to_vec();
        assert!(all.is_sorted_by(|a, b| a >= b), "{all:?}");
        assert_eq!(of(&rule, 0.001).found(4), f64::INFINITY);
        let runs = |deviation| least(100, |n| of(&rule, deviation).passes(n) < 0.02);
        assert_eq!((runs(0.01), runs(1.0)), (Some(6), None));
    }

    #[test]
    fn what_is_told_from_nothing_is_found_where_any_change_is_one() {
        let rule = Rule {
            threshold: 1e-9,
            ..Rule::default()
        };
        let power = of(&rule, 0.02);
        assert!((power.found(10) - power.told(10).exp_m1()).abs() < 1e-12);
    }
}
