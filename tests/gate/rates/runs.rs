//! Runs that are made up: with what real ones do. They vary, drift, follow each other, and some are far off.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rprof_profiler::gate::statistics::design::Side;

/// How runs differ besides by normal noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// In no other way.
    Normal,
    /// Student's t with three degrees of freedom, of the same quartiles.
    Heavy,
    /// One in twenty takes a fifth longer.
    Outliers,
    /// Each later one takes more, a deviation in ten runs.
    Drift,
    /// Each has half of the one before.
    Follow,
}

impl Shape {
    pub(crate) const ALL: [Self; 5] = [
        Self::Normal,
        Self::Heavy,
        Self::Outliers,
        Self::Drift,
        Self::Follow,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Heavy => "heavy tails",
            Self::Outliers => "1 in 20 is +20 %",
            Self::Drift => "drift",
            Self::Follow => "autocorrelated",
        }
    }
}

/// Runs of each block, in the order in which [`runs`] gives them.
pub(crate) const BLOCK: [Side; 4] = [Side::Base, Side::Base, Side::Head, Side::Head];

/// Side and block of so many blocks' runs.
pub(crate) fn places(blocks: u32) -> Vec<(Side, u32)> {
    let of_block = |block| BLOCK.map(|side| (side, block));
    (0..blocks).flat_map(of_block).collect()
}

/// What the runs of an experiment take: they are made in an order by chance within each block, and given in that
/// of [`places`]. So all experiments have the same exchanges. None has the same chance as one of another setting.
pub(crate) fn runs(blocks: u32, cv: f64, change: f64, shape: Shape, seed: u64) -> Vec<f64> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let setting = (1000.0 * cv) as u64 + 100 * ((100.0 * change) as u64 + 100 * shape as u64);
    chance.set_stream(setting);
    let mut before = normal(&mut chance);
    let mut made = Vec::new();
    for _ in 0..blocks {
        let mut sides = BLOCK;
        sides.shuffle(&mut chance);
        let first = made.len();
        for (n, side) in sides.into_iter().enumerate() {
            let n = (first + n) as f64;
            let z = match shape {
                Shape::Normal | Shape::Outliers => normal(&mut chance),
                Shape::Heavy => student(&mut chance),
                Shape::Drift => normal(&mut chance) + n / 10.0,
                Shape::Follow => 0.5 * before + 0.75f64.sqrt() * normal(&mut chance),
            };
            before = z;
            let is_far = shape == Shape::Outliers && chance.random_bool(0.05);
            let dearer = if side == Side::Head { change } else { 0.0 };
            let far = if is_far { 1.2 } else { 1.0 };
            made.push((side, 1e9 * (cv * z).exp() * far * (1.0 + dearer)));
        }
        made[first..].sort_by_key(|&(side, _)| side);
    }
    made.into_iter().map(|(_, cost)| cost).collect()
}

pub(crate) fn normal(chance: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - chance.random::<f64>(), chance.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn student(chance: &mut ChaCha8Rng) -> f64 {
    let squares: f64 = (0..3).map(|_| normal(chance).powi(2)).sum();
    // Its quartiles are 0.7649, the normal distribution's 0.6745.
    normal(chance) / (squares / 3.0).sqrt() * 0.6745 / 0.7649
}
