//! What others do with the same figures: one run against one, benchstat's test, and shares of samples.

use rprof_profiler::gate::statistics::design::Side;

/// A run may be so much dearer than another where one is compared with one.
pub(crate) const THRESHOLD: f64 = 0.02;
/// The chance to be wrong that benchstat, and who compares shares, takes.
const CHANCE: f64 = 0.05;
/// So many deviations or more are by chance in 5 % of cases: a normal distribution's upper quantile.
const DEVIATIONS: f64 = 1.6449;

/// One run against one.
pub(crate) fn single(base: f64, head: f64) -> bool {
    head > base * (1.0 + THRESHOLD)
}

/// As `golang.org/x/perf/cmd/benchstat` (`benchmath`): Mann and Whitney's U, two-sided and exact, at 0.05; of what
/// differs, medians say which way.
pub(crate) fn benchstat(base: &[f64], head: &[f64]) -> bool {
    mann_whitney(base, head) <= CHANCE && median(head) > median(base)
}

/// How often ranks differ as much by chance, two-sided; of what is equal each has the mean of the ranks.
pub(crate) fn mann_whitney(base: &[f64], head: &[f64]) -> f64 {
    let mut all: Vec<(f64, Side)> = base.iter().map(|&cost| (cost, Side::Base)).collect();
    all.extend(head.iter().map(|&cost| (cost, Side::Head)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Twice each rank, so that it is a whole number.
    let mut ranks = Vec::new();
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let first = ranks.len() + 1;
        ranks.extend(equal.iter().map(|_| 2 * first + equal.len() - 1));
    }
    let of_head = (ranks.iter().zip(&all)).filter(|(_, (_, side))| *side == Side::Head);
    let sum: usize = of_head.map(|(rank, _)| rank).sum();
    // In how many ways so many ranks have each sum.
    let most: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0f64; most + 1]; head.len() + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for many in (1..=head.len()).rev() {
            let (fewer, more) = ways.split_at_mut(many);
            let (fewer, more) = (&fewer[many - 1], &mut more[0]);
            more[rank..]
                .iter_mut()
                .zip(fewer)
                .for_each(|(more, fewer)| *more += fewer);
        }
    }
    let ways = &ways[head.len()];
    let share = |of: &[f64]| of.iter().sum::<f64>() / ways.iter().sum::<f64>();
    (2.0 * share(&ways[..=sum]).min(share(&ways[sum..]))).min(1.0)
}

/// Whether a function's share of all samples of head is larger than of base's, as if each sample were a run of its
/// own: a test of two proportions (chi-square's root) at 5 %, one-sided.
pub(crate) fn share_grew(base: (f64, f64), head: (f64, f64)) -> bool {
    let ((of_base, base), (of_head, head)) = (base, head);
    let both = (of_base + of_head) / (base + head);
    let deviation = (both * (1.0 - both) * (1.0 / base + 1.0 / head)).sqrt();
    deviation > 0.0 && (of_head / head - of_base / base) / deviation > DEVIATIONS
}

fn median(of: &[f64]) -> f64 {
    let mut of = of.to_vec();
    of.sort_by(f64::total_cmp);
    (of[(of.len() - 1) / 2] + of[of.len() / 2]) / 2.0
}

/// Panics where a test does not say what tables do.
pub(crate) fn check() {
    let base: Vec<f64> = (0..10).map(f64::from).collect();
    // The least of 10 and 10: 2 / 184756. U of 23 is the most at 0.05, two-sided (Mann and Whitney's tables).
    let above: Vec<f64> = base.iter().map(|x| x + 20.0).collect();
    assert!((mann_whitney(&base, &above) - 2.0 / 184_756.0).abs() < 1e-12);
    let by = |n: f64| -> Vec<f64> { base.iter().map(|x| x + n + 0.5).collect() };
    // Of equal steps, so many later: U is 45, 36, 28 and 21.
    assert!(mann_whitney(&base, &by(2.0)) > 0.05);
    assert!(mann_whitney(&base, &by(3.0)) < 0.05);
    assert!(mann_whitney(&[1.0; 5], &[1.0; 5]) == 1.0);
}
