//! How often the gate is wrong: runs are made up, with what real ones do (they vary, drift, follow each other, and
//! some are far off), and judged by the gate's own code. Started by `cargo xtask gate-bench`.

use std::process::ExitCode;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rprof_profiler::gate::statistics::design::Side;
use rprof_profiler::gate::statistics::verdict::{Rule, Verdict, judge};

/// How runs differ besides by normal noise.
#[derive(Clone, Copy, Debug)]
enum Shape {
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

/// Runs of each block.
const BLOCK: [Side; 4] = [Side::Base, Side::Base, Side::Head, Side::Head];

/// Runs of an experiment: blocks of four, in an order by chance.
fn runs(
    blocks: u32,
    cv: f64,
    change: f64,
    shape: Shape,
    chance: &mut ChaCha8Rng,
) -> Vec<(Side, u32, f64)> {
    let mut before = normal(chance);
    let mut made = Vec::new();
    for block in 0..blocks {
        let mut sides = BLOCK;
        sides.shuffle(chance);
        for side in sides {
            let n = made.len() as f64;
            let z = match shape {
                Shape::Normal => normal(chance),
                Shape::Heavy => student(chance),
                Shape::Outliers => normal(chance),
                Shape::Drift => normal(chance) + n / 10.0,
                Shape::Follow => 0.5 * before + 0.75f64.sqrt() * normal(chance),
            };
            before = z;
            let far = matches!(shape, Shape::Outliers) && chance.random_bool(0.05);
            let mut cost = 1e9 * (cv * z).exp();
            cost *= if far { 1.2 } else { 1.0 };
            cost *= if side == Side::Head {
                1.0 + change
            } else {
                1.0
            };
            made.push((side, block, cost));
        }
    }
    made
}

fn normal(chance: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - chance.random::<f64>(), chance.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn student(chance: &mut ChaCha8Rng) -> f64 {
    let squares: f64 = (0..3).map(|_| normal(chance).powi(2)).sum();
    // Its quartiles are 0.7649, the normal distribution's 0.6745.
    normal(chance) / (squares / 3.0).sqrt() * 0.6745 / 0.7649
}

/// Verdicts of many experiments: passed, regressed, inconclusive.
#[derive(Clone, Copy, Default)]
struct Verdicts([u64; 3]);

impl Verdicts {
    fn share(&self, of: Verdict) -> f64 {
        let all: u64 = self.0.iter().sum();
        100.0 * self.0[of as usize] as f64 / all as f64
    }
}

fn verdicts(
    experiments: u64,
    blocks: u32,
    looks: &[usize],
    cv: f64,
    change: f64,
    shape: Shape,
) -> Verdicts {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let each = |core: u64| {
        let mut verdicts = Verdicts::default();
        for n in (core..experiments).step_by(cores as usize) {
            let mut chance = ChaCha8Rng::seed_from_u64(n);
            let runs = runs(blocks, cv, change, shape, &mut chance);
            verdicts.0[one(&runs, looks) as usize] += 1;
        }
        verdicts
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| scope.spawn(move || each(core)))
            .collect();
        let mut sum = Verdicts::default();
        for thread in threads {
            let of = thread.join().expect("no panic");
            sum.0.iter_mut().zip(of.0).for_each(|(sum, n)| *sum += n);
        }
        sum
    })
}

/// As `rprof gate run` would: it ends at the first look that decides.
fn one(runs: &[(Side, u32, f64)], looks: &[usize]) -> Verdict {
    let all = [runs.len()];
    let mut last = Verdict::Inconclusive;
    for &look in looks.iter().chain(&all) {
        let judged = judge(&runs[..look], looks, runs.len(), &Rule::default(), 1);
        last = judged.expect("blocks of both sides").verdict;
        if last != Verdict::Inconclusive {
            break;
        }
    }
    last
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let experiments = match words.as_slice() {
        [] => 1000,
        [n] => n.parse().expect("how many experiments"),
        _ => return ExitCode::from(2),
    };
    println!(
        "10 runs a side, threshold 2 %, {experiments} experiments each; % passed / regressed / inconclusive\n"
    );
    println!(
        "| runs vary by | shape | nothing changed | 5 % dearer | nothing changed, looked at from 6 runs on | 5 % dearer, looked at |"
    );
    println!("|---|---|---|---|---|---|");
    for cv in [0.005, 0.01, 0.02, 0.05] {
        for shape in [
            Shape::Normal,
            Shape::Heavy,
            Shape::Outliers,
            Shape::Drift,
            Shape::Follow,
        ] {
            let of = |change, looks: &[usize]| {
                let of = verdicts(experiments, 5, looks, cv, change, shape);
                let share = |verdict| of.share(verdict);
                format!(
                    "{:.1} / {:.1} / {:.1}",
                    share(Verdict::Passed),
                    share(Verdict::Regressed),
                    share(Verdict::Inconclusive)
                )
            };
            println!(
                "| {} % | {shape:?} | {} | {} | {} | {} |",
                100.0 * cv,
                of(0.0, &[]),
                of(0.05, &[]),
                of(0.0, &[12, 16]),
                of(0.05, &[12, 16]),
            );
        }
    }
    ExitCode::SUCCESS
}
