//! `rprof gate run`: two commands in turn, in blocks of four whose order is left to chance, until the answer is
//! clear.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::benchmark::{Benchmark, Ended};
use super::{judging, tell};
use crate::cli::Failure;
use crate::cli::failure::exit;
use crate::cli::gate::Run;
use crate::gate::comparison::{self, Judging};
use crate::gate::report::text::time;
use crate::gate::runs::{BLOCK, Runs};
use crate::gate::statistics::design::Side::{self, Base, Head};
use crate::gate::statistics::verdict::{Judged, Verdict, judge};

/// No answer is looked for before so many runs of both sides.
const FIRST_LOOK: usize = 12;

/// Runs them.
///
/// # Errors
/// A command failed, or its profile cannot be compared.
pub(super) fn run(typed: &Run, say: &dyn Fn(&str)) -> Result<u8, Failure> {
    let mut judging = judging(&typed.judging)?;
    let benchmark = Benchmark::new(&typed.runs, typed.keep.as_deref())?;
    let began = Instant::now();
    let progress = |line: &str| {
        if !typed.runs.quiet {
            say(&format!("rprof: {line}\n"));
        }
    };
    progress(&format!(
        "up to {} runs a side, {} samples a second on each CPU; seed {}",
        typed.runs.runs, typed.runs.freq, judging.seed
    ));
    let mut made = Made::default();
    let mut chance = ChaCha8Rng::seed_from_u64(judging.seed);
    // Of each one that does not count: files are read from disk, and commands that fail do so now.
    for (side, name) in [(Base, "warm-up-base"), (Head, "warm-up-head")] {
        match benchmark.run(command(typed, side), name)? {
            Ended::Stopped => return Err(stopped()),
            Ended::Well(profile) => {
                Runs::read(&[profile.clone()], &[], &[])?;
                let _ = std::fs::remove_file(profile);
            }
        }
    }
    judging.planned = 2 * typed.runs.runs.next_multiple_of(2) as usize;
    let mut longest = Duration::ZERO;
    'blocks: while made.runs() < judging.planned {
        let out_of_time = |budget| began.elapsed() + longest > budget;
        if typed.budget.is_some_and(out_of_time) && made.runs() >= BLOCK {
            progress("the time is over");
            break;
        }
        let block = Instant::now();
        let order = if chance.random() {
            [Base, Head, Head, Base]
        } else {
            [Head, Base, Base, Head]
        };
        let mut profiles = Vec::new();
        for side in order {
            let before = profiles.iter().filter(|(of, _)| *of == side).count();
            let number = made.of(side).len() + before + 1;
            let name = match side {
                Base => format!("base-{number:02}"),
                Head => format!("head-{number:02}"),
            };
            match benchmark.run(command(typed, side), &name)? {
                Ended::Well(profile) => profiles.push((side, profile)),
                // A part of a block is not exchangeable with itself.
                Ended::Stopped => break 'blocks,
            }
        }
        made.add(profiles)?;
        longest = longest.max(block.elapsed());
        let Some(judged) = made.look(&judging) else {
            continue;
        };
        let (least, most) = judged.interval();
        progress(&format!(
            "{} runs a side: base {}, head {:+.1} % ({:+.1} to {:+.1} %)",
            made.runs() / 2,
            time(made.mean(Base)),
            100.0 * judged.change(),
            100.0 * least,
            100.0 * most
        ));
        if made.runs() >= judging.planned {
            break;
        }
        if made.runs() >= FIRST_LOOK {
            if judged.verdict != Verdict::Inconclusive {
                progress("that is clear");
                break;
            }
            judging.looks.push(made.runs());
        }
    }
    if made.runs() < BLOCK {
        return Err(stopped());
    }
    let runs = Runs::read(made.of(Base), made.of(Head), &judging.config.patterns)?;
    let comparison = comparison::compare(&runs, &judging)?;
    tell(
        &comparison,
        &runs,
        typed.judging.inconclusive,
        &typed.reports,
        say,
    )
}

fn command(typed: &Run, side: Side) -> &str {
    match side {
        Base => &typed.base,
        Head => &typed.head,
    }
}

fn stopped() -> Failure {
    Failure::new("stopped before there was anything to compare").code(exit::FAILED)
}

/// Runs that were made.
#[derive(Default)]
struct Made {
    base: Vec<PathBuf>,
    head: Vec<PathBuf>,
    /// Side, block and what it took, in order.
    totals: Vec<(Side, u32, f64)>,
}

impl Made {
    fn runs(&self) -> usize {
        self.totals.len()
    }

    fn of(&self, side: Side) -> &[PathBuf] {
        match side {
            Base => &self.base,
            Head => &self.head,
        }
    }

    fn mean(&self, side: Side) -> f64 {
        let of = self.totals.iter().filter(|(of, ..)| *of == side);
        let (sum, n) = of.fold((0.0, 0), |(sum, n), (.., total)| (sum + total, n + 1));
        sum / f64::from(n.max(1))
    }

    /// A block.
    fn add(&mut self, profiles: Vec<(Side, PathBuf)>) -> Result<(), Failure> {
        let block = (self.totals.len() / BLOCK) as u32;
        for (side, profile) in profiles {
            let run = Runs::read(std::slice::from_ref(&profile), &[], &[])?;
            self.totals
                .extend(run.totals().iter().map(|&total| (side, block, total)));
            match side {
                Base => self.base.push(profile),
                Head => self.head.push(profile),
            }
        }
        Ok(())
    }

    /// What they say by now.
    fn look(&self, judging: &Judging) -> Option<Judged> {
        judge(
            &self.totals,
            &judging.looks,
            judging.planned,
            &judging.rule,
            judging.seed,
        )
    }
}
