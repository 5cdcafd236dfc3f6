//! A comparison for people: total first, then the functions that explain it.

use std::fmt::Write;

use crate::gate::comparison::Comparison;
use crate::gate::explain::{Amount, Changed, Moved};
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;

/// Functions of each kind that are named.
const NAMED: usize = 10;
/// Callers of a function that are named.
const WAY: usize = 3;

/// What it came to, as text.
pub fn text(of: &Comparison) -> String {
    let mut out = String::new();
    let threshold = 100.0 * of.rule.threshold;
    let (least, most) = of.judged.interval();
    let runs = |side| of.of(side).count();
    let _ = writeln!(
        out,
        "{}: {} a run, {} ({} to {}); threshold {threshold} %",
        of.verdict,
        time(of.mean(Side::Head)),
        percent(of.judged.change()),
        percent(least),
        percent(most),
    );
    let _ = writeln!(
        out,
        "  base {} in {} runs, head {} in {}; a run varies by {:.1} %; chance makes as much in {:.2} % of cases",
        time(of.mean(Side::Base)),
        runs(Side::Base),
        time(of.mean(Side::Head)),
        runs(Side::Head),
        100.0 * of.judged.estimate.deviation,
        100.0 * of.judged.p,
    );
    if of.verdict == Verdict::Inconclusive
        && let Some((more, change)) = more_runs(of)
    {
        let _ = writeln!(
            out,
            "  about {more} more runs a side would decide a change of {:.0} %",
            100.0 * change
        );
    }
    for moved in &of.explained.moved {
        let _ = writeln!(out, "  {}", sentence(of, *moved));
    }
    list(&mut out, of, "dearer", &of.explained.guilty);
    list(&mut out, of, "their callers", &of.explained.callers);
    list(&mut out, of, "cheaper", &of.explained.cheaper);
    for note in &of.notes {
        let _ = writeln!(out, "  {note}");
    }
    out
}

fn list(out: &mut String, of: &Comparison, title: &str, changed: &[Changed]) {
    if changed.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n  {title}");
    for changed in changed.iter().take(NAMED) {
        let _ = writeln!(out, "    {}", line(of, changed));
    }
    if changed.len() > NAMED {
        let _ = writeln!(out, "    and {} more", changed.len() - NAMED);
    }
}

fn line(of: &Comparison, changed: &Changed) -> String {
    let base = of.mean(Side::Base);
    // What it does itself, unless its callees, none of which stands out, are what grew.
    let Amount {
        growth, between, ..
    } = match changed.own.growth.abs() > 0.5 * changed.all.growth.abs() {
        true => changed.own,
        false => changed.all,
    };
    let way: Vec<&str> = (changed.way.iter().take(WAY))
        .map(|&caller| &*of.functions[caller as usize].name)
        .collect();
    let way = if way.is_empty() {
        String::new()
    } else {
        format!("  ← {}", way.join(" ← "))
    };
    format!(
        "{:>8} of a run ({} to {})  {}{way}",
        percent(growth / base),
        percent(between.0 / base),
        percent(between.1 / base),
        name(of, changed.function),
    )
}

fn name(of: &Comparison, function: u32) -> String {
    let function = &of.functions[function as usize];
    let place = match (&*function.file, &*function.module) {
        ("", "") => String::new(),
        ("", module) => format!(" ({module})"),
        (file, _) => format!(" ({file})"),
    };
    format!("{}{place}", function.name)
}

fn sentence(of: &Comparison, moved: Moved) -> String {
    let name = |function: u32| &*of.functions[function as usize].name;
    match moved {
        Moved::Renamed(from, to) => format!("{} seems to be {} now", name(from), name(to)),
        Moved::Inlined(from, to) => {
            format!("{} seems to be inlined into {} now", name(from), name(to))
        }
        Moved::Work(from, to) => format!("work moved from {} to {}", name(from), name(to)),
    }
}

/// How many more runs a side would decide which change: 8 of 10 times, if runs go on varying as they do.
pub fn more_runs(of: &Comparison) -> Option<(usize, f64)> {
    // One-sided quantiles of the normal distribution: of the alarm, of the miss, of 8 in 10.
    const ALARM: f64 = 2.88;
    const MISS: f64 = 1.65;
    const POWER: f64 = 0.84;
    let threshold = of.rule.threshold;
    let change = of.judged.change().max(1.5 * threshold);
    let deviation = of.judged.estimate.deviation;
    let runs = |distance: f64| 2.0 * (distance * deviation).powi(2);
    let to_find = runs((ALARM + POWER) / change.ln_1p());
    let to_pass = runs((MISS + POWER) / threshold.ln_1p());
    let there = of.of(Side::Base).count().min(of.of(Side::Head).count());
    let more = to_find.max(to_pass).ceil() as usize;
    (deviation > 0.0).then(|| (more.saturating_sub(there).max(2), change))
}

/// With its sign.
fn percent(share: f64) -> String {
    match share {
        f64::INFINITY => "+∞".into(),
        f64::NEG_INFINITY => "-∞".into(),
        share => format!("{:+.1} %", 100.0 * share),
    }
}

/// Nanoseconds.
pub fn time(nanos: f64) -> String {
    match nanos {
        n if n >= 1e9 => format!("{:.3} s", n / 1e9),
        n if n >= 1e6 => format!("{:.1} ms", n / 1e6),
        n => format!("{:.0} µs", n / 1e3),
    }
}
