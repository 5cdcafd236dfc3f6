//! Microseconds of the eBPF programs a tick: `run_time_ns / run_cnt` over a steady window, with the
//! kernel's clock for programs on. Both CPUs are busy with one kind of stack.
//!
//! Only the two busy processes are selected, so that neighbours' stacks are not in the figure. Ticks
//! that met a neighbour run the programs too and end soon; they are told from the others by the CPU
//! time of the two, and taken off at what such a tick costs.

use std::thread::sleep;
use std::time::Duration;

use super::Bench;
use super::agent::{Agent, FREQUENCY};
use super::loads::Load;
use super::process;
use super::stats::RunTimes;
use super::table::Row;
use super::weather::Watch;
use crate::Outcome;

const NATIVE: Row = Row::at_most("eBPF µs a tick, 40 native frames", 6.0);
const PYTHON: Row = Row::at_most(
    "eBPF µs a tick, 40 Python frames in their native ones",
    10.0,
);
const KERNEL: Row = Row::plain("eBPF µs a tick, 40 native frames and kernel frames (getpid loop)");

/// Microseconds of a tick that met a process which is not selected.
const NOT_SELECTED: f64 = 1.0;

pub(super) fn run(bench: &mut Bench) -> Outcome {
    let load = bench.programs.native()?;
    measure(bench, NATIVE, load)?;
    if let Some(python) = bench.programs.python.clone() {
        let load = bench.programs.python(&python)?;
        measure(bench, PYTHON, load)?;
    }
    let load = bench.programs.system_calls()?;
    measure(bench, KERNEL, load)
}

fn measure(bench: &mut Bench, row: Row, load: Load) -> Outcome {
    bench.wait_for_calm();
    let _on = RunTimes::on()?;
    let ours = load.pids();
    let mut running = bench.agents.start_on(Agent::Rprof, FREQUENCY, &ours)?;
    sleep(bench.plan.warm_up);
    let watch = Watch::start(&ours);
    let used = || {
        ours.iter()
            .map(|&pid| process::cpu_time(pid))
            .sum::<Duration>()
    };
    let (before, used_before) = (running.program_time(), used());
    sleep(bench.plan.window);
    let (after, used_after) = (running.program_time(), used());
    let weather = watch.end(&ours);
    running.still_runs()?;
    running.stop(|_| ())?;
    let runs = after.runs.saturating_sub(before.runs) as f64;
    let samples = used_after.saturating_sub(used_before).as_secs_f64() * f64::from(FREQUENCY);
    if runs == 0.0 || samples < 1.0 {
        return Err(format!("{}: the programs did not run", row.name));
    }
    let micros = after.nanos.saturating_sub(before.nanos) as f64 / 1e3;
    let others = (runs - samples).max(0.0) * NOT_SELECTED;
    bench.add(
        row,
        Agent::Rprof,
        (micros - others) / samples.min(runs),
        weather,
    );
    Ok(())
}
