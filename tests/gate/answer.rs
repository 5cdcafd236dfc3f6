//! What `rprof gate` answers: a command goes in; verdict, change, and the functions that it names come out.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rprof_tests::machine::{self, Alone};
use rprof_tests::rprof::binary;
use rprof_tests::scratch::Scratch;
use serde_json::Value;

/// Passed.
pub(crate) const PASSED: i32 = 0;
/// rprof or a command failed.
pub(crate) const FAILED: i32 = 1;
/// What was typed makes no sense.
pub(crate) const MISTAKE: i32 = 2;
/// Regressed.
pub(crate) const REGRESSED: i32 = 3;
/// Inconclusive.
pub(crate) const INCONCLUSIVE: i32 = 4;

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The exit code.
    pub(crate) code: i32,
    /// All that was said.
    pub(crate) said: String,
    /// The same for machines; null: there was nothing to compare.
    pub(crate) told: Value,
}

/// How much dearer, and between which bounds, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Most likely.
    pub(crate) by: f64,
    /// Not less.
    pub(crate) least: f64,
    /// Not more.
    pub(crate) most: f64,
}

/// A function that was named.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Its name.
    pub(crate) name: String,
    /// The file that it is in.
    pub(crate) module: String,
    /// Those that it is mostly called by, the nearest first.
    pub(crate) callers: Vec<String>,
    /// Of a run.
    pub(crate) change: Change,
}

/// `rprof gate ARGS…`, in this folder.
pub(crate) fn gate(folder: &Path, args: &[&str]) -> Answer {
    let mut command = Command::new(binary());
    command.arg("gate").args(args).current_dir(folder);
    let told = folder.join("told.json");
    let _ = std::fs::remove_file(&told);
    if matches!(args.first(), Some(&"run" | &"compare")) {
        command.arg("--json").arg(&told);
    }
    let output = command.stdin(Stdio::null()).output().expect("rprof runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{args:?}:\n{said}");
    let code = output.status.code();
    let told = std::fs::read(&told).ok();
    Answer {
        code: code.unwrap_or_else(|| panic!("{args:?} was ended by a signal:\n{said}")),
        said,
        told: told.map_or(Value::Null, |told| {
            serde_json::from_slice(&told).expect("what was written as JSON")
        }),
    }
}

/// `rprof gate compare` of profiles.
pub(crate) fn compare(scratch: &Scratch, files: &[Vec<PathBuf>; 2], more: &[&str]) -> Answer {
    let [base, head] = files.each_ref().map(|files| {
        let files = files.iter().map(|file| file.to_str().expect("a path"));
        files.collect::<Vec<&str>>()
    });
    let args = [
        &["compare", "--base"],
        &base[..],
        &["--head"],
        &head[..],
        more,
    ];
    gate(scratch.path(), &args.concat())
}

/// What is compared: the commands of two versions, which may add to `GATE_LOG`.
pub(crate) struct Versions<'a> {
    /// The test's folder.
    pub(crate) scratch: &'a Scratch,
    /// Base and head: without a word that only a shell understands.
    pub(crate) commands: [String; 2],
    /// More arguments of `rprof gate run`.
    pub(crate) more: &'a [&'a str],
}

impl Versions<'_> {
    /// Runs them alone, in turn, until the answer is clear: what varies on this machine only takes longer.
    pub(crate) fn run(&self) -> (Answer, Truth) {
        let _alone: Alone = machine::alone();
        let logs = ["base", "head"].map(|side| self.scratch.file(&format!("{side}.log")));
        for log in &logs {
            let _ = std::fs::remove_file(log);
        }
        let [base, head] = [0, 1].map(|side| {
            let log = logs[side].display();
            format!("GATE_LOG={log} exec {}", self.commands[side])
        });
        let mut args = vec!["run", "--base", &base, "--head", &head];
        if !self.more.contains(&"--runs") {
            args.extend(["--runs", "60"]);
        }
        args.extend(self.more);
        let answer = gate(self.scratch.path(), &args);
        println!("{}", answer.said);
        (answer, Truth::read(&logs))
    }
}

