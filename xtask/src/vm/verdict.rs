//! What must hold on every kernel, and the table that says where it does.
//!
//! A report enters; shares and broken promises leave. The chains that are expected are those of
//! `guest/chain.c` and `guest/spin.py`, written down here a second time: rprof is not asked.

use std::fmt;

use super::report::{Ledger, Report, stacks};
use super::suite::{self, File};

/// Of the ticks that met something to profile, less those of [`SLOW`], how many must be resolved.
const RESOLVED: f64 = 95.0;
/// Losses that emulation causes: an emulated processor waits for a real one, and what is learned in
/// milliseconds elsewhere takes it seconds. They are shown, and not held against rprof.
const SLOW: [&str; 2] = ["not delivered by the kernel", "runtime being learned"];
/// The same among truncated stacks.
const LEARNING: [&str; 2] = ["module being learned", "stack not copied"];
/// Of the samples of a target, how many must show its whole chain.
const WHOLE: f64 = 97.0;
/// Samples below which a share says nothing.
const FEW: u64 = 20;

/// What a kernel's report says.
pub(super) struct Verdict {
    release: String,
    /// The programs were loaded.
    loaded: bool,
    /// What the walk finds agrees with `/proc/self/maps`: rprof records nothing otherwise.
    checked: bool,
    /// Percent of the C program's samples that show its whole chain.
    complete: Option<f64>,
    /// Percent of the Python program's samples that show its functions, in their place.
    named: Option<f64>,
    /// The same with names read in user space; `None` where the kernel cannot do that.
    named_by_reads: Option<f64>,
    /// Percent of busy ticks resolved, less [`SLOW`]; the least of the recordings.
    resolved: Option<f64>,
    losses: String,
    /// Tests that passed, of those that ran.
    tests: String,
    /// Promises that do not hold.
    pub(super) broken: Vec<String>,
}

impl Verdict {
    /// `flags`: the kernel has both flags of `process_vm_readv`; `files`: the tests that ran.
    pub(super) fn of(report: &Report, flags: bool, files: &[File]) -> Self {
        let mut broken = Vec::new();
        let mut must = |holds: bool, promise: String| {
            if !holds {
                broken.push(promise);
            }
        };
        let all = report.section("all");
        let refused = |text: &str| text.contains("refused the eBPF program");
        let loaded = all.status.is_some() && !refused(&all.text);
        let checked = all.status == Some(0);
        must(loaded, format!("the programs load: {}", excerpt(&all.text)));
        must(
            checked || !loaded,
            format!("a recording succeeds: {}", excerpt(&all.text)),
        );

        let check = &report.section("check").text;
        let says = if flags {
            "by process_vm_readv without waiting"
        } else {
            "no PROCESS_VM_NOWAIT"
        };
        must(
            check.contains(says),
            format!("`rprof check` says \"{says}\": {check}"),
        );

        let by_reads = report.section("process-vm");
        if flags {
            must(
                by_reads.status == Some(0) && by_reads.text.contains("; reads: process-vm\n"),
                format!("user space reads names: {}", excerpt(&by_reads.text)),
            );
        } else {
            let sentence = by_reads.text.contains("PROCESS_VM_NOWAIT");
            must(
                by_reads.status.is_some_and(|status| status != 0) && sentence,
                format!("--reads process-vm is refused: {}", excerpt(&by_reads.text)),
            );
        }

        let mut resolved = None;
        let mut losses = Vec::new();
        for run in ["command", "all", "process-vm"] {
            let Some(ledger) = Ledger::parse(&report.section(run).text) else {
                continue;
            };
            must(
                ledger.total() == ledger.expected,
                format!("{run}: the ledger adds up: {ledger:?}"),
            );
            let slow: u64 = SLOW.iter().map(|column| ledger.get(column)).sum();
            let slow = slow
                + LEARNING
                    .iter()
                    .map(|end| ledger.truncated(end))
                    .sum::<u64>();
            let busy = ledger.busy().saturating_sub(slow);
            let share = percent(ledger.get("resolved"), busy);
            must(
                share.is_some_and(|share| share >= RESOLVED),
                format!("{run}: {RESOLVED} % of the busy ticks are resolved: {ledger:?}"),
            );
            resolved = match (resolved, share) {
                (Some(a), Some(b)) => Some(f64::min(a, b)),
                (a, b) => a.or(b),
            };
            let own = ledger.losses();
            losses.extend(own.iter().map(|(name, n)| format!("{n} {name} ({run})")));
        }

        let mut share = |run: &str, target: &str, whole: fn(&[&str]) -> Whole| {
            let (good, of) = count(
                &report.section(&format!("{run}.folded")).text,
                target,
                whole,
            );
            let share = percent(good, of);
            must(
                share.is_some_and(|share| of >= FEW && share >= WHOLE),
                format!("{run}: {WHOLE} % of {target}'s samples are whole: {good} of {of}"),
            );
            share
        };
        let complete = share("command", "chain", chain).min_with(share("all", "chain", chain));
        let named = share("all", "python3.11", spin);
        let named_by_reads = flags
            .then(|| share("process-vm", "python3.11", spin))
            .flatten();

        let messages = &report.section("messages").text;
        let bad = messages.lines().find(|line| {
            ["WARNING: ", "BUG: ", "Oops", "stall"]
                .iter()
                .any(|word| line.contains(word))
        });
        must(
            bad.is_none(),
            format!("the kernel is content: {}", bad.unwrap_or_default()),
        );
        must(
            report.section("messages").status.is_some(),
            "the guest comes to its end".into(),
        );

        let tests = suite::results(files, report, flags);
        broken.extend(tests.broken);

        Self {
            release: report.section("kernel").text.trim().to_owned(),
            loaded,
            checked,
            complete,
            named,
            named_by_reads,
            resolved,
            losses: losses.join(", "),
            tests: format!("{} of {}", tests.passed, tests.of),
            broken,
        }
    }
}

