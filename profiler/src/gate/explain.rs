//! Which functions explain a change: guilty ones before their callers, and what only moved.

mod called;
mod functions;
mod moved;
#[cfg(test)]
mod tests;

use hashbrown::HashMap;

use super::statistics::change::bounds;
use super::statistics::design::{Design, Exchanges, Side};
use super::statistics::many::{Growth, growths};
pub use functions::Functions;

/// Functions that have less of a run than this share are not looked at.
const LEAST_SHARE: f64 = 0.001;
/// How often chance may bring a function into the list, all functions together.
const CHANCE: f64 = 0.05;
/// A function is explained by those below it that explain this share of its growth.
const EXPLAINED: f64 = 0.75;
/// Functions on a way from the root at most.
const WAY: usize = 64;

/// One function's change, of one run, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Which.
    pub function: u32,
    /// With all that it called.
    pub all: Amount,
    /// By itself.
    pub own: Amount,
    /// How often chance would make as much of any function.
    pub p: f64,
    /// Those that it is mostly called by, the nearest first; of a function of the kernel those outside the kernel.
    pub way: Vec<u32>,
}

/// How much something cost, and how much more it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount {
    /// Before.
    pub base: f64,
    /// More.
    pub growth: f64,
    /// Between these, with 95 % on either side.
    pub between: (f64, f64),
}

/// What did not grow, but moved, and how many nanoseconds of a run did: both functions by themselves, before they are
/// taken together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// How.
    pub how: Moved,
    /// What the first has less; of a function that was split, for this part of it.
    pub went: f64,
    /// What the second has more.
    pub came: f64,
}

/// How something moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The first is called as the second is now.
    Renamed(u32, u32),
    /// The first is part of the second, its caller, now.
    Inlined(u32, u32),
    /// The second, which the first or who called it calls now, was a part of the first.
    Split(u32, u32),
    /// Work of the first is done by the second.
    Work(u32, u32),
}

/// Why a run costs more, or less.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explained {
    /// Dearer by what they do themselves, by callees none of which can be told from chance, or, and then before those
    /// callees, by calling what costs others no more than before.
    pub guilty: Vec<Changed>,
    /// Dearer by what they call.
    pub callers: Vec<Changed>,
    /// Cheaper, by what they do themselves or by such callees.
    pub cheaper: Vec<Changed>,
    /// What only moved.
    pub moved: Vec<Move>,
    /// Where nobody is guilty: who grew most by itself, and by more than chance makes of it, though chance makes as
    /// much of one among so many.
    pub likely: Option<Changed>,
}

/// Explains a change of runs that took `total` each. What is less than `least` nanoseconds of a run is nobody's
/// business.
pub fn explain(
    of: &Functions,
    total: &[f64],
    least: f64,
    design: &Design,
    exchanges: &Exchanges,
) -> Explained {
    let mean: f64 = total.iter().sum::<f64>() / total.len().max(1) as f64;
    let wanted: Vec<u32> = (0u32..)
        .zip(&of.all)
        .filter(|(_, all)| all.iter().sum::<f64>() >= LEAST_SHARE * mean * total.len() as f64)
        .map(|(number, _)| number)
        .collect();
    let own = wanted.iter().map(|&n| of.own[n as usize].clone());
    let all = wanted.iter().map(|&n| of.all[n as usize].clone());
    let columns: Vec<Vec<f64>> = own.chain(all).collect();
    let grown = growths(design, exchanges, &columns);
    let (own, all) = grown.split_at(wanted.len());
    let known: HashMap<u32, (Growth, Growth)> = wanted
        .iter()
        .copied()
        .zip(own.iter().copied().zip(all.iter().copied()))
        .collect();
    let asked = Asked {
        of,
        known,
        least,
        design,
        exchanges,
    };
    let mut explained = Explained::default();
    for &number in &wanted {
        let Some((changed, is_guilty, is_dearer)) = asked.changed(number) else {
            continue;
        };
        match (is_dearer, is_guilty) {
            (true, true) => explained.guilty.push(changed),
            (true, false) => explained.callers.push(changed),
            (false, true) => explained.cheaper.push(changed),
            (false, false) => {}
        }
    }
    explained.sort();
    explained.moved = asked.moved(&explained);
    asked.merge(&mut explained);
    explained.sort();
    asked.blame_callers(&mut explained);
    if explained.guilty.is_empty() {
        explained.likely = asked.likely(&explained.moved);
    }
    explained
}

impl Explained {
    fn sort(&mut self) {
        for list in [&mut self.callers, &mut self.cheaper] {
            list.sort_by(|a, b| b.size().total_cmp(&a.size()));
        }
        // Of a guilty one, what it does itself is what is to be looked at.
        self.guilty.sort_by(|a, b| b.blame().total_cmp(&a.blame()));
    }
}

impl Changed {
    fn blame(&self) -> f64 {
        self.own.growth.max(self.all.growth * (1.0 - EXPLAINED))
    }

    fn size(&self) -> f64 {
        self.own.growth.abs().max(self.all.growth.abs())
    }
}

