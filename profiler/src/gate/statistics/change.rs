//! How much dearer a run has become, in logarithms: what a change is tested against, and how far it may lie from
//! the estimate. Both come from exchanging sides, and so hold whatever the distribution of runs is.

use super::design::{Design, Exchanges, Side};

/// Beyond so many deviations (of the middle half, as those of a normal distribution) a run is taken to be only
/// so far off: one that met a busy neighbour must not decide.
const FAR: f64 = 4.0;
/// What the median of deviations is multiplied by, to be that of a normal distribution.
const NORMAL: f64 = 1.4826;
/// How often the estimate is made again without what is far off.
const AGAIN: usize = 4;

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
    /// Runs that are taken to be less far off than they were.
    pub far: usize,
}

impl<'a> Costs<'a> {
    /// Of runs that took so long each; all are more than nothing.
    pub fn new(design: &'a Design, costs: &[f64]) -> Self {
        Self {
            design,
            logarithms: costs.iter().map(|cost| cost.ln()).collect(),
        }
    }

    /// How much head takes more than base.
    pub fn estimate(&self) -> Estimate {
        let weights = self.design.weights();
        let mut change = dot(&weights, &self.logarithms);
        let mut far = 0;
        for _ in 0..AGAIN {
            let (tamed, cut) = self.tamed(change);
            change += dot(&weights, &tamed);
            far = cut;
        }
        Estimate {
            change,
            deviation: self.deviation(change),
            far,
        }
    }

    /// What each exchange of sides makes of a change of `change`, where the first is how it was: against a head
    /// that is dearer by just that, it is one of many alike.
    ///
    /// The exchanges may be of more runs, of which these are the first.
    pub fn against(&self, change: f64, exchanges: &Exchanges) -> Vec<f64> {
        exchanges.differences(&self.tamed(change).0)
    }

    /// The least and the largest change that this share of exchanges, on either side, would not call
    /// surprising.
    pub fn interval(&self, estimate: &Estimate, share: f64, exchanges: &Exchanges) -> (f64, f64) {
        let (tamed, _) = self.tamed(estimate.change);
        let (least, most) = bounds(&tamed, share, self.design, exchanges);
        (estimate.change + least, estimate.change + most)
    }

    /// What is left when a change and the middle of each block are taken away, and of how many runs a part was
    /// taken, too, because they were far off. It does not know which run is on which side.
    fn tamed(&self, change: f64) -> (Vec<f64>, usize) {
        let mut left = self.logarithms.clone();
        for (left, side) in left.iter_mut().zip(self.design.sides()) {
            if *side == Side::Head {
                *left -= change;
            }
        }
        let mut size = Vec::new();
        for block in self.design.blocks() {
            let middle = median(block.iter().map(|&n| left[n]).collect());
            for &n in block {
                left[n] -= middle;
                size.push(left[n].abs());
            }
        }
        let far = FAR * NORMAL * median(size);
        let mut cut = 0;
        if far > 0.0 {
            for block in self.design.blocks() {
                for &n in block {
                    cut += usize::from(left[n].abs() > far);
                    left[n] = left[n].clamp(-far, far);
                }
            }
        }
        (left, cut)
    }

    fn deviation(&self, change: f64) -> f64 {
        let (left, _) = self.tamed(change);
        let mut squares = 0.0;
        for block in self.design.blocks() {
            let mean = block.iter().map(|&n| left[n]).sum::<f64>() / block.len() as f64;
            squares += block.iter().map(|&n| (left[n] - mean).powi(2)).sum::<f64>();
        }
        (squares / self.design.degrees_of_freedom().max(1) as f64).sqrt()
    }
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

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The middle of these; of two, between them; of none 0.
pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let at = |at: usize| of.get(at).copied().unwrap_or(0.0);
    match of.len() {
        0 => 0.0,
        n => (at((n - 1) / 2) + at(n / 2)) / 2.0,
    }
}
