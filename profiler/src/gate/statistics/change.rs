//! How much dearer a run has become, in logarithms: what a change is tested against, and how far it may lie from
//! the estimate. Both come from exchanging sides, and so hold whatever the distribution of runs is.

use std::num::NonZero;

use super::contrast::{Contrast, Room};
use super::design::{Design, Exchanges, Side};

/// What a run may have taken: a cost that says less or more is taken to be that.
const COSTS: (f64, f64) = (1e-3, 1e30);
/// Exchanges that bounds are looked for with: they are for people to read.
const FOR_BOUNDS: usize = 2000;
/// How often a bound is made twice as near.
const NEARER: usize = 8;
/// How often one is looked for twice as far away.
const FARTHER: usize = 8;
/// Differences that are worth a thread.
const WORTH: usize = 50_000;

/// Logarithms of what each run took, in the order of the design.
#[derive(Clone, Debug)]
pub struct Costs<'a> {
    design: &'a Design,
    logarithms: Vec<f64>,
}

/// A change, as a logarithm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Head over base.
    pub change: f64,
    /// Deviation of one run within its block and side.
    pub deviation: f64,
    /// Runs that are far off most of the others of their block, and count less or not at all.
    pub far: usize,
    /// Those of head among them.
    pub far_of_head: usize,
}

impl<'a> Costs<'a> {
    /// Of runs that took so long each.
    pub fn new(design: &'a Design, costs: &[f64]) -> Self {
        let (least, most) = COSTS;
        // The larger of no number and a number is the number.
        let logarithm = |cost: &f64| cost.max(least).min(most).ln();
        Self {
            design,
            logarithms: costs.iter().map(logarithm).collect(),
        }
    }

    /// How much head takes more than base.
    pub fn estimate(&self) -> Estimate {
        let row: Vec<f32> = self.design.weights().iter().map(|&w| w as f32).collect();
        let contrast = Contrast::of(self.design, &row, &self.logarithms, &mut Room::default());
        let free = self.design.degrees_of_freedom().max(1) as f64;
        let far = self.far(&contrast);
        let sides = self.design.sides();
        Estimate {
            change: contrast.by,
            deviation: (contrast.squares / free).sqrt(),
            far: far.len(),
            far_of_head: far.iter().filter(|&&run| sides[run] == Side::Head).count(),
        }
    }

    /// How surprising each exchange of sides makes a change of `change`, where the first is how it was: against a
    /// head that is dearer by just that, it is one of many alike.
    ///
    /// The exchanges may be of more runs, of which these are the first.
    pub fn against(&self, change: f64, exchanges: &Exchanges) -> Vec<f64> {
        let left = self.without(change);
        let rows: Vec<&[f32]> = exchanges.rows().collect();
        let mut made = vec![0.0; rows.len()];
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = (rows.len() * self.design.differences() / WORTH).clamp(1, cores);
        let each = rows.len().div_ceil(threads).max(1);
        let fill = |rows: &[&[f32]], made: &mut [f64]| {
            let mut room = Room::default();
            for (row, made) in rows.iter().zip(made) {
                *made = self.surprise(row, &left, &mut room);
            }
        };
        std::thread::scope(|scope| {
            let mut parts = rows.chunks(each).zip(made.chunks_mut(each));
            let own = parts.next();
            for (rows, made) in parts {
                scope.spawn(move || fill(rows, made));
            }
            if let Some((rows, made)) = own {
                fill(rows, made);
            }
        });
        made
    }

    /// The least change that is not too small, and the largest that is not too large, to be one of which the
    /// runs are no surprise: what this share of exchanges makes is more surprising still. Infinite: no change
    /// would be.
    ///
    /// Of `threshold` it is known whether it `is_above`.
    pub fn interval(
        &self,
        estimate: &Estimate,
        share: f64,
        exchanges: &Exchanges,
        threshold: f64,
        is_above: bool,
    ) -> (f64, f64) {
        if share * (exchanges.len() as f64) < 1.0 {
            return (f64::NEG_INFINITY, f64::INFINITY);
        }
        let rows: Vec<&[f32]> = exchanges.rows().take(FOR_BOUNDS).collect();
        let may = (share * rows.len() as f64).max(1.0) as usize;
        let runs = self.design.runs().max(1) as f64;
        let step = 4.0 * estimate.deviation.max(1e-9) / runs.sqrt();
        // With `up` 1 what is too large is looked for, with -1 what is too small.
        let too_far = |change: f64, up: f64| self.is_surprise(change, -up, &rows, may);
        let bound = |from: f64, known: Option<f64>, up: f64| {
            let (mut near, mut far) = (from, known);
            for n in 0..FARTHER {
                if far.is_some() {
                    break;
                }
                let next = from + up * step * f64::from(1u32 << n);
                match too_far(next, up) {
                    true => far = Some(next),
                    false => near = next,
                }
            }
            let Some(mut far) = far else {
                return up * f64::INFINITY;
            };
            for _ in 0..NEARER {
                let middle = (near + far) / 2.0;
                match too_far(middle, up) {
                    true => far = middle,
                    false => near = middle,
                }
            }
            (near + far) / 2.0
        };
        let change = estimate.change;
        let (from, known) = match is_above {
            true => (change, Some(threshold)),
            false => (change.max(threshold), None),
        };
        std::thread::scope(|scope| {
            let least = scope.spawn(|| bound(change, None, -1.0));
            let most = bound(from, known, 1.0);
            (least.join().unwrap_or(f64::NEG_INFINITY), most)
        })
    }

