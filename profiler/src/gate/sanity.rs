//! Before a verdict is believed: was enough sampled, on one kind of machine, under the same conditions?

use std::collections::BTreeSet;

use statrs::distribution::{DiscreteCDF, Hypergeometric};

use super::costs::RunCosts;
use super::runs::{Clock, Runs};
use super::statistics::design::Side;
use super::statistics::verdict::{Judged, Verdict};

/// Of what the clock of a run's processes says its samples may miss this share on one side more than on the other.
const UNSAMPLED: f64 = 0.05;
/// Samples may tell this share more than the clock.
const UNCLOCKED: f64 = 0.1;
/// Nanoseconds of a run that are few.
const SHORT: f64 = 10e6;
/// What chance makes in so many cases is worth a second look.
const SELDOM: f64 = 0.05;
/// So many standard errors of a share are no chance.
const SURE: f64 = 4.0;
/// Ticks lost that are worth a word.
const LOST: f64 = 0.01;
/// Steal and other programs are worth a word from this share of a run's time on.
const DISTURBED: f64 = 0.05;
/// Sides that were made one after the other must not differ by more of a CPU in what else ran.
const UNLIKE: f64 = 0.5;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Why nothing can be said.
    pub reasons: Vec<String>,
    /// What is to be known.
    pub notes: Vec<String>,
}

/// Looks at runs that were judged.
pub fn look(runs: &Runs, judged: &Judged) -> Found {
    let mut found = Found::default();
    let change = judged.change().abs();
    if !runs.interleaved {
        found.notes.push(
            "The runs were not interleaved: what drifted on the machine between them counts as change."
                .into(),
        );
    }
    if judged.estimate.far > 0 {
        found.notes.push(format!(
            "{} of {} runs {} far off the others, and count{} less, or not at all.",
            judged.estimate.far,
            runs.costs.len(),
            if judged.estimate.far == 1 {
                "was"
            } else {
                "were"
            },
            if judged.estimate.far == 1 { "s" } else { "" },
        ));
    }
    let (base, head) = both(runs, |run| run.total);
    if base.min(head) < SHORT {
        found.notes.push(format!(
            "A run takes {:.1} ms: to start and to end a process is much of that.",
            base.min(head) / 1e6
        ));
    }
    if runs.clock == Clock::Counter {
        found.notes.push(
            "The kernel's task clock has more than the clocks of processes that were waited for: some were not, or \
             outlive the command. Totals are those of the task clock."
                .into(),
        );
    }
    found.reasons.extend(seldom(runs, judged));
    found.reasons.extend(unclocked(runs));
    found.reasons.extend(unsampled(runs, change));
    lost(runs, change, &mut found);
    machine(runs, &mut found);
    found
}

/// A figure of the runs of either side: base, head.
fn both(runs: &Runs, of: impl Fn(&RunCosts) -> f64) -> (f64, f64) {
    let figures: Vec<f64> = runs.costs.iter().map(of).collect();
    (
        runs.mean(Side::Base, &figures),
        runs.mean(Side::Head, &figures),
    )
}

/// Only head's runs are far off: it may be slower in some of its runs alone, which the estimate leaves out.
fn seldom(runs: &Runs, judged: &Judged) -> Option<String> {
    let (far, of_head) = (judged.estimate.far, judged.estimate.far_of_head);
    let heads = runs
        .sides
        .iter()
        .filter(|side| **side == Side::Head)
        .count();
    // How often so many of head's are among so many that are far off by chance (Fisher's exact test).
    let chance = Hypergeometric::new(runs.sides.len() as u64, heads as u64, far as u64).ok()?;
    let as_many = match of_head {
        0 => 1.0,
        of_head => chance.sf(of_head as u64 - 1),
    };
    (judged.verdict == Verdict::Passed && as_many < SELDOM).then(|| {
        format!(
            "{of_head} of head's {heads} runs {} far off, and {} of base's: it may be dearer in some of its runs alone.",
            if of_head == 1 { "was" } else { "were" },
            far - of_head
        )
    })
}

