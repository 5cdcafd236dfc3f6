//! What is printed at the end: where the time went, what was lost and whether that matters, and
//! how the file is opened. [`SummaryData`] comes in, text for standard error leaves; every figure
//! in it was counted elsewhere.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use rprof_ebpf::ledger::Column;

use super::paint::Paint;
use super::{called, plain, words};
use crate::cli::retype::{Retype, quoted};
use crate::ledger::{Counts, Ledger, ProcessRow};
use crate::profile::output::Format;
use crate::profile::totals::Totals;

/// Rows of each ranking.
const ROWS: usize = 10;
/// Processes that are named for their losses.
const WORST: usize = 3;
/// Percent of the busy ticks from which on a loss is large.
const LARGE: f64 = 10.0;
/// Characters of a program's or function's name.
const NAME: usize = 44;

/// All that the summary is made from.
#[derive(Clone, Debug)]
pub struct SummaryData {
    /// How long sampling went on.
    pub duration: Duration,
    /// Samples a second on each CPU.
    pub frequency: u32,
    /// CPUs sampled.
    pub cpus: usize,
    /// Who read the names: `context`, `process-vm`, or both in the order they were tried.
    pub reads: String,
    /// Where the time went.
    pub rankings: Rankings,
    /// What else is to be said, a sentence each.
    pub notes: Vec<String>,
    /// The account of all ticks.
    pub ledger: Ledger,
    /// The pattern of names that was asked for.
    pub comm: Option<String>,
    /// The command that was typed.
    pub again: Retype,
    /// Where the profile went; `None`: not to a file.
    pub output: Option<PathBuf>,
    /// Its format.
    pub format: Format,
}

/// Where the time went, most samples first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rankings {
    /// Programs by name, with their samples in the profile.
    pub programs: Vec<Ranked>,
    /// Functions with the samples in which they are the leaf.
    pub functions: Vec<Ranked>,
}

/// A row of a ranking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranked {
    /// Program or function.
    pub name: String,
    /// A function's source file, or else its module; empty for programs.
    pub place: String,
    /// Samples.
    pub samples: u64,
}

impl Rankings {
    /// The rankings of a profile. A program is all processes of one name.
    pub fn of(totals: Totals) -> Self {
        let mut programs: HashMap<String, u64> = HashMap::new();
        for process in totals.processes {
            let name = called(&process.comm).to_string();
            *programs.entry(name).or_default() += process.samples;
        }
        let programs = programs.into_iter().map(|(name, samples)| Ranked {
            name,
            place: String::new(),
            samples,
        });
        let functions = totals.functions.into_iter().map(|function| Ranked {
            name: function.name,
            place: function.place,
            samples: function.self_samples,
        });
        Self {
            programs: sorted(programs),
            functions: sorted(functions),
        }
    }
}

/// By samples, then by name, so that equal runs print equal text.
fn sorted(rows: impl Iterator<Item = Ranked>) -> Vec<Ranked> {
    let mut rows: Vec<Ranked> = rows.filter(|row| row.samples > 0).collect();
    rows.sort_by(|a, b| (b.samples, &a.name, &a.place).cmp(&(a.samples, &b.name, &b.place)));
    rows
}

/// The whole summary.
pub fn summary(data: &SummaryData, paint: Paint) -> String {
    let Rankings {
        programs,
        functions,
    } = &data.rankings;
    let total: u64 = programs.iter().map(|program| program.samples).sum();
    let counts = &data.ledger.machine;
    let lost = share(delivered_and_lost(counts), busy(counts));
    let mut text = String::new();
    if lost > LARGE && total > 0 {
        let sentence = format!("{lost:.1} % of the busy ticks are not in these tables.");
        text += &format!("{}\n\n", paint.red(&sentence));
    }
    text += &ranking("Programs", programs, total, paint);
    text += &ranking("Functions, themselves", functions, total, paint);
    if let Some(why) = nothing(data) {
        text += &format!("{why}\n\n");
    }
    text += &losses(&data.ledger, paint);
    text += &remedy(data);
    let doubt = doubt(&data.rankings, &data.ledger);
    for sentence in doubt.iter().chain(&data.notes) {
        text += &format!("{}\n", paint.yellow(sentence));
    }
    text += &format!(
        "\n{} at {} Hz on {} {}; reads: {}\n",
        seconds(data.duration),
        data.frequency,
        data.cpus,
        if data.cpus == 1 { "CPU" } else { "CPUs" },
        data.reads,
    );
    text + &open(data, paint)
}

