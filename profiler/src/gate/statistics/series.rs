//! Runs of the same thing in the order in which they were made: how they vary, whether they drift, and whether
//! neighbours are alike.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// What a series is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Series {
    /// The mean, as the figures are.
    pub mean: f64,
    /// Deviation of one figure, in parts of the mean.
    pub deviation: f64,
    /// How much a straight line through the figures rises from the first to the last, in parts of the mean.
    pub drift: f64,
    /// How often chance makes such a rise or fall, or a greater one, of figures that do not drift (a t-test of the
    /// slope).
    pub drift_p: f64,
    /// How a figure goes with the next one: 1 as it, 0 not at all (correlation at lag one).
    pub neighbours: f64,
}

impl Series {
    /// Of at least three figures, each more than nothing; less say nothing.
    pub fn of(figures: &[f64]) -> Self {
        let n = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / n.max(1.0);
        let parts: Vec<f64> = figures.iter().map(|figure| figure / mean - 1.0).collect();
        let squares: f64 = parts.iter().map(|part| part * part).sum();
        let middle = (n - 1.0) / 2.0;
        let at = |n: usize| n as f64 - middle;
        let spread: f64 = (0..parts.len()).map(|n| at(n).powi(2)).sum();
        let along: f64 = (0..).zip(&parts).map(|(n, part)| at(n) * part).sum();
        let slope = if spread > 0.0 { along / spread } else { 0.0 };
        let next: f64 = parts.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let left = (squares - slope * along).max(0.0);
        Self {
            mean,
            deviation: (squares / (n - 1.0).max(1.0)).sqrt(),
            drift: slope * (n - 1.0).max(0.0),
            drift_p: chance(slope, left, spread, n - 2.0),
            neighbours: if squares > 0.0 { next / squares } else { 0.0 },
        }
    }
}

/// Of a slope, where squares of `left` are not explained by it.
fn chance(slope: f64, left: f64, spread: f64, freedom: f64) -> f64 {
    let Ok(distribution) = StudentsT::new(0.0, 1.0, freedom) else {
        return 1.0;
    };
    let error = (left / freedom / spread).sqrt();
    if slope == 0.0 {
        return 1.0;
    }
    2.0 * distribution.cdf(-(slope / error).abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_drift() {
        let figures = [100.0, 102.0, 99.0, 101.0, 98.0, 101.0, 99.0, 100.0];
        let series = Series::of(&figures);
        assert_eq!(series.mean, 100.0);
        // By hand: squares 0, 4, 1, 1, 4, 1, 1, 0 of 7 degrees.
        assert!((series.deviation - (12.0f64 / 7.0).sqrt() / 100.0).abs() < 1e-12);
        assert!(series.drift_p > 0.3, "{series:?}");
        assert!(series.neighbours < 0.0, "{series:?}");
    }

    #[test]
    fn what_drifts() {
        let wobble = [0.1, -0.1, 0.0, 0.1, -0.1];
        let figures: Vec<f64> = (0..20)
            .map(|n| 100.0 + 0.5 * n as f64 + wobble[n % 5])
            .collect();
        let series = Series::of(&figures);
        assert!(
            (series.drift - 9.5 / series.mean).abs() < 0.003,
            "{series:?}"
        );
        assert!(
            series.drift_p < 1e-6 && series.neighbours > 0.6,
            "{series:?}"
        );
    }

    #[test]
    fn too_few_or_all_the_same() {
        for figures in [&[][..], &[5.0], &[5.0, 5.0], &[5.0; 9]] {
            let series = Series::of(figures);
            assert_eq!(
                (series.drift_p, series.neighbours),
                (1.0, 0.0),
                "{figures:?}"
            );
        }
    }
}
