//! From CFI to sorted rows.
//!
//! Linkers write functions mostly in the order of their addresses, so functions are sorted rather
//! than rows, and only if they need it. Where two overlap, the one that begins later holds, and
//! where that ends there is none: as for everyone who searches `.eh_frame_hdr`.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use gimli::{BaseAddresses, UnwindSection};
use object::read::ReadRef;
use rprof_ebpf::rows::{Rule, RuleKind};

use super::{NONE, OFFSET_BITS, Row, UNSUPPORTED};
use crate::cfi::{Bytes, Context, Fde, Section};
use crate::error::Error;
use crate::module::{Module, Segment, Segments};
use crate::x86_64::rule::{plain, rule};
use crate::x86_64::unlisted;

/// Gaps between functions that are looked into for code that is known by its bytes.
const MAX_LOOKS: u32 = 64;

/// The rules and rows of a module; more than `max` rows before they are merged are an error.
pub(super) fn rows<'data, R: ReadRef<'data>>(
    module: &Module<'data, R>,
    segments: &Segments,
    max: u32,
) -> Result<(Vec<Rule>, Vec<Row>), Error> {
    let cfi = module.cfi()?;
    let mut rules = Rules::new();
    let bases = &cfi.bases;
    let mut rows = Functions::read(&cfi.eh_frame(), bases, segments, &mut rules, max)?;
    let further = Functions::read(&cfi.debug_frame(), bases, segments, &mut rules, max)?;
    if !further.is_empty() {
        rows = fill(&rows, &further);
    }
    let known = known(module, segments, &rows, &mut rules);
    Ok((rules.list, fill(&rows, &known)))
}

/// Rows of code that is known although CFI need not cover it.
fn known<'data, R: ReadRef<'data>>(
    module: &Module<'data, R>,
    segments: &Segments,
    rows: &[Row],
    rules: &mut Rules,
) -> Vec<Row> {
    let mut known = Vec::new();
    for (place, rule) in module.known() {
        if let Some(start) = segments.offset_of(place.start) {
            known.push((start, place.end - place.start, rule));
        }
    }
    let mut looks = MAX_LOOKS;
    // Threads begin in gaps just before code without a caller.
    let end = rules.number(plain(RuleKind::End));
    for pair in rows.windows(2) {
        let &[gap, after] = pair else { continue };
        let len = after.offset() - gap.offset();
        if gap.rule() == NONE
            && after.rule() == end
            && len == unlisted::CLONE
            && let Some(rule) = unlisted::clone(module.code(gap.offset(), len))
        {
            known.push((gap.offset(), len, rule));
        }
        if gap.rule() == NONE && unlisted::CRT_BYTES.contains(&len) && looks > 0 {
            looks -= 1;
            // Padding before it belongs to the gap, too.
            let start = gap.offset().next_multiple_of(16);
            let code = module.code(start, after.offset() - start);
            for (from, len, rule) in unlisted::crt(code) {
                known.push((start + from as u64, len as u64, rule));
            }
        }
    }
    known.retain(|(_, len, _)| *len > 0);
    known.sort_by_key(|(start, ..)| *start);
    known.dedup_by_key(|(start, ..)| *start);
    let mut list = List(Vec::with_capacity(known.len() * 2));
    for (at, &(start, len, rule)) in known.iter().enumerate() {
        let next = known.get(at + 1).map_or(u64::MAX, |(start, ..)| *start);
        let end = start + len;
        if end >> OFFSET_BITS == 0 {
            list.push(start, rules.number(rule));
            if end < next {
                list.push(end, NONE);
            }
        }
    }
    list.0
}

/// Distinct rules and their numbers.
struct Rules {
    list: Vec<Rule>,
    numbers: HashMap<Rule, u16>,
    /// Rules met lately, by a hash of theirs: a module has some hundreds, in hundreds of thousands
    /// of rows.
    recent: [(Rule, u16); 256],
}

impl Rules {
    fn new() -> Self {
        let none = plain(RuleKind::None);
        let mut rules = Self {
            list: Vec::new(),
            numbers: HashMap::new(),
            recent: [(none, NONE); 256],
        };
        for first in [none, plain(RuleKind::Unsupported)] {
            rules.number(first);
        }
        rules
    }

    fn number(&mut self, rule: Rule) -> u16 {
        let mixed = (rule.offset as u32)
            .wrapping_add((rule.rbp as u32) << 20)
            .wrapping_add((rule.rbx as u32) << 10)
            .wrapping_add(u32::from(rule.register) << 28)
            .wrapping_mul(0x9e37_79b1);
        let slot = (mixed >> 24) as usize;
        if let Some(&(recent, number)) = self.recent.get(slot)
            && recent == rule
            && !self.list.is_empty()
        {
            return number;
        }
        let number = match self.numbers.get(&rule) {
            Some(&number) => number,
            None => {
                let Ok(number) = u16::try_from(self.list.len()) else {
                    return UNSUPPORTED;
                };
                self.list.push(rule);
                self.numbers.insert(rule, number);
                number
            }
        };
        if let Some(recent) = self.recent.get_mut(slot) {
            *recent = (rule, number);
        }
        number
    }
}

