//! The ledger: every expected tick ends in exactly one column, machine-wide and for each process.

use std::collections::{BTreeMap, HashMap};

use rprof_ebpf::ledger::{COLUMNS, Column};
use rprof_ebpf::record::End;

/// Ticks by column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; COLUMNS]);

impl Counts {
    /// Adds `n` ticks to a column.
    pub fn add(&mut self, column: Column, n: u64) {
        self.0[column as usize] += n;
    }

    /// Ticks in a column.
    pub fn get(&self, column: Column) -> u64 {
        self.0[column as usize]
    }

    /// Adds other counts.
    pub fn merge(&mut self, other: &Counts) {
        for (n, more) in self.0.iter_mut().zip(other.0) {
            *n += more;
        }
    }

    /// Ticks in all columns.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Ticks in the columns that are losses.
    pub fn lost(&self) -> u64 {
        Column::ALL
            .iter()
            .filter(|c| c.is_loss())
            .map(|&c| self.get(c))
            .sum()
    }
}

/// The process that a row of the ledger is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessRow {
    /// Its pid as rprof sees it, or the host's where it sees none.
    pub pid: u32,
    /// Start time in nanoseconds since boot: tells reused pids apart.
    pub start: u64,
}

impl ProcessRow {
    /// What cannot be told apart: the map of what the programs lost had no more room, or a thread of
    /// rprof ended with it.
    pub const OTHERS: ProcessRow = ProcessRow { pid: 0, start: 0 };
    /// Its name.
    pub const OTHERS_NAME: &'static str = "[others]";
}

/// What one process's ticks came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Its name when it was last seen.
    pub comm: String,
    /// Its ticks.
    pub counts: Counts,
}

/// The whole account of a run.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Ticks that should have come: the events' enabled time / period, summed. Never from what was
    /// delivered.
    pub expected: u64,
    /// Ticks that CPUs delivered beyond those expected of them. The kernel counts an event's time
    /// and sets its timer by different clocks, and time is whole periods: about a tick an event, and
    /// what the clocks differ by.
    pub surplus: u64,
    /// All ticks of the machine by column; sums to `expected` + `surplus`.
    pub machine: Counts,
    /// The ticks that belong to processes. In the columns that lose samples of processes, rows sum
    /// to the machine's.
    pub processes: HashMap<ProcessRow, ProcessCounts>,
    /// Why truncated stacks ended.
    pub truncated: BTreeMap<End, u64>,
    /// Interpreted frames that were left out because they were being pushed.
    pub left_out: u64,
}

impl Ledger {
    /// So many samples were resolved, and found no room in the profile afterwards; whose they were is not
    /// known any more.
    pub fn found_no_room(&mut self, n: u64) {
        let n = n.min(self.machine.get(Column::Resolved));
        self.machine.0[Column::Resolved as usize] -= n;
        self.machine.add(Column::MemoryFull, n);
        if n > 0 {
            let others = self.process(ProcessRow::OTHERS, ProcessRow::OTHERS_NAME);
            others.counts.add(Column::MemoryFull, n);
        }
    }

    /// The row of a process; `comm` is its name if it has none yet.
    pub fn process(&mut self, row: ProcessRow, comm: &str) -> &mut ProcessCounts {
        let process = self.processes.entry(row).or_default();
        if process.comm.is_empty() {
            process.comm = comm.into();
        }
        process
    }

    /// Ticks of a column that no process's row has: they get a row of their own.
    pub fn others(&mut self, column: Column, n: u64) {
        if n > 0 {
            self.process(ProcessRow::OTHERS, ProcessRow::OTHERS_NAME)
                .counts
                .add(column, n);
        }
    }

    /// Adds what another part of rprof counted.
    pub fn merge(&mut self, other: &Ledger) {
        self.expected += other.expected;
        self.surplus += other.surplus;
        self.left_out += other.left_out;
        self.machine.merge(&other.machine);
        for (row, part) in &other.processes {
            self.process(row.clone(), &part.comm)
                .counts
                .merge(&part.counts);
        }
        for (&end, &n) in &other.truncated {
            *self.truncated.entry(end).or_default() += n;
        }
    }
}
