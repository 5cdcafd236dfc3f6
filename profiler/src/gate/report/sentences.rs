//! What is said in words, in the same ones by all reports.

use super::told::{Kind, Pair, Told};
use super::words::{self, chance, counted, more_time, percent, time, typed};
use crate::gate::comparison::Comparison;
use crate::gate::config;
use crate::gate::judging::Ruled;
use crate::gate::runs::Clock;
use crate::gate::statistics::design::Side;
use crate::gate::statistics::more::{More, more};
use crate::gate::statistics::verdict::{Judged, Verdict};

/// How sure bounds are: what the columns of all tables mean.
pub(super) fn bounds(of: &Comparison) -> String {
    let sure = typed(1.0 - of.rule.miss);
    format!("at least, at most: {sure} sure of each")
}

/// Between which changes it lies; infinite: not known.
pub(super) fn interval(of: &Judged) -> (f64, f64) {
    let share = |logarithm: f64| match logarithm.is_finite() {
        true => logarithm.exp_m1(),
        false => logarithm,
    };
    (share(of.between.0), share(of.between.1))
}

/// What a verdict counts as, where it is one that must be taken for another: follows its own word.
pub(super) fn counting(verdict: Verdict, told: &Told<'_>) -> String {
    match told.counts_as {
        Some(other) if verdict == Verdict::Inconclusive => format!(", which counts as {other}"),
        _ => String::new(),
    }
}

/// What it came to, after the verdict's own word.
pub(super) fn headline(of: &Comparison) -> String {
    if !of.reasons.is_empty() {
        return "these runs tell nothing about base and head".into();
    }
    let judged = &of.judged;
    if judged.verdict != of.verdict {
        let entries: Vec<String> = (of.ruled.iter())
            .filter(|entry| entry.verdict() == of.verdict)
            .map(|entry| words::name(&entry.name, 40))
            .collect();
        return format!(
            "{} by {}; all of a run {}",
            entries.join(", "),
            config::NAME,
            judgement(judged, of.rule.threshold)
        );
    }
    total(of)
}

/// What all of a run came to.
pub(super) fn total(of: &Comparison) -> String {
    let change = percent(of.judged.change());
    format!(
        "{change} CPU time a run{}",
        but(&of.judged, of.rule.threshold)
    )
}

/// A verdict and its figures.
pub(super) fn judgement(judged: &Judged, threshold: f64) -> String {
    let change = percent(judged.change());
    format!("{}, {change}{}", judged.verdict, but(judged, threshold))
}

fn but(judged: &Judged, threshold: f64) -> String {
    let allowed = typed(threshold);
    let (_, most) = interval(judged);
    match judged.verdict {
        Verdict::Regressed => format!(", where {allowed} is allowed"),
        Verdict::Passed => format!(", at most {}, where {allowed} is allowed", percent(most)),
        Verdict::Inconclusive if judged.change() > threshold => {
            let often = chance(judged.p);
            let limit = match judged.level {
                // A limit that nobody could have kept.
                level if level < 1e-4 => String::new(),
                level => format!(", and {} is the limit", chance(level)),
            };
            format!(
                ", where {allowed} is allowed, but chance makes as much in {often} of cases{limit}"
            )
        }
        Verdict::Inconclusive if most.is_finite() => {
            format!(
                ", but it may be {}, where {allowed} is allowed",
                percent(most)
            )
        }
        Verdict::Inconclusive => {
            format!(", but these are too few runs to tell it from {allowed}, which is allowed")
        }
    }
}

/// What a run of a side took: the one in the middle, which no odd run moves.
pub(super) fn middle(of: &Comparison, side: Side) -> f64 {
    let mut totals: Vec<f64> = of.of(side).collect();
    totals.sort_by(f64::total_cmp);
    let at = |at: usize| totals.get(at).copied().unwrap_or(0.0);
    (at(totals.len().saturating_sub(1) / 2) + at(totals.len() / 2)) / 2.0
}

