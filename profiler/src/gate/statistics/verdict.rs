//! Passed, regressed, or not known: of runs of two sides, what their costs say.

use std::fmt;

use super::change::Estimate;
use super::design::Side;
use super::watch::Plan;

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

impl Rule {
    /// Of one of so many parts of a run that have thresholds of their own: the chance to be wrong that all of a run has,
    /// once more for all of them together.
    pub fn of_entry(&self, threshold: f64, entries: usize) -> Self {
        Self {
            threshold,
            alarm: self.alarm / entries.max(1) as f64,
            ..*self
        }
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            threshold: 0.02,
            // At most 1 % is promised. Where a run varies by 5 % or more, all of it would be used.
            alarm: 0.0025,
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
    /// [`Rule::miss`] leaves to this look; infinite where runs are too few to tell. The second is less than the
    /// threshold just if it passed.
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

/// Judges runs (side, block and what they took) at the last of some looks: after so many runs each, of as many as
/// are planned. `None`: no block has both sides.
pub fn judge(
    runs: &[(Side, u32, f64)],
    looks: &[usize],
    planned: usize,
    rule: &Rule,
    seed: u64,
) -> Option<Judged> {
    let places: Vec<(Side, u32)> = runs.iter().map(|&(side, block, _)| (side, block)).collect();
    let costs: Vec<f64> = runs.iter().map(|&(.., cost)| cost).collect();
    let plan = Plan::new(&places, planned, seed)?;
    let mut watch = plan.watch(rule);
    for &look in looks.iter().filter(|&&look| look < runs.len()) {
        watch.remember(&costs[..look]);
    }
    watch.judge(&costs)
}

#[cfg(test)]
pub(super) mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::design::Side::{Base, Head};
    use super::*;

    const SHAPES: [&[Side]; 4] = [
        &[Base, Head, Head, Base],
        &[Base, Head],
        &[Base, Head, Head],
        // All in one.
        &[
            Base, Head, Base, Head, Base, Head, Base, Head, Base, Head, Head, Head, Head, Head,
        ],
    ];

    pub(in super::super) fn runs(
        sides: &[Side],
        blocks: u32,
        cost: impl FnMut(Side) -> f64,
    ) -> Vec<(Side, u32, f64)> {
        let of_block = |block| sides.iter().map(move |&side| (side, block));
        let mut cost = cost;
        (0..blocks)
            .flat_map(of_block)
            .map(|(side, block)| (side, block, cost(side)))
            .collect()
    }

    /// Noise of this deviation, and one run of 20 is a fifth dearer.
    pub(in super::super) fn noisy(cv: f64, change: f64, seed: u64) -> impl FnMut(Side) -> f64 {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        move |side| {
            let sum: f64 = (0..12).map(|_| chance.random::<f64>()).sum();
            let far = if chance.random_bool(0.05) { 1.2 } else { 1.0 };
            let dearer = if side == Head { change } else { 0.0 };
            1e9 * (cv * (sum - 6.0)).exp() * far * (1.0 + dearer)
        }
    }

    fn one(runs: &[(Side, u32, f64)]) -> Judged {
        judge(runs, &[], runs.len(), &Rule::default(), 1).unwrap()
    }

    fn count(of: Verdict, cv: f64, change: f64) -> usize {
        let of_seed = |seed| one(&runs(SHAPES[0], 5, noisy(cv, change, seed))).verdict;
        (0..60).filter(|&seed| of_seed(seed) == of).count()
    }

    #[test]
    fn runs_that_are_far_off_hide_nothing() {
        assert!(count(Verdict::Regressed, 0.01, 0.05) >= 55);
        assert!(count(Verdict::Passed, 0.01, 0.0) >= 55);
        assert_eq!(count(Verdict::Passed, 0.01, 0.05), 0);
        assert_eq!(count(Verdict::Regressed, 0.01, 0.0), 0);
    }

    #[test]
    fn it_passes_just_if_the_upper_bound_is_below_the_threshold() {
        let (mut passed, mut others) = (0, 0);
        for (seed, sides) in (0..60).zip(SHAPES.into_iter().cycle()) {
            let blocks = (22 / sides.len()) as u32;
            let change = 0.002 * (seed % 16) as f64;
            let judged = one(&runs(sides, blocks, noisy(0.01, change, seed)));
            let (least, most) = judged.between;
            assert!(least <= judged.estimate.change && judged.estimate.change <= most);
            assert_eq!(
                judged.verdict == Verdict::Passed,
                judged.interval().1 < 0.02,
                "{judged:?}"
            );
            match judged.verdict {
                Verdict::Passed => passed += 1,
                _ => others += 1,
            }
        }
        assert!(passed > 10 && others > 10, "{passed} {others}");
    }

    #[test]
    fn sides_need_not_be_alike() {
        for (sides, blocks) in SHAPES.into_iter().zip([5, 12, 8, 1]) {
            let dearer = one(&runs(sides, blocks, noisy(0.004, 0.06, 3)));
            assert_eq!(dearer.verdict, Verdict::Regressed, "{sides:?} {dearer:?}");
            assert!((0.04..0.08).contains(&dearer.change()), "{dearer:?}");
            let same = one(&runs(sides, blocks, noisy(0.004, 0.0, 3)));
            assert_eq!(same.verdict, Verdict::Passed, "{sides:?} {same:?}");
            assert!(
                (0.002..0.008).contains(&same.estimate.deviation),
                "{same:?}"
            );
        }
    }

    #[test]
    fn few_runs_say_nothing() {
        for (sides, blocks) in [
            (SHAPES[0], 1),
            (SHAPES[1], 2),
            (SHAPES[2], 1),
            (SHAPES[0], 2),
        ] {
            for change in [0.0, 0.5] {
                let judged = one(&runs(sides, blocks, noisy(0.001, change, 1)));
                let can_pass = sides == SHAPES[0] && blocks == 2 && change == 0.0;
                if !can_pass {
                    assert_eq!(judged.verdict, Verdict::Inconclusive, "{judged:?}");
                }
            }
        }
        assert!(
            judge(
                &[(Base, 0, 1.0), (Head, 1, 1.0)],
                &[],
                2,
                &Rule::default(),
                1
            )
            .is_none()
        );
    }

    #[test]
    fn what_is_exact_is_decided() {
        for (change, verdict) in [
            (0.0, Verdict::Passed),
            (0.05, Verdict::Regressed),
            (-0.05, Verdict::Passed),
        ] {
            let cost = |side| {
                if side == Head {
                    1e9 * (1.0 + change)
                } else {
                    1e9
                }
            };
            let judged = one(&runs(SHAPES[0], 5, cost));
            assert_eq!(judged.verdict, verdict, "{judged:?}");
            assert!((judged.change() - change).abs() < 1e-9);
        }
    }

    #[test]
    fn no_cost_is_too_strange() {
        let strange = [
            0.0,
            1.0,
            -1.0,
            5e-324,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ];
        for (n, sides) in (0..24).zip(SHAPES.into_iter().cycle()) {
            let mut next = n;
            let cost = |_| {
                next += 1 + n / 8;
                strange[next % strange.len()]
            };
            let judged = one(&runs(sides, 5, cost));
            let Estimate {
                change, deviation, ..
            } = judged.estimate;
            let figures = [change, deviation, judged.p, judged.level, judged.change()];
            assert!(figures.iter().all(|x| x.is_finite()), "{judged:?}");
            let (least, most) = judged.interval();
            assert!(!least.is_nan() && !most.is_nan(), "{judged:?}");
        }
    }
}
