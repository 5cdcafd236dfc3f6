//! CPU time and memory of an agent while it samples: two busy processes, then beside them 300 that
//! wake now and then, then a fork storm. CPU time is user and system of all the agent's processes
//! and threads; what its programs take is charged to targets and measured by [`super::tick`].

use std::thread::sleep;
use std::time::Duration;

use super::Bench;
use super::agent::{Agent, FREQUENCY};
use super::loads::{Load, Programs};
use super::table::Row;
use super::weather::Watch;
use crate::Outcome;

/// A load, and what is measured beside it.
struct Case {
    load: fn(&Programs) -> Result<Load, String>,
    cpu: Row,
    /// Of it, the learning of modules: neighbours bring new ones.
    learning: Row,
    anonymous: Option<Row>,
    /// Memory of eBPF maps and rings.
    kernel: Option<Row>,
}

const MIB: f64 = (1 << 20) as f64;

fn cases(cpus: usize) -> [Case; 3] {
    [
        Case {
            load: Programs::busy,
            cpu: Row::at_most("agent CPU, ms a second, 2 busy processes", 0.4),
            learning: Row::plain("of it learning modules, 2 busy processes"),
            anonymous: Some(Row::at_most(
                "anonymous memory, MiB, 2 busy processes",
                16.0,
            )),
            kernel: Some(Row::at_most(
                "BPF maps (perf: rings), MiB, 2 busy processes",
                8.0 + cpus as f64 / 16.0,
            )),
        },
        Case {
            load: Programs::wakers,
            cpu: Row::at_most("agent CPU, ms a second, and 300 that wake", 0.8),
            learning: Row::plain("of it learning modules, and 300 that wake"),
            anonymous: Some(Row::at_most(
                "anonymous memory, MiB, and 300 that wake",
                24.0,
            )),
            kernel: Some(Row::at_most(
                "BPF maps (perf: rings), MiB, and 300 that wake",
                12.0,
            )),
        },
        Case {
            load: Programs::storm,
            cpu: Row::at_most("agent CPU, ms a second, and a fork storm", 3.0),
            learning: Row::plain("of it learning modules, and a fork storm"),
            anonymous: None,
            kernel: None,
        },
    ]
}

pub(super) fn run(bench: &mut Bench) -> Outcome {
    for case in cases(bench.cpus) {
        let agents: Vec<Agent> = bench.agents.present().collect();
        for agent in agents {
            bench.wait_for_calm();
            measure(bench, &case, agent)?;
        }
    }
    Ok(())
}

fn measure(bench: &mut Bench, case: &Case, agent: Agent) -> Outcome {
    let load = (case.load)(&bench.programs)?;
    let mut running = bench.agents.start(agent, FREQUENCY)?;
    sleep(bench.plan.warm_up);
    let ours = load.pids();
    let watch = Watch::start(&ours);
    let (before, learnt) = (running.cpu_time(), running.learning_time());
    sleep(bench.plan.window);
    let used = running.cpu_time().saturating_sub(before);
    let learning = running.learning_time().saturating_sub(learnt);
    let elapsed = watch.elapsed();
    let weather = watch.end(&ours);
    running.still_runs()?;
    let (anonymous, kernel) = (running.anonymous_bytes(), running.kernel_bytes());
    running.stop(|_| ())?;
    let millis = |time: Duration| time.as_secs_f64() * 1e3 / elapsed.as_secs_f64();
    bench.add(case.cpu, agent, millis(used), weather);
    if agent == Agent::Rprof {
        bench.add(case.learning, agent, millis(learning), weather);
    }
    for (row, bytes) in [(case.anonymous, anonymous), (case.kernel, kernel)] {
        if let Some(row) = row {
            bench.add(row, agent, bytes as f64 / MIB, weather);
        }
    }
    Ok(())
}
