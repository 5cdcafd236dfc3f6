//! `cargo xtask gate-bench`: how often `rprof gate` is wrong, what others say of the same runs, and what a
//! comparison costs.
//!
//! What enters is which tables are wanted (none: all) and where runs of real programs are kept, so that a second
//! call need not run them again; what leaves is Markdown on standard output. The experiments are those of
//! `tests/gate/rates`; they take some half an hour.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::workspace::{executable, output, root, say, scratch};
use crate::{Outcome, Usage};

const TABLES: [&str; 6] = ["rates", "looks", "promises", "shares", "real", "cost"];

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    let mut pool = None;
    let mut passed_on = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--pool" => pool = Some(words.next().ok_or(Usage)?.into()),
            "--quick" => passed_on.push(word),
            table if TABLES.contains(&table) => passed_on.push(word),
            _ => return Err(Usage),
        }
    }
    let pool: PathBuf = pool.unwrap_or_else(|| scratch().join("gate-pool"));
    Ok(bench(&pool, &passed_on))
}

fn bench(pool: &PathBuf, words: &[&String]) -> Outcome {
    let program = build()?;
    let started = Command::new(&program)
        .args(words)
        .arg("--pool")
        .arg(pool)
        .stdin(Stdio::null())
        .status();
    let status = started.map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    say(&format!("runs of real programs are in {}", pool.display()));
    match status.success() {
        true => Ok(()),
        false => Err(format!("the experiments failed: {status}")),
    }
}

/// Builds the experiments; says where they are.
fn build() -> Result<PathBuf, String> {
    say("build the experiments");
    let said = output(
        Command::new("cargo")
            .current_dir(root())
            .args(["build", "--release", "--quiet", "--locked"])
            .args(["-p", "rprof-tests", "--bench", "gate_rates"])
            .arg("--message-format=json")
            .stderr(Stdio::inherit()),
    )?;
    executable(&said).ok_or_else(|| "cargo does not say where it put the experiments".into())
}
