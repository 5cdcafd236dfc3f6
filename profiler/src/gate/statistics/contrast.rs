//! One way to put runs on sides, and how much dearer head is in it. What there was and every exchange of it are
//! measured alike, by what is made of all differences head - base within blocks: so a test that compares them is
//! exact, whatever the distribution of runs is, and still knows which run is on which side when it decides what is
//! far off. (A taming that does not know sides takes a part of each real change for something that is far off.)

use super::design::Design;

/// This share of the differences is nearer to their middle than what deviations are counted in.
const NEAR: f64 = 0.65;
/// That quantile of the size of normal noise.
const OF_NORMAL: f64 = 0.9346;
/// Beyond so many deviations a difference is taken to be only so far off, and counts less the farther it is; at twice
/// as many not at all. A run that met a busy neighbour must not decide.
const FAR: f64 = 3.0;
/// No run is measured better than to a part in so many.
const EXACT: f64 = 1e9;

/// What one way to put runs on sides makes of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contrast {
    /// Head minus base.
    pub by: f64,
    /// Squares of what neither blocks nor sides explain, summed over runs, where what is far off is only so far.
    pub squares: f64,
    /// What lies beyond so much of `by` is far off.
    pub far: f64,
}

/// Room to work in, so that none has to be found for each of thousands.
#[derive(Clone, Debug, Default)]
pub struct Room {
    heads: Vec<f64>,
    bases: Vec<f64>,
    differences: Vec<f64>,
    /// Of which some is to be found by its place: whole numbers are compared sooner.
    keys: Vec<i64>,
    /// Runs of either side, of each block.
    counts: Vec<(usize, usize)>,
}

impl Contrast {
    /// Of these figures, where heads are the runs that count more than nothing in `row`.
    ///
    /// Of a block that has one side in it nothing is made.
    pub fn of(design: &Design, row: &[f32], figures: &[f64], room: &mut Room) -> Self {
        room.fill(design, row, figures);
        let middle = room.nth(0.5, |difference| difference);
        let deviation = room.nth(NEAR, |difference| (difference - middle).abs()) / OF_NORMAL;
        // Most of them are alike: then none is far off.
        let unit = if deviation > 0.0 {
            deviation
        } else {
            f64::INFINITY
        };
        let mut sum = Self {
            by: 0.0,
            squares: 0.0,
            far: FAR * unit,
        };
        let (mut weights, mut clipped, mut between) = (0.0, 0.0, 0.0);
        let mut rest = room.differences.as_slice();
        for &(heads, bases) in &room.counts {
            let (of_block, after) = rest.split_at(heads * bases);
            rest = after;
            let (pairs, runs) = ((heads * bases) as f64, (heads + bases) as f64);
            let (mut block, mut squares) = (0.0, 0.0);
            for difference in of_block {
                let off = difference - middle;
                let near = off.clamp(-FAR * unit, FAR * unit);
                block += near;
                squares += near * near;
                sum.by += near * fading(off.abs() / unit) / runs;
            }
            // As in a sum of squares of runs about the mean of their side.
            let within = squares - block * block / pairs;
            sum.squares += within.max(0.0) * of_runs(heads, bases) / runs;
            weights += pairs / runs;
            clipped += block / runs;
            between += block * block / (pairs * runs);
        }
        if weights > 0.0 {
            sum.by = middle + sum.by / weights;
            sum.squares += (between - clipped * clipped / weights).max(0.0);
        }
        sum
    }

    /// How far off no change it is, in units of what runs vary by.
    pub fn surprise(&self, runs: usize) -> f64 {
        self.by / (self.squares / runs.max(1) as f64).sqrt().max(1.0 / EXACT)
    }
}

impl Room {
    /// All differences head - base, block by block.
    fn fill(&mut self, design: &Design, row: &[f32], figures: &[f64]) {
        self.differences.clear();
        self.counts.clear();
        for block in design.blocks() {
            if self.heads.len() < block.len() + 1 {
                self.heads.resize(block.len() + 1, 0.0);
                self.bases.resize(block.len() + 1, 0.0);
            }
            let (mut heads, mut bases) = (0, 0);
            // Which side a run is on is chance: without a branch there is nothing to guess.
            for &run in block {
                self.heads[heads] = figures[run];
                self.bases[bases] = figures[run];
                let is_head = usize::from(row[run] > 0.0);
                heads += is_head;
                bases += 1 - is_head;
            }
            if heads > 0 && bases > 0 {
                self.counts.push((heads, bases));
                for head in &self.heads[..heads] {
                    let differences = self.bases[..bases].iter().map(|base| head - base);
                    self.differences.extend(differences);
                }
            }
        }
    }

