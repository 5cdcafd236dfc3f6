//! Looking at the same runs again and again, as they become more: each look has a part of the chance to be wrong,
//! and looks that would say the same do not pay for it twice.

use super::change::close;

/// The share of all chance to be wrong that is spent when this share of the planned runs is there. Early looks have
/// little of it (an eighth, at half of the runs): they are for what is plain to see, and the last one is hardly worse
/// than one that had all.
pub fn spent(runs: f64) -> f64 {
    runs.clamp(0.0, 1.0).powi(3)
}

/// How many of these exchanges may make as much as how it was, with this chance to be wrong.
pub fn may(chance: f64, exchanges: usize) -> usize {
    // A product may be just below the number that it is.
    (chance * exchanges as f64 + 1e-6).floor() as usize
}

/// Of all exchanges, the share that may make as much as how it was does, at the last of several looks, before that
/// is no surprise.
///
/// `looks` has for each look what each exchange makes of the runs that were there then (the same exchanges at each),
/// and `spent` the chance to be wrong at that look or an earlier one.
pub fn level(looks: &[Vec<f64>], spent: &[f64]) -> f64 {
    let exchanges = looks.first().map_or(0, Vec::len);
    let mut beyond = vec![false; exchanges];
    let mut level = 0.0;
    for (look, spent) in looks.iter().zip(spent) {
        level = 0.0;
        let before = beyond.iter().filter(|beyond| **beyond).count();
        let Some(more) = may(*spent, exchanges)
            .checked_sub(before)
            .filter(|more| *more > 0)
        else {
            continue;
        };
        let mut left: Vec<f64> = (look.iter().zip(&beyond))
            .filter(|(_, beyond)| !**beyond)
            .map(|(made, _)| *made)
            .collect();
        if left.len() <= more {
            continue;
        }
        // Of those that are equal all are beyond, or none is.
        let last = *left.select_nth_unstable_by(more, |a, b| b.total_cmp(a)).1;
        let last = last + close(last);
        for (beyond, made) in beyond.iter_mut().zip(look) {
            *beyond |= *made > last;
        }
        let there = look.iter().filter(|made| **made > last).count();
        level = there as f64 / exchanges as f64;
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0, 1, 2, … in an order of no meaning.
    fn shuffled(factor: usize) -> Vec<f64> {
        (0..1009).map(|n| (n * factor % 1009) as f64).collect()
    }

    #[test]
    fn one_look_has_all() {
        assert_eq!(level(&[shuffled(7)], &[0.05]), 50.0 / 1009.0);
        assert_eq!(level(&[shuffled(7)], &[0.0005]), 0.0);
    }

    #[test]
    fn a_look_that_says_the_same_costs_nothing() {
        let look = shuffled(7);
        assert_eq!(level(&[look.clone(), look], &[0.02, 0.05]), 50.0 / 1009.0);
    }

    #[test]
    fn a_look_that_says_something_else_has_what_is_left() {
        let level = level(&[shuffled(7), shuffled(500)], &[0.02, 0.05]);
        assert!((0.029..0.033).contains(&level), "{level}");
    }

    #[test]
    fn equal_ones_are_not_beyond_each_other() {
        assert_eq!(level(&[vec![1.0; 1000]], &[0.05]), 0.0);
    }

    #[test]
    fn little_is_spent_early() {
        assert_eq!(
            (spent(0.0), spent(0.5), spent(1.0), spent(2.0)),
            (0.0, 0.125, 1.0, 1.0)
        );
        assert_eq!(
            (may(0.0025, 10_000), may(0.05, 19), may(0.3, 10)),
            (25, 0, 3)
        );
    }

    #[test]
    fn what_is_left_at_the_end_is_almost_all() {
        // Seven looks of the same: the last has all but what is equal.
        let look = shuffled(7);
        let spent: Vec<f64> = (4..=10)
            .map(|n| 0.05 * spent(f64::from(n) / 10.0))
            .collect();
        assert_eq!(level(&vec![look; 7], &spent), 50.0 / 1009.0);
    }
}