impl Amount {
    /// Whether it is not by chance, and worth a line.
    fn matters(&self, least: f64) -> bool {
        let is_sure = self.between.0 > 0.0 || self.between.1 < 0.0;
        is_sure && self.growth.abs() >= least
    }
}

struct Asked<'a> {
    of: &'a Functions,
    /// Growth by itself, and with all.
    known: HashMap<u32, (Growth, Growth)>,
    least: f64,
    design: &'a Design,
    exchanges: &'a Exchanges,
}

impl Asked<'_> {
    /// Whether it is not by chance, and worth a line.
    fn matters(&self, growth: &Growth) -> bool {
        growth.p <= CHANCE && growth.by.abs() >= self.least
    }

    /// How it changed, whether that is its own doing, and whether it is dearer: with all that it calls, or, if that
    /// costs what it did, by itself. `None`: it did not.
    fn changed(&self, number: u32) -> Option<(Changed, bool, bool)> {
        let (own, all) = self.known.get(&number)?;
        if !self.matters(own) && !self.matters(all) {
            return None;
        }
        // What moves within it is not its own.
        let growth = if self.matters(all) { all } else { own };
        let by_callees: f64 = (self.of.calls.iter())
            .filter(|((callee, caller), _)| *caller == number && *callee != number)
            .filter(|((callee, _), _)| {
                let known = self.known.get(callee);
                known.is_some_and(|(_, all)| {
                    self.matters(all) && (all.by > 0.0) == (growth.by > 0.0)
                })
            })
            .map(|(_, costs)| self.growth(costs))
            .sum();
        let is_guilty = by_callees / growth.by < EXPLAINED;
        let changed = Changed {
            function: number,
            all: self.amount(&self.of.all[number as usize]),
            own: self.amount(&self.of.own[number as usize]),
            p: own.p.min(all.p),
            way: self.way(number),
        };
        Some((changed, is_guilty, growth.by > 0.0))
    }

    /// Who grew most by itself, of those that did not only move.
    fn likely(&self, moved: &[Move]) -> Option<Changed> {
        let is_merged = |number: u32| {
            moved.iter().any(|one| match one.how {
                Moved::Renamed(from, to) | Moved::Inlined(from, to) | Moved::Split(from, to) => {
                    [from, to].contains(&number)
                }
                Moved::Work(..) => false,
            })
        };
        let grown = (self.known.iter())
            .filter(|(number, (own, _))| own.by >= self.least && !is_merged(**number));
        // The lower number of two equals, so that the same files give the same answer.
        let most = grown.max_by(|(a, (x, _)), (b, (y, _))| x.by.total_cmp(&y.by).then(b.cmp(a)));
        let (&number, (own, _)) = most?;
        let changed = Changed {
            function: number,
            all: self.amount(&self.of.all[number as usize]),
            own: self.amount(&self.of.own[number as usize]),
            p: own.p,
            way: self.way(number),
        };
        changed.own.matters(self.least).then_some(changed)
    }

    fn growth(&self, costs: &[f64]) -> f64 {
        let weights = self.design.weights();
        weights
            .iter()
            .zip(costs)
            .map(|(weight, cost)| weight * cost)
            .sum()
    }

    /// What base costs, and head.
    fn ends(&self, costs: &[f64]) -> (f64, f64) {
        let base: Vec<f64> = (costs.iter().zip(self.design.sides()))
            .filter(|(_, side)| **side == Side::Base)
            .map(|(cost, _)| *cost)
            .collect();
        let base = base.iter().sum::<f64>() / base.len().max(1) as f64;
        (base, base + self.growth(costs))
    }

    fn amount(&self, costs: &[f64]) -> Amount {
        let (base, head) = self.ends(costs);
        let growth = head - base;
        let left: Vec<f64> = (costs.iter().zip(self.design.sides()))
            .map(|(cost, side)| {
                if *side == Side::Head {
                    cost - growth
                } else {
                    *cost
                }
            })
            .collect();
        let (least, most) = bounds(&left, CHANCE, self.design, self.exchanges);
        Amount {
            base,
            growth,
            between: (growth + least, growth + most),
        }
    }

    /// The callers that most of its cost comes through. Of a kernel function nobody can change those in the kernel.
    fn way(&self, number: u32) -> Vec<u32> {
        let is_kernel = |number: u32| self.of.functions[number as usize].is_kernel();
        let way = self.whole_way(number);
        match is_kernel(number) && way.iter().any(|&caller| !is_kernel(caller)) {
            true => way.into_iter().filter(|&n| !is_kernel(n)).collect(),
            false => way,
        }
    }

    fn whole_way(&self, number: u32) -> Vec<u32> {
        let mut way = Vec::new();
        let mut at = number;
        while way.len() < WAY {
            let callers = self
                .of
                .calls
                .iter()
                .filter(|((callee, _), _)| *callee == at);
            let sum = |costs: &[f64]| costs.iter().sum::<f64>();
            let most = callers
                .map(|((_, caller), costs)| (*caller, sum(costs)))
                .filter(|(caller, _)| *caller != number && !way.contains(caller))
                .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            let Some((caller, _)) = most else { break };
            way.push(caller);
            at = caller;
        }
        way
    }
}
