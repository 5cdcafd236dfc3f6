//! Losses, counted for the machine and for the process whose samples they were.

use rprof_ebpf::ledger::Column;
use rprof_ebpf::record::{Sample, take};

use super::labels::{self, Names};
use crate::ledger::{Ledger, ProcessRow};

/// A part of the ledger: what one thread counted.
#[derive(Debug, Default)]
pub struct Losses {
    ledger: Ledger,
    names: Names,
}

impl Losses {
    /// Counts a sample in a column.
    pub fn add(&mut self, sample: &Sample, column: Column) {
        self.ledger.machine.add(column, 1);
        if column == Column::NotSelected {
            return;
        }
        let row = ProcessRow {
            pid: labels::ids(&sample.task).0,
            start: sample.task.process.start,
        };
        let comm = self.names.get(&sample.task.comm);
        let process = self.ledger.processes.entry(row).or_default();
        process.counts.add(column, 1);
        if *process.comm != *comm {
            process.comm = comm.to_string();
        }
    }

    /// Counts the sample of a record.
    pub fn add_record(&mut self, record: &[u64], column: Column) {
        if let Some(sample) = self.sample(record) {
            self.add(&sample, column);
        }
    }

    /// The sample of a record.
    pub fn sample(&self, record: &[u64]) -> Option<Sample> {
        take::<Sample>(record).map(|(sample, _)| sample)
    }

    /// The ledger, for what is counted beside ticks.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// What was counted.
    pub fn into_ledger(self) -> Ledger {
        self.ledger
    }
}