/// `9.8 s`, `12 min 5 s`.
fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..120 => format!("{:.1} s", time.as_secs_f64()),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn ranking(title: &str, rows: &[Ranked], total: u64, paint: Paint) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heading = format!("{:>7}  {:>8}  {title}", "share", "samples");
    let mut text = format!("{}\n", paint.bold(&heading));
    for row in rows.iter().take(ROWS) {
        text += &format!(
            "{:>5.1} %  {:>8}  {}",
            share(row.samples, total),
            row.samples,
            plain(&row.name, NAME)
        );
        if !row.place.is_empty() {
            text += &format!("  {}", paint.dim(&tail(&row.place)));
        }
        text.push('\n');
    }
    let more: u64 = rows.iter().skip(ROWS).map(|row| row.samples).sum();
    if more > 0 {
        text += &format!(
            "{:>5.1} %  {more:>8}  {}\n",
            share(more, total),
            paint.dim(&format!("in {} more", rows.len() - ROWS))
        );
    }
    text + "\n"
}

/// The end of a path: the file matters more than the folders.
fn tail(place: &str) -> String {
    let length = place.chars().count();
    if length <= NAME {
        return plain(place, NAME);
    }
    let end: String = place.chars().skip(length - (NAME - 1)).collect();
    format!("…{}", plain(&end, NAME))
}

/// Why there are no samples, if there are none.
fn nothing(data: &SummaryData) -> Option<String> {
    let ledger = &data.ledger;
    let counts = &ledger.machine;
    let (met, lost) = (busy(counts), delivered_and_lost(counts));
    if met > lost {
        return None;
    }
    Some(if ledger.expected == 0 {
        "No tick fell into this time: sample longer, or faster with -F.".into()
    } else if lost > 0 {
        format!("No samples: of {lost} taken all were lost.")
    } else if let Some(comm) = &data.comm {
        format!(
            "No samples: no process that ran on a CPU was called '{}'.",
            plain(comm, NAME)
        )
    } else if counts.get(Column::NotDelivered) > 0 {
        "No samples: what was profiled did not run on a CPU at any tick that was delivered.".into()
    } else {
        "No samples: what was profiled did not run on a CPU.".into()
    })
}

/// The account: its columns add up to the ticks that were expected, and those delivered beyond.
fn losses(ledger: &Ledger, paint: Paint) -> String {
    let counts = &ledger.machine;
    let mut text = format!(
        "{}\n",
        paint.bold(&format!("{:>9}  ticks expected", ledger.expected))
    );
    if ledger.surplus > 0 {
        text += &format!("{:>9}  delivered beyond those\n", ledger.surplus);
    }
    for &column in Column::ALL.iter().filter(|&&column| counts.get(column) > 0) {
        let row = format!("{:>9}  {}", counts.get(column), column.name());
        if column.is_loss() {
            let lost = match column {
                // The CPU may as well have been idle: what was delivered does not tell.
                Column::NotDelivered => format!(
                    "  (lost unless idle, {:.1} % of all ticks)",
                    share(counts.get(column), ledger.expected)
                ),
                _ => format!(
                    "  (lost, {:.1} % of busy ticks)",
                    share(counts.get(column), busy(counts))
                ),
            };
            text += &format!("{}\n", paint.red(&(row + &lost)));
        } else {
            text += &format!("{row}\n");
        }
        if column == Column::Truncated {
            for (end, n) in &ledger.truncated {
                text += &format!("{:>9}    {n} at: {}\n", "", end.reason());
            }
        }
    }
    let (total, ticks) = (counts.total(), ledger.expected + ledger.surplus);
    if total != ticks {
        let (word, n) = if total < ticks {
            ("without account", ticks - total)
        } else {
            ("more than there were", total - ticks)
        };
        text += &format!(
            "{}\n",
            paint.red(&format!(
                "{n:>9}  {word}: a defect of rprof, please report it"
            ))
        );
    }
    if ledger.left_out > 0 {
        text += &format!(
            "{:>9}  frames left out because they were just being entered\n",
            ledger.left_out
        );
    }
    text + &worst(ledger)
}

