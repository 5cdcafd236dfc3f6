//! Looking at the same runs again and again, as they become more: each look has a part of the chance to be wrong,
//! and looks that would say the same do not pay for it twice.

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
        // A product may be just below the number that it is.
        let may = (spent * exchanges as f64 + 1e-6).floor() as usize;
        let Some(more) = may.checked_sub(before).filter(|more| *more > 0) else {
            continue;
        };
        let mut left: Vec<f64> = (look.iter().zip(&beyond))
            .filter(|(_, beyond)| !**beyond)
            .map(|(made, _)| *made)
            .collect();
        left.sort_by(|a, b| b.total_cmp(a));
        let (Some(&most), Some(&last)) = (left.first(), left.get(more)) else {
            continue;
        };
        // Of those that are equal all are beyond, or none is.
        let last = last + 1e-6 * most.abs();
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
}