/// What a stack shows of a target's chain.
enum Whole {
    Yes,
    No,
    /// It was taken before the target was where it stays.
    Before,
}

/// Samples of a target that are whole, of those that count.
fn count(folded: &str, target: &str, whole: fn(&[&str]) -> Whole) -> (u64, u64) {
    let (mut good, mut of) = (0, 0);
    for (frames, n) in stacks(folded) {
        let learning = frames
            .get(1)
            .is_some_and(|root| LEARNING.iter().any(|end| root.contains(end)));
        if frames.first() != Some(&target) || learning {
            continue;
        }
        match whole(&frames[1..]) {
            Whole::Yes => (good, of) = (good + n, of + n),
            Whole::No => of += n,
            Whole::Before => {}
        }
    }
    (good, of)
}

/// The C program's chain, from the function that the kernel starts. Between libc's entry and `main`
/// stands a function of libc that has a name only in its debug file.
fn chain(frames: &[&str]) -> Whole {
    let levels = (1..=24).map(|level| format!("level_{level:02}"));
    let names = ["main".to_owned()].into_iter().chain(levels);
    let names: Vec<String> = names.chain(["leaf".to_owned()]).collect();
    let starts = frames.starts_with(&["_start", "__libc_start_main"])
        || frames.starts_with(&["_start", "__libc_start_main_impl"]);
    let begins = frames.iter().position(|frame| *frame == "main");
    match begins {
        Some(at) if starts && at == 3 => {
            let shown = frames.get(at..at + names.len()).unwrap_or_default();
            if shown == names {
                Whole::Yes
            } else if frames.len() < at + names.len() && frames[at..] == names[..frames.len() - at]
            {
                // On its way down.
                Whole::Before
            } else {
                Whole::No
            }
        }
        // The dynamic linker and the kernel, before `main`.
        None if !cut(frames) => Whole::Before,
        _ => Whole::No,
    }
}

/// The Python program's functions, each activation within the native frame that runs it.
fn spin(frames: &[&str]) -> Whole {
    const LOOP: &str = "_PyEval_EvalFrameDefault";
    let first = [LOOP, "<module>", "outer", "middle"];
    let second = [LOOP, "inner", "Work.burn"];
    let find = |frames: &[&str], part: &[&str]| {
        frames.windows(part.len()).position(|window| window == part)
    };
    let Some(at) = find(frames, &first) else {
        let startup = !cut(frames) && !frames.contains(&"Work.burn");
        return if startup { Whole::Before } else { Whole::No };
    };
    // C lies between the two activations.
    let rest = &frames[at + first.len()..];
    match find(rest, &second) {
        Some(between) if between > 0 && frames.first() == Some(&"_start") => Whole::Yes,
        _ => Whole::No,
    }
}

