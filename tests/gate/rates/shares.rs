//! Who compares shares of samples: functions that differ from run to run, and samples of them.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::experiments::{each, percent};
use crate::peers::share_grew;
use crate::runs::normal;

const FUNCTIONS: usize = 50;
/// Runs a side.
const RUNS: usize = 10;
/// Samples of a run: ten seconds at 1 kHz.
const SAMPLES: f64 = 10_000.0;
/// The function that grows: the second most expensive one, with 11 % of all.
const GUILTY: usize = 1;

pub(crate) fn table(experiments: u64) {
    println!(
        "\n## Shares of samples\n\nA test of two proportions at 5 % on pooled samples: {FUNCTIONS} functions (the \
         n-th has 1/n of what the first has) whose cost varies from run to run, {RUNS} runs a side of {SAMPLES} samples. \
         With 5 % more in all, one function has grown by nearly half. {experiments} experiments each.\n"
    );
    println!(
        "| functions vary by | nothing changed: functions said to have grown | some function in | 5 % dearer: the \
         one that grew is found | functions said to have grown that did not |\n|---|---|---|---|---|"
    );
    for cv in [0.0, 0.005, 0.01, 0.02, 0.05] {
        let [grown, some, _] = of(experiments, cv, 0.0);
        let [innocent, _, guilty] = of(experiments, cv, 0.05);
        let innocent = innocent - guilty;
        println!(
            "| {} % | {} % | {} % | {} % | {} % |",
            100.0 * cv,
            percent(grown, experiments * FUNCTIONS as u64),
            percent(some, experiments),
            percent(guilty, experiments),
            percent(innocent, experiments * (FUNCTIONS as u64 - 1)),
        );
    }
}

/// Functions that are said to have grown, experiments with any, and with the one that did.
fn of(experiments: u64, cv: f64, change: f64) -> [u64; 3] {
    each(experiments, |n, sums: &mut [u64; 3]| {
        let mut chance = ChaCha8Rng::seed_from_u64(n);
        let base = samples(cv, 0.0, &mut chance);
        let head = samples(cv, change, &mut chance);
        let sum = |of: &[f64]| of.iter().sum::<f64>();
        let (of_base, of_head) = (sum(&base), sum(&head));
        let grew: Vec<bool> = (base.iter().zip(&head))
            .map(|(&base, &head)| share_grew((base, of_base), (head, of_head)))
            .collect();
        let grown = grew.iter().filter(|grew| **grew).count();
        sums[0] += grown as u64;
        sums[1] += u64::from(grown > 0);
        sums[2] += u64::from(grew[GUILTY]);
    })
}

/// Samples of each function in all runs of a side.
fn samples(cv: f64, change: f64, chance: &mut ChaCha8Rng) -> Vec<f64> {
    let all: f64 = (1..=FUNCTIONS).map(|n| 1.0 / n as f64).sum();
    let mut of_function = |n: usize| -> f64 {
        let more = if n == GUILTY { change } else { 0.0 };
        let share = 1.0 / (n + 1) as f64 / all + more;
        let mut of_run = |_| {
            // Dozens at least: the normal distribution is near to Poisson's.
            let expected = SAMPLES * share * (cv * normal(chance)).exp();
            (expected + expected.sqrt() * normal(chance)).max(0.0)
        };
        (0..RUNS).map(&mut of_run).sum()
    };
    (0..FUNCTIONS).map(&mut of_function).collect()
}