/// What helps against the largest loss, if it is large and something does.
fn remedy(data: &SummaryData) -> String {
    let counts = &data.ledger.machine;
    let busy = busy(counts);
    let losses = Column::ALL.iter().filter(|column| column.is_loss());
    let helped = losses.filter_map(|&column| {
        let lost = counts.get(column);
        let next = match column {
            Column::RateLowered | Column::RingFull | Column::QueueFull => {
                let fits = f64::from(data.frequency) * busy.saturating_sub(lost) as f64;
                let fits = round(fits / busy.max(1) as f64);
                data.again.with(["-F", "--freq"], Some(&fits.to_string()))
            }
            Column::WouldFault => data.again.with(["", "--on-fault"], Some("mark")),
            _ => return None,
        };
        (share(lost, busy) > LARGE).then_some((lost, column, next))
    });
    helped
        .max_by_key(|(lost, ..)| *lost)
        .map_or_else(String::new, |(_, column, next)| {
            format!(
                "{}: {}\n  try: {next}\n",
                column.name(),
                words::of_column(column)
            )
        })
}

/// A frequency that people would type, not above this one.
fn round(frequency: f64) -> u32 {
    let frequency = frequency.max(1.0) as u32;
    let unit = 10u32.pow(frequency.ilog10().saturating_sub(1));
    frequency - frequency % unit
}

/// Ticks that were delivered, while a CPU was not idle and ran what was asked for.
fn busy(counts: &Counts) -> u64 {
    let beside = [Column::Idle, Column::NotSelected, Column::NotDelivered];
    let beside = beside.into_iter().map(|column| counts.get(column));
    counts.total().saturating_sub(beside.sum())
}

/// Those of them that are not in the profile.
fn delivered_and_lost(counts: &Counts) -> u64 {
    counts.lost() - counts.get(Column::NotDelivered)
}

/// The processes that lost most.
fn worst(ledger: &Ledger) -> String {
    let mut rows: Vec<_> = ledger
        .processes
        .iter()
        .filter(|(_, p)| p.counts.lost() > 0)
        .collect();
    rows.sort_by(|(a, p), (b, q)| (q.counts.lost(), a).cmp(&(p.counts.lost(), b)));
    let mut text = String::new();
    for (row, process) in rows.iter().take(WORST) {
        let reasons: Vec<String> = Column::ALL
            .iter()
            .filter(|&&column| column.is_loss() && process.counts.get(column) > 0)
            .map(|&column| format!("{} {}", process.counts.get(column), column.name()))
            .collect();
        text += &format!(
            "  {} (pid {}) lost {} of {}: {}\n",
            plain(called(&process.comm), NAME),
            row.pid,
            process.counts.lost(),
            busy(&process.counts),
            reasons.join(", ")
        );
    }
    if rows.len() > WORST {
        text += &format!("  and {} more processes lost some\n", rows.len() - WORST);
    }
    text
}

