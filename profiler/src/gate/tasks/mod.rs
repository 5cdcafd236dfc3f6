//! What `rprof gate` is told to do: arguments come in, an exit code leaves.

mod baseline;
mod benchmark;
mod blocks;
mod calibrate;
mod compare;
mod run;

use super::comparison::Comparison;
use super::config::Config;
use super::judging::Judging;
use super::report;
use super::runs::Runs;
use super::statistics::verdict::{Rule, Verdict};
use crate::cli::Failure;
use crate::cli::failure::exit;
use crate::cli::gate::{self as typed, Gate, Inconclusive};
use crate::cli::retype::Retype;
use crate::cli::settings;
use crate::report::check::Machine;

/// Does it; `again`: the command line at hand, `say`: text for people.
///
/// # Errors
/// What cannot be run, read, compared or written.
pub fn gate(task: &Gate, again: &Retype, say: &dyn Fn(&str)) -> Result<u8, Failure> {
    let runs = match task {
        Gate::Run(run) => Some(&run.runs),
        Gate::Calibrate(calibrate) => Some(&calibrate.runs),
        Gate::Compare(_) => None,
    };
    if let Some(runs) = runs {
        // Else the first run would fail, and say so of a command that nobody typed.
        settings::frequency(runs.freq, &Machine::read(), again)?;
    }
    match task {
        Gate::Run(run) => run::run(run, say),
        Gate::Compare(compare) => compare::compare(compare, say),
        Gate::Calibrate(calibrate) => calibrate::calibrate(calibrate, say),
    }
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

/// Tells people and machines what came out; returns the exit code.
fn tell(
    comparison: &Comparison,
    runs: &Runs,
    inconclusive: Option<Inconclusive>,
    reports: &typed::Reports,
    say: &dyn Fn(&str),
) -> Result<u8, Failure> {
    say(&report::text::text(comparison));
    report::write(comparison, runs, reports)?;
    Ok(match (comparison.verdict, inconclusive) {
        (Verdict::Passed, _) | (Verdict::Inconclusive, Some(Inconclusive::Pass)) => exit::DONE,
        (Verdict::Regressed, _) | (Verdict::Inconclusive, Some(Inconclusive::Fail)) => {
            exit::REGRESSED
        }
        (Verdict::Inconclusive, None) => exit::INCONCLUSIVE,
    })
}
