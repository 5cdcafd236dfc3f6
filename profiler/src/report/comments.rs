//! What the profile's own comments say: with what it was made, and its ledger, so that a file found
//! years later still tells what is missing from it. Plain data comes in, lines leave.

use std::cmp::Reverse;

use rprof_ebpf::ledger::Column;

use super::check::Machine;
use super::plain;
use super::summary::SummaryData;
use crate::sampling::faults;

/// Processes that have a line of their own, those with most ticks first.
const PROCESSES: usize = 200;
/// Characters of a process's name.
const NAME: usize = 16;

/// The comments, one line each: `name: value`, then `ledger: column: ticks`.
pub fn comments(machine: &Machine, data: &SummaryData) -> Vec<String> {
    let ledger = &data.ledger;
    let mut lines = vec![
        format!("rprof: {}", env!("CARGO_PKG_VERSION")),
        format!("host: {}", machine.host),
        format!("kernel: {}", machine.release),
        format!("frequency: {} Hz on {} CPUs", data.frequency, data.cpus),
        format!("duration: {:.3} s", data.duration.as_secs_f64()),
        format!("reads: {}", data.reads),
        format!("ledger: expected: {}", ledger.expected),
    ];
    if ledger.surplus > 0 {
        lines.push(format!("ledger: delivered beyond: {}", ledger.surplus));
    }
    if let Some(faults) = faults::text() {
        lines.push(format!("fault: {faults}"));
    }
    for &column in Column::ALL
        .iter()
        .filter(|&&column| ledger.machine.get(column) > 0)
    {
        let loss = if column.is_loss() { " (lost)" } else { "" };
        lines.push(format!(
            "ledger: {}: {}{loss}",
            column.name(),
            ledger.machine.get(column)
        ));
    }
    for (end, n) in &ledger.truncated {
        lines.push(format!("ledger: truncated at {}: {n}", end.reason()));
    }
    let mut processes: Vec<_> = ledger.processes.iter().collect();
    processes.sort_by_key(|(row, process)| (Reverse(process.counts.total()), row.pid, row.start));
    for (row, process) in processes.iter().take(PROCESSES) {
        let columns: Vec<String> = Column::ALL
            .iter()
            .map(|&column| (column, process.counts.get(column)))
            .filter(|(_, n)| *n > 0)
            .map(|(column, n)| format!("{n} {}", column.name()))
            .collect();
        let name = plain(&process.comm, NAME);
        lines.push(format!(
            "ledger: process {} {name}: {}",
            row.pid,
            columns.join(", ")
        ));
    }
    if let Some(more) = processes.len().checked_sub(PROCESSES).filter(|&n| n > 0) {
        lines.push(format!("ledger: processes not listed: {more}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Counts, Ledger};
    use crate::profile::output::Format;
    use std::time::Duration;

    #[test]
    fn what_they_say() {
        let mut counts = Counts::default();
        counts.add(Column::Resolved, 7);
        counts.add(Column::RingFull, 1);
        let data = SummaryData {
            duration: Duration::from_millis(200),
            frequency: 20,
            cpus: 2,
            reads: "context".into(),
            rankings: Default::default(),
            notes: Vec::new(),
            ledger: Ledger {
                expected: 8,
                machine: counts,
                ..Ledger::default()
            },
            comm: None,
            again: Default::default(),
            output: None,
            format: Format::Pprof,
        };
        let machine = Machine {
            host: "box".into(),
            release: "6.18.1".into(),
            ..Machine::default()
        };
        let version = format!("rprof: {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            comments(&machine, &data),
            [
                version.as_str(),
                "host: box",
                "kernel: 6.18.1",
                "frequency: 20 Hz on 2 CPUs",
                "duration: 0.200 s",
                "reads: context",
                "ledger: expected: 8",
                "ledger: resolved: 7",
                "ledger: ring full: 1 (lost)",
            ]
        );
    }
}
