//! Runs of two sides in blocks of four, two of each in an order that chance says: what drifts on the machine is alike
//! for both.

use std::path::PathBuf;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::benchmark::{Benchmark, Ended};
use crate::cli::Failure;
use crate::gate::costs::RunCosts;
use crate::gate::patterns::Pattern;
use crate::gate::runs::Runs;
use crate::gate::statistics::design::{
    BLOCK,
    Side::{self, Base, Head},
};

/// Makes runs, block by block.
pub(super) struct Blocks<'a> {
    benchmark: Benchmark<'a>,
    commands: [&'a str; 2],
    chance: ChaCha8Rng,
    patterns: &'a [Pattern],
    runs: Runs,
}

/// Whether a block was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Made,
    /// Somebody said stop: what was made of it does not count.
    Stopped,
    /// The time was over: the same.
    OutOfTime,
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
        patterns: &'a [Pattern],
        seed: u64,
    ) -> Result<Self, Failure> {
        for (command, name) in [(base, "warm-up-base"), (head, "warm-up-head")] {
            match benchmark.run(command, name)? {
                Ended::Stopped => return Err(stopped()),
                Ended::OutOfTime => return Err(out_of_time()),
                Ended::Well(profile) => {
                    let read = Runs::read(std::slice::from_ref(&profile), &[], &[]);
                    let _ = std::fs::remove_file(profile);
                    read?;
                }
            }
        }
        Ok(Self {
            benchmark,
            commands: [base, head],
            chance: ChaCha8Rng::seed_from_u64(seed),
            patterns,
            runs: Runs {
                interleaved: true,
                ..Runs::default()
            },
        })
    }

    /// Makes one more. Of one that is not whole no profile stays: it would be taken for a run that was compared.
    ///
    /// # Errors
    /// A command failed, or its profile is none of CPU time.
    pub(super) fn block(&mut self) -> Result<Block, Failure> {
        let mut made = Vec::new();
        let block = self.runs_of_block(&mut made);
        if !matches!(block, Ok(Block::Made)) {
            for (_, profile, _) in made {
                let _ = std::fs::remove_file(profile);
            }
            return block;
        }
        let number = (self.runs.sides.len() / BLOCK) as u32;
        for (side, profile, costs) in made {
            self.runs.sides.push(side);
            self.runs.blocks.push(number);
            self.runs.costs.push(costs);
            self.runs.files.push(profile);
        }
        self.runs.set_totals();
        block
    }

    /// Each run: its side, its profile, and what is in it.
    fn runs_of_block(
        &mut self,
        made: &mut Vec<(Side, PathBuf, RunCosts)>,
    ) -> Result<Block, Failure> {
        // Each order is as likely as another: then each exchange of sides is one that might have been.
        let mut order = [Base, Head, Head, Base];
        order.shuffle(&mut self.chance);
        for side in order {
            let (name, command) = match side {
                Base => ("base", self.commands[0]),
                Head => ("head", self.commands[1]),
            };
            let before = made.iter().filter(|(of, ..)| *of == side).count();
            let number = self.made_of(side) + before + 1;
            let name = format!("{name}-{number:02}");
            match self.benchmark.run(command, &name)? {
                Ended::Stopped => return Ok(Block::Stopped),
                Ended::OutOfTime => return Ok(Block::OutOfTime),
                Ended::Well(profile) => {
                    let run = Runs::read(std::slice::from_ref(&profile), &[], self.patterns);
                    let run = run.inspect_err(|_| drop(std::fs::remove_file(&profile)))?;
                    made.extend(
                        run.costs
                            .into_iter()
                            .map(|costs| (side, profile.clone(), costs)),
                    );
                }
            }
        }
        Ok(Block::Made)
    }

    /// Those of all whole blocks, in order.
    pub(super) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// How many there are, both sides together.
    pub(super) fn len(&self) -> usize {
        self.runs.sides.len()
    }

    fn made_of(&self, side: Side) -> usize {
        self.runs.sides.iter().filter(|of| **of == side).count()
    }
}

/// Not even a block of runs was made in time.
pub(super) fn out_of_time() -> Failure {
    Failure::new(format!(
        "the time was over before there was anything to compare: that takes {} runs",
        BLOCK + 2
    ))
    .next("rprof gate run --budget 1h …")
}

/// Nothing can be said.
pub(super) fn stopped() -> Failure {
    Failure::new("stopped before there was anything to compare")
}
