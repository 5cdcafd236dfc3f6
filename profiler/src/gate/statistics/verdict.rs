//! Passed, regressed, or not known: of runs of two sides, what their costs say.

use std::fmt;

use super::change::{Costs, Estimate, close};
use super::design::{Design, Exchanges, Side};
use super::looks::{level, may, spent};

/// Exchanges of sides that are looked at, at most.
const EXCHANGES: usize = 10_000;

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

/// Which run is on which side, and in which block, with exchanges of them: whatever the runs take, it is made once.
#[derive(Clone, Debug)]
pub struct Plan {
    places: Vec<(Side, u32)>,
    planned: usize,
    exchanges: Exchanges,
}

/// Runs that are looked at again and again, as they become more.
#[derive(Clone, Debug)]
pub struct Watch<'a> {
    plan: &'a Plan,
    rule: Rule,
    /// Is it dearer than base?
    dearer: Asked,
    /// Is it cheaper than the threshold allows?
    cheaper: Asked,
}

/// What each look that could decide something made of each exchange.
#[derive(Clone, Debug)]
struct Asked {
    /// The change that is tested.
    change: f64,
    /// What would be surprising: that it is more (1), or less (-1).
    up: f64,
    /// The chance to be wrong, all looks together.
    chance: f64,
    made: Vec<Vec<f64>>,
    spent: Vec<f64>,
}

/// What the tests came to that decide.
struct Tested {
    estimate: Estimate,
    verdict: Verdict,
    p: f64,
    /// What `p` must not be larger than, and what that of the test against the threshold must not be.
    levels: (f64, f64),
}

impl Plan {
    /// Of the first runs (or all) of so many that are planned. `None`: no block has both sides.
    pub fn new(places: &[(Side, u32)], planned: usize, seed: u64) -> Option<Self> {
        Some(Self {
            places: places.to_vec(),
            planned: planned.max(1),
            exchanges: Design::new(places)?.exchanges(EXCHANGES, seed),
        })
    }

    /// Looks at runs of it.
    pub fn watch(&self, rule: &Rule) -> Watch<'_> {
        let asked = |change, up, chance| Asked {
            change,
            up,
            chance,
            made: Vec::new(),
            spent: Vec::new(),
        };
        Watch {
            plan: self,
            rule: *rule,
            dearer: asked(0.0, 1.0, rule.alarm),
            cheaper: asked(rule.threshold.ln_1p(), -1.0, rule.miss),
        }
    }
}

impl Watch<'_> {
    /// Looks at what the first runs took, for later looks to know of.
    fn remember(&mut self, costs: &[f64]) {
        if let Some(design) = self.plan.places.get(..costs.len()).and_then(Design::new) {
            let spent = self.spent(costs);
            let costs = Costs::new(&design, costs);
            for asked in [&mut self.dearer, &mut self.cheaper] {
                if asked.can_decide(spent, &self.plan.exchanges) {
                    asked.look(&costs, spent, &self.plan.exchanges);
                }
            }
        }
    }

    /// Looks at what the first runs took, and judges them. `None`: no block of these has both sides, or they are more
    /// than the plan has.
    pub fn judge(&mut self, costs: &[f64]) -> Option<Judged> {
        let design = Design::new(self.plan.places.get(..costs.len())?)?;
        let tested = self.tested(&design, costs);
        let Tested {
            estimate,
            verdict,
            p,
            levels,
        } = tested;
        let between = Costs::new(&design, costs).interval(
            &estimate,
            levels.1,
            &self.plan.exchanges,
            self.rule.threshold.ln_1p(),
            verdict == Verdict::Passed,
        );
        Some(Judged {
            verdict,
            estimate,
            between,
            p,
            level: levels.0,
        })
    }

    /// What [`Watch::judge`] comes to, and nothing else: at a first look it is found much sooner.
    pub fn verdict(&mut self, costs: &[f64]) -> Option<Verdict> {
        let design = Design::new(self.plan.places.get(..costs.len())?)?;
        if !self.dearer.made.is_empty() || !self.cheaper.made.is_empty() || self.spent(costs) < 1.0 {
            return Some(self.tested(&design, costs).verdict);
        }
        let costs = Costs::new(&design, costs);
        let (asked, verdict) = match costs.estimate().change > self.cheaper.change {
            true => (&self.dearer, Verdict::Regressed),
            false => (&self.cheaper, Verdict::Passed),
        };
        let rows: Vec<&[f32]> = self.plan.exchanges.rows().collect();
        let may = may(asked.chance, rows.len());
        let is_so = costs.is_surprise(asked.change, asked.up, &rows, may);
        Some(if is_so { verdict } else { Verdict::Inconclusive })
    }

    fn tested(&mut self, design: &Design, costs: &[f64]) -> Tested {
        let spent = self.spent(costs);
        let costs = Costs::new(design, costs);
        let (p, alarm) = self.dearer.look(&costs, spent, &self.plan.exchanges);
        let (as_dear, miss) = self.cheaper.look(&costs, spent, &self.plan.exchanges);
        let estimate = costs.estimate();
        let verdict = if p <= alarm && estimate.change > self.cheaper.change {
            Verdict::Regressed
        } else if as_dear <= miss && estimate.change < self.cheaper.change {
            Verdict::Passed
        } else {
            Verdict::Inconclusive
        };
        Tested {
            estimate,
            verdict,
            p,
            levels: (alarm, miss),
        }
    }

    /// Of all chance to be wrong what is spent when so many runs are there.
    fn spent(&self, costs: &[f64]) -> f64 {
        spent(costs.len() as f64 / self.plan.planned as f64)
    }
}

