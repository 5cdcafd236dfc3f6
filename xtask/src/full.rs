//! `cargo xtask full`: all that takes too long for CI, one after the other, whatever fails.
//!
//! What leaves is a table, with date and commit of each step: `tests/RESULTS.md`, to be committed. Steps that
//! are named run alone, and the others' results stay. `--quick` shortens each step, to try this chore out;
//! its table stays below the target directory, so that it is not taken for the real one.

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

const STEPS: [Step; 11] = [
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
        what: "gate-small-changes",
        words: &[
            "test",
            "--release",
            "-p",
            "rprof-tests",
            "--test",
            "gate",
            "--",
            "--ignored",
            "--nocapture",
        ],
        quick: &[
            "test",
            "--release",
            "-p",
            "rprof-tests",
            "--test",
            "gate",
            "mistakes",
        ],
        figure: tests,
        shown: false,
    },
    Step {
        what: "gate-bench",
        words: &[
            "xtask",
            "gate-bench",
            "rates",
            "looks",
            "promises",
            "shares",
        ],
        quick: &["xtask", "gate-bench", "--quick", "rates"],
        figure: last_line,
        shown: true,
    },
    // Apart, for a machine that does nothing else.
    Step {
        what: "gate-real",
        words: &["xtask", "gate-bench", "real", "cost"],
        quick: &["xtask", "gate-bench", "--quick", "cost"],
        figure: last_line,
        shown: true,
    },
    // One kernel after the other, so that one can run again alone.
    vm(
        "vm-6.1",
        &["xtask", "vm", "6.1"],
        &["xtask", "vm", "6.1", "--tests", "reads"],
    ),
    vm(
        "vm-6.12",
        &["xtask", "vm", "6.12"],
        &["xtask", "vm", "6.12", "--tests", "reads"],
    ),
    vm(
        "vm-7.2",
        &["xtask", "vm", "7.2"],
        &["xtask", "vm", "7.2", "--tests", "reads"],
    ),
    vm(
        "vm-nowait",
        &["xtask", "vm", "nowait"],
        &["xtask", "vm", "nowait", "--tests", "reads"],
    ),
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
    Step {
        what: "soak",
        words: &["xtask", "soak"],
        quick: &["xtask", "soak", "--minutes", "4"],
        figure: last_line,
        shown: true,
    },
];

const fn vm(
    what: &'static str,
    words: &'static [&'static str],
    quick: &'static [&'static str],
) -> Step {
    Step {
        what,
        words,
        quick,
        figure: kernel,
        shown: true,
    }
}

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    let quick = options.iter().any(|word| word == "--quick");
    let named: Vec<&str> = options.iter().map(String::as_str).collect();
    let named: Vec<&str> = named
        .into_iter()
        .filter(|word| *word != "--quick")
        .collect();
    let known = |name: &&str| STEPS.iter().any(|step| step.what == *name);
    if !named.iter().all(known) {
        return Err(Usage);
    }
    let wanted = |step: &&Step| named.is_empty() || named.contains(&step.what);
    Ok(full(
        quick,
        &STEPS.iter().filter(wanted).collect::<Vec<_>>(),
    ))
}