/// Of how many runs, and how far to be believed.
pub(super) fn basis(of: &Comparison) -> String {
    let runs = |side| of.of(side).count();
    format!(
        "{} of base, {} of head{}; a run varies by {}; chance makes as much in {} of cases; seed {}",
        counted(runs(Side::Base), "run"),
        runs(Side::Head),
        match of.clock {
            Clock::Processes => ", by the clock of their processes",
            Clock::Counter => ", by the kernel's task clock",
            Clock::Samples => ", by their samples",
        },
        percent(of.judged.estimate.deviation).trim_start_matches('+'),
        chance(of.judged.p),
        of.seed
    )
}

/// What would decide what is not decided.
pub(super) fn undecided(of: &Comparison) -> Vec<String> {
    // No number of such runs would help.
    if !of.reasons.is_empty() || of.verdict != Verdict::Inconclusive {
        return Vec::new();
    }
    let runs = of.of(Side::Base).count().min(of.of(Side::Head).count());
    let mut said = Vec::new();
    let total = more(&of.judged, &of.rule, runs);
    said.extend(total.map(|more| sentence(more, of.rule.threshold)));
    for entry in &of.ruled {
        if entry.verdict() == Verdict::Inconclusive
            && let Some(judged) = &entry.judged
            && let Some(more) = more(
                judged,
                &of.rule.of_entry(entry.threshold, of.ruled.len()),
                runs,
            )
        {
            let name = words::name(&entry.name, 40);
            said.push(format!("For {name}: {}", sentence(more, entry.threshold)));
        }
    }
    said
}

fn sentence(more: More, threshold: f64) -> String {
    let threshold = typed(threshold);
    match more {
        More::Find(runs, change) => format!(
            "About {runs} more runs a side would decide it, if {} is what it is.",
            percent(change)
        ),
        More::Pass(runs, change) => format!(
            "About {runs} more runs a side would show that it is below {threshold}, if {} is what it is.",
            percent(change)
        ),
        More::Noisy(runs, could) => format!(
            "Runs vary too much here for a threshold of {threshold}: {runs} a side could decide {}.",
            typed(could)
        ),
        More::Close(runs, could) => format!(
            "That is too close to {threshold} for any number of runs: {runs} a side could decide {}.",
            typed(could)
        ),
    }
}

/// What moved.
pub(super) fn moved(pair: &Pair<'_>, name: &dyn Fn(&str) -> String) -> String {
    let (from, to) = (name(&pair.from.name), name(&pair.to.name));
    let how = match pair.kind {
        Kind::Renamed => format!("{from} seems to be {to} now"),
        Kind::Inlined => format!("{from} seems to be inlined into {to} now"),
        Kind::Split => format!("{to} seems to be a part of what {from} was"),
        Kind::Work => format!("work of {from} is done in {to} now"),
    };
    format!(
        "{how}: {} of a run went, {} came, {} together",
        time(pair.lost),
        time(pair.gained),
        more_time(pair.net())
    )
}

/// What is to be said where no function explains a change.
pub(super) fn unexplained(of: &Comparison, told: &Told<'_>) -> Option<String> {
    let is_dearer = of.verdict != Verdict::Passed && of.judged.change() > of.rule.threshold;
    if !is_dearer || !told.guilty.is_empty() || !of.reasons.is_empty() {
        return None;
    }
    let Some(likely) = &of.explained.likely else {
        return Some(
            "No function can be told from chance: it is spread over many, or there are too few samples."
                .into(),
        );
    };
    let run = of.mean(Side::Base);
    let (least, most) = likely.own.between;
    Some(format!(
        "No function is sure: among so many, chance makes as much of one. Most likely is {}, {} of a run ({} to {}).",
        words::name(&of.functions[likely.function as usize].name, words::LONG),
        percent(likely.own.growth / run),
        percent(least / run),
        percent(most / run),
    ))
}

/// What an entry of the project's file says: how much is allowed, of what, and whether that is accepted.
pub(super) fn entry(of: &Ruled) -> (String, String) {
    let allowed = typed(of.threshold);
    match &of.accepted {
        None => (allowed, "of its own CPU time".into()),
        Some((reason, until)) => (
            allowed,
            format!(
                "of a run, accepted until {}: {}",
                words::harmless(until),
                words::name(reason, words::LONG)
            ),
        ),
    }
}
