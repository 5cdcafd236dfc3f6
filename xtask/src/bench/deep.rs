//! How much of stacks of 1,000 frames is delivered in the time that a tick may take: the tests' own deep
//! program on each CPU, at the rate of every day.

use std::fs;
use std::process::Command;
use std::thread::sleep;

use super::Bench;
use super::agent::{Agent, FREQUENCY};
use super::loads::Load;
use super::table::Row;
use super::weather::Watch;
use crate::Outcome;

const FRAMES: Row = Row::at_least("frames delivered of stacks 1,000 deep, %", 100.0);
const WHOLE: Row = Row::plain("stacks 1,000 deep that are whole, %");

/// What the program calls, its leaf included; three more are below its `main`.
const DEPTH: usize = 994;
const BELOW_MAIN: usize = 3;

pub(super) fn run(bench: &mut Bench) -> Outcome {
    bench.wait_for_calm();
    let deep = || {
        let mut command = Command::new(bench.programs.file("deep"));
        command.args([&DEPTH.to_string(), "600"]);
        command
    };
    let load = Load::start((0..bench.cpus).map(|_| deep()).collect::<Vec<_>>())?;
    let pids = load.pids();
    let mut running = bench.agents.start_on(Agent::Rprof, FREQUENCY, &pids)?;
    sleep(bench.plan.warm_up);
    let watch = Watch::start(&pids);
    sleep(bench.plan.window);
    let weather = watch.end(&pids);
    running.still_runs()?;
    let output = running.stop(|_| ())?.output;
    let folded = fs::read_to_string(&output)
        .map_err(|error| format!("cannot read {}: {error}", output.display()))?;
    let (mut all, mut whole, mut frames) = (0, 0, 0);
    for line in folded.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else {
            continue;
        };
        let names: Vec<&str> = stack.split(';').collect();
        let Some(leaf) = names.iter().position(|&name| name == "leaf") else {
            continue;
        };
        let count: usize = count.parse().unwrap_or(0);
        // The process comes first, then the root, or why there is none.
        let cut = names.get(1).is_some_and(|name| name.starts_with('['));
        all += count;
        whole += if cut { 0 } else { count };
        frames += count * leaf.saturating_sub(if cut { 1 } else { BELOW_MAIN });
    }
    if all == 0 {
        return Err("no stack was sampled in its leaf".into());
    }
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole as f64;
    bench.add(FRAMES, Agent::Rprof, percent(frames, all * DEPTH), weather);
    bench.add(WHOLE, Agent::Rprof, percent(whole, all), weather);
    Ok(())
}
