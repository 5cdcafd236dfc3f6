//! `rprof gate calibrate`: a command against itself. Whatever differs is the machine.

use std::fmt::Write;

use super::benchmark::Benchmark;
use super::blocks::{Block, Blocks, stopped};
use super::seed;
use crate::cli::Failure;
use crate::cli::failure::exit;
use crate::cli::gate::Calibrate;
use crate::gate::judging::{Judging, decide};
use crate::gate::report::text::time;
use crate::gate::statistics::design::BLOCK;
use crate::gate::statistics::power::{Power, least};
use crate::gate::statistics::series::Series;
use crate::gate::statistics::verdict::{Judged, Rule};

/// How often what can be shown is shown.
const OFTEN: f64 = 0.9;
/// Numbers of runs a side of which it is said what they can show.
const NUMBERS: [usize; 5] = [8, 12, 20, 40, 80];
/// Runs that are worth to be advised.
const ADVISED: usize = 500;
/// What chance makes in so many cases is not called drift.
const BY_CHANCE: f64 = 0.01;

/// Runs it.
///
/// # Errors
/// The command failed, or its profile cannot be compared.
pub(super) fn calibrate(typed: &Calibrate, say: &dyn Fn(&str)) -> Result<u8, Failure> {
    let benchmark = Benchmark::new(&typed.runs, None, None)?;
    let mut blocks = Blocks::begin(benchmark, &typed.cmd, &typed.cmd, &[], seed(typed.seed))?;
    let planned = 2 * typed.runs.runs.next_multiple_of(2) as usize;
    while blocks.len() < planned {
        if blocks.block()? != Block::Made {
            break;
        }
        if !typed.runs.quiet {
            say(&format!("rprof: {} of {planned} runs\n", blocks.len()));
        }
    }
    if blocks.len() < 2 * BLOCK {
        return Err(stopped());
    }
    let rule = Rule {
        threshold: typed.threshold,
        ..Rule::default()
    };
    let judging = Judging {
        rule,
        ..Judging::default()
    };
    let judged = decide(blocks.runs(), &judging)?.judged;
    let costs = blocks.runs().totals();
    say(&text(&costs, &judged, &rule));
    Ok(exit::DONE)
}

/// What it came to.
fn text(costs: &[f64], judged: &Judged, rule: &Rule) -> String {
    let mut out = String::new();
    let series = Series::of(costs);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let deviation = judged.estimate.deviation;
    let _ = writeln!(
        out,
        "\n{} a run, in {} runs of the same command, half of them called base and half head\n",
        time(series.mean),
        costs.len()
    );
    let (from, to) = judged.interval();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<13}{text}");
    };
    line(
        "noise",
        format!(
            "a run varies by {}; within a block of {BLOCK} by {}",
            percent(series.deviation),
            percent(deviation)
        ),
    );
    line(
        "drift",
        match series.drift_p < BY_CHANCE {
            true => format!(
                "{:+.1} % from the first run to the last: more than chance makes; blocks take it out",
                100.0 * series.drift
            ),
            false => format!(
                "{:+.1} % from the first run to the last: no more than chance makes",
                100.0 * series.drift
            ),
        },
    );
    line(
        "neighbours",
        format!(
            "a run tells {} of what the next one differs by",
            percent(series.neighbours.max(0.0).powi(2))
        ),
    );
    line(
        "A against A",
        format!(
            "{:+.1} % ({:+.1} to {:+.1} %): {}",
            100.0 * judged.change(),
            100.0 * from,
            100.0 * to,
            judged.verdict
        ),
    );
    if judged.estimate.far > 0 {
        line(
            "far off",
            format!("{} of {} runs", judged.estimate.far, costs.len()),
        );
    }
    let _ = writeln!(
        out,
        "\n  What a comparison can show on this machine, {:.0} times of 10:\n",
        10.0 * OFTEN
    );
    let _ = writeln!(
        out,
        "  {:>11}  {:>22}  {:>28}",
        "runs a side", "a change is found from", "no change passes a threshold"
    );
    let power = Power {
        rule,
        deviation,
        often: OFTEN,
    };
    for runs in NUMBERS {
        let found = power.found(runs);
        let found = match found.is_finite() {
            true => percent(found),
            false => "never".into(),
        };
        let _ = writeln!(
            out,
            "  {runs:>11}  {found:>22}  {:>28}",
            format!("of {}", percent(power.passes(runs)))
        );
    }
    let threshold = percent(rule.threshold);
    let _ = match least(ADVISED, |runs| {
        power.passes(runs) <= rule.threshold && power.found(runs).is_finite()
    }) {
        Some(runs) => writeln!(
            out,
            "\n  A threshold of {threshold} takes {runs} runs a side: rprof gate run --runs {runs} …"
        ),
        None => writeln!(
            out,
            "\n  A threshold of {threshold} cannot be decided here with {ADVISED} runs a side: make the command run \
             longer, or the machine quieter."
        ),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::statistics::design::Side::{Base, Head};
    use crate::gate::statistics::verdict::judge;

    #[test]
    fn a_quiet_machine_and_a_noisy_one() {
        let said = |factor: f64| {
            let sides = [Base, Head, Head, Base].into_iter().cycle();
            let noise = [0.3, -0.8, 0.1, 0.9, -0.2, 0.7, -1.1, 0.4, 0.0, -0.5];
            let noise = noise.into_iter().cycle().take(40);
            let runs: Vec<_> = (0u32..)
                .zip(sides.zip(noise))
                .map(|(n, (side, noise))| (side, n / 4, 1e8 * (1.0 + factor * noise)))
                .collect();
            let rule = Rule::default();
            let judged = judge(&runs, &[], 40, &rule, 1).unwrap();
            let costs: Vec<f64> = runs.iter().map(|run| run.2).collect();
            text(&costs, &judged, &rule)
        };
        let quiet = said(0.005);
        assert!(
            quiet.contains("A threshold of 2.0 % takes 8 runs"),
            "{quiet}"
        );
        assert!(quiet.contains("100.0 ms a run, in 40 runs"), "{quiet}");
        let noisy = said(0.9);
        assert!(noisy.contains("cannot be decided here"), "{noisy}");
    }
}
