//! Which runs may be exchanged for which: sides, and blocks of runs that were made close to each other. What drifts
//! from block to block has no part in a comparison within them.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Runs of one block, where they were interleaved.
pub const BLOCK: usize = 4;
/// Exchanges of sides that are looked at, at most.
pub const EXCHANGES: usize = 10_000;

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// What was there before.
    Base,
    /// What is to take its place.
    Head,
}

/// Runs in the order in which they were made.
#[derive(Clone, Debug)]
pub struct Design {
    sides: Vec<Side>,
    /// The runs of each block that has both sides, and how much its difference counts: 1 in all.
    blocks: Vec<(Vec<usize>, f64)>,
}

/// The same runs with sides exchanged within blocks, in each way that there is or in many of them by chance. The
/// first of them is how it was.
#[derive(Clone, Debug)]
pub struct Exchanges {
    runs: usize,
    /// For each exchange what each run counts in head minus base.
    weights: Vec<f32>,
}

impl Design {
    /// Of runs with the number of their blocks. `None`: no block has both sides.
    pub fn new(runs: &[(Side, u32)]) -> Option<Self> {
        let mut numbers: Vec<u32> = runs.iter().map(|&(_, block)| block).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut blocks = Vec::new();
        for number in numbers {
            let of: Vec<usize> = (0..runs.len()).filter(|&n| runs[n].1 == number).collect();
            let heads = of.iter().filter(|&&n| runs[n].0 == Side::Head).count();
            let bases = of.len() - heads;
            if heads > 0 && bases > 0 {
                let counts = (heads * bases) as f64 / (heads + bases) as f64;
                blocks.push((of, counts));
            }
        }
        let all: f64 = blocks.iter().map(|(_, counts)| counts).sum();
        blocks.iter_mut().for_each(|(_, counts)| *counts /= all);
        (!blocks.is_empty()).then(|| Self {
            sides: runs.iter().map(|&(side, _)| side).collect(),
            blocks,
        })
    }

    /// How many there are.
    pub fn runs(&self) -> usize {
        self.sides.len()
    }

    /// The side of each.
    pub fn sides(&self) -> &[Side] {
        &self.sides
    }

    /// Runs of blocks that have both sides.
    pub fn blocks(&self) -> impl Iterator<Item = &[usize]> {
        self.blocks.iter().map(|(runs, _)| runs.as_slice())
    }

    /// Differences head - base within blocks.
    pub fn differences(&self) -> usize {
        let of_block = |block: &[usize]| {
            let heads = block.iter().filter(|&&n| self.sides[n] == Side::Head);
            let heads = heads.count();
            heads * (block.len() - heads)
        };
        self.blocks().map(of_block).sum()
    }

    /// What each run counts in head minus base.
    pub fn weights(&self) -> Vec<f64> {
        self.weights_of(&self.sides)
    }

    fn weights_of(&self, sides: &[Side]) -> Vec<f64> {
        let mut weights = vec![0.0; sides.len()];
        for (block, counts) in &self.blocks {
            let heads = block.iter().filter(|&&n| sides[n] == Side::Head).count();
            let bases = block.len() - heads;
            for &n in block {
                weights[n] = match sides[n] {
                    Side::Head => counts / heads as f64,
                    Side::Base => -counts / bases as f64,
                };
            }
        }
        weights
    }

    /// What is left for chance: runs less what blocks and sides explain.
    pub fn degrees_of_freedom(&self) -> usize {
        let runs: usize = self.blocks().map(<[usize]>::len).sum();
        runs.saturating_sub(self.blocks.len() + 1)
    }

    /// In how many ways sides can be exchanged.
    pub fn ways(&self) -> f64 {
        let of_block = |block: &[usize]| {
            let heads = block.iter().filter(|&&n| self.sides[n] == Side::Head);
            choose(block.len(), heads.count())
        };
        self.blocks().map(of_block).product()
    }

    /// All ways to exchange them, if there are no more than `most`; else so many of them by chance. But for the
    /// first, they are in no order.
    pub fn exchanges(&self, most: usize, seed: u64) -> Exchanges {
        let mut sides = self.sides.clone();
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut weights: Vec<f32> = Vec::new();
        let mut add = |sides: &[Side]| {
            weights.extend(self.weights_of(sides).iter().map(|&weight| weight as f32));
        };
        add(&sides);
        if self.ways() <= most as f64 {
            let blocks: Vec<&[usize]> = self.blocks().collect();
            each(&blocks, &mut sides, &mut |sides| {
                if sides != self.sides {
                    add(sides);
                }
            });
            // The first of them are to be as good as any.
            let mut others: Vec<&[f32]> = weights.chunks_exact(self.runs()).skip(1).collect();
            others.shuffle(&mut chance);
            let others = others.concat();
            weights.truncate(self.runs());
            weights.extend(others);
        } else {
            for _ in 1..most {
                for block in self.blocks() {
                    let mut of: Vec<Side> = block.iter().map(|&n| sides[n]).collect();
                    of.shuffle(&mut chance);
                    block.iter().zip(of).for_each(|(&n, side)| sides[n] = side);
                }
                add(&sides);
            }
        }
        Exchanges {
            runs: self.runs(),
            weights,
        }
    }
}