impl Answer {
    /// Fails with all that was said unless it ended so.
    ///
    /// # Panics
    /// See above.
    pub(crate) fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}", self.said);
        self
    }

    /// Fails unless it says this.
    ///
    /// # Panics
    /// See above.
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(self.said.contains(words), "{words}: {}", self.said);
        self
    }

    /// What all of a run became.
    ///
    /// # Panics
    /// Nothing was compared.
    pub(crate) fn change(&self) -> Change {
        let total = &self.told["total"];
        let change = Change::read(total, "change", 100.0);
        change.unwrap_or_else(|| panic!("no change: {}", self.said))
    }

    /// The functions of a list: `guilty`, `callers`, `cheaper`.
    pub(crate) fn list(&self, list: &str) -> Vec<Named> {
        let text = |of: &Value| of.as_str().unwrap_or_default().to_string();
        let of_run = self.told["total"]["base"]["mean"].as_f64();
        let functions = self.told[list].as_array().into_iter().flatten();
        functions
            .map(|function| {
                let by = |of: &str| function[of]["growth"].as_f64().unwrap_or(0.0).abs();
                // What it does itself, unless its callees are what grew.
                let amount = if by("own") > 0.5 * by("all") {
                    "own"
                } else {
                    "all"
                };
                let percent = 100.0 / of_run.expect("runs");
                let callers = function["callers"].as_array().into_iter().flatten();
                Named {
                    name: text(&function["name"]),
                    module: text(&function["module"]),
                    callers: callers.map(text).collect(),
                    change: Change::read(&function[amount], "growth", percent).expect("an amount"),
                }
            })
            .collect()
    }

    /// What moved: its kind, from which function, and to which.
    pub(crate) fn moved(&self) -> Vec<[String; 3]> {
        let text = |of: &Value| of.as_str().unwrap_or_default().to_string();
        let moved = self.told["moved"].as_array().into_iter().flatten();
        let pair = |of: &Value| [&of["kind"], &of["from"]["name"], &of["to"]["name"]].map(text);
        moved.map(pair).collect()
    }

    /// Fails unless this moved.
    ///
    /// # Panics
    /// See above.
    pub(crate) fn has_moved(&self, kind: &str, from: &str, to: &str) -> &Self {
        let wanted = [kind, from, to].map(String::from);
        let at = self.moved().iter().position(|moved| *moved == wanted);
        let at = at.unwrap_or_else(|| panic!("{}", self.said));
        let amount = |of: &str| self.told["moved"][at][of].as_f64().unwrap_or(0.0);
        let (went, came) = (amount("lost"), amount("gained"));
        assert!(went > 1e6 && came > 1e6, "{went} {came}: {}", self.said);
        self
    }

    /// Fails unless this function is the first that is dearer. Says more of it.
    ///
    /// # Panics
    /// See above.
    pub(crate) fn blames(&self, name: &str) -> Named {
        let dearer = self.list("guilty");
        let first = dearer.first().filter(|first| first.name == name);
        first.cloned().unwrap_or_else(|| panic!("{}", self.said))
    }

    /// Fails if a function is said to be dearer.
    ///
    /// # Panics
    /// See above.
    pub(crate) fn blames_nobody(&self) -> &Self {
        assert!(self.list("guilty").is_empty(), "{}", self.said);
        self
    }
}

impl Change {
    /// A figure and its bounds, as percent; a bound that is not known is infinite.
    fn read(of: &Value, figure: &str, percent: f64) -> Option<Self> {
        let bound = |name: &str, unknown: f64| of[name].as_f64().unwrap_or(unknown);
        Some(Self {
            by: percent * of[figure].as_f64()?,
            least: percent * bound("at_least", f64::NEG_INFINITY),
            most: percent * bound("at_most", f64::INFINITY),
        })
    }

    /// Whether a true change lies in the bounds, but for so many points.
    pub(crate) fn has(&self, truth: f64, but: f64) -> bool {
        (self.least - but..=self.most + but).contains(&truth)
    }
}

/// What programs say of themselves: of each run that counted, each phase and its nanoseconds.
#[derive(Debug)]
pub(crate) struct Truth([Vec<Vec<(String, f64)>>; 2]);

impl Truth {
    fn read(logs: &[PathBuf; 2]) -> Self {
        Self(logs.each_ref().map(|log| {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            // The first run warmed up.
            let runs = text.lines().skip(1).map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let pairs = words.chunks(2).map(|pair| {
                    let nanos = pair[1].parse().expect("nanoseconds");
                    (pair[0].to_string(), nanos)
                });
                pairs.collect()
            });
            runs.collect()
        }))
    }

    /// What a phase took on average, of base and of head.
    pub(crate) fn means(&self, phase: &str) -> [f64; 2] {
        self.0.each_ref().map(|runs| {
            let took = |run: &Vec<(String, f64)>| -> f64 {
                let phases = run.iter().filter(|(name, _)| name == phase);
                phases.map(|(_, nanos)| nanos).sum()
            };
            runs.iter().map(took).sum::<f64>() / runs.len().max(1) as f64
        })
    }

    /// How much more a phase took, in percent of a run of base.
    pub(crate) fn growth(&self, phase: &str) -> f64 {
        let [base, head] = self.means(phase);
        100.0 * (head - base) / self.means("total")[0]
    }
}
