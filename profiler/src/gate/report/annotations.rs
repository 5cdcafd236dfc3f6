//! Dearer functions beside their text: as commands of GitHub's workflows, and as GitLab's code quality report.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::places::Places;
use super::sentences;
use super::text::place;
use super::told::{Row, Told};
use super::words::{self, percent, time};
use crate::cli::Failure;
use crate::gate::comparison::Comparison;
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;

/// GitHub shows ten annotations of a kind and step; one is the verdict.
const GITHUB: usize = 9;
/// A code quality report with more helps nobody.
const GITLAB: usize = 50;
/// Characters of a name, and callers that are named.
const NAME: usize = 200;
const WAY: usize = 3;

/// A line for each, for standard output: the verdict first, then functions, as errors only if that is what the
/// verdict is. What passed needs no eyes, but was asked for.
pub(super) fn github(of: &Comparison, told: &Told<'_>, places: &Places) -> String {
    let level = match told.counts_as.unwrap_or(of.verdict) {
        // That it is not known needs eyes, whatever it counts as.
        Verdict::Passed if of.verdict == Verdict::Inconclusive => "warning",
        Verdict::Passed => "notice",
        Verdict::Regressed => "error",
        Verdict::Inconclusive => "warning",
    };
    let mut reasons = of.reasons.clone();
    reasons.extend(sentences::undecided(of));
    let verdict = [vec![sentences::headline(of)], reasons].concat().join("\n");
    let counting = sentences::counting(of.verdict, told);
    let title = format!("rprof gate: {}{counting}", of.verdict);
    let mut lines = command(level, &[("title", title)], &verdict);
    for row in to_be_looked_at(told).take(GITHUB) {
        let mut properties = Vec::new();
        if let Some(path) = places.find(&row.function.file) {
            properties.push(("file", path));
            if row.line > 0 {
                properties.push(("line", row.line.to_string()));
            }
        }
        properties.push((
            "title",
            format!(
                "{} of a run in {}",
                growth(of, row),
                words::name(&row.function.name, 60)
            ),
        ));
        lines.push_str(&command(level, &properties, &description(of, row, places)));
    }
    lines
}

/// There is nothing to be compared.
pub(super) fn github_failure(why: &Failure) -> String {
    let mut said = vec![why.what()];
    said.extend(why.said_lines().iter().cloned());
    let try_next = why.next_commands().iter();
    said.extend(try_next.map(|next| format!("try: {next}")));
    let title = "rprof gate: failed".to_string();
    command("error", &[("title", title)], &said.join("\n"))
}

/// There is nothing to compare with yet.
pub(super) fn github_first(why: &str) -> String {
    let title = "rprof gate: nothing was compared".to_string();
    command("notice", &[("title", title)], why)
}

/// Nothing was compared. An issue has to be of a file, and that is of none: GitLab takes a list without any.
pub(super) fn gitlab_nothing() -> String {
    "[]\n".into()
}

/// What is accepted needs no eyes.
fn to_be_looked_at<'a>(told: &'a Told<'a>) -> impl Iterator<Item = &'a Row<'a>> {
    told.guilty.iter().filter(|row| !row.is_accepted)
}

/// As `command.ts` of GitHub's toolkit writes it.
fn command(level: &str, properties: &[(&str, String)], message: &str) -> String {
    let properties: Vec<String> = (properties.iter())
        .map(|(key, value)| format!("{key}={}", property(value)))
        .collect();
    format!("::{level} {}::{}\n", properties.join(","), data(message))
}

fn data(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(words::harmless).collect();
    (lines.join("\n"))
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// All functions that a file of the repository has, as a list of issues.
pub(super) fn gitlab(of: &Comparison, told: &Told<'_>, places: &Places) -> String {
    let severity = match told.counts_as.unwrap_or(of.verdict) {
        Verdict::Passed if of.verdict == Verdict::Inconclusive => "minor",
        Verdict::Passed => "info",
        Verdict::Regressed => "major",
        Verdict::Inconclusive => "minor",
    };
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut issues = Vec::new();
    for row in to_be_looked_at(told) {
        // Where no file can be shown, GitLab shows nothing.
        let Some(path) = places.find(&row.function.file) else {
            continue;
        };
        // The same function is the same issue in the next report, wherever its line has gone.
        let key = format!("{path}\n{}", row.function.name);
        let times = seen.entry(key.clone()).or_insert(0);
        *times += 1;
        issues.push(json!({
            "type": "issue",
            "check_name": "rprof-gate",
            "categories": ["Performance"],
            "description": description(of, row, places),
            "severity": severity,
            "fingerprint": fingerprint(&format!("{key}\n{times}")),
            "location": { "path": path, "lines": { "begin": row.line.max(1) } },
        }));
        if issues.len() == GITLAB {
            break;
        }
    }
    format!("{:#}\n", Value::Array(issues))
}

/// 128 bits as hexadecimal digits: twice FNV-1a, which stays what it is from build to build. It need not withstand
/// anyone.
fn fingerprint(text: &str) -> String {
    let hash = |mut hash: u64| {
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    };
    format!(
        "{:016x}{:016x}",
        hash(0xcbf2_9ce4_8422_2325),
        hash(0x9e37_79b9_7f4a_7c15)
    )
}

fn growth(of: &Comparison, row: &Row<'_>) -> String {
    percent(row.amount.growth / of.mean(Side::Base))
}

fn description(of: &Comparison, row: &Row<'_>, places: &Places) -> String {
    let share = |nanos: f64| percent(nanos / of.mean(Side::Base));
    let amount = row.amount;
    let mut said = format!(
        "{} takes {} more of the CPU time of a run ({} to {}): {} instead of {}",
        words::name(&row.function.name, NAME),
        growth(of, row).trim_start_matches('+'),
        share(amount.between.0),
        share(amount.between.1),
        time(amount.base + amount.growth),
        time(amount.base),
    );
    if row.is_with_callees {
        said.push_str(", with what it calls");
    }
    if places.find(&row.function.file).is_none() {
        said.push_str(&format!(
            "; it is in {}",
            place(row.function, row.line, places)
        ));
    }
    let callers = row.called_by(places, WAY, &|name| words::name(name, 60));
    if !callers.is_empty() {
        said.push_str(&format!("; called by {callers}"));
    }
    if let Some(pair) = &row.moved {
        let moved = sentences::moved(pair, &|name| words::name(name, 60));
        said.push_str(&format!("; {moved}"));
    }
    said
}
