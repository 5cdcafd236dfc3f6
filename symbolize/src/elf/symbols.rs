//! Symbols: one pass over each table, keeping only the best candidate for each sampled address.
//!
//! What enters are the sampled addresses, sorted; tables are streamed, so that a table of a million
//! symbols costs no more memory than one of ten. What leaves is at most one name for each address.
//! A symbol with a size covers exactly that; one without covers what is left to the next symbol or
//! to the end of its section, whichever is first. Nothing is ever named after the function before.

use std::ops::Range;

use crate::elf::{Elf, Section, u16_at, u32_at, u64_at};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;

/// Bytes of a symbol's name at most; C++ names of several KiB are real.
const MAX_NAME: usize = 8 << 10;
const SYMBOL: usize = 24;
const SHN_LORESERVE: u16 = 0xff00;
const SHN_XINDEX: u16 = 0xffff;
const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;

/// Collects the best symbols for a set of addresses from any number of tables.
#[derive(Debug)]
pub(crate) struct Collector<'a> {
    /// Sorted, without repetition.
    addresses: &'a [u64],
    /// For each address the best symbol whose range holds it.
    covering: Vec<Option<Candidate<'a>>>,
    /// For each address the last symbol that starts in front of it and behind the address before.
    before: Vec<Option<Candidate<'a>>>,
    /// For each address where the next symbol starts behind it, and not behind the address after it.
    after: Vec<u64>,
    /// For each address where the last symbol ends that ends at or before it.
    ended: Vec<u64>,
    /// How often a candidate may still be weighed: symbols that all cover everything cost time.
    fuel: u64,
}

/// What an address is called.
#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    /// The name, if it has one.
    pub(crate) name: Option<Box<str>>,
    /// Addresses around it of which the same is true.
    pub(crate) range: Range<u64>,
}

/// A symbol. Its name is read when something depends on it: most candidates are replaced by a nearer one.
#[derive(Clone, Debug)]
struct Candidate<'a> {
    start: u64,
    size: u64,
    not_function: bool,
    local: bool,
    weak: bool,
    table: Table<'a>,
    name: u32,
}

/// A table with what is needed to read its names.
#[derive(Clone, Copy, Debug)]
struct Table<'a> {
    image: &'a Image,
    strings: &'a Section,
}

impl<'a> Collector<'a> {
    /// For these addresses, which are sorted.
    pub(crate) fn new(addresses: &'a [u64]) -> Self {
        Self {
            addresses,
            covering: vec![None; addresses.len()],
            before: vec![None; addresses.len()],
            after: vec![u64::MAX; addresses.len()],
            ended: vec![0; addresses.len()],
            // An address has a few aliases, and a few symbols come nearer to it one after the other.
            fuel: (1 << 20) + 64 * addresses.len() as u64,
        }
    }

    /// Takes all symbols of a file: the module itself, or a debug file, which describes the same
    /// addresses.
    ///
    /// # Errors
    /// A table cannot be read, or its symbols overlap without end; what was taken before counts.
    pub(crate) fn add(&mut self, elf: &'a Elf) -> Result<()> {
        for section in elf.symbol_tables().filter(|s| s.has_bytes()) {
            let Some(strings) = elf.sections().get(section.link as usize) else {
                return Err(Error::malformed("symbol table without names"));
            };
            let table = Table {
                image: elf.image(),
                strings,
            };
            let (offset, size) = (section.offset, section.size);
            elf.image().stream(offset, size, SYMBOL, |_, piece| {
                piece
                    .chunks_exact(SYMBOL)
                    .try_for_each(|entry| self.weigh(elf, table, entry))
            })?;
        }
        Ok(())
    }

    fn weigh(&mut self, elf: &Elf, table: Table<'a>, entry: &[u8]) -> Result<()> {
        let (kind, binding) = (entry[4] & 15, entry[4] >> 4);
        let section = u16_at(entry, 6);
        let (start, size) = (u64_at(entry, 8), u64_at(entry, 16));
        let reserved = section >= SHN_LORESERVE && section != SHN_XINDEX;
        if section == 0 || reserved || !matches!(kind, STT_NOTYPE | STT_FUNC | STT_GNU_IFUNC) {
            return Ok(());
        }
        // The first sampled address that it could cover. Most symbols end here.
        let first = self.addresses.partition_point(|&a| a < start);
        if let Some(after) = first.checked_sub(1).and_then(|n| self.after.get_mut(n)) {
            *after = start.min(*after);
        }
        let end = start.saturating_add(size);
        let ended = self.addresses.partition_point(|&a| a < end);
        if let Some(ended) = self.ended.get_mut(ended) {
            *ended = end.max(*ended);
        }
        let Some(&nearest) = self.addresses.get(first) else {
            return Ok(());
        };
        let covers = nearest < end;
        let is_last = self.before[first].as_ref().is_none_or(|b| b.start <= start);
        if !covers && !is_last {
            return Ok(());
        }
        // A symbol in text that is not executable, or that points out of its section, names no code.
        let text = if section == SHN_XINDEX {
            elf.text_around(start)
        } else {
            let section = elf.sections().get(section as usize);
            section.filter(|s| s.is_text()).map(Section::addresses)
        };
        let Some(text) = text.filter(|t| t.contains(&start)) else {
            return Ok(());
        };
        let candidate = Candidate {
            start,
            size,
            not_function: kind == STT_NOTYPE,
            local: binding == 0,
            weak: binding == 2,
            table,
            name: u32_at(entry, 0),
        };
        if candidate.name == 0 || candidate.is_no_name() {
            return Ok(());
        }
        let end = end.min(text.end);
        for at in first..self.addresses.len() {
            if self.addresses[at] >= end {
                break;
            }
            self.spend()?;
            candidate.improve(&mut self.covering[at]);
        }
        self.spend()?;
        candidate.improve(&mut self.before[first]);
        Ok(())
    }

