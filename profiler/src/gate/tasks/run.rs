//! `rprof gate run`: two commands in turn, until the answer is clear.

use std::time::{Duration, Instant};

use super::benchmark::Benchmark;
use super::blocks::{Block, Blocks, stopped};
use super::{judging, tell};
use crate::cli::Failure;
use crate::cli::gate::Run;
use crate::gate::comparison;
use crate::gate::report::text::time;
use crate::gate::runs::{BLOCK, Runs};
use crate::gate::statistics::design::Side::{Base, Head};
use crate::gate::statistics::verdict::{Verdict, judge};

/// No answer is looked for before so many runs of both sides.
const FIRST_LOOK: usize = 12;

/// Runs them.
///
/// # Errors
/// A command failed, or its profile cannot be compared.
pub(super) fn run(typed: &Run, say: &dyn Fn(&str)) -> Result<u8, Failure> {
    let mut judging = judging(&typed.judging)?;
    let benchmark = Benchmark::new(&typed.runs, typed.keep.as_deref(), say)?;
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
    let mut blocks = Blocks::begin(benchmark, &typed.base, &typed.head, judging.seed)?;
    judging.planned = 2 * typed.runs.runs.next_multiple_of(2) as usize;
    let mut longest = Duration::ZERO;
    while blocks.runs() < judging.planned {
        let out_of_time = |budget| began.elapsed() + longest > budget;
        if typed.budget.is_some_and(out_of_time) && blocks.runs() >= BLOCK {
            progress("the time is over");
            // No answer had a part in that: this is the last look, and has all that the earlier ones left.
            judging.planned = blocks.runs();
            judging.looks.retain(|&look| look < blocks.runs());
            break;
        }
        let block = Instant::now();
        if blocks.block()? == Block::Stopped {
            break;
        }
        longest = longest.max(block.elapsed());
        let totals = blocks.totals();
        let (looks, rule) = (&judging.looks, &judging.rule);
        let Some(judged) = judge(totals, looks, judging.planned, rule, judging.seed) else {
            continue;
        };
        progress(&format!(
            "{} runs a side: base {}, head {:+.1} %",
            blocks.runs() / 2,
            time(blocks.mean(Base)),
            100.0 * judged.change(),
        ));
        if blocks.runs() >= FIRST_LOOK && blocks.runs() < judging.planned {
            if judged.verdict != Verdict::Inconclusive {
                progress("that is clear");
                break;
            }
            judging.looks.push(blocks.runs());
        }
    }
    if blocks.runs() < BLOCK {
        return Err(stopped());
    }
    let patterns = &judging.config.patterns;
    let runs = Runs::read(blocks.files(Base), blocks.files(Head), patterns)?;
    let comparison = comparison::compare(&runs, &judging)?;
    let (inconclusive, reports) = (typed.judging.inconclusive, &typed.reports);
    tell(&comparison, &runs, inconclusive, reports, say)
}