impl Exchanges {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.weights.len() / self.runs
    }

    /// Never: how it was is one of them.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What each run counts, of each exchange.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.weights.chunks_exact(self.runs)
    }

    /// Head minus base of these figures, for each exchange.
    pub fn differences(&self, figures: &[f64]) -> Vec<f64> {
        let difference = |row: &[f32]| {
            let terms = row.iter().zip(figures);
            terms
                .map(|(&weight, figure)| f64::from(weight) * figure)
                .sum()
        };
        self.rows().map(difference).collect()
    }
}

/// Goes through all ways to exchange sides within each of these blocks.
fn each(blocks: &[&[usize]], sides: &mut Vec<Side>, then: &mut dyn FnMut(&[Side])) {
    let Some((block, rest)) = blocks.split_first() else {
        return then(sides);
    };
    let was: Vec<Side> = block.iter().map(|&n| sides[n]).collect();
    let heads = was.iter().filter(|&&side| side == Side::Head).count();
    choices(block.len(), heads, &mut |chosen| {
        block.iter().for_each(|&n| sides[n] = Side::Base);
        chosen.iter().for_each(|&at| sides[block[at]] = Side::Head);
        each(rest, sides, then);
    });
    block.iter().zip(was).for_each(|(&n, side)| sides[n] = side);
}

/// Goes through all ways to choose so many of so many, in order.
fn choices(of: usize, many: usize, then: &mut dyn FnMut(&[usize])) {
    let mut chosen: Vec<usize> = (0..many).collect();
    loop {
        then(&chosen);
        let Some(at) = (0..many).rev().find(|&at| chosen[at] < of - many + at) else {
            return;
        };
        chosen[at] += 1;
        for next in at + 1..many {
            chosen[next] = chosen[next - 1] + 1;
        }
    }
}

fn choose(of: usize, many: usize) -> f64 {
    (0..many).fold(1.0, |ways, n| ways * (of - n) as f64 / (n + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::Side::{Base, Head};
    use super::*;

    fn blocks_of_four(blocks: u32) -> Design {
        let block = |n| [(Base, n), (Head, n), (Head, n), (Base, n)];
        let runs: Vec<(Side, u32)> = (0..blocks).flat_map(block).collect();
        Design::new(&runs).unwrap()
    }

    #[test]
    fn every_way_once() {
        let design = blocks_of_four(3);
        assert_eq!(design.ways(), 216.0);
        let exchanges = design.exchanges(1000, 1);
        let mut rows: Vec<Vec<i32>> = exchanges
            .rows()
            .map(|row| {
                row.iter()
                    .map(|&weight| (weight * 6.0).round() as i32)
                    .collect()
            })
            .collect();
        assert_eq!(rows[0], [-1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1]);
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), 216);
        for row in rows {
            assert!(row.chunks(4).all(|block| block.iter().sum::<i32>() == 0));
        }
    }

    #[test]
    fn some_by_chance() {
        let design = blocks_of_four(10);
        let exchanges = design.exchanges(5000, 1);
        assert_eq!(exchanges.len(), 5000);
        // Each run is on each side equally often, within four standard deviations.
        for run in 0..40 {
            let heads = exchanges.rows().filter(|row| row[run] > 0.0).count();
            assert!(heads.abs_diff(2500) < 142, "{run}: {heads}");
        }
        let again = design.exchanges(5000, 1);
        assert!(exchanges.rows().eq(again.rows()));
        assert!(!exchanges.rows().eq(design.exchanges(5000, 2).rows()));
    }

    #[test]
    fn a_block_of_one_side_says_nothing() {
        let design = Design::new(&[(Base, 0), (Head, 0), (Base, 1)]).unwrap();
        assert_eq!(design.weights(), [-1.0, 1.0, 0.0]);
        assert!(Design::new(&[(Base, 0), (Head, 1)]).is_none());
    }

    #[test]
    fn what_drifts_from_block_to_block_has_no_part() {
        let design = blocks_of_four(3);
        let drift = [5.0, 6.0, 6.0, 5.0, 9.0, 10.0, 10.0, 9.0, 1.0, 2.0, 2.0, 1.0];
        let differences = design.exchanges(1000, 1).differences(&drift);
        assert!((differences[0] - 1.0).abs() < 1e-6);
        assert!(
            differences
                .iter()
                .all(|&difference| difference < 1.0 + 1e-6)
        );
    }

    #[test]
    fn the_first_are_as_good_as_any() {
        let design = blocks_of_four(4);
        let exchanges = design.exchanges(10_000, 1);
        assert_eq!(exchanges.len(), 1296);
        // Of a third of them each run is head in half, within four standard deviations.
        for run in 0..16 {
            let heads = exchanges.rows().take(432).filter(|row| row[run] > 0.0);
            let heads = heads.count();
            assert!(heads.abs_diff(216) < 42, "{run}: {heads}");
        }
    }

    #[test]
    fn differences_are_within_blocks() {
        assert_eq!(blocks_of_four(3).differences(), 12);
        let uneven = [vec![(Base, 0); 5], vec![(Head, 0); 9], vec![(Head, 1)]].concat();
        assert_eq!(Design::new(&uneven).unwrap().differences(), 45);
    }
}
