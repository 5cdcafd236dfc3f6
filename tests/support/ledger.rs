//! The ledger as the profile's comments tell it.

use std::collections::BTreeMap;

/// Ticks by column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Ticks that should have come.
    pub expected: u64,
    /// Ticks that were delivered beyond those.
    pub beyond: u64,
    /// Where they ended, by the column's name; columns without ticks are not there.
    pub columns: BTreeMap<String, u64>,
    /// The names of columns that are losses.
    pub lost: Vec<String>,
    /// Why truncated stacks ended.
    pub truncated: BTreeMap<String, u64>,
    /// The rows of processes: pid, name, ticks by column. A pid may have been used twice.
    pub processes: Vec<(u32, String, BTreeMap<String, u64>)>,
    /// Processes whose rows are left out.
    pub not_listed: u64,
}

impl Ledger {
    /// Reads `ledger: NAME: TICKS`, `ledger: NAME: TICKS (lost)` and
    /// `ledger: process PID NAME: TICKS COLUMN, TICKS COLUMN`.
    pub fn parse(comments: &[String]) -> Self {
        let mut ledger = Self::default();
        for line in comments {
            let Some(row) = line.strip_prefix("ledger: ") else {
                continue;
            };
            let (name, rest) = row
                .rsplit_once(": ")
                .unwrap_or_else(|| panic!("no figure: {line}"));
            if let Some(process) = name.strip_prefix("process ") {
                ledger.processes.push(process_row(process, rest));
                continue;
            }
            let (figure, note) = rest.split_once(' ').unwrap_or((rest, ""));
            let n: u64 = figure
                .parse()
                .unwrap_or_else(|_| panic!("no figure: {line}"));
            if name == "expected" {
                ledger.expected = n;
            } else if name == "delivered beyond" {
                ledger.beyond = n;
            } else if name == "processes not listed" {
                ledger.not_listed = n;
            } else if let Some(end) = name.strip_prefix("truncated at ") {
                ledger.truncated.insert(end.to_string(), n);
            } else {
                assert!(
                    note.is_empty() || note == "(lost)",
                    "what is {note:?}? {line}"
                );
                if !note.is_empty() {
                    ledger.lost.push(name.to_string());
                }
                let before = ledger.columns.insert(name.to_string(), n);
                assert_eq!(before, None, "a column twice: {line}");
            }
        }
        ledger
    }

    /// Ticks in a column.
    pub fn get(&self, column: &str) -> u64 {
        self.columns.get(column).copied().unwrap_or(0)
    }

    /// Ticks in all columns.
    pub fn total(&self) -> u64 {
        self.columns.values().sum()
    }

    /// Ticks in all columns that are losses.
    pub fn lost(&self) -> u64 {
        self.lost.iter().map(|name| self.get(name)).sum()
    }
}

fn process_row(process: &str, columns: &str) -> (u32, String, BTreeMap<String, u64>) {
    let (pid, name) = process.split_once(' ').unwrap_or((process, ""));
    let columns = columns.split(", ").map(|column| {
        let (n, column) = column
            .split_once(' ')
            .unwrap_or_else(|| panic!("no column: {columns}"));
        (
            column.to_string(),
            n.parse().unwrap_or_else(|_| panic!("no figure: {columns}")),
        )
    });
    (
        pid.parse().unwrap_or_else(|_| panic!("no pid: {process}")),
        name.into(),
        columns.collect(),
    )
}
