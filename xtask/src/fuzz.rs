//! `cargo xtask fuzz`: the targets of `tests/fuzz` for longer, each guided by what it reaches.
//!
//! What enters is how many seconds all targets together may take, and the targets' names (none:
//! all); what leaves is one line a target, how many inputs were tried, and in `tests/fuzz/inputs`
//! each input that failed, which `cargo test` tries from then on. The build is one of its own, on
//! the same stable compiler: each edge of the program is counted (LLVM's SanitizerCoverage; see
//! `tests/fuzz/reached.rs`), and numbers that overflow panic.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::workspace::{executable, output, root, say, scratch};
use crate::{Outcome, Usage};

const SECONDS: u64 = 600;
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// One flag each, as `CARGO_ENCODED_RUSTFLAGS` has them.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Coverflow-checks=yes",
    "-Cdebuginfo=line-tables-only",
];

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    let mut seconds = SECONDS;
    let mut only = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                let typed = words.next().and_then(|word| word.parse().ok());
                seconds = typed.filter(|&n| n > 0).ok_or(Usage)?;
            }
            option if option.starts_with('-') => return Err(Usage),
            name => only.push(name.to_owned()),
        }
    }
    Ok(fuzz(seconds, &only))
}

fn fuzz(seconds: u64, only: &[String]) -> Outcome {
    let program = build()?;
    let listed = output(Command::new(&program).arg("--list"))?;
    let all = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    let all: Vec<&str> = all.collect();
    if let Some(unknown) = only.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!(
            "there is no target `{unknown}`; there are: {}",
            all.join(" ")
        ));
    }
    let wanted = |name: &&str| only.is_empty() || only.iter().any(|one| one == name);
    let targets: VecDeque<&str> = all.into_iter().filter(wanted).collect();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let rounds = targets.len().div_ceil(workers).max(1);
    let share = seconds as f64 / rounds as f64;
    say(&format!("{} targets, {share:.0} s each", targets.len()));
    let (queue, done) = (Mutex::new(targets), Mutex::new((0, 0)));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(target) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) {
                    let inputs = one(&program, target, share);
                    if let Ok(mut done) = done.lock() {
                        done.0 += inputs.as_ref().map_or(0, |n| *n);
                        done.1 += u64::from(inputs.is_err());
                    }
                    if let Err(said) = inputs {
                        println!("{target}: FAILED\n{said}");
                    }
                }
            });
        }
    });
    let (inputs, failed) = done.into_inner().unwrap_or_default();
    println!("{inputs} inputs, {failed} targets failed");
    match failed {
        0 => Ok(()),
        n => Err(format!(
            "{n} targets failed; what they failed with is in {}",
            root().join("tests/fuzz/inputs").display()
        )),
    }
}

/// Runs one target; says how many inputs it tried, or else all that was said.
fn one(program: &Path, target: &str, seconds: f64) -> Result<u64, String> {
    let run = Command::new(program)
        .args([target, "--exact", "--nocapture", "--test-threads=1"])
        .env("RPROF_FUZZ_SECONDS", seconds.to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&run.stdout);
    let figures = said.lines().find_map(|line| {
        let at = line.find(&format!("{target}: "))?;
        let figures = line.get(at..)?;
        let inputs = figures.strip_prefix(target)?.strip_prefix(": ")?;
        Some((figures, inputs.split(' ').next()?.parse().ok()?))
    });
    match figures {
        Some((figures, inputs)) if run.status.success() => {
            println!("{figures}");
            Ok(inputs)
        }
        _ => Err(format!("{said}{}", String::from_utf8_lossy(&run.stderr))),
    }
}

/// Builds the targets; says where they are.
fn build() -> Result<PathBuf, String> {
    say("build the fuzz targets");
    let said = output(
        Command::new("cargo")
            .current_dir(root())
            .args(["test", "--release", "--quiet", "--locked", "--no-run"])
            .args(["-p", "rprof-tests", "--test", "fuzz"])
            .args(["--target", TARGET, "--message-format=json"])
            .env("CARGO_TARGET_DIR", scratch().join("fuzz"))
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
            .stderr(Stdio::inherit()),
    )?;
    executable(&said).ok_or_else(|| "cargo does not say where it put the fuzz targets".into())
}
