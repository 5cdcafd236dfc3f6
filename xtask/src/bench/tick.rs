//! Microseconds of the eBPF programs a tick: `run_time_ns / run_cnt` over a steady window, with the
//! kernel's clock for programs on. Both CPUs are busy with one kind of stack.

use std::thread::sleep;

use super::Bench;
use super::agent::{Agent, FREQUENCY};
use super::loads::Load;
use super::stats::RunTimes;
use super::table::Row;
use super::weather::{Watch, wait_for_calm};
use crate::Outcome;

const NATIVE: Row = Row::at_most("eBPF µs a tick, 40 native frames", 6.0);
const PYTHON: Row = Row::at_most(
    "eBPF µs a tick, 40 Python frames in their native ones",
    10.0,
);
const KERNEL: Row = Row::plain("eBPF µs a tick, 40 native frames and kernel frames (getpid loop)");

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
    wait_for_calm(bench.plan.patience);
    let _on = RunTimes::on()?;
    let ours = load.pids();
    let mut running = bench.agents.start(Agent::Rprof, FREQUENCY)?;
    sleep(bench.plan.warm_up);
    let watch = Watch::start(&ours);
    let before = running.program_time();
    sleep(bench.plan.window);
    let after = running.program_time();
    let weather = watch.end(&ours);
    running.still_runs()?;
    running.stop(|_| ())?;
    let runs = after.runs.saturating_sub(before.runs);
    if runs == 0 {
        return Err(format!("{}: the programs did not run", row.name));
    }
    let micros = after.nanos.saturating_sub(before.nanos) as f64 / 1e3 / runs as f64;
    bench.add(row, Agent::Rprof, micros, weather);
    Ok(())
}