/// A function of which rows were read: file offsets, and where its rows stand.
struct Function {
    place: Range<u64>,
    rows: Range<usize>,
}

/// The functions of one section.
struct Functions {
    functions: Vec<Function>,
    rows: Vec<Row>,
    /// Rows at most.
    max: usize,
}

impl Functions {
    fn read<'a, S: UnwindSection<Bytes<'a>>>(
        section: &Section<'a, S>,
        bases: &BaseAddresses,
        segments: &Segments,
        rules: &mut Rules,
        max: u32,
    ) -> Result<Vec<Row>, Error> {
        let mut read = Self {
            functions: Vec::new(),
            rows: Vec::new(),
            max: max as usize,
        };
        let mut context = Context::new_in();
        let mut segment = None;
        section.each_fde(bases, |fde| {
            let start = fde.initial_address();
            if segment.is_none_or(|s: Segment| start.wrapping_sub(s.address) >= s.size) {
                segment = segments.at_address(start).copied();
            }
            if let Some(segment) = segment {
                read.function(&section.gimli, bases, &fde, segment, rules, &mut context);
            }
            if read.rows.len() > read.max {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if read.rows.len() > read.max {
            return Err(Error::TooLarge(read.rows.len() as u64));
        }
        Ok(read.sorted())
    }

    fn function<'a, S: UnwindSection<Bytes<'a>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
        fde: &Fde<'a>,
        segment: Segment,
        rules: &mut Rules,
        context: &mut Context,
    ) {
        let address = fde.initial_address();
        let length = fde.len().min(segment.size - (address - segment.address));
        let start = address - segment.address + segment.offset;
        let end = start + length;
        if end >> OFFSET_BITS != 0 {
            return;
        }
        let first = self.rows.len();
        let signal = fde.is_signal_trampoline();
        let encoding = fde.cie().encoding();
        let mut next = start;
        if let Ok(mut table) = fde.rows(section, bases, context) {
            while let Ok(Some(row)) = table.next_row() {
                let offsets = (
                    row.start_address().checked_sub(address),
                    row.end_address().checked_sub(address),
                );
                // Addresses that wrapped, or more than there may be: the loop ends early.
                let (Some(from), Some(to)) = offsets else {
                    break;
                };
                if start + from.min(length) != next || next == end || self.rows.len() > self.max {
                    break;
                }
                if to <= from {
                    continue;
                }
                let number = rules.number(rule(section, encoding, signal, row));
                self.rows.push(Row::new(start + from, number));
                next = start + to.min(length);
            }
        }
        if next < end {
            // The instructions ended in an error: from here on the CFI says nothing we can say.
            self.rows.push(Row::new(next, UNSUPPORTED));
        }
        self.functions.push(Function {
            place: start..end,
            rows: first..self.rows.len(),
        });
    }

    /// One sorted list; equal neighbours merged, gaps as rows without CFI.
    fn sorted(mut self) -> Vec<Row> {
        let start = |f: &Function| f.place.start;
        if !self.functions.is_sorted_by_key(start) {
            self.functions.sort_by_key(start);
        }
        self.functions.dedup_by_key(|f| f.place.start);
        let mut list = List(Vec::with_capacity(self.rows.len() + self.rows.len() / 8));
        for (at, function) in self.functions.iter().enumerate() {
            let next = self.functions.get(at + 1).map_or(u64::MAX, start);
            let rows = self.rows.get(function.rows.clone()).unwrap_or_default();
            for row in rows.iter().take_while(|row| row.offset() < next) {
                list.push(row.offset(), row.rule());
            }
            if function.place.end < next {
                list.push(function.place.end, NONE);
            }
        }
        list.0
    }
}

/// A sorted list of rows that grows at its end and merges equal neighbours.
struct List(Vec<Row>);

impl List {
    fn push(&mut self, offset: u64, rule: u16) {
        match self.0.last() {
            Some(last) if last.rule() == rule => return,
            None if rule == NONE => return,
            _ => {}
        }
        self.0.push(Row::new(offset, rule));
    }
}

/// `rows`, and where they say that there is no CFI, what `further` say.
fn fill(rows: &[Row], further: &[Row]) -> Vec<Row> {
    let mut list = List(Vec::with_capacity(rows.len() + further.len()));
    let (mut first, mut second) = (rows.iter().peekable(), further.iter().peekable());
    let (mut rule, mut other) = (NONE, NONE);
    let at = |row: Option<&&Row>| row.map_or(u64::MAX, |row| row.offset());
    loop {
        let offset = at(first.peek()).min(at(second.peek()));
        if offset == u64::MAX {
            return list.0;
        }
        if let Some(row) = first.next_if(|row| row.offset() == offset) {
            rule = row.rule();
        }
        if let Some(row) = second.next_if(|row| row.offset() == offset) {
            other = row.rule();
        }
        list.push(offset, if rule == NONE { other } else { rule });
    }
}
