//! All of a comparison as one JSON object. Keys may be added to it; while `version` is 1 none is removed, and none
//! changes its meaning.
//!
//! ```json
//! {
//!   "version": 1,
//!   "rprof": "0.1.0",
//!   "verdict": "passed" | "regressed" | "inconclusive",  // or "failed", "none": see below
//!   "counts_as": null,                  // "passed" | "regressed": what --inconclusive makes of it
//!   "headline": "+8.4 % CPU time a run, where 2 % is allowed",
//!   "reasons": [],                      // why nothing can be said, whatever the figures are: sentences
//!   "advice": [],                       // what would decide what is not decided: sentences
//!   "notes": [],                        // what else is to be known: sentences
//!   "seed": 1,
//!   "rule": { "threshold": 0.02, "alarm": 0.0025, "miss": 0.05 },
//!   "clock": "processes" | "task clock" | "samples",   // what totals are by
//!   "total": {                          // all of a run, but for what is accepted
//!     "verdict": "regressed",
//!     "change": 0.084,                  // 0.084 is +8.4 %
//!     "at_least": 0.069, "at_most": 0.099,  // with a chance of 1 - miss each; null: not known
//!     "p": 0.0001,                      // how often chance makes as much
//!     "level": 0.002,                   // what p must not be larger than
//!     "deviation": 0.013,               // of one run
//!     "far": 0,                         // runs that were far off the others
//!     "base": { "runs": 10, "mean": 1e9, "median": 1e9 },
//!     "head": { "runs": 10, "mean": 1e9, "median": 1e9 }
//!   },
//!   "instructions": null | { "change": 0.08, "at_least": 0.07, "at_most": 0.09, "p": 0.0001 },
//!   "runs": [ { "side": "base" | "head", "file": "a/1.pb.gz", "total": 1e9 } ],  // in the order they were made
//!   "entries": [                        // of gate.toml
//!     { "name": "parse::*", "accepted": null | { "reason": "", "until": "2026-12-31" }, "threshold": 0.05,
//!       "verdict": "passed", "change": 0.01, "at_least": 0.0, "at_most": 0.02, "p": 0.2 }
//!   ],                                  // change, at_least, at_most and p are null where too few samples are
//!   "guilty": [                         // dearer by what they do themselves
//!     { "name": "parse", "file": "/build/src/parse.c", "path": "src/parse.c", "line": 12, "module": "server",
//!       "accepted": false,              // by gate.toml
//!       "p": 0.001,                     // how often chance makes as much of any function
//!       "own": { "base": 1e8, "growth": 1e7, "at_least": 9e6, "at_most": 1.1e7 },  // by itself
//!       "all": { "base": 1e8, "growth": 1e7, "at_least": 9e6, "at_most": 1.1e7 },  // with all that it calls
//!       "callers": [ "main" ] }         // nearest first
//!   ],
//!   "likely": null,                     // where nobody is guilty: who grew most, which chance may have made
//!   "callers": [],                      // dearer by what they call; as in guilty
//!   "cheaper": [],                      // as in guilty
//!   "moved": [ { "kind": "renamed" | "inlined" | "split" | "work", "from": {}, "to": {}, "lost": 1e8, "gained": 1e8 } ]
//! }
//! ```
//!
//! Where nothing could be compared, the verdict is "failed"; where a baseline had no runs yet to compare with, it is
//! "none". All there is besides then are `version`, `rprof`, `counts_as` (null), `headline` and `reasons` (why),
//! `advice` and `notes` (empty), and
//!
//! ```json
//!   "said": [],                         // lines of the command that failed, the last ones
//!   "next": []                          // commands that can be typed next
//! ```
//!
//! Times are nanoseconds of CPU of one run. `path` is `file` as the repository has it, or null; `line` null if it is
//! not known. What only moved is in `moved` alone (`from` and `to` are as in `guilty`), unless it grew on the way.

use serde_json::{Value, json};

use super::places::Places;
use super::sentences;
use super::told::{Kind, Pair, Row, Told};
use crate::cli::Failure;
use crate::gate::comparison::Comparison;
use crate::gate::costs::Function;
use crate::gate::explain::{Amount, Changed};
use crate::gate::judging::Ruled;
use crate::gate::runs::{Clock, Runs};
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Judged;
use crate::report::drives_a_terminal;

/// The shape above.
const VERSION: u32 = 1;

/// It as text, with a newline at its end.
pub(super) fn text(of: &Comparison, runs: &Runs, told: &Told<'_>, places: &Places) -> String {
    written(&value(of, runs, told, places))
}

/// There is nothing to be compared.
pub(super) fn failure(why: &Failure) -> String {
    nothing("failed", &why.what(), why.said_lines(), why.next_commands())
}

/// There is nothing to compare with yet.
pub(super) fn first(why: &str) -> String {
    nothing("none", why, &[], &[])
}

fn nothing(verdict: &str, why: &str, said: &[String], next: &[String]) -> String {
    let none: [&str; 0] = [];
    written(&json!({
        "version": VERSION,
        "rprof": env!("CARGO_PKG_VERSION"),
        "verdict": verdict,
        "counts_as": Value::Null,
        "headline": why,
        "reasons": [why],
        "advice": none,
        "notes": none,
        "said": said,
        "next": next,
    }))
}