/// Samples tell more than the clock: of processes that nobody waited for it may know nothing.
fn unclocked(runs: &Runs) -> Option<String> {
    let of = |wanted: Side| {
        let of = runs.sides.iter().zip(&runs.costs);
        let (sampled, total, ticks) = of.filter(|(side, _)| **side == wanted).fold(
            (0.0, 0.0, 0.0),
            |(sampled, total, ticks), (_, run)| {
                let sums = (sampled + run.sampled, total + run.total);
                (sums.0, sums.1, ticks + run.ticks())
            },
        );
        let more = sampled / total;
        (more > 1.0 + UNCLOCKED + SURE / f64::sqrt(ticks)).then_some(more)
    };
    let more = of(Side::Base).into_iter().chain(of(Side::Head)).next()?;
    Some(format!(
        "The samples tell {:.0} % of the CPU time that the clock of the processes does: what they took is not known.",
        100.0 * more
    ))
}

/// Samples of one side tell less than those of the other, by more than the change.
fn unsampled(runs: &Runs, change: f64) -> Option<String> {
    let (base, head) = both(runs, |run| run.sampled / run.total);
    // Few samples tell little of their own share.
    let samples = |side: Side| {
        let of = runs.sides.iter().zip(&runs.costs);
        of.filter(|(of, _)| **of == side)
            .map(|(_, run)| run.ticks())
            .sum::<f64>()
    };
    let by_chance = (1.0 / samples(Side::Base) + 1.0 / samples(Side::Head)).sqrt();
    let differ = (head - base).abs() - SURE * by_chance;
    (differ > UNSAMPLED && differ > change).then(|| {
        format!(
            "The samples tell {:.1} % of the CPU time of base and {:.1} % of head's: too much was lost to say more.",
            100.0 * base,
            100.0 * head
        )
    })
}

/// What the ledgers call lost. Of totals by the clock nothing is.
fn lost(runs: &Runs, change: f64, found: &mut Found) {
    let (base, head) = both(runs, |run| run.lost.unwrap_or(0.0));
    if base.max(head) < LOST {
        return;
    }
    let shares = format!(
        "{:.1} % of base's ticks and {:.1} % of head's were lost",
        100.0 * base,
        100.0 * head
    );
    if runs.clock == Clock::Samples && base.max(head) > change {
        found
            .reasons
            .push(format!("{shares}: more than the change."));
    } else {
        found.notes.push(format!("{shares}."));
    }
}

fn machine(runs: &Runs, found: &mut Found) {
    let models: BTreeSet<&str> = (runs.costs.iter())
        .filter_map(|run| run.command.model.as_deref())
        .collect();
    if models.len() > 1 {
        let models: Vec<&str> = models.into_iter().collect();
        found.reasons.push(format!(
            "The runs were made on different processors: {}.",
            models.join(", ")
        ));
    }
    let of_time = |run: &RunCosts, part: f64| {
        if run.duration > 0 {
            part / run.duration as f64
        } else {
            0.0
        }
    };
    let (base, head) = both(runs, |run| {
        of_time(run, run.command.conditions.steal.as_nanos() as f64)
    });
    if base.max(head) > DISTURBED {
        found.notes.push(format!(
            "Other machines on the same hardware took {:.2} CPUs while base ran, and {:.2} while head did.",
            base, head
        ));
    }
    let (base, head) = both(runs, |run| {
        let busy = run.command.conditions.busy.as_nanos() as f64;
        let own = match runs.clock {
            Clock::Samples => busy,
            Clock::Processes | Clock::Counter => run.total,
        };
        of_time(run, (busy - own).max(0.0))
    });
    let others =
        format!("Other programs took {base:.2} CPUs while base ran, and {head:.2} while head did");
    if !runs.interleaved && (base - head).abs() > UNLIKE {
        found.reasons.push(format!(
            "{others}: they did not run under the same conditions."
        ));
    } else if base.max(head) > UNLIKE {
        found.notes.push(format!("{others}."));
    }
    let (base, head) = both(runs, |run| {
        of_time(run, run.command.conditions.throttled.as_nanos() as f64)
    });
    if base.max(head) > DISTURBED {
        found.notes.push(format!(
            "A CPU quota held base up for {:.0} % of its time, and head for {:.0} %.",
            100.0 * base,
            100.0 * head
        ));
    }
    let (base, head) = both(runs, |run| run.command.conditions.slowed as f64);
    let slowed = format!(
        "CPUs were too hot, and slowed down, {base:.1} times a run of base and {head:.1} of head"
    );
    if base + head > 0.0 && !runs.interleaved {
        found.reasons.push(format!("{slowed}."));
    } else if base + head > 0.0 {
        found.notes.push(format!("{slowed}."));
    }
}
