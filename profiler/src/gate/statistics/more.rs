//! How many more runs would tell, where these did not.

use super::power::{Power, least};
use super::verdict::{Judged, Rule, Verdict};

/// How often an answer is to be found, if the change is what it seems to be and runs go on varying as they do.
const OFTEN: f64 = 0.8;
/// More runs a side than these nobody makes.
const MOST: usize = 300;
/// With so many a side some exchange of sides is rare enough for any rule (6^-6, for each of 20 entries of a project).
const TELLING: usize = 12;

/// What would decide it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum More {
    /// So many more runs a side would find a change of this size.
    Find(usize, f64),
    /// So many would show that a change of this size is below the threshold.
    Pass(usize, f64),
    /// Runs vary too much; so many a side could decide this threshold.
    Noisy(usize, f64),
    /// The change is about the threshold; so many a side could decide this one.
    Close(usize, f64),
}

/// What would decide `judged`, which is inconclusive and was made of so many runs a side; `rule`: with its own
/// threshold.
pub fn more(judged: &Judged, rule: &Rule, runs: usize) -> Option<More> {
    if judged.verdict != Verdict::Inconclusive {
        return None;
    }
    let power = Power {
        rule,
        deviation: judged.estimate.deviation,
        often: OFTEN,
    };
    let (threshold, change) = (rule.threshold.ln_1p(), judged.estimate.change);
    let (enough, most) = (runs.max(TELLING), runs.saturating_add(MOST));
    let more = |needed: usize| round(needed.saturating_sub(runs) as f64);
    let is_dearer = change > threshold;
    let needed = least(most, |runs| match is_dearer {
        true => power.told(runs) <= change,
        false => power.below(runs) <= threshold - change.max(0.0),
    });
    Some(match needed {
        Some(needed) if is_dearer => More::Find(more(needed), judged.change()),
        Some(needed) => More::Pass(more(needed), judged.change()),
        None if power.below(most) > threshold => {
            More::Noisy(enough, up(power.told(enough).exp_m1()))
        }
        None => More::Close(enough, up((change.max(0.0) + power.below(enough)).exp_m1())),
    })
}

/// Runs are made by twos of a side, and nobody plans 137 of them.
fn round(more: f64) -> usize {
    let step = match more {
        more if more <= 10.0 => 2.0,
        more if more <= 50.0 => 5.0,
        more if more <= 100.0 => 10.0,
        _ => 50.0,
    };
    ((more / step).ceil().max(1.0) * step) as usize
}

/// A threshold that somebody would type.
fn up(share: f64) -> f64 {
    let step = match share {
        share if share < 0.02 => 0.001,
        share if share < 0.05 => 0.005,
        share if share < 0.2 => 0.01,
        _ => 0.05,
    };
    (share / step).ceil() * step
}

#[cfg(test)]
mod tests {
    use super::super::change::Estimate;
    use super::*;

    fn of(change: f64, deviation: f64) -> Judged {
        Judged {
            verdict: Verdict::Inconclusive,
            estimate: Estimate {
                change: f64::ln_1p(change),
                deviation,
                far: 0,
                far_of_head: 0,
            },
            between: (0.0, 0.0),
            p: 0.1,
            level: 0.002,
        }
    }

    #[test]
    fn what_would_decide() {
        let rule = Rule::default();
        // By the normal distribution (2.81 + 0.84) * 0.03 * sqrt(2 / n) is ln 1.05 at 10.1, by Student's at more.
        let Some(More::Find(runs, change)) = more(&of(0.05, 0.03), &rule, 4) else {
            panic!("not found");
        };
        assert_eq!(runs, 10);
        assert!((change - 0.05).abs() < 1e-9);
        // 2 (2.49 * 0.03 / ln 1.02)^2 = 28.4 runs: cheaper counts as no change.
        let passes = more(&of(-0.05, 0.03), &rule, 10);
        assert!(matches!(passes, Some(More::Pass(20, _))), "{passes:?}");
        // No exchange of so few is rare.
        let few = more(&of(0.10, 0.001), &rule, 3);
        assert!(matches!(few, Some(More::Find(6, _))), "{few:?}");
        // 0.3 is far above 2 %; 20 runs a side tell 3.8 * 0.3 * sqrt(2 / 20) = 0.36 as a logarithm.
        let noisy = more(&of(0.01, 0.3), &rule, 20);
        assert!(
            matches!(noisy, Some(More::Noisy(20, least)) if (least - 0.45).abs() < 1e-9),
            "{noisy:?}"
        );
        let close = more(&of(0.0199, 0.01), &rule, 10);
        assert!(
            matches!(close, Some(More::Close(12, least)) if least > 0.0299 && least < 0.04),
            "{close:?}"
        );
        let passed = Judged {
            verdict: Verdict::Passed,
            ..of(0.0, 0.01)
        };
        assert_eq!(more(&passed, &rule, 10), None);
    }
}
