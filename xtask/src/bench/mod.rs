//! `cargo xtask bench`: what rprof costs, beside its budgets and beside perf.
//!
//! What enters is this machine, the release binary (or the one that `RPROF_BINARY` names) and
//! `perf` where there is one; what leaves is a table on standard output, and JSON on request. Loads,
//! depths and durations are fixed here, agents take turns within each round, and each figure knows
//! what else the machine did meanwhile. Nothing on the machine is changed for longer than a run.
//!
//! | module | what it measures |
//! |---|---|
//! | [`tick`] | time of the eBPF programs a tick |
//! | [`deep`] | how much of very deep stacks is delivered |
//! | [`steady`] | CPU time and memory while sampling |
//! | [`start`] | what it takes until the first sample |
//! | [`peak`] | the most memory, naming included |
//! | [`lives`] | how much of short-lived processes is seen |
//! | [`rows`] | time to make the unwind rows of large files |
//! | [`ladder`] | time of a read of memory by pieces |
//! | [`push`] | what it costs to push profiles |
//! | [`soak`] | by itself: whether rprof grows over a long run |
//! | [`stuck`] | what a stuck program costs rprof and its neighbours |

mod agent;
mod chain;
mod deep;
mod example;
mod group;
mod ladder;
mod lives;
mod loads;
mod peak;
mod process;
mod push;
mod rows;
pub(crate) mod soak;
mod start;
mod stats;
mod steady;
mod stuck;
mod table;
mod tick;
mod weather;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::{Agent, Agents};
use loads::Programs;
use table::{Row, Table};
use weather::Weather;

use crate::workspace::{say, scratch};
use crate::{Outcome, Usage};

/// How long and how often things are measured.
#[derive(Clone, Copy)]
struct Plan {
    rounds: u32,
    /// From an agent's start to the measurement.
    warm_up: Duration,
    /// One measurement.
    window: Duration,
    /// What all waits for calm may take together.
    patience: Duration,
}

const FULL: Plan = Plan {
    rounds: 3,
    warm_up: Duration::from_secs(3),
    window: Duration::from_secs(10),
    patience: Duration::from_secs(300),
};

const QUICK: Plan = Plan {
    rounds: 1,
    warm_up: Duration::from_secs(2),
    window: Duration::from_secs(4),
    patience: Duration::from_secs(20),
};

/// A run.
struct Bench {
    plan: Plan,
    cpus: usize,
    programs: Programs,
    agents: Agents,
    table: Table,
}

impl Bench {
    /// Waits for a moment when nobody else uses the machine, 60 s at most.
    fn wait_for_calm(&mut self) {
        let start = Instant::now();
        weather::wait_for_calm(self.plan.patience.min(Duration::from_secs(60)));
        self.plan.patience = self.plan.patience.saturating_sub(start.elapsed());
    }

    fn add(&mut self, row: Row, agent: Agent, value: f64, weather: Weather) {
        let note = if weather.disturbs() {
            " (disturbed)"
        } else {
            ""
        };
        say(&format!("{}, {}: {value:.4}{note}", row.name, agent.name()));
        self.table.add(row, agent, value, weather);
    }
}

/// A part of a round.
type Trial = fn(&mut Bench) -> Outcome;

const TRIALS: [(&str, Trial); 10] = [
    ("tick", tick::run),
    ("deep", deep::run),
    ("steady", steady::run),
    ("start", start::run),
    ("lives", lives::run),
    ("peak", peak::run),
    ("rows", rows::run),
    ("ladder", ladder::run),
    ("push", push::run),
    ("stuck", stuck::run),
];

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    let mut plan = FULL;
    let mut json = None;
    let mut only = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => plan = QUICK,
            "--json" => json = Some(PathBuf::from(words.next().ok_or(Usage)?)),
            name if TRIALS.iter().any(|(trial, _)| *trial == name) => only.push(name),
            _ => return Err(Usage),
        }
    }
    let trials = TRIALS
        .iter()
        .filter(|(name, _)| only.is_empty() || only.contains(name));
    let trials: Vec<_> = trials.collect();
    Ok(bench(plan, &trials).and_then(|(text, as_json)| {
        print!("{text}");
        match json {
            None => Ok(()),
            Some(file) => fs::write(&file, as_json)
                .map_err(|error| format!("cannot write {}: {error}", file.display())),
        }
    }))
}

fn bench(plan: Plan, trials: &[&(&str, Trial)]) -> Result<(String, String), String> {
    let folder = scratch().join("bench");
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let mut bench = Bench {
        plan,
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        programs: Programs::build(&folder)?,
        agents: Agents::build(&folder)?,
        table: Table::default(),
    };
    let mut loads = vec![weather::load()];
    let mut failed = Vec::new();
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}", plan.rounds));
        for (name, trial) in trials {
            // One figure that cannot be had must not cost the others.
            if let Err(error) = trial(&mut bench) {
                say(&format!("{name}: {error}"));
                failed.push(format!("{name}, round {round}: {error}"));
            }
        }
        loads.push(weather::load());
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let loads: Vec<String> = loads.iter().map(|load| format!("{load:.1}")).collect();
    let about = [
        ("kernel", kernel.trim().to_string()),
        ("cpus", bench.cpus.to_string()),
        ("rounds", plan.rounds.to_string()),
        ("window", format!("{} s", plan.window.as_secs())),
        ("frequency", format!("{} Hz", agent::FREQUENCY)),
        ("load average before and after each round", loads.join(" ")),
        ("failed", failed.join("; ")),
    ];
    let mut text = bench.table.text();
    text.push('\n');
    for (name, value) in about.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name}: {value}\n"));
    }
    Ok((text, bench.table.json(&about)))
}
