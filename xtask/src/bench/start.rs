//! What an agent takes to start beside two busy processes: CPU time until it has its events, CPU
//! time of its first 1.5 s (its first lessons included), and the time to its first sample.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Bench;
use super::agent::{Agent, Ended, FREQUENCY};
use super::table::Row;
use super::weather::Watch;
use crate::Outcome;
use crate::workspace::output;

const CPU: Row = Row::at_most("CPU to start, s, verification included", 0.2);
const FIRST_CPU: Row = Row::plain("CPU of the first 1.5 s, s");
const EVENTS: Row = Row::plain("start to events open, s");
const FIRST_SAMPLE: Row = Row::at_most("start to first sample, s", 0.3);
const STOP: Row = Row::plain("stop to end, s, names and file included");

/// What counts as start in [`FIRST_CPU`].
const FIRST: Duration = Duration::from_millis(1500);

pub(super) fn run(bench: &mut Bench) -> Outcome {
    let agents: Vec<Agent> = bench.agents.present().collect();
    for agent in agents {
        bench.wait_for_calm();
        measure(bench, agent)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, agent: Agent) -> Outcome {
    let load = bench.programs.busy()?;
    sleep(Duration::from_millis(500));
    let ours = load.pids();
    let watch = Watch::start(&ours);
    let mut running = bench.agents.start(agent, FREQUENCY)?;
    let started = Instant::now();
    while !running.has_events(bench.cpus) {
        running.still_runs()?;
        if started.elapsed() > Duration::from_secs(30) {
            return Err(format!("{} opens no events", agent.name()));
        }
        sleep(Duration::from_millis(1));
    }
    let (opened, cpu) = (started.elapsed(), running.cpu_time());
    sleep(FIRST.saturating_sub(started.elapsed()));
    let first_cpu = running.cpu_time();
    let started = running.started();
    // The agent's own work is not a neighbour's.
    let mut all = ours.clone();
    all.extend(running.pids());
    let weather = watch.end(&all);
    let ended = running.stop(|_| ())?;
    // perf opens its events early and has most of its start before it.
    if agent == Agent::Rprof {
        bench.add(CPU, agent, cpu.as_secs_f64(), weather);
        bench.add(EVENTS, agent, opened.as_secs_f64(), weather);
    }
    bench.add(FIRST_CPU, agent, first_cpu.as_secs_f64(), weather);
    if let Some(seconds) = first_sample(agent, &ended, started) {
        bench.add(FIRST_SAMPLE, agent, seconds, weather);
    }
    bench.add(STOP, agent, ended.took.as_secs_f64(), weather);
    Ok(())
}

/// Seconds from the start to the first sample: rprof says it, perf's first time stamp tells.
fn first_sample(agent: Agent, ended: &Ended, started: Duration) -> Option<f64> {
    if agent == Agent::Rprof {
        let line = ended
            .said
            .lines()
            .find_map(|line| line.strip_prefix("first sample after "))?;
        return line.split(' ').next()?.parse().ok();
    }
    let mut script = Command::new("perf");
    script
        .args(["script", "--ns", "-F", "time", "-G", "-i"])
        .arg(&ended.output);
    let times = output(&mut script).ok()?;
    let times = times
        .lines()
        .filter_map(|line| line.trim().trim_end_matches(':').parse::<f64>().ok());
    times
        .min_by(f64::total_cmp)
        .map(|first| first - started.as_secs_f64())
}
