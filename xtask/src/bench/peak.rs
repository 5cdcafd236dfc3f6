//! The most memory an agent has at once, from its start to its end, while it watches large programs:
//! two busy processes, `node` where there is one, and the Rust compiler. All that was met is named
//! at the end.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Bench;
use super::agent::{Agent, FREQUENCY};
use super::loads::Load;
use super::process;
use super::table::Row;
use super::weather::Watch;
use crate::Outcome;
use crate::workspace::output;

const ANONYMOUS: Row = Row::at_most(
    "peak anonymous memory, MiB, names of large programs included",
    64.0,
);
const RESIDENT: Row = Row::plain("peak resident memory (VmHWM), MiB");
const STOP: Row = Row::plain("stop to end, s, names of large programs included");
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Ends by itself after ten minutes, as other loads do.
const SPIN: &str = "const end = Date.now() + 600000; \
                    for (let x = 1; Date.now() < end;) x = (x * 3 + 1) % 65536;";
const MIB: f64 = (1 << 20) as f64;

#[derive(Default)]
struct Peak {
    anonymous: u64,
    resident: u64,
}

impl Peak {
    fn look(&mut self, pids: &[u32]) {
        let sum = |field| {
            pids.iter()
                .map(|&pid| process::status_bytes(pid, field))
                .sum()
        };
        self.anonymous = self.anonymous.max(sum("RssAnon"));
        self.resident = self.resident.max(sum("VmHWM"));
    }
}

pub(super) fn run(bench: &mut Bench) -> Outcome {
    let agents: Vec<Agent> = bench.agents.present().collect();
    for agent in agents {
        measure(bench, agent)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, agent: Agent) -> Outcome {
    let busy = bench.programs.busy()?;
    let mut node = Command::new("node");
    node.args(["-e", SPIN]);
    let node = Load::start([node]);
    // The agent and the compiler are waited for: their CPU time becomes ours.
    let mut ours = busy.pids();
    ours.push(std::process::id());
    ours.extend(node.iter().flat_map(Load::pids));
    let watch = Watch::start(&ours);
    let mut running = bench.agents.start(agent, FREQUENCY)?;
    let end = Instant::now() + bench.plan.window;
    let over = AtomicBool::new(false);
    let (mut peak, compiled) = std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut peak = Peak::default();
            while !over.load(Ordering::Relaxed) {
                peak.look(&running.pids());
                sleep(LOOK);
            }
            peak
        });
        let compiled = compile_until(bench, end);
        over.store(true, Ordering::Relaxed);
        (looker.join().unwrap_or_default(), compiled)
    });
    compiled?;
    running.still_runs()?;
    let ended = running.stop(|running| peak.look(&running.pids()))?;
    let weather = watch.end(&ours);
    bench.add(ANONYMOUS, agent, peak.anonymous as f64 / MIB, weather);
    bench.add(RESIDENT, agent, peak.resident as f64 / MIB, weather);
    bench.add(STOP, agent, ended.took.as_secs_f64(), weather);
    Ok(())
}

fn compile_until(bench: &Bench, end: Instant) -> Outcome {
    while Instant::now() < end {
        let mut rustc = Command::new("rustc");
        rustc.args(["-O", "--crate-type", "lib", "--emit", "obj", "-o"]);
        output(
            rustc
                .arg(bench.programs.file("compiled.o"))
                .arg(bench.programs.file("compiled.rs")),
        )?;
    }
    Ok(())
}
