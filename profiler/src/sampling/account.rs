//! Closing the account of a run: what the threads booked, what the programs counted, and what should
//! have come, so that every tick is in one column.
//!
//! Three figures that do not depend on each other meet here: ticks expected, from the time that events
//! were enabled; ticks delivered, as the programs counted them on each CPU; samples booked, by whoever
//! ended them. What was delivered and not booked was lost with the thread that held it, and what was
//! expected of a CPU and not delivered, the kernel did not deliver.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aya::maps::{HashMap as BpfHashMap, MapData, MapError, PerCpuArray};
use rprof_ebpf::identity::{LostKey, LostTicks};
use rprof_ebpf::ledger::{Column, SENT};

use super::labels::Comms;
use super::losses::Book;
use super::select::Selection;
use super::standing::Standing;
use crate::ledger::{Ledger, ProcessRow};

/// What the threads booked.
#[derive(Debug, Default)]
pub(super) struct Booked {
    ledger: Ledger,
    /// Samples that came out of the ring, by process, with its name.
    received: HashMap<ProcessRow, (Arc<str>, u64)>,
    /// Records that were none.
    strange: u64,
    /// A thread did not end.
    stuck: bool,
    wanted: Selection,
}

impl Booked {
    /// Reads all books.
    pub(super) fn read(books: &[Book], stuck: bool) -> Self {
        let mut booked = Self {
            stuck,
            ..Self::default()
        };
        for book in books {
            let book = book.open();
            booked.ledger.merge(&book.ledger);
            booked.strange += book.strange;
            booked.wanted = book.wanted.clone();
            for (row, (comm, n)) in &book.received {
                let received = booked.received.entry(row.clone());
                received.or_insert_with(|| (comm.clone(), 0)).1 += n;
            }
        }
        booked
    }

    /// Books what was sent and ended nowhere.
    fn complete(mut self, sent: u64) -> Ledger {
        let mut missing = sent.saturating_sub(self.ledger.machine.total());
        // A sample that cannot be read says not whose it is.
        let malformed = self.strange.min(missing);
        self.ledger.machine.add(Column::Malformed, malformed);
        missing -= malformed;
        let column = if self.stuck {
            Column::Quarantined
        } else {
            Column::WorkerLost
        };
        self.ledger.machine.add(column, missing);
        for (row, (comm, received)) in self.received {
            let counts = &mut self.ledger.process(row, &comm).counts;
            let n = received.saturating_sub(counts.total()).min(missing);
            counts.add(column, n);
            missing -= n;
        }
        self.ledger.others(column, missing);
        self.ledger
    }
}

/// What the programs counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Ticks that ended in the programs, by column, and samples sent: by CPU.
    by_cpu: BTreeMap<u32, (BTreeMap<Column, u64>, u64)>,
    /// Those that were lost, by process; not all, if there were too many processes.
    lost: Vec<(LostKey, LostTicks)>,
}

impl Counted {
    /// Reads the programs' maps.
    pub(super) fn read(
        counts: &PerCpuArray<MapData, u64>,
        lost: &BpfHashMap<MapData, LostKey, LostTicks>,
    ) -> Result<Self, MapError> {
        let mut counted = Self::read_columns(counts)?;
        for row in lost.iter() {
            counted.lost.push(row?);
        }
        Ok(counted)
    }

    /// What they count of the machine: of processes there may be thousands of rows.
    pub(super) fn read_columns(counts: &PerCpuArray<MapData, u64>) -> Result<Self, MapError> {
        let mut counted = Self::default();
        // The values of a per-CPU map are those of the possible CPUs, in order.
        let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible");
        let possible = possible
            .ok()
            .and_then(|text| crate::cli::values::cpus(&text).ok());
        let cpu = |nth: usize| match &possible {
            Some(cpus) => cpus.0.get(nth).copied().unwrap_or(nth as u32),
            None => nth as u32,
        };
        for &column in Column::ALL {
            for (nth, &n) in counts.get(&(column as u32), 0)?.iter().enumerate() {
                let (columns, _) = counted.by_cpu.entry(cpu(nth)).or_default();
                columns.insert(column, n);
            }
        }
        for (nth, &n) in counts.get(&SENT, 0)?.iter().enumerate() {
            counted.by_cpu.entry(cpu(nth)).or_default().1 = n;
        }
        Ok(counted)
    }