impl Asked {
    /// With less chance than that of one exchange nothing can be decided.
    fn can_decide(&self, spent: f64, exchanges: &Exchanges) -> bool {
        may(self.chance * spent, exchanges.len()) > 0
    }

    /// The share of exchanges that is as surprising as how it was, and what it must not be larger than.
    fn look(&mut self, costs: &Costs<'_>, spent: f64, exchanges: &Exchanges) -> (f64, f64) {
        let mut made = costs.against(self.change, exchanges);
        made.iter_mut().for_each(|made| *made *= self.up);
        let was = made.first().copied().unwrap_or(0.0);
        let least = was - close(was);
        let as_much = made.iter().filter(|made| **made >= least).count();
        let mut may = 0.0;
        if self.can_decide(spent, exchanges) {
            self.made.push(made);
            self.spent.push(self.chance * spent);
            may = level(&self.made, &self.spent);
        }
        (as_much as f64 / exchanges.len() as f64, may)
    }
}

#[cfg(test)]
mod tests {
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

    fn runs(sides: &[Side], blocks: u32, cost: impl FnMut(Side) -> f64) -> Vec<(Side, u32, f64)> {
        let of_block = |block| sides.iter().map(move |&side| (side, block));
        let mut cost = cost;
        (0..blocks)
            .flat_map(of_block)
            .map(|(side, block)| (side, block, cost(side)))
            .collect()
    }

    /// Noise of this deviation, and one run of 20 is a fifth dearer.
    fn noisy(cv: f64, change: f64, seed: u64) -> impl FnMut(Side) -> f64 {
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
            assert!((0.002..0.008).contains(&same.estimate.deviation), "{same:?}");
        }
    }

    #[test]
    fn few_runs_say_nothing() {
        for (sides, blocks) in [(SHAPES[0], 1), (SHAPES[1], 2), (SHAPES[2], 1), (SHAPES[0], 2)] {
            for change in [0.0, 0.5] {
                let judged = one(&runs(sides, blocks, noisy(0.001, change, 1)));
                let can_pass = sides == SHAPES[0] && blocks == 2 && change == 0.0;
                if !can_pass {
                    assert_eq!(judged.verdict, Verdict::Inconclusive, "{judged:?}");
                }
            }
        }
        assert!(judge(&[(Base, 0, 1.0), (Head, 1, 1.0)], &[], 2, &Rule::default(), 1).is_none());
    }

    #[test]
    fn what_is_exact_is_decided() {
        for (change, verdict) in [
            (0.0, Verdict::Passed),
            (0.05, Verdict::Regressed),
            (-0.05, Verdict::Passed),
        ] {
            let cost = |side| if side == Head { 1e9 * (1.0 + change) } else { 1e9 };
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

    #[test]
    fn a_look_knows_of_those_before() {
        let runs = runs(SHAPES[0], 10, noisy(0.004, 0.0, 1));
        let rule = Rule::default();
        let places: Vec<(Side, u32)> = runs.iter().map(|&(side, block, _)| (side, block)).collect();
        let costs: Vec<f64> = runs.iter().map(|&(.., cost)| cost).collect();
        let plan = Plan::new(&places, 40, 1).unwrap();
        let mut watch = plan.watch(&rule);
        // With a hundredth of what is planned there is no chance to be wrong yet, and nothing is said.
        assert_eq!(watch.verdict(&costs[..8]), Some(Verdict::Inconclusive));
        assert_eq!(watch.judge(&costs[..20]).unwrap().verdict, Verdict::Passed);
        let last = watch.judge(&costs).unwrap();
        assert_eq!(last.verdict, Verdict::Passed);
        let again = judge(&runs, &[8, 20], 40, &rule, 1).unwrap();
        assert_eq!(last, again);
        // What was spent before is not there any more.
        assert!(last.level < judge(&runs, &[], 40, &rule, 1).unwrap().level + 1e-9);
        assert!(watch.judge(&[1.0; 41]).is_none());
    }

    #[test]
    fn the_short_way_comes_to_the_same() {
        let places: Vec<(Side, u32)> = runs(SHAPES[0], 5, |_| 1.0)
            .iter()
            .map(|&(side, block, _)| (side, block))
            .collect();
        let plan = Plan::new(&places, 20, 1).unwrap();
        for seed in 0..40 {
            let change = 0.01 * (seed % 7) as f64;
            let costs: Vec<f64> = runs(SHAPES[0], 5, noisy(0.015, change, seed))
                .iter()
                .map(|&(.., cost)| cost)
                .collect();
            let watch = || plan.watch(&Rule::default());
            let long = watch().judge(&costs).map(|judged| judged.verdict);
            assert_eq!(watch().verdict(&costs), long, "{seed}");
        }
    }
}
