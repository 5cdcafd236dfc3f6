//! Runs of two sides in blocks of four, A B B A or B A A B, whichever chance says: what drifts on the machine is
//! alike for both.

use std::path::PathBuf;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::benchmark::{Benchmark, Ended};
use crate::cli::Failure;
use crate::gate::runs::{BLOCK, Runs};
use crate::gate::statistics::design::Side::{self, Base, Head};

/// Makes runs, block by block.
pub(super) struct Blocks<'a> {
    benchmark: Benchmark<'a>,
    commands: [&'a str; 2],
    chance: ChaCha8Rng,
    base: Vec<PathBuf>,
    head: Vec<PathBuf>,
    /// Side, block and what each took, in order.
    totals: Vec<(Side, u32, f64)>,
}

/// Whether a block was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Made,
    /// Somebody said stop: what was made of it does not count.
    Stopped,
}

impl<'a> Blocks<'a> {
    /// Runs each command once, which does not count: files are read from disk, and commands that fail do so now.
    ///
    /// # Errors
    /// A command failed.
    pub(super) fn begin(
        benchmark: Benchmark<'a>,
        base: &'a str,
        head: &'a str,
        seed: u64,
    ) -> Result<Self, Failure> {
        for (command, name) in [(base, "warm-up-base"), (head, "warm-up-head")] {
            match benchmark.run(command, name)? {
                Ended::Stopped => return Err(stopped()),
                Ended::Well(profile) => {
                    Runs::read(std::slice::from_ref(&profile), &[], &[])?;
                    let _ = std::fs::remove_file(profile);
                }
            }
        }
        Ok(Self {
            benchmark,
            commands: [base, head],
            chance: ChaCha8Rng::seed_from_u64(seed),
            base: Vec::new(),
            head: Vec::new(),
            totals: Vec::new(),
        })
    }

    /// Makes one more.
    ///
    /// # Errors
    /// A command failed, or its profile is none of CPU time.
    pub(super) fn block(&mut self) -> Result<Block, Failure> {
        let order = if self.chance.random() {
            [Base, Head, Head, Base]
        } else {
            [Head, Base, Base, Head]
        };
        let block = (self.totals.len() / BLOCK) as u32;
        let (mut base, mut head, mut totals) = (Vec::new(), Vec::new(), Vec::new());
        for side in order {
            let (name, command, made, before) = match side {
                Base => ("base", self.commands[0], &mut base, self.base.len()),
                Head => ("head", self.commands[1], &mut head, self.head.len()),
            };
            let number = before + made.len() + 1;
            match self
                .benchmark
                .run(command, &format!("{name}-{number:02}"))?
            {
                Ended::Stopped => return Ok(Block::Stopped),
                Ended::Well(profile) => {
                    let run = Runs::read(std::slice::from_ref(&profile), &[], &[])?;
                    totals.extend(run.totals().into_iter().map(|total| (side, block, total)));
                    made.push(profile);
                }
            }
        }
        self.base.extend(base);
        self.head.extend(head);
        self.totals.extend(totals);
        Ok(Block::Made)
    }

    /// How many there are, both sides together.
    pub(super) fn runs(&self) -> usize {
        self.totals.len()
    }

    /// Side, block and what each took, in order.
    pub(super) fn totals(&self) -> &[(Side, u32, f64)] {
        &self.totals
    }

    /// Profiles of a side.
    pub(super) fn files(&self, side: Side) -> &[PathBuf] {
        match side {
            Base => &self.base,
            Head => &self.head,
        }
    }

    /// What a run took on average.
    pub(super) fn mean(&self, side: Side) -> f64 {
        let of = self.totals.iter().filter(|(of, ..)| *of == side);
        let (sum, n) = of.fold((0.0, 0), |(sum, n), (.., total)| (sum + total, n + 1));
        sum / f64::from(n.max(1))
    }
}

/// Nothing can be said.
pub(super) fn stopped() -> Failure {
    Failure::new("stopped before there was anything to compare")
}