    /// Samples that were sent.
    fn sent(&self) -> u64 {
        self.by_cpu.values().map(|(_, sent)| sent).sum()
    }

    /// Ticks that the kernel delivered on a CPU.
    fn delivered(&self, cpu: u32) -> u64 {
        let counted = self.by_cpu.get(&cpu);
        counted.map_or(0, |(columns, sent)| columns.values().sum::<u64>() + sent)
    }
}

/// How the account stands while samples still come.
pub(super) fn standing(
    books: &[Book],
    counted: &Counted,
    expected: Option<&BTreeMap<u32, u64>>,
) -> Standing {
    let mut standing = Standing::default();
    let mut strange = 0;
    for book in books {
        let book = book.open();
        standing.counts.merge(&book.ledger.machine);
        strange += book.strange;
        for (&end, &n) in &book.ledger.truncated {
            *standing.truncated.entry(end).or_default() += n;
        }
    }
    standing.counts.add(Column::Malformed, strange);
    standing.in_flight = counted.sent().saturating_sub(standing.counts.total());
    for (cpu, (columns, _)) in &counted.by_cpu {
        for (&column, &n) in columns {
            standing.counts.add(column, n);
        }
        let delivered = counted.delivered(*cpu);
        let expected = expected.map_or(delivered, |expected| {
            expected.get(cpu).copied().unwrap_or(0)
        });
        standing.expected += expected;
        // One that is just being delivered is late, not lost.
        let lacking = expected.saturating_sub(delivered).saturating_sub(1);
        standing.counts.add(Column::NotDelivered, lacking);
    }
    standing
}

/// The account of a run; `expected`: ticks by CPU, `None` where time does not say.
pub(super) fn close(
    booked: Booked,
    counted: &Counted,
    expected: Option<&BTreeMap<u32, u64>>,
) -> Ledger {
    let wanted = booked.wanted.clone();
    let mut ledger = booked.complete(counted.sent());
    let mut names = Comms::default();
    let mut unassigned: BTreeMap<Column, u64> = BTreeMap::new();
    for (columns, _) in counted.by_cpu.values() {
        for (&column, &n) in columns {
            ledger.machine.add(column, n);
            if column.is_loss() {
                *unassigned.entry(column).or_default() += n;
            }
        }
    }
    for (key, lost) in &counted.lost {
        let Some(&column) = Column::ALL.get(key.column as usize) else {
            continue;
        };
        let row = ProcessRow {
            pid: if key.own != 0 { key.own } else { key.host },
            start: key.start,
        };
        let left = unassigned.entry(column).or_default();
        let ticks = lost.ticks.min(*left);
        *left -= ticks;
        let comm = names.get(&lost.comm);
        if wanted.wants(&comm) {
            ledger.process(row, &comm).counts.add(column, ticks);
        } else {
            ledger.machine.0[column as usize] -= ticks;
            ledger.machine.add(Column::NotSelected, ticks);
        }
    }
    for (column, n) in unassigned {
        ledger.others(column, n);
    }
    // Whose ticks they are is asked only of what was wanted.
    ledger.processes.retain(|_, process| {
        process.counts.0[Column::NotSelected as usize] = 0;
        process.counts.total() > 0
    });
    // All possible CPUs, so also each that was sampled.
    for &cpu in counted.by_cpu.keys() {
        let delivered = counted.delivered(cpu);
        let expected = expected.map_or(delivered, |expected| {
            expected.get(&cpu).copied().unwrap_or(0)
        });
        ledger.expected += expected;
        // CPU by CPU: what one of them has too many must not hide what another lacks.
        ledger.surplus += delivered.saturating_sub(expected);
        let lacking = expected.saturating_sub(delivered);
        ledger.machine.add(Column::NotDelivered, lacking);
    }
    ledger
}

#[cfg(test)]
mod tests {
    use super::*;
    use rprof_ebpf::record::Sample;