    fn spend(&mut self) -> Result<()> {
        self.fuel = self
            .fuel
            .checked_sub(1)
            .ok_or_else(|| Error::new(ErrorKind::OverBudget, "symbols that overlap without end"))?;
        Ok(())
    }

    /// The names, one for each address. `text` is the file that was sampled.
    pub(crate) fn finish(mut self, text: &Elf) -> Vec<Symbol> {
        for at in 1..self.ended.len() {
            self.ended[at] = self.ended[at].max(self.ended[at - 1]);
        }
        for at in (1..self.after.len()).rev() {
            self.after[at - 1] = self.after[at - 1].min(self.after[at]);
        }
        let mut last: Option<Candidate> = None;
        let mut names = Vec::with_capacity(self.addresses.len());
        let found = self.covering.into_iter().zip(self.before);
        let places = self
            .addresses
            .iter()
            .zip(self.ended.into_iter().zip(self.after));
        for ((&address, (ended, next)), (covering, before)) in places.zip(found) {
            last = before.or(last);
            let around = text.text_around(address);
            let holds = |at: u64| around.as_ref().is_some_and(|text| text.contains(&at));
            let open = || {
                last.as_ref()
                    .filter(|symbol| symbol.size == 0 && holds(symbol.start))
            };
            let best = covering.as_ref().or_else(open);
            // Where another symbol begins or ends it may be another's.
            let begun = last.as_ref().map_or(0, |last| last.start);
            let range = around.map_or(address..address, |text| {
                text.start.max(begun).max(ended)..text.end.min(next)
            });
            let one = address..address.saturating_add(1);
            let range = match &covering {
                Some(symbol) => {
                    range.start..range.end.min(symbol.start.saturating_add(symbol.size))
                }
                None => range,
            };
            names.push(Symbol {
                name: best.and_then(Candidate::name).map(Into::into),
                range: if range.contains(&address) { range } else { one },
            });
        }
        names
    }
}

impl<'a> Candidate<'a> {
    /// Without its version; `None` if it is empty or no string of the table.
    fn name(&self) -> Option<String> {
        name_at(self.table.image, self.table.strings, self.name)
    }

    /// Mapping symbols and annotations of compilers (`$x`, `.annobin_…`) are not names.
    fn is_no_name(&self) -> bool {
        self.not_function && self.name().is_none_or(|name| name.starts_with(['$', '.']))
    }

    /// The later start is the more specific; among equals a symbol with a size, then the rank, and
    /// then the name, so that the order of the table does not matter.
    fn improve(&self, best: &mut Option<Candidate<'a>>) {
        let at_once = |c: &Self| {
            let start = std::cmp::Reverse(c.start);
            (start, c.size == 0, c.not_function, c.local)
        };
        // `write` rather than `__write`, though libc has the former as weak. One that cannot be read is
        // the last.
        let by_name = |c: &Self| {
            let name = c.name();
            let underscores = |name: &String| name.bytes().take_while(|&b| b == b'_').count();
            let rank = name.as_ref().map(|n| (underscores(n), c.weak, n.len()));
            (name.is_none(), rank, name)
        };
        let is_better = best.as_ref().is_none_or(|best| {
            let order = at_once(self).cmp(&at_once(best));
            order
                .then_with(|| by_name(self).cmp(&by_name(best)))
                .is_lt()
        });
        if is_better {
            *best = Some(self.clone());
        }
    }
}

/// The name at an offset of a string table, without the version that GNU ld appends
/// (`name@@VERSION`).
pub(super) fn name_at(image: &Image, strings: &Section, at: u32) -> Option<String> {
    let left = strings.size.checked_sub(u64::from(at))?;
    let offset = strings.offset.checked_add(u64::from(at))?;
    let name = image
        .c_string(offset, left.min(MAX_NAME as u64) as usize)
        .ok()?;
    let name = String::from_utf8_lossy(&name);
    let name = name.split_once('@').map_or(&*name, |(name, _)| name);
    (!name.is_empty()).then(|| name.to_owned())
}