fn full(quick: bool, steps: &[&Step]) -> Outcome {
    let file = match quick {
        false => root().join("tests/RESULTS.md"),
        true => scratch().join("RESULTS.md"),
    };
    std::fs::create_dir_all(scratch()).map_err(|error| error.to_string())?;
    let before = || Results::read(&std::fs::read_to_string(&file).unwrap_or_default());
    let mut failed = Vec::new();
    for step in steps {
        // Before it runs: that is what it is run on.
        let of = commit()?;
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
        if !passed {
            failed.push(step.what);
            let kept = scratch().join(format!("{}.said", step.what));
            let _ = std::fs::write(&kept, &said);
            say(&format!("what it said is in {}", kept.display()));
        }
        let row = format!(
            "| {} | {} | {} | {} | {} | {of} |",
            step.what,
            if passed { "ok" } else { "FAILED" },
            (step.figure)(&said),
            start.elapsed().as_secs(),
            today()?,
        );
        say(&row);
        let details = if step.shown { said.trim_end() } else { "" };
        // After each: who ends this chore keeps what it found, and steps can run beside each other.
        let mut results = before();
        results.put(step.what, row, details);
        std::fs::write(&file, results.text())
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    print!("{}", before().text());
    say(&format!("{} written", file.display()));
    match failed[..] {
        [] => Ok(()),
        _ => Err(format!("failed: {}", failed.join(", "))),
    }
}

/// What steps came to: of those that ran last, and of those that ran before.
#[derive(Default)]
struct Results(Vec<Found>);

struct Found {
    what: String,
    row: String,
    /// What it printed; empty if that is not shown.
    details: String,
}

impl Results {
    /// What [`Results::text`] wrote.
    fn read(text: &str) -> Self {
        let mut results = Self::default();
        let rows = text.lines().filter(|line| line.starts_with("| "));
        for row in rows.skip(1) {
            let what = row.split('|').nth(1).unwrap_or_default().trim();
            // Rows of other tables stand in what a step printed.
            if !STEPS.iter().any(|step| step.what == what) || results.get(what).is_some() {
                continue;
            }
            let section = text.split_once(&format!("\n## {what}\n\n```\n"));
            let details = section.and_then(|(_, rest)| rest.split_once("\n```\n"));
            results.put(what, row.into(), details.map_or("", |(details, _)| details));
        }
        results
    }

    fn get(&self, what: &str) -> Option<&Found> {
        self.0.iter().find(|found| found.what == what)
    }

    fn put(&mut self, what: &str, row: String, details: &str) {
        self.0.retain(|found| found.what != what);
        self.0.push(Found {
            what: what.into(),
            row,
            details: details.into(),
        });
    }

    fn text(&self) -> String {
        let steps = || STEPS.iter().filter_map(|step| self.get(step.what));
        let mut text = String::from(
            "# Results of `cargo xtask full`\n\n\
             | what | result | figure | seconds | when | of |\n|---|---|---|---|---|---|\n",
        );
        for found in steps() {
            let _ = writeln!(text, "{}", found.row);
        }
        for Found { what, details, .. } in steps().filter(|found| !found.details.is_empty()) {
            let _ = write!(text, "\n## {what}\n\n```\n{details}\n```\n");
        }
        text
    }
}

/// The commit, and the machine.
fn commit() -> Result<String, String> {
    let git = |words: &[&str]| output(Command::new("git").current_dir(root()).args(words));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Its own table is no change.
    let changed = git(&["status", "--porcelain", "--", ":!tests/RESULTS.md"])?;
    let changed = match changed.trim().is_empty() {
        true => "",
        false => " and changes",
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(format!(
        "{}{changed}; Linux {}, {cpus} CPUs",
        commit.trim(),
        kernel.trim()
    ))
}

fn today() -> Result<String, String> {
    let date = output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
    Ok(date.trim().to_owned())
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

/// Tests that passed on a kernel, and what share of samples was whole and named there.
fn kernel(said: &str) -> String {
    let cells = |line: &str| -> Vec<String> {
        let cells = line.split("  ").map(str::trim);
        cells.filter(|c| !c.is_empty()).map(str::to_owned).collect()
    };
    let mut lines = said.lines().map(cells);
    let (Some(head), Some(row)) = (lines.next(), lines.next()) else {
        return "nothing said".into();
    };
    let cell = |name: &str| {
        let at = head.iter().position(|cell| cell == name);
        at.and_then(|at| row.get(at)).map_or("-", String::as_str)
    };
    format!(
        "{} tests passed; C whole {}, Python named {}",
        cell("tests"),
        cell("C whole"),
        cell("Python named")
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
mod tests_of_results {
    use super::{Results, budgets, kernel, tests};

    #[test]
    fn a_step_that_runs_again_leaves_the_others() {
        let mut results = Results::default();
        results.put(
            "bench",
            "| bench | ok | 1 | 2 |".into(),
            "| vm-7.2 | of bench |\n\n2",
        );
        results.put("vm-7.2", "| vm-7.2 | FAILED | 1 | 2 |".into(), "6.1\n6.12");
        results.put("tests", "| tests | ok | 1 | 2 |".into(), "");
        let mut again = Results::read(&results.text());
        assert_eq!(again.text(), results.text());
        again.put("vm-7.2", "| vm-7.2 | ok | 1 | 2 |".into(), "7.2");
        let text = again.text();
        assert!(text.contains(
            "\n| tests | ok | 1 | 2 |\n| vm-7.2 | ok | 1 | 2 |\n| bench | ok | 1 | 2 |\n\n## vm-7.2\n"
        ));
        assert!(text.ends_with(
            "\n## vm-7.2\n\n```\n7.2\n```\n\n## bench\n\n```\n| vm-7.2 | of bench |\n\n2\n```\n"
        ));
    }

    #[test]
    fn figures_in_what_was_printed() {
        let said = "test a ... ok\n\
                    test result: ok. 13 passed; 0 failed; 2 ignored; 0 measured; finished in 8.7s\n\
                    test result: FAILED. 6 passed; 1 failed; 0 ignored; 0 measured; finished in 1s\n";
        assert_eq!(tests(said), "19 passed, 1 failed");
        let said = "kernel  release   C whole  Python named  tests     losses\n\
                    6.1     6.1.0-50  99.2 %   100.0 %       30 of 31\n";
        assert_eq!(
            kernel(said),
            "30 of 31 tests passed; C whole 99.2 %, Python named 100.0 %"
        );
        let said = "| rows | ≤ 2 | ok   | 1 |\n| start | ≤ 2 | over | 3 |\n";
        assert_eq!(budgets(said), "1 budgets kept, 1 missed");
    }
}
