//! `cargo xtask full`: all that takes too long for CI, one after the other, whatever fails.
//!
//! What leaves is a table, with date and commit: `tests/RESULTS.md`, to be committed. `--quick`
//! shortens each step, to try this chore out; its table stays below the target directory, so that it
//! is not taken for the real one.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::workspace::{output, root, say, scratch};
use crate::{Outcome, Usage};

/// One step.
struct Step {
    what: &'static str,
    /// The words of `cargo`, and those that make it quick.
    words: &'static [&'static str],
    quick: &'static [&'static str],
    /// The figure in what it printed.
    figure: fn(&str) -> String,
    /// What it printed is a part of the results.
    shown: bool,
}

const STEPS: [Step; 4] = [
    Step {
        what: "tests",
        // As the README says it, and on to the end.
        words: &["test", "--release", "--workspace", "--no-fail-fast"],
        quick: &[
            "test",
            "--release",
            "--workspace",
            "--no-fail-fast",
            "--lib",
        ],
        figure: tests,
        shown: false,
    },
    Step {
        what: "vm",
        words: &["xtask", "vm"],
        quick: &["xtask", "vm", "6.1"],
        figure: kernels,
        shown: true,
    },
    Step {
        what: "fuzz",
        words: &["xtask", "fuzz", "--seconds", "3600"],
        quick: &["xtask", "fuzz", "--seconds", "20"],
        figure: last_line,
        shown: true,
    },
    Step {
        what: "bench",
        words: &["xtask", "bench"],
        quick: &["xtask", "bench", "--quick", "rows"],
        figure: budgets,
        shown: true,
    },
];

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    match options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(full(false)),
        ["--quick"] => Ok(full(true)),
        _ => Err(Usage),
    }
}

fn full(quick: bool) -> Outcome {
    let mut text = head(quick)?;
    text.push_str("| what | result | figure | seconds |\n|---|---|---|---|\n");
    let mut details = String::new();
    let mut failed = Vec::new();
    for step in &STEPS {
        let words = if quick { step.quick } else { step.words };
        say(&format!("cargo {}", words.join(" ")));
        let start = Instant::now();
        let ran = Command::new("cargo")
            .current_dir(root())
            .args(words)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let (passed, said) = match &ran {
            Ok(ran) => (
                ran.status.success(),
                String::from_utf8_lossy(&ran.stdout).into_owned(),
            ),
            Err(error) => (false, format!("cannot start cargo: {error}")),
        };
        let result = if passed { "ok" } else { "FAILED" };
        if !passed {
            failed.push(step.what);
        }
        let row = format!(
            "| {} | {result} | {} | {} |",
            step.what,
            (step.figure)(&said),
            start.elapsed().as_secs()
        );
        say(&row);
        let _ = writeln!(text, "{row}");
        if step.shown {
            let said = said.trim_end();
            let _ = write!(details, "\n## {}\n\n```\n{said}\n```\n", step.what);
        }
    }
    text.push_str(&details);
    let file = match quick {
        false => root().join("tests/RESULTS.md"),
        true => scratch().join("RESULTS.md"),
    };
    let written = std::fs::create_dir_all(scratch()).and_then(|()| std::fs::write(&file, &text));
    written.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    print!("{text}");
    say(&format!("{} written", file.display()));
    match failed[..] {
        [] => Ok(()),
        _ => Err(format!("failed: {}", failed.join(", "))),
    }
}

/// When, of what, where.
fn head(quick: bool) -> Result<String, String> {
    let git = |words: &[&str]| output(Command::new("git").current_dir(root()).args(words));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = match git(&["status", "--porcelain"])?.trim().is_empty() {
        true => "",
        false => ", with changes that are not committed",
    };
    let date = output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(format!(
        "# Results of `cargo xtask full{}`\n\n{}, commit {}{changed}; Linux {}, {cpus} CPUs.\n\n",
        if quick { " --quick" } else { "" },
        date.trim(),
        commit.trim(),
        kernel.trim(),
    ))
}

/// Passed and failed tests, over all that cargo ran.
fn tests(said: &str) -> String {
    let results = || said.lines().filter(|line| line.starts_with("test result:"));
    let total = |column: &str| -> u64 {
        let counts = results().flat_map(|line| line.split([';', '.']));
        let counts = counts.filter_map(|part| part.trim().strip_suffix(column));
        counts.filter_map(|n| n.trim().parse::<u64>().ok()).sum()
    };
    format!("{} passed, {} failed", total("passed"), total("failed"))
}

/// Kernels that load rprof and agree with it: rows of the table without a `NO` or a gap.
fn kernels(said: &str) -> String {
    let rows: Vec<&str> = said.lines().skip(1).collect();
    let holds = |row: &&&str| {
        row.split_whitespace()
            .skip(2)
            .take(2)
            .all(|cell| cell == "ok")
    };
    let good = rows.iter().filter(holds).count();
    format!(
        "{good} of {} load rprof and pass its self-check",
        rows.len()
    )
}

fn last_line(said: &str) -> String {
    said.lines()
        .next_back()
        .unwrap_or("nothing said")
        .to_owned()
}

/// Rows of the bench table by verdict.
fn budgets(said: &str) -> String {
    let verdicts = || said.lines().filter_map(|line| line.split('|').nth(3));
    let count = |wanted: &str| {
        verdicts()
            .filter(|verdict| verdict.trim() == wanted)
            .count()
    };
    let missed = count("over") + count("below");
    format!("{} budgets kept, {missed} missed", count("ok"))
}

#[cfg(test)]
mod tests_of_figures {
    use super::{budgets, kernels, tests};

    #[test]
    fn figures_in_what_was_printed() {
        let said = "test a ... ok\n\
                    test result: ok. 13 passed; 0 failed; 2 ignored; 0 measured; finished in 8.7s\n\
                    test result: FAILED. 6 passed; 1 failed; 0 ignored; 0 measured; finished in 1s\n";
        assert_eq!(tests(said), "19 passed, 1 failed");
        let said =
            "kernel  release  load  self-check\n6.1  6.1.0-50  ok  ok  100 %\nnowait  -  -  -\n";
        assert_eq!(kernels(said), "1 of 2 load rprof and pass its self-check");
        let said = "| rows | ≤ 2 | ok   | 1 |\n| start | ≤ 2 | over | 3 |\n";
        assert_eq!(budgets(said), "1 budgets kept, 1 missed");
    }
}
