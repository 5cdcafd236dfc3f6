//! How much of short-lived processes is seen: one after the other, 30 to 200 ms of CPU time each.
//! The kernel's own account of their CPU time is the truth; how many samples of it a profile holds,
//! and how many of those are complete stacks with names, is the figure. At 199 Hz, so that chance
//! moves it little.

use std::fs;
use std::process::Command;
use std::thread::sleep;

use super::Bench;
use super::agent::Agent;
use super::loads;
use super::table::Row;
use super::weather::Watch;
use crate::Outcome;
use crate::workspace::output;

const HERTZ: u32 = 199;

/// A kind of life.
struct Kind {
    /// The process's name, which no other program on the machine has.
    comm: &'static str,
    /// The function that its CPU time is for.
    function: &'static str,
    seen: Row,
    complete: Row,
}

const C: Kind = Kind {
    comm: loads::SHORT_C,
    function: "burn",
    seen: Row::at_least("short-lived C, 30–200 ms: CPU time seen, %", 100.0),
    complete: Row::at_least("short-lived C: complete and named, %", 100.0),
};

const PYTHON: Kind = Kind {
    comm: loads::SHORT_PYTHON,
    function: "burn",
    seen: Row::at_least("short-lived Python, 30–200 ms: CPU time seen, %", 100.0),
    complete: Row::at_least("short-lived Python: complete and named, %", 100.0),
};

pub(super) fn run(bench: &mut Bench) -> Outcome {
    let file = |name| bench.programs.file(name);
    let (c, python) = (file(loads::SHORT_C), file(loads::SHORT_PYTHON));
    let (script, has_python) = (file("burn.py"), bench.programs.python.is_some());
    measure(bench, &C, &[c])?;
    match has_python {
        true => measure(bench, &PYTHON, &[python, script]),
        false => Ok(()),
    }
}

fn measure(bench: &mut Bench, kind: &Kind, program: &[std::path::PathBuf]) -> Outcome {
    bench.wait_for_calm();
    let mut running = bench.agents.start(Agent::Rprof, HERTZ)?;
    sleep(bench.plan.warm_up);
    // The lives are waited for: their CPU time becomes ours.
    let ours = [std::process::id()];
    let watch = Watch::start(&ours);
    let seconds = bench.plan.window.as_secs().to_string();
    let mut lives = Command::new(bench.programs.file("lives"));
    let said = output(lives.arg(seconds).args(program))?;
    let weather = watch.end(&ours);
    running.still_runs()?;
    let used: f64 = said
        .trim()
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| format!("`lives` said {said:?}"))?;
    let ended = running.stop(|_| ())?;
    let folded = fs::read_to_string(&ended.output)
        .map_err(|error| format!("cannot read {}: {error}", ended.output.display()))?;
    let expected = used * f64::from(HERTZ);
    let (mut seen, mut complete) = (0, 0);
    for line in folded.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else {
            continue;
        };
        let mut frames = stack.split(';');
        if frames.next() != Some(kind.comm) {
            continue;
        }
        let count: u64 = count.parse().unwrap_or(0);
        seen += count;
        let whole = frames.all(|frame| !frame.starts_with("[truncated: ") && is_named(frame));
        complete += if whole { count } else { 0 };
    }
    if !folded.contains(&format!(";{}", kind.function)) {
        return Err(format!("no stack has `{}`", kind.function));
    }
    bench.add(
        kind.seen,
        Agent::Rprof,
        seen as f64 * 100.0 / expected,
        weather,
    );
    bench.add(
        kind.complete,
        Agent::Rprof,
        complete as f64 * 100.0 / expected,
        weather,
    );
    Ok(())
}

/// Whether a frame has a name. `module+0x1234` is one: Debian's interpreter is stripped of its static
/// functions' names.
fn is_named(frame: &str) -> bool {
    frame != "[unknown]"
}
