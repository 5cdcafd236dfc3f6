//! What lies around the wanted addresses: each row of their functions becomes an address of its own, for who
//! will ask for other places of the same functions soon.

use std::ops::Range;
use std::rc::Rc;

use crate::dwarf::rows::Files;
use crate::dwarf::{Dwarf, Gathered, Search, Unit, functions};

/// Rows that are told of at most: the largest functions have some thousands.
const MAX_ROWS: usize = 8 << 10;

/// A row in a range that is wanted.
#[derive(Debug)]
pub(super) struct Row {
    addresses: Range<u64>,
    file: Rc<str>,
    line: u32,
}

/// An address that nobody asked for, and what is gathered of it.
#[derive(Debug)]
pub(super) struct More {
    pub(super) address: u64,
    pub(super) gathered: Gathered,
    pub(super) alike: Range<u64>,
}

impl Search<'_> {
    /// Takes a row of the unit at hand, if it is wanted.
    pub(super) fn row(&mut self, addresses: Range<u64>, file: impl FnOnce() -> Rc<str>, line: u32) {
        let after = self
            .around
            .partition_point(|range| range.start <= addresses.start);
        let range = after.checked_sub(1).and_then(|n| self.around.get(n));
        if self.more.len() + self.rows.len() < MAX_ROWS
            && range.is_some_and(|range| range.contains(&addresses.start))
        {
            let file = file();
            match self.rows.last_mut() {
                Some(last)
                    if last.addresses.end == addresses.start
                        && (&last.file, last.line) == (&file, line) =>
                {
                    last.addresses.end = addresses.end;
                }
                _ => self.rows.push(Row {
                    addresses,
                    file,
                    line,
                }),
            }
        }
    }
}

/// Finds the chain of functions around each wanted address, and around each row that was taken.
pub(super) fn gather(
    dwarf: &Dwarf,
    unit: &Unit,
    files: Files<'_>,
    wanted: &[usize],
    search: &mut Search<'_>,
) -> gimli::Result<()> {
    let mut rows = std::mem::take(&mut search.rows);
    if rows.is_empty() {
        return functions::gather(dwarf, unit, files, wanted, search);
    }
    rows.sort_by_key(|row| row.addresses.start);
    rows.dedup_by_key(|row| row.addresses.start);
    let of_rows = rows.iter().map(|row| row.addresses.start);
    let asked = wanted.iter().map(|&index| search.addresses[index]);
    let mut addresses: Vec<u64> = of_rows.chain(asked).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut all = search.of(&addresses);
    let everything = Vec::from_iter(0..addresses.len());
    let chains = functions::gather(dwarf, unit, files, &everything, &mut all);
    let mut rows = rows.into_iter().peekable();
    let found = addresses
        .iter()
        .zip(all.gathered.into_iter().zip(all.alike));
    for (&address, (mut gathered, alike)) in found {
        let row = rows.next_if(|row| row.addresses.start == address);
        let index = search.addresses.binary_search(&address);
        match (index, row) {
            (Ok(index), _) if wanted.binary_search(&index).is_ok() => {
                search.gathered[index].chain = gathered.chain;
                let known = &mut search.alike[index];
                *known = known.start.max(alike.start)..known.end.min(alike.end);
            }
            (Err(_), Some(row)) if chains.is_ok() => {
                let alike = alike.start.max(row.addresses.start)..alike.end.min(row.addresses.end);
                gathered.row = Some((row.file, row.line));
                search.more.push(More {
                    address,
                    gathered,
                    alike,
                });
            }
            _ => {}
        }
    }
    chains
}