/// Says so if what was lost could change an order that is shown. A program may have lost what its
/// own processes lost, and all that cannot be pinned to a process; a function, everything. Ticks that
/// were not delivered may have been anyone's. A program that is not shown may belong there: one that lost
/// all its samples is in no ranking.
fn doubt(rankings: &Rankings, ledger: &Ledger) -> Option<String> {
    let lost = delivered_and_lost(&ledger.machine);
    let undelivered = ledger.machine.get(Column::NotDelivered);
    let mut by_program: HashMap<&str, u64> = HashMap::new();
    for (row, process) in &ledger.processes {
        if *row != ProcessRow::OTHERS {
            *by_program.entry(called(&process.comm)).or_default() += process.counts.lost();
        }
    }
    let pinned: u64 = by_program.values().sum();
    let anyones = lost.saturating_sub(pinned);
    let of_program = |row: &Ranked| {
        let own = by_program.get(row.name.as_str()).copied().unwrap_or(0);
        own.saturating_add(anyones)
    };
    first_doubt(&rankings.programs, of_program, undelivered)
        .or_else(|| {
            let last = rankings.programs.iter().take(ROWS).next_back()?.clone();
            let hidden = hidden(&rankings.programs, &by_program)?;
            first_doubt(&[last, hidden], of_program, undelivered)
        })
        .or_else(|| first_doubt(&rankings.functions, |_| lost, undelivered))
}

/// The program that is not shown and, with what it lost, could have most samples.
fn hidden(programs: &[Ranked], lost: &HashMap<&str, u64>) -> Option<Ranked> {
    let lost = lost.iter().filter(|&(_, &lost)| lost > 0);
    let hidden = lost.filter_map(|(&name, &lost)| {
        let place = programs.iter().position(|row| row.name == name);
        let samples = place
            .and_then(|place| programs.get(place))
            .map_or(0, |row| row.samples);
        place
            .is_none_or(|place| place >= ROWS)
            .then_some((samples + lost, name, samples))
    });
    let (_, name, samples) = hidden.max()?;
    Some(Ranked {
        name: name.into(),
        samples,
        ..Ranked::default()
    })
}

/// The highest place in a ranking that a loss could turn round. Ticks that were not delivered were idle
/// more often than not: they count if they are more than chance alone makes of the two numbers.
fn first_doubt(rows: &[Ranked], lost: impl Fn(&Ranked) -> u64, undelivered: u64) -> Option<String> {
    let shown = rows.get(..rows.len().min(ROWS)).unwrap_or_default();
    shown.iter().zip(shown.iter().skip(1)).find_map(|(upper, lower)| {
        let gap = upper.samples - lower.samples;
        let lost = lost(lower);
        let chance = ((upper.samples + lower.samples) as f64).sqrt();
        let undelivered = if undelivered as f64 > chance { undelivered } else { 0 };
        let most = lost.saturating_add(undelivered);
        (most > gap).then(|| {
            let why = match (lost, undelivered) {
                (_, 0) => String::new(),
                (0, _) => " if no CPU was idle at the ticks not delivered".into(),
                _ => format!(": {lost}, and {undelivered} if no CPU was idle at the ticks not delivered"),
            };
            format!(
                "The losses could change this order: {} is {gap} {} behind {}, and may have lost {most}{why}.",
                plain(&lower.name, NAME),
                if gap == 1 { "sample" } else { "samples" },
                plain(&upper.name, NAME),
            )
        })
    })
}

/// The file, and three ways to open it.
fn open(data: &SummaryData, paint: Paint) -> String {
    let Some(file) = &data.output else {
        return String::new();
    };
    let name = quoted(&file.to_string_lossy());
    let ways = match data.format {
        Format::Pprof => [
            format!("go tool pprof -http=: {name}"),
            "https://www.speedscope.app   (drop the file there)".to_string(),
            "https://ui.perfetto.dev      (drop the file there)".to_string(),
        ],
        Format::Folded => [
            format!("inferno-flamegraph {name} > flame.svg"),
            "https://www.speedscope.app   (drop the file there)".to_string(),
            format!("flamegraph.pl {name} > flame.svg"),
        ],
        Format::Svg => [
            format!("xdg-open {name}"),
            format!("firefox {name}"),
            format!("google-chrome {name}"),
        ],
        Format::Firefox => [
            "https://profiler.firefox.com (drop the file there)".to_string(),
            format!("samply load {name}"),
            format!("npx @firefox-devtools/profiler-cli load {name}"),
        ],
    };
    let mut text = format!("\n{}\n", paint.bold(&format!("{name} can be opened with:")));
    for way in ways {
        text += &format!("  {way}\n");
    }
    text
}

#[cfg(test)]
mod tests;
