//! The books of a run: each thread that ends ticks has one of its own, counted for the machine and
//! for the process whose samples they were. Whoever closes the account reads them all, also that of a
//! thread that is stuck.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rprof_ebpf::ledger::Column;
use rprof_ebpf::record::Sample;

use super::labels::{self, Comms};
use super::select::Selection;
use crate::ledger::{Ledger, ProcessRow};

/// Processes that have a row of their own: a machine that runs for weeks, or forks without end, has
/// any number. The others share one.
const MAX_ROWS: usize = 16 << 10;

/// The book of one thread.
#[derive(Clone, Debug, Default)]
pub struct Book(Arc<Mutex<Losses>>);

impl Book {
    /// The book of a run in which these processes are wanted.
    pub fn new(wanted: Selection) -> Self {
        Self(Arc::new(Mutex::new(Losses {
            wanted,
            ..Losses::default()
        })))
    }

    /// Opens it. Nobody else has it open for longer than it takes to count.
    pub fn open(&self) -> MutexGuard<'_, Losses> {
        // A count is in it or not: a panic leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one thread counted.
#[derive(Debug, Default)]
pub struct Losses {
    /// Where ticks ended.
    pub ledger: Ledger,
    /// Samples that came out of the ring, by process, with its name.
    pub received: HashMap<ProcessRow, (Arc<str>, u64)>,
    /// Records that are none.
    pub strange: u64,
    /// Which processes are wanted.
    pub wanted: Selection,
    names: Comms,
}

impl Losses {
    /// Counts a sample in a column.
    pub fn add(&mut self, sample: &Sample, column: Column) {
        let comm = self.names.get(&sample.task.comm);
        // What nobody wanted is not lost.
        let column = match self.wanted.wants(&comm) {
            true => column,
            false => Column::NotSelected,
        };
        self.ledger.machine.add(column, 1);
        let mut row = row(sample);
        let rows = &self.ledger.processes;
        if rows.len() >= MAX_ROWS && !rows.contains_key(&row) {
            row = ProcessRow::OTHERS;
        }
        let others = row == ProcessRow::OTHERS;
        let process = self.ledger.processes.entry(row).or_default();
        process.counts.add(column, 1);
        if others {
            process.comm = ProcessRow::OTHERS_NAME.into();
        } else if *process.comm != *comm {
            process.comm = comm.to_string();
        }
    }

    /// Notes that a sample came out of the ring.
    pub fn receive(&mut self, sample: &Sample) {
        let names = &mut self.names;
        let mut row = row(sample);
        if self.received.len() >= MAX_ROWS && !self.received.contains_key(&row) {
            row = ProcessRow::OTHERS;
        }
        let received = self.received.entry(row);
        received
            .or_insert_with(|| (names.get(&sample.task.comm), 0))
            .1 += 1;
    }
}

/// The row of a sample's process.
fn row(sample: &Sample) -> ProcessRow {
    ProcessRow {
        pid: labels::ids(&sample.task).0,
        start: sample.task.process.start,
    }
}
