//! `cargo xtask soak`: rprof as a service, for long, over churn: 300 processes that wake now and then, processes
//! that start and end without pause, and programs that nobody has met before. Memory, descriptors and cost of
//! each minute leave as a table; it fails if one of them grows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::agent::{Agents, Running};
use super::group::Group;
use super::loads::{Load, Programs, SHORT_C};
use super::process;
use super::push::Sink;
use crate::workspace::{say, scratch};
use crate::{Outcome, Usage};

/// How long it usually is.
const MINUTES: u32 = 20;
/// The least from which something can be said.
const FEW: u32 = 4;
/// Loads end by themselves after ten.
const LOAD_MINUTES: u32 = 5;
/// New programs a second.
const PROGRAMS: u32 = 2;

/// What is looked at each minute.
#[derive(Clone, Copy, Debug)]
struct Minute {
    anonymous: f64,
    resident: f64,
    kernel: f64,
    files: f64,
    threads: f64,
    cpu: f64,
    kib: f64,
}

/// A column: its head, its figure, and how much more the end may have than the middle.
type Column = (&'static str, fn(&Minute) -> f64, Option<f64>);

const COLUMNS: [Column; 7] = [
    ("anonymous MiB", |m| m.anonymous, Some(1.0)),
    ("resident MiB", |m| m.resident, Some(2.0)),
    ("BPF maps MiB", |m| m.kernel, Some(1.0)),
    ("files", |m| m.files, Some(8.0)),
    ("threads", |m| m.threads, Some(4.0)),
    ("CPU ms/s", |m| m.cpu, None),
    ("KiB sent", |m| m.kib, None),
];

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    let minutes = match options {
        [] => MINUTES,
        [word, n] if word == "--minutes" => n.parse().ok().filter(|&n| n >= FEW).ok_or(Usage)?,
        _ => return Err(Usage),
    };
    Ok(soak(minutes))
}

fn soak(minutes: u32) -> Outcome {
    let folder = scratch().join("bench");
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let programs = Programs::build(&folder)?;
    let agents = Agents::build(&folder)?;
    let sink = Sink::start()?;
    let mut load = churn(&programs)?;
    let _strangers = Strangers::start(&programs.file(SHORT_C), &folder);
    let group = Group::new()?;
    let mut running = agents.start_pushing(&sink.url, Duration::from_secs(60) * (minutes + 5))?;
    group.take(running.pid())?;
    let mut all: Vec<Minute> = Vec::new();
    for n in 1..=minutes {
        if n.is_multiple_of(LOAD_MINUTES) {
            drop(load);
            load = churn(&programs)?;
        }
        let (before, sent, start) = (group.used()?, sink.bytes(), Instant::now());
        sleep(Duration::from_secs(60));
        running.still_runs()?;
        let used = group.used()?.saturating_sub(before).as_secs_f64() * 1e3;
        let minute = Minute {
            cpu: used / start.elapsed().as_secs_f64(),
            kib: (sink.bytes() - sent) as f64 / 1024.0,
            ..look(&running)
        };
        say(&format!("minute {n}: {minute:.1?}"));
        all.push(minute);
    }
    let said = running.stop(|_| ())?.said;
    print!("{}", table(&all));
    print!("\n{}", said.lines().last().unwrap_or_default());
    println!();
    match growing(&all).as_slice() {
        [] => Ok(()),
        grown => Err(format!("it grows: {}", grown.join(", "))),
    }
}

/// 300 that wake, and a fork storm.
fn churn(programs: &Programs) -> Result<Load, String> {
    Ok(programs.wakers()?.with(programs.storm()?))
}

fn look(running: &Running) -> Minute {
    let pids = running.pids();
    let mib = |field: &str| {
        let bytes = pids.iter().map(|&pid| process::status_bytes(pid, field));
        bytes.sum::<u64>() as f64 / f64::from(1 << 20)
    };
    let count = |folder: &str| {
        let entries = pids
            .iter()
            .map(|pid| process::count(&format!("/proc/{pid}/{folder}")));
        entries.sum::<usize>() as f64
    };
    Minute {
        anonymous: mib("RssAnon"),
        resident: pids
            .iter()
            .map(|&pid| process::resident_bytes(pid))
            .sum::<u64>() as f64
            / f64::from(1 << 20),
        kernel: running.kernel_bytes() as f64 / f64::from(1 << 20),
        files: count("fd"),
        threads: count("task"),
        cpu: 0.0,
        kib: 0.0,
    }
}

fn table(all: &[Minute]) -> String {
    let heads: Vec<&str> = COLUMNS.iter().map(|(head, ..)| *head).collect();
    let mut text = format!(
        "| minute | {} |\n|---|{}\n",
        heads.join(" | "),
        "---|".repeat(7)
    );
    for (n, minute) in (1..).zip(all) {
        let cells: Vec<String> = COLUMNS
            .iter()
            .map(|(_, figure, _)| format!("{:.1}", figure(minute)))
            .collect();
        text += &format!("| {n} | {} |\n", cells.join(" | "));
    }
    text
}

/// What the last quarter has more of than the second.
fn growing(all: &[Minute]) -> Vec<String> {
    let quarter = all.len() / 4;
    let median = |minutes: &[Minute], figure: fn(&Minute) -> f64| {
        let mut figures: Vec<f64> = minutes.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or_default()
    };
    let grown = COLUMNS.iter().filter_map(|&(head, figure, slack)| {
        let before = median(all.get(quarter..2 * quarter)?, figure);
        let now = median(all.get(all.len() - quarter..)?, figure);
        (now > before * 1.1 + slack?).then(|| format!("{head} from {before:.1} to {now:.1}"))
    });
    grown.collect()
}

/// Programs that nobody has met before: copies, each run once and removed.
struct Strangers(Arc<AtomicBool>);

impl Strangers {
    fn start(program: &Path, folder: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, program, folder) = (stop.clone(), program.to_owned(), folder.to_owned());
        std::thread::spawn(move || {
            let mut n = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                n += 1;
                let _ = once(&program, &folder.join(format!("stranger-{n}")));
                sleep(Duration::from_secs(1) / PROGRAMS);
            }
        });
        Self(stop)
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn once(program: &Path, copy: &PathBuf) -> std::io::Result<()> {
    fs::copy(program, copy)?;
    // Long enough to be sampled now and then.
    let ended = Command::new(copy).arg("60").stdin(Stdio::null()).status();
    fs::remove_file(copy)?;
    ended.map(drop)
}
