//! What `rprof gate` is told to do: arguments come in, an exit code leaves.

mod baseline;
mod benchmark;
mod blocks;
mod calibrate;
mod compare;
pub mod orphan;
mod run;
mod words;

use std::cell::Cell;

use super::comparison::Comparison;
use super::config::Config;
use super::judging::Judging;
use super::report;
use super::runs::Runs;
use super::statistics::verdict::{Rule, Verdict};
use crate::cli::Failure;
use crate::cli::failure::exit;
use crate::cli::gate::{self as typed, Gate, Inconclusive};

/// Does it; `say`: text for people.
///
/// # Errors
/// What cannot be run, read, compared or written.
pub fn gate(task: &Gate, say: &dyn Fn(&str)) -> Result<u8, Failure> {
    match task {
        Gate::Run(run) => reported(&run.reports, &run.judging, say, |reporter| {
            run::run(run, reporter, say)
        }),
        Gate::Compare(compare) => reported(&compare.reports, &compare.judging, say, |reporter| {
            compare::compare(compare, reporter, say)
        }),
        Gate::Calibrate(calibrate) => calibrate::calibrate(calibrate, say),
    }
}

/// Compares, and reports what came of it, if only that nothing did.
fn reported(
    wanted: &typed::Reports,
    judging: &typed::Judging,
    say: &dyn Fn(&str),
    compare: impl FnOnce(&Reporter<'_>) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    report::check(wanted)?;
    let reporter = Reporter {
        wanted,
        inconclusive: judging.inconclusive,
        say,
        has_told: Cell::new(false),
    };
    // A job of CI whose command line makes no sense any more is one that failed, too.
    compare(&reporter).inspect_err(|failure| reporter.failed(failure))
}

/// Tells what comes out to those who asked for it.
struct Reporter<'a> {
    wanted: &'a typed::Reports,
    inconclusive: Option<Inconclusive>,
    say: &'a dyn Fn(&str),
    /// Reports are written once: what fails afterwards makes no other answer of them.
    has_told: Cell<bool>,
}

/// How runs are judged, with what the project has agreed on.
fn judging(typed: &typed::Judging) -> Result<Judging, Failure> {
    let config = Config::find(typed.config.as_deref())?;
    let rule = Rule::default();
    Ok(Judging {
        rule: Rule {
            threshold: typed
                .threshold
                .or(config.threshold)
                .unwrap_or(rule.threshold),
            ..rule
        },
        seed: typed.seed.unwrap_or(1),
        config,
        ..Judging::default()
    })
}

/// The seed that was typed, or any: what is left to chance must not be the same in each job.
fn seed(typed: Option<u64>) -> u64 {
    // Short enough to be typed again.
    typed.unwrap_or_else(|| rand::random_range(1..1_000_000))
}

impl Reporter<'_> {
    /// Tells people and machines what came out; returns the exit code.
    fn tell(&self, comparison: &Comparison, runs: &Runs) -> Result<u8, Failure> {
        self.has_told.set(true);
        (self.say)(&report::text::text(comparison, self.inconclusive));
        report::write(comparison, runs, self.inconclusive, self.wanted)?;
        Ok(match (comparison.verdict, self.inconclusive) {
            (Verdict::Passed, _) | (Verdict::Inconclusive, Some(Inconclusive::Pass)) => exit::DONE,
            (Verdict::Regressed, _) | (Verdict::Inconclusive, Some(Inconclusive::Fail)) => {
                exit::REGRESSED
            }
            (Verdict::Inconclusive, None) => exit::INCONCLUSIVE,
        })
    }

    /// Tells machines that there is nothing to compare with yet.
    fn first(&self) -> Result<(), Failure> {
        self.has_told.set(true);
        report::write_first(self.wanted)
    }

    /// Tells machines that nothing came out. People are told by whoever has the failure.
    fn failed(&self, why: &Failure) {
        if self.has_told.replace(true) {
            return;
        }
        if let Err(failure) = report::write_failure(why, self.wanted) {
            (self.say)(&format!("{failure}\n"));
        }
    }
}
