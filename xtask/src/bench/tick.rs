//! Microseconds of the eBPF programs a tick: `run_time_ns / run_cnt` over a steady window, with the
//! kernel's clock for programs on. Both CPUs are busy with one kind of stack.
//!
//! Only the two busy processes are selected, so that neighbours' stacks are not in the figure. Ticks
//! that met a neighbour run the programs too and end soon; they are told from the others by the CPU
//! time of the two, and taken off at what such a tick costs, which is measured first.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use super::Bench;
use super::agent::{Agent, FREQUENCY};
use super::loads::Load;
use super::process;
use super::stats::RunTimes;
use super::table::Row;
use super::weather::{Watch, Weather};
use crate::Outcome;

const NATIVE: Row = Row::at_most("eBPF µs a tick, 40 native frames", 6.0);
const PYTHON: Row = Row::at_most(
    "eBPF µs a tick, 40 Python frames in their native ones",
    10.0,
);
const NOT_SELECTED: Row = Row::plain("eBPF µs a tick of a process that is not selected");
const KERNEL: Row = Row::plain("eBPF µs a tick, 40 native frames and kernel frames (getpid loop)");

pub(super) fn run(bench: &mut Bench) -> Outcome {
    let other = not_selected(bench)?;
    let load = bench.programs.native()?;
    measure(bench, NATIVE, load, other)?;
    if let Some(python) = bench.programs.python.clone() {
        let load = bench.programs.python(&python)?;
        measure(bench, PYTHON, load, other)?;
    }
    let load = bench.programs.system_calls()?;
    measure(bench, KERNEL, load, other)
}

/// What a tick costs that met a process which is not selected: only a sleeping one is.
fn not_selected(bench: &mut Bench) -> Result<f64, String> {
    bench.wait_for_calm();
    let busy = bench.programs.native()?;
    let mut sleeping = Command::new("sleep");
    sleeping.arg("600");
    let sleeping = Load::start([sleeping])?;
    let window = window(bench, &sleeping.pids(), &busy.pids())?;
    let micros = window.micros / window.runs;
    bench.add(NOT_SELECTED, Agent::Rprof, micros, window.weather);
    Ok(micros)
}

fn measure(bench: &mut Bench, row: Row, load: Load, other: f64) -> Outcome {
    bench.wait_for_calm();
    let pids = load.pids();
    let window = window(bench, &pids, &pids)?;
    let samples = window.used.as_secs_f64() * f64::from(FREQUENCY);
    if samples < 1.0 {
        return Err(format!("{}: the load got no CPU", row.name));
    }
    let others = (window.runs - samples).max(0.0) * other;
    let micros = (window.micros - others) / samples.min(window.runs);
    bench.add(row, Agent::Rprof, micros, window.weather);
    Ok(())
}

/// What the programs did while rprof watched some processes.
struct Window {
    runs: f64,
    micros: f64,
    /// CPU time of the busy processes.
    used: Duration,
    weather: Weather,
}

fn window(bench: &Bench, watched: &[u32], busy: &[u32]) -> Result<Window, String> {
    let _on = RunTimes::on()?;
    let mut running = bench.agents.start_on(Agent::Rprof, FREQUENCY, watched)?;
    sleep(bench.plan.warm_up);
    let watch = Watch::start(busy);
    let used = || {
        busy.iter()
            .map(|&pid| process::cpu_time(pid))
            .sum::<Duration>()
    };
    let (before, used_before) = (running.program_time(), used());
    sleep(bench.plan.window);
    let (after, used_after) = (running.program_time(), used());
    let weather = watch.end(busy);
    running.still_runs()?;
    running.stop(|_| ())?;
    let runs = after.runs.saturating_sub(before.runs);
    if runs == 0 {
        return Err("rprof's programs did not run".into());
    }
    Ok(Window {
        runs: runs as f64,
        micros: after.nanos.saturating_sub(before.nanos) as f64 / 1e3,
        used: used_after.saturating_sub(used_before),
        weather,
    })
}