    /// Whether no more than so many of these exchanges, of which the first is how it was, are as surprising if head
    /// is dearer by `change`: as it is dearer than that (`up` 1), or cheaper (-1).
    pub fn is_surprise(&self, change: f64, up: f64, rows: &[&[f32]], may: usize) -> bool {
        let left = self.without(change);
        let mut room = Room::default();
        let mut made = rows
            .iter()
            .map(|row| up * self.surprise(row, &left, &mut room));
        let Some(was) = made.next() else {
            return false;
        };
        let mut as_much = 1;
        as_much <= may
            && made.all(|made| {
                as_much += usize::from(made >= was - close(was));
                as_much <= may
            })
    }

    fn surprise(&self, row: &[f32], figures: &[f64], room: &mut Room) -> f64 {
        Contrast::of(self.design, row, figures, room).surprise(self.design.runs())
    }

    /// Where head is cheaper by `change`.
    fn without(&self, change: f64) -> Vec<f64> {
        let both = self.logarithms.iter().zip(self.design.sides());
        both.map(|(logarithm, side)| match side {
            Side::Head => logarithm - change,
            Side::Base => *logarithm,
        })
        .collect()
    }

    /// Runs most of whose differences are far off.
    fn far(&self, contrast: &Contrast) -> Vec<usize> {
        let left = self.without(contrast.by);
        let sides = self.design.sides();
        let is_far = |block: &[usize], run: usize| {
            let others = block.iter().filter(|&&other| sides[other] != sides[run]);
            let (far, all) = others.fold((0, 0), |(far, all), &other| {
                let is_far = (left[run] - left[other]).abs() > contrast.far;
                (far + usize::from(is_far), all + 1)
            });
            2 * far > all
        };
        let of_block = |block| std::iter::repeat(block).zip(block);
        let runs = self.design.blocks().flat_map(of_block);
        runs.filter(|(block, run)| is_far(block, **run))
            .map(|(_, &run)| run)
            .collect()
    }
}

/// Sums of the same numbers in another order differ in the last places.
pub fn close(made: f64) -> f64 {
    1e-6 * made.abs()
}

/// Figures from which the estimated change was taken away: how much less, and how much more, it may be. Beyond
/// either lies this share of exchanges.
pub fn bounds(left: &[f64], share: f64, design: &Design, exchanges: &Exchanges) -> (f64, f64) {
    let differences = exchanges.differences(left);
    let heads: Vec<f64> = (design.sides().iter())
        .map(|side| f64::from(u8::from(*side == Side::Head)))
        .collect();
    let kept = exchanges.differences(&heads);
    let was = differences.first().copied().unwrap_or(0.0);
    // Of a head that is dearer by `d` more than the estimate, an exchange that leaves a share of sides as it was
    // makes `difference - d * kept`, and how it was `was - d`.
    let mut bounds: Vec<f64> = (differences.iter().zip(&kept))
        .filter(|(_, kept)| **kept < 1.0 - 1e-6)
        .map(|(difference, kept)| (was - difference) / (1.0 - kept))
        .collect();
    bounds.sort_by(f64::total_cmp);
    // How it was is always among those that are as far off.
    let beyond = (share * exchanges.len() as f64 + 1e-6).floor() as usize;
    let bound = |at: Option<usize>| at.and_then(|at| bounds.get(at)).copied();
    let least = bound(beyond.checked_sub(1)).unwrap_or(f64::NEG_INFINITY);
    let most = bound(bounds.len().checked_sub(beyond).filter(|_| beyond > 0));
    (least, most.unwrap_or(f64::INFINITY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design() -> Design {
        let block = |n| {
            [
                (Side::Base, n),
                (Side::Head, n),
                (Side::Head, n),
                (Side::Base, n),
            ]
        };
        let runs: Vec<_> = (0..5).flat_map(block).collect();
        Design::new(&runs).unwrap()
    }

    /// About 3 % dearer; one of base is far off.
    fn costs(design: &Design) -> Vec<f64> {
        let mut costs: Vec<f64> = (0..20u32)
            .map(|n| 1e9 + 1e6 * f64::from(n * 7 % 20))
            .collect();
        for (cost, side) in costs.iter_mut().zip(design.sides()) {
            *cost *= if *side == Side::Head { 1.03 } else { 1.0 };
        }
        costs[7] *= 1.5;
        costs
    }

    #[test]
    fn an_estimate() {
        let design = design();
        let estimate = Costs::new(&design, &costs(&design)).estimate();
        assert!((0.02..0.04).contains(&estimate.change), "{estimate:?}");
        // The numbers 0 to 19 have a deviation of 5.9; the one that is far off adds what it may.
        assert!((0.004..0.011).contains(&estimate.deviation), "{estimate:?}");
        assert_eq!(estimate.far, 1);
    }

    #[test]
    fn a_bound_is_on_the_side_of_the_threshold_that_is_known() {
        let design = design();
        let exchanges = design.exchanges(10_000, 1);
        let costs = costs(&design);
        let costs = Costs::new(&design, &costs);
        let estimate = costs.estimate();
        let most = |threshold, is_above| {
            let between = costs.interval(&estimate, 0.05, &exchanges, threshold, is_above);
            assert!(between.0 < estimate.change && estimate.change < between.1);
            between.1
        };
        let bound = most(0.0, false);
        for off in [-0.4, -0.01, 0.01, 0.4] {
            let threshold = estimate.change + (1.0 + off) * (bound - estimate.change);
            assert!(most(threshold, true) < threshold, "{off}");
            assert!(most(threshold, false) >= threshold, "{off}");
        }
        let none = costs.interval(&estimate, 1e-5, &exchanges, 0.02, false);
        assert_eq!(none, (f64::NEG_INFINITY, f64::INFINITY));
    }
}
