//! `rprof gate run`: two commands in turn, until the answer is clear.

use std::time::{Duration, Instant};

use super::benchmark::Benchmark;
use super::blocks::{Block, Blocks, out_of_time as no_time, stopped};
use super::{Reporter, judging, seed};
use crate::cli::Failure;
use crate::cli::gate::Run;
use crate::gate::comparison;
use crate::gate::judging::decide;
use crate::gate::report::text::time;
use crate::gate::statistics::design::{BLOCK, Side::Base};
use crate::gate::statistics::verdict::Verdict;

/// No answer is looked for before so many runs of both sides.
const FIRST_LOOK: usize = 12;
/// So many looks at most.
const MOST_LOOKS: usize = 20;

/// Runs them.
///
/// # Errors
/// A command failed, or its profile cannot be compared.
pub(super) fn run(typed: &Run, reporter: &Reporter<'_>, say: &dyn Fn(&str)) -> Result<u8, Failure> {
    let mut judging = judging(&typed.judging)?;
    judging.seed = seed(typed.judging.seed);
    let benchmark = Benchmark::new(&typed.runs, typed.keep.as_deref(), typed.budget)?;
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
    let patterns = judging.config.patterns.clone();
    let (base, head) = (&typed.base, &typed.head);
    let mut blocks = Blocks::begin(benchmark, base, head, &patterns, judging.seed)?;
    judging.planned = 2 * typed.runs.runs.next_multiple_of(2) as usize;
    // Each look is paid for, and takes time.
    let step = BLOCK * judging.planned.div_ceil(BLOCK * MOST_LOOKS).max(1);
    let mut longest = Duration::ZERO;
    let mut stopped_early = false;
    while blocks.len() < judging.planned {
        let out_of_time = |budget| began.elapsed() + longest > budget;
        let block = Instant::now();
        let made = match typed.budget.is_some_and(out_of_time) && blocks.len() >= BLOCK {
            true => Block::OutOfTime,
            false => blocks.block()?,
        };
        match made {
            Block::Made => {}
            Block::Stopped if blocks.len() < BLOCK => return Err(stopped()),
            Block::OutOfTime if blocks.len() < BLOCK => return Err(no_time()),
            Block::Stopped => {
                stopped_early = true;
                break;
            }
            Block::OutOfTime => {
                progress("the time is over");
                // No answer had a part in that: this is the last look, and has all that the earlier ones left.
                judging.planned = blocks.len();
                judging.looks.retain(|&look| look < blocks.len());
                break;
            }
        }
        longest = longest.max(block.elapsed());
        if !blocks.len().is_multiple_of(step) && blocks.len() < judging.planned {
            continue;
        }
        let decided = decide(blocks.runs(), &judging)?;
        progress(&format!(
            "{} runs a side: base {}, head {:+.1} %",
            blocks.len() / 2,
            time(blocks.runs().mean(Base, &blocks.runs().totals())),
            100.0 * decided.judged.change(),
        ));
        if blocks.len() >= FIRST_LOOK && blocks.len() < judging.planned {
            if decided.verdict() != Verdict::Inconclusive {
                progress("that is clear");
                break;
            }
            judging.looks.push(blocks.len());
        }
    }
    let runs = blocks.runs();
    let mut comparison = comparison::compare(runs, &judging)?;
    if stopped_early {
        comparison
            .notes
            .push("It was stopped before it was done.".into());
    }
    reporter.tell(&comparison, runs)
}
