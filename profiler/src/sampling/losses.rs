//! The books of a run: each thread that ends ticks has one of its own, counted for the machine and
//! for the process whose samples they were. Whoever closes the account reads them all, also that of a
//! thread that is stuck.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rprof_ebpf::ledger::Column;
use rprof_ebpf::record::{Sample, take};

use super::labels::{self, Comms};
use crate::ledger::{Ledger, ProcessRow};

/// The book of one thread.
#[derive(Clone, Debug, Default)]
pub struct Book(Arc<Mutex<Losses>>);

impl Book {
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
    names: Comms,
}

impl Losses {
    /// Counts a sample in a column.
    pub fn add(&mut self, sample: &Sample, column: Column) {
        self.ledger.machine.add(column, 1);
        let comm = self.names.get(&sample.task.comm);
        let process = self.ledger.processes.entry(row(sample)).or_default();
        process.counts.add(column, 1);
        if *process.comm != *comm {
            process.comm = comm.to_string();
        }
    }

    /// Counts the sample of a record, if it is one.
    pub fn add_record(&mut self, record: &[u64], column: Column) {
        if let Some((sample, _)) = take::<Sample>(record) {
            self.add(&sample, column);
        }
    }

    /// Notes that a sample came out of the ring.
    pub fn receive(&mut self, sample: &Sample) {
        let names = &mut self.names;
        let received = self.received.entry(row(sample));
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