    /// What this share of them is less than; of none 0.
    fn nth(&mut self, share: f64, of: impl Fn(f64) -> f64) -> f64 {
        self.keys.clear();
        self.keys
            .extend(self.differences.iter().map(|&d| key(of(d))));
        let count = self.keys.len();
        if count == 0 {
            return 0.0;
        }
        let at = ((share * count as f64 - 0.5).max(0.0) as usize).min(count - 1);
        f64::from_bits(key_bits(*self.keys.select_nth_unstable(at).1))
    }
}

/// A whole number in the order of `f64::total_cmp`.
fn key(of: f64) -> i64 {
    key_bits(of.to_bits() as i64) as i64
}

/// Its own inverse: all bits of a negative number but the first are turned.
fn key_bits(bits: i64) -> u64 {
    (bits ^ (((bits >> 63) as u64) >> 1) as i64) as u64
}

/// What a difference of so many deviations counts.
fn fading(deviations: f64) -> f64 {
    (2.0 - deviations / FAR).clamp(0.0, 1.0)
}

/// Squares of differences of a block within it, by which they are more or less than those of its runs.
fn of_runs(heads: usize, bases: usize) -> f64 {
    let (h, b) = (heads as f64, bases as f64);
    let of_pairs = b * (h - 1.0) + h * (b - 1.0);
    if of_pairs > 0.0 {
        (h + b - 2.0) * (h + b) / of_pairs
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::design::Side::{Base, Head};
    use super::*;

    /// Two blocks, one of which has more heads.
    fn design() -> Design {
        let of_block = |sides: &[_], block| sides.iter().map(move |&side| (side, block)).collect();
        let first: Vec<_> = of_block(&[Base, Head, Head, Base], 0);
        let second = of_block(&[Head, Base, Head, Head, Base], 1);
        Design::new(&[first, second].concat()).unwrap()
    }

    const FIGURES: [f64; 9] = [0.3, 0.9, 1.3, -0.2, 5.8, 5.1, 6.4, 5.9, 5.0];

    fn of(design: &Design, figures: &[f64]) -> Contrast {
        let row: Vec<f32> = design.weights().iter().map(|&w| w as f32).collect();
        Contrast::of(design, &row, figures, &mut Room::default())
    }

    #[test]
    fn the_other_way_round_it_is_as_much_less() {
        let design = design();
        let row: Vec<f32> = design.weights().iter().map(|&w| -w as f32).collect();
        let negative = FIGURES.map(|x| -x);
        let there = of(&design, &FIGURES);
        let back = Contrast::of(&design, &row, &negative, &mut Room::default());
        assert!((there.by - back.by).abs() < 0.2, "{there:?} {back:?}");
        assert!(there.by > 0.5 && there.squares > 0.0);
    }

    #[test]
    fn a_change_moves_it_by_just_that() {
        let design = design();
        let there = of(&design, &FIGURES);
        let mut figures = FIGURES;
        for (figure, side) in figures.iter_mut().zip(design.sides()) {
            *figure += if *side == Head { 7.0 } else { 0.0 };
        }
        let moved = of(&design, &figures);
        assert!((moved.by - there.by - 7.0).abs() < 1e-9);
        assert!((moved.squares - there.squares).abs() < 1e-9);
    }

    #[test]
    fn squares_are_those_of_runs_about_blocks_and_sides() {
        let block = |n| [(Base, n), (Head, n), (Head, n), (Base, n)];
        let design = Design::new(&[block(0), block(1)].concat()).unwrap();
        // Head is 1 more but for the last column; that is what neither explains.
        let figures = [0.0, 1.0, 1.0, 0.0, 5.0, 6.1, 5.9, 5.0];
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        let by = mean(&[1.0, 1.0, 6.1, 5.9]) - mean(&[0.0, 0.0, 5.0, 5.0]);
        let mut squares = 0.0;
        for (block, sides) in figures.chunks(4).zip(design.sides().chunks(4)) {
            let middle = mean(block);
            for (figure, side) in block.iter().zip(sides) {
                let of_side = if *side == Head { by / 2.0 } else { -by / 2.0 };
                squares += (figure - middle - of_side).powi(2);
            }
        }
        let made = of(&design, &figures);
        assert!((made.by - by).abs() < 1e-9, "{made:?}");
        assert!((made.squares - squares).abs() < 1e-9, "{made:?} {squares}");
    }

    #[test]
    fn what_is_far_off_does_not_decide() {
        let design = design();
        let mut figures = FIGURES;
        figures[2] += 50.0;
        let (there, far) = (of(&design, &FIGURES), of(&design, &figures));
        assert!((there.by - far.by).abs() < 0.3, "{there:?} {far:?}");
        assert!(far.squares < 20.0 * there.squares, "{there:?} {far:?}");
    }

    #[test]
    fn of_one_side_nothing_is_made() {
        let design = design();
        let made = Contrast::of(&design, &[1.0; 9], &FIGURES, &mut Room::default());
        assert_eq!((made.by, made.squares), (0.0, 0.0));
        assert_eq!(made.surprise(9), 0.0);
    }
}