fn written(value: &Value) -> String {
    let mut text = String::new();
    for c in format!("{value:#}").chars() {
        // Characters of names; serde_json has escaped some of them. Outside of them there are none.
        if drives_a_terminal(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else if c == '#' && text.ends_with('#') {
            // See words::harmless.
            text.push_str("\\u0023");
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

fn value(of: &Comparison, runs: &Runs, told: &Told<'_>, places: &Places) -> Value {
    let writer = Writer { of, places };
    let side = |side: Side| {
        json!({
            "runs": of.of(side).count(),
            "mean": of.mean(side),
            "median": sentences::middle(of, side),
        })
    };
    let mut total = judged(Some(&of.judged));
    total["verdict"] = json!(of.judged.verdict.to_string());
    total["level"] = json!(of.judged.level);
    total["deviation"] = json!(of.judged.estimate.deviation);
    total["far"] = json!(of.judged.estimate.far);
    total["base"] = side(Side::Base);
    total["head"] = side(Side::Head);
    let files = runs.files.iter().map(|file| Some(file.to_string_lossy()));
    let files = files.chain(std::iter::repeat(None));
    let each: Vec<Value> = (of.runs.iter().zip(files))
        .map(|(&(side, total), file)| {
            let side = match side {
                Side::Base => "base",
                Side::Head => "head",
            };
            json!({ "side": side, "file": file, "total": total })
        })
        .collect();
    let rows = |rows: &[Row<'_>]| -> Vec<Value> {
        rows.iter()
            .map(|row| writer.function(row.function, Some(row.changed)))
            .collect()
    };
    json!({
        "version": VERSION,
        "rprof": env!("CARGO_PKG_VERSION"),
        "verdict": of.verdict.to_string(),
        "counts_as": told.counts_as.map(|verdict| verdict.to_string()),
        "headline": sentences::headline(of),
        "reasons": of.reasons,
        "advice": sentences::undecided(of),
        "notes": of.notes,
        "seed": of.seed,
        "rule": {
            "threshold": of.rule.threshold,
            "alarm": of.rule.alarm,
            "miss": of.rule.miss,
        },
        "clock": match of.clock {
            Clock::Processes => "processes",
            Clock::Counter => "task clock",
            Clock::Samples => "samples",
        },
        "total": total,
        "instructions": of.instructions.as_ref().map(|counted| judged(Some(counted))),
        "runs": each,
        "entries": of.ruled.iter().map(entry).collect::<Vec<Value>>(),
        "guilty": rows(&told.guilty),
        "likely": of.explained.likely.as_ref().map(|likely| {
            writer.function(&of.functions[likely.function as usize], Some(likely))
        }),
        "callers": rows(&told.callers),
        "cheaper": rows(&told.cheaper),
        "moved": told.moved.iter().map(|pair| writer.moved(pair)).collect::<Vec<Value>>(),
    })
}

/// JSON has no infinity: serde_json makes null of it.
fn judged(of: Option<&Judged>) -> Value {
    let interval = of.map(sentences::interval);
    json!({
        "change": of.map(Judged::change),
        "at_least": interval.map(|(least, _)| least),
        "at_most": interval.map(|(_, most)| most),
        "p": of.map(|judged| judged.p),
    })
}

fn entry(of: &Ruled) -> Value {
    let mut entry = judged(of.judged.as_ref());
    entry["name"] = json!(of.name);
    entry["accepted"] = match &of.accepted {
        None => Value::Null,
        Some((reason, until)) => json!({ "reason": reason, "until": until }),
    };
    entry["threshold"] = json!(of.threshold);
    entry["verdict"] = json!(of.verdict().to_string());
    entry
}

fn amount(of: &Amount) -> Value {
    json!({
        "base": of.base,
        "growth": of.growth,
        "at_least": of.between.0,
        "at_most": of.between.1,
    })
}

struct Writer<'a> {
    of: &'a Comparison,
    places: &'a Places,
}

impl Writer<'_> {
    fn function(&self, function: &Function, changed: Option<&Changed>) -> Value {
        let line = changed.and_then(|changed| self.of.lines.get(changed.function as usize));
        let callers: Option<Vec<&str>> = changed.map(|changed| {
            let way = changed.way.iter();
            way.map(|&caller| &*self.of.functions[caller as usize].name)
                .collect()
        });
        json!({
            "name": &*function.name,
            "file": &*function.file,
            "path": self.places.find(&function.file),
            "line": line.filter(|line| **line > 0),
            "module": &*function.module,
            "accepted": changed.is_some_and(|changed| {
                self.of.accepted.get(changed.function as usize) == Some(&true)
            }),
            "p": changed.map(|changed| changed.p),
            "own": changed.map(|changed| amount(&changed.own)),
            "all": changed.map(|changed| amount(&changed.all)),
            "callers": callers,
        })
    }

    fn moved(&self, pair: &Pair<'_>) -> Value {
        let kind = match pair.kind {
            Kind::Renamed => "renamed",
            Kind::Inlined => "inlined",
            Kind::Split => "split",
            Kind::Work => "work",
        };
        json!({
            "kind": kind,
            "from": self.function(pair.from, pair.less),
            "to": self.function(pair.to, pair.more),
            "lost": pair.lost,
            "gained": pair.gained,
        })
    }
}
