//! Runs that are judged, once or again and again as they become more: what exchanges of sides make of them goes to
//! the tests that decide, and what earlier looks made of them is known to later ones.

use super::change::{Costs, Estimate, close};
use super::design::{Design, EXCHANGES, Exchanges, Side};
use super::looks::{level, may, spent};
use super::verdict::{Judged, Rule, Verdict};

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
    pub fn remember(&mut self, costs: &[f64]) {
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
        if !self.dearer.made.is_empty() || !self.cheaper.made.is_empty() || self.spent(costs) < 1.0
        {
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
        Some(if is_so {
            verdict
        } else {
            Verdict::Inconclusive
        })
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
    use super::super::design::Side::{Base, Head};
    use super::super::verdict::judge;
    use super::super::verdict::tests::{noisy, runs};
    use super::*;

    const BLOCK: &[Side] = &[Base, Head, Head, Base];

    #[test]
    fn a_look_knows_of_those_before() {
        let runs = runs(BLOCK, 10, noisy(0.004, 0.0, 1));
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
        let places: Vec<(Side, u32)> = runs(BLOCK, 5, |_| 1.0)
            .iter()
            .map(|&(side, block, _)| (side, block))
            .collect();
        let plan = Plan::new(&places, 20, 1).unwrap();
        for seed in 0..40 {
            let change = 0.01 * (seed % 7) as f64;
            let costs: Vec<f64> = runs(BLOCK, 5, noisy(0.015, change, seed))
                .iter()
                .map(|&(.., cost)| cost)
                .collect();
            let watch = || plan.watch(&Rule::default());
            let long = watch().judge(&costs).map(|judged| judged.verdict);
            assert_eq!(watch().verdict(&costs), long, "{seed}");
        }
    }
}