    fn sample(tgid: u32) -> Sample {
        let mut sample = Sample::default();
        sample.task.own.tgid = tgid;
        sample.task.comm[0] = b'x';
        sample
    }

    fn row(pid: u32) -> ProcessRow {
        ProcessRow { pid, start: 0 }
    }

    /// A CPU on which the programs counted so many ticks.
    fn cpu(columns: &[(Column, u64)], sent: u64) -> (BTreeMap<Column, u64>, u64) {
        (columns.iter().copied().collect(), sent)
    }

    /// Each column of a process's row, if it has ticks.
    fn of(ledger: &Ledger, row: &ProcessRow) -> Vec<(Column, u64)> {
        let columns = Column::ALL.iter();
        let counts = ledger.processes.get(row).map(|process| process.counts);
        columns
            .map(|&column| (column, counts.map_or(0, |counts| counts.get(column))))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    #[test]
    fn what_is_booked_nowhere_was_lost_with_its_thread() {
        for (stuck, column) in [(false, Column::WorkerLost), (true, Column::Quarantined)] {
            let book = Book::default();
            for pid in [1, 1, 1, 2] {
                book.open().receive(&sample(pid));
            }
            book.open().add(&sample(1), Column::Resolved);
            book.open().add(&sample(2), Column::NotSelected);
            book.open().strange = 1;
            // Two more were sent: one record made no sense, one never came out of the ring.
            let counted = Counted {
                by_cpu: [(0, cpu(&[], 6))].into(),
                ..Counted::default()
            };
            let expected = [(0, 6)].into();
            let booked = Booked::read(&[book], stuck);
            let ledger = close(booked, &counted, Some(&expected));
            assert_eq!(ledger.machine.total(), 6);
            assert_eq!(ledger.machine.get(Column::Malformed), 1);
            assert_eq!(ledger.machine.get(column), 3);
            assert_eq!(of(&ledger, &row(1)), [(Column::Resolved, 1), (column, 2)]);
            assert_eq!(of(&ledger, &row(2)), []);
            assert_eq!(of(&ledger, &ProcessRow::OTHERS), [(column, 1)]);
        }
    }

    #[test]
    fn one_cpu_does_not_hide_what_another_lacks() {
        let counted = Counted {
            by_cpu: [
                (0, cpu(&[(Column::Idle, 12)], 0)),
                (3, cpu(&[(Column::Idle, 5)], 0)),
            ]
            .into(),
            ..Counted::default()
        };
        let expected: BTreeMap<u32, u64> = [(0, 10), (3, 10)].into();
        let ledger = close(Booked::default(), &counted, Some(&expected));
        assert_eq!((ledger.expected, ledger.surplus), (20, 2));
        assert_eq!(ledger.machine.get(Column::NotDelivered), 5);
        assert_eq!(ledger.machine.total(), ledger.expected + ledger.surplus);
        // Where time does not say, nothing more is expected than came.
        let ledger = close(Booked::default(), &counted, None);
        assert_eq!((ledger.expected, ledger.surplus), (17, 0));
        assert_eq!(ledger.machine.total(), 17);
    }

    #[test]
    fn rows_of_the_programs_are_rprofs_own_pids_and_add_up() {
        let lost = |host, own, ticks| {
            let key = LostKey {
                start: 0,
                host,
                own,
                column: Column::RingFull as u64,
            };
            let comm = *b"name\0\0\0\0\0\0\0\0\0\0\0\0";
            (key, LostTicks { ticks, comm })
        };
        let counted = Counted {
            by_cpu: [(0, cpu(&[(Column::RingFull, 9)], 0))].into(),
            lost: vec![lost(1000, 7, 4), lost(2000, 0, 3)],
        };
        let ledger = close(Booked::default(), &counted, Some(&[(0, 9)].into()));
        assert_eq!(of(&ledger, &row(7)), [(Column::RingFull, 4)]);
        assert_eq!(of(&ledger, &row(2000)), [(Column::RingFull, 3)]);
        assert_eq!(of(&ledger, &ProcessRow::OTHERS), [(Column::RingFull, 2)]);
        assert_eq!(ledger.processes[&row(7)].comm, "name");
    }
}
