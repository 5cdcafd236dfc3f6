//! The unwind rows of a module.
//!
//! Call frame information enters, a sorted table by file offset leaves, and from it the words that
//! the eBPF program looks up. The same file offset names the same byte in each process that maps
//! the file, so one table serves them all.

mod build;
mod image;

use std::io::{self, Read, Write};

use object::read::ReadRef;
use rprof_ebpf::rows::{Rule, RuleKind};

pub(crate) use image::rule_words;
pub use image::{Image, lookup};

use crate::error::Error;
use crate::module::{Layout, Module, Segments};
use crate::wire;
use crate::x86_64::rule::plain;

/// A place from which a rule holds: file offset << 16 | number of the rule.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row(u64);

/// Bits of a row's file offset, as in a frame's word.
const OFFSET_BITS: u32 = rprof_ebpf::frame::OFFSET_BITS;

impl Row {
    fn new(offset: u64, rule: u16) -> Self {
        Self(offset << 16 | u64::from(rule))
    }

    fn offset(self) -> u64 {
        self.0 >> 16
    }

    fn rule(self) -> u16 {
        self.0 as u16
    }
}

/// Number of the rule that says there is no CFI.
const NONE: u16 = 0;
/// Number of the rule that says the CFI is none of the kinds a rule can say.
const UNSUPPORTED: u16 = 1;

/// All unwind rows of a module.
#[derive(Clone)]
pub struct Table {
    /// Distinct rules; [`NONE`] and [`UNSUPPORTED`] come first.
    rules: Vec<Rule>,
    /// Sorted by offset, each with another rule than the one before.
    rows: Vec<Row>,
    segments: Segments,
}

impl Table {
    /// Makes the rows of an ELF file: `.eh_frame`, and `.debug_frame` where that says nothing.
    ///
    /// # Errors
    /// If this is no x86-64 ELF file with text, if its CFI cannot be read, or if its rows could take
    /// more than `max_words` words of row space. A file without CFI is no error: its table says
    /// [`RuleKind::None`] everywhere.
    pub fn from_elf<'data, R: ReadRef<'data>>(data: R, max_words: u32) -> Result<Self, Error> {
        Self::new(&Module::parse(data, Layout::File)?, max_words)
    }

    /// The same for an ELF image as it stands in memory: the vDSO. Offsets count from its start.
    ///
    /// # Errors
    /// As [`Table::from_elf`].
    pub fn from_image(image: &[u8], max_words: u32) -> Result<Self, Error> {
        Self::new(&Module::parse(image, Layout::Memory)?, max_words)
    }

    fn new<'data, R: ReadRef<'data>>(
        module: &Module<'data, R>,
        max_words: u32,
    ) -> Result<Self, Error> {
        let segments = module.segments()?;
        let (rules, rows) = build::rows(module, &segments, max_words)?;
        let table = Self {
            rules,
            rows,
            segments,
        };
        let words = table.words();
        if words > u64::from(max_words) {
            return Err(Error::TooLarge(words));
        }
        Ok(table)
    }

    /// Writes the table as bytes, about 8 a row.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        wire::put(to, self.rules.len() as u64)?;
        for rule in &self.rules {
            wire::put_rule(to, rule)?;
        }
        wire::put_numbers(to, self.rows.iter().map(|row| row.0))?;
        wire::put_segments(to, &self.segments)
    }

    /// Reads what [`Table::write_to`] wrote, and not a byte more.
    ///
    /// # Errors
    /// Those of `from`; [`io::ErrorKind::FileTooLarge`], [`io::ErrorKind::InvalidData`] if it is no
    /// table, or one of more than `max_words`.
    pub fn read_from(from: &mut impl Read, max_words: u32) -> io::Result<Self> {
        let rules = wire::take_len(from, u64::from(u16::MAX) + 1)?;
        let rules = (0..rules).map(|_| wire::take_rule(from));
        let table = Self {
            rules: rules.collect::<io::Result<_>>()?,
            rows: wire::take_numbers(from, max_words.into(), Row)?,
            segments: wire::take_segments(from)?,
        };
        let sorted = |pair: &[Row]| matches!(pair, [a, b] if a.offset() < b.offset());
        // The programs look up rules by number, in row space that other modules' tables share.
        let known = |row: &Row| {
            usize::from(row.rule()) < table.rules.len() && row.offset() >> OFFSET_BITS == 0
        };
        let has_first = table.rules.len() > usize::from(UNSUPPORTED);
        if !has_first || !table.rows.iter().all(known) || !table.rows.windows(2).all(sorted) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if table.words() > max_words.into() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(table)
    }

    /// The rule at a file offset.
    pub fn lookup(&self, offset: u64) -> Rule {
        let after = self.rows.partition_point(|row| row.offset() <= offset);
        let row = after.checked_sub(1).and_then(|at| self.rows.get(at));
        self.rule(row.map_or(NONE, |row| row.rule()))
    }

    /// The rows: file offset from which a rule holds, and the rule; sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, Rule)> {
        self.rows.iter().map(|r| (r.offset(), self.rule(r.rule())))
    }

    /// The distinct rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The executable segments.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    fn rule(&self, number: u16) -> Rule {
        let rule = self.rules.get(usize::from(number));
        rule.copied().unwrap_or(plain(RuleKind::Unsupported))
    }
}