fn cut(frames: &[&str]) -> bool {
    frames
        .first()
        .is_some_and(|root| root.starts_with("[truncated"))
}

fn percent(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 * 100.0 / of as f64)
}

trait MinWith {
    /// The smaller one; of one and none, none.
    fn min_with(self, other: Self) -> Self;
}

impl MinWith for Option<f64> {
    fn min_with(self, other: Self) -> Self {
        Some(self?.min(other?))
    }
}

/// The last lines, on one.
fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.broken.is_empty() {
            return write!(f, "{} holds all promises", self.release);
        }
        write!(f, "{} breaks:", self.release)?;
        self.broken
            .iter()
            .try_for_each(|promise| write!(f, "\n  {promise}"))
    }
}

const COLUMNS: usize = 10;

/// One line a kernel.
pub(super) fn table(verdicts: &[(&str, Result<Verdict, String>)]) -> String {
    let mut rows = vec![
        [
            "kernel",
            "release",
            "load",
            "self-check",
            "C whole",
            "Python named",
            "by reads",
            "resolved",
            "tests",
            "losses",
        ]
        .map(str::to_owned),
    ];
    for (name, verdict) in verdicts {
        let yes = |holds: bool| if holds { "ok" } else { "NO" }.to_owned();
        let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.1} %"));
        rows.push(match verdict {
            Ok(v) => [
                (*name).to_owned(),
                v.release.clone(),
                yes(v.loaded),
                yes(v.checked),
                share(v.complete),
                share(v.named),
                share(v.named_by_reads),
                share(v.resolved),
                v.tests.clone(),
                v.losses.clone(),
            ],
            Err(_) => {
                let mut row = ["-"; COLUMNS].map(str::to_owned);
                row[0] = (*name).to_owned();
                row
            }
        });
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{chain, count, spin};

    const LEVELS: &str = "level_01;level_02;level_03;level_04;level_05;level_06;level_07;level_08;\
                          level_09;level_10;level_11;level_12;level_13;level_14;level_15;level_16;\
                          level_17;level_18;level_19;level_20;level_21;level_22;level_23;level_24";

    #[test]
    fn the_chain_is_whole_or_not() {
        let start = "_start;__libc_start_main;libc.so.6+0x27249;main";
        let one = |stack: String| count(&format!("chain;{stack} 3"), "chain", chain);
        assert_eq!(
            one(format!("{start};{LEVELS};leaf;syscall;do_syscall_64")),
            (3, 3)
        );
        assert_eq!(one(format!("{start};{LEVELS};leaf")), (3, 3));
        // Begins, but goes on elsewhere; a level is missing; cut; another root.
        assert_eq!(one(format!("{start};{LEVELS};other")), (0, 3));
        assert_eq!(
            one(format!("{start};{};leaf", LEVELS.replace(";level_09", ""))),
            (0, 3)
        );
        assert_eq!(one("[truncated: time];level_24;leaf".into()), (0, 3));
        assert_eq!(one(format!("main;{LEVELS};leaf")), (0, 3));
        // Not there yet.
        assert_eq!(one(format!("{start};level_01")), (0, 0));
        assert_eq!(one("ld-linux-x86-64.so.2+0x1ab77;_dl_start".into()), (0, 0));
        assert_eq!(count("other;main 3\n", "chain", chain), (0, 0));
    }

    #[test]
    fn python_frames_stand_in_their_place() {
        let first = "_PyEval_EvalFrameDefault;<module>;outer;middle";
        let second = "_PyEval_EvalFrameDefault;inner;Work.burn;Work.count";
        let one = |stack: String| count(&format!("python3.11;{stack} 2"), "python3.11", spin);
        assert_eq!(
            one(format!("_start;{first};PyObject_Vectorcall;{second}")),
            (2, 2)
        );
        assert_eq!(one(format!("_start;{first};{second}")), (0, 2));
        assert_eq!(one(format!("{first};PyObject_Vectorcall;{second}")), (0, 2));
        assert_eq!(
            one(format!(
                "_start;f;_PyEval_EvalFrameDefault;g;{second};middle"
            )),
            (0, 2)
        );
        assert_eq!(one(format!("[truncated: time];{second}")), (0, 2));
        assert_eq!(one("_start;Py_BytesMain;Py_RunMain".into()), (0, 0));
    }
}
