//! Units: which of them hold sampled addresses, and which one holds an entry.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use gimli::{AttributeValue, DebugInfoOffset, Reader as _, UnitHeader, UnitSectionOffset};

use crate::dwarf::reader::{Pager, Reader};
use crate::dwarf::{Dwarf, Search, Unit};
use crate::error::Result;

/// Units of a file at most; large browsers have some 50,000.
const MAX_UNITS: usize = 1 << 20;
/// Units held for names, with their abbreviations.
const HELD: usize = 8;
/// Reads that one unit's abbreviations, or the header of one line program, may take. Each entry of
/// the tables that they become takes several.
pub(super) const TABLE_FUEL: u64 = 1 << 18;

/// What a unit says about its line program.
pub(super) struct LineProgram {
    pub(super) offset: gimli::DebugLineOffset,
    pub(super) name: Option<Reader>,
}

/// The units of a file.
pub(super) struct Units<'a> {
    dwarf: &'a Dwarf,
    pager: &'a Rc<Pager>,
    /// Where each begins in `.debug_info`, ascending.
    offsets: Vec<usize>,
    held: VecDeque<(usize, Rc<Unit>)>,
    /// Abbreviations of the last unit: neighbours often share them.
    abbreviations: Option<(usize, Arc<gimli::Abbreviations>)>,
}

impl<'a> Units<'a> {
    pub(super) fn new(dwarf: &'a Dwarf, pager: &'a Rc<Pager>) -> Self {
        Self {
            dwarf,
            pager,
            offsets: Vec::new(),
            held: VecDeque::new(),
            abbreviations: None,
        }
    }

    pub(super) fn dwarf(&self) -> &'a Dwarf {
        self.dwarf
    }

    /// Passes through all units, and calls `each` for those that hold addresses which no unit
    /// before could explain, with the indices of these.
    pub(super) fn each(
        &mut self,
        search: &mut Search<'_>,
        mut each: impl FnMut(&Unit, Option<LineProgram>, &[usize], &mut Search<'_>),
    ) -> Result<()> {
        let mut headers = self.dwarf.units();
        while let Some(header) = headers.next()? {
            let UnitSectionOffset(offset) = header.offset();
            if self.offsets.len() == MAX_UNITS {
                break;
            }
            self.offsets.push(offset);
            // A unit that makes no sense costs its own names only.
            let Ok((unit, ranges, program)) = self.parse(header) else {
                continue;
            };
            let mut wanted = Vec::new();
            match ranges {
                // What is not said may be anywhere.
                None => {
                    self.pager.spend(search.addresses.len() as u64)?;
                    wanted.extend(0..search.addresses.len());
                }
                Some(mut ranges) => {
                    while let Ok(Some(range)) = ranges.next() {
                        wanted.extend(search.within(range.begin, range.end)?);
                    }
                }
            }
            wanted.retain(|&index| search.gathered[index].chain.is_empty());
            wanted.sort_unstable();
            wanted.dedup();
            if !wanted.is_empty() {
                each(&unit, program, &wanted, search);
            }
        }
        Ok(())
    }

    /// The unit that holds the entry at an offset of `.debug_info`.
    pub(super) fn around(&mut self, entry: usize) -> gimli::Result<Rc<Unit>> {
        let index = self.offsets.partition_point(|&o| o <= entry);
        let offset = index.checked_sub(1).map(|i| self.offsets[i]);
        let offset = offset.ok_or(gimli::Error::NoEntryAtGivenOffset(entry as u64))?;
        if let Some((_, unit)) = self.held.iter().find(|(o, _)| *o == offset) {
            return Ok(unit.clone());
        }
        let header = self
            .dwarf
            .debug_info
            .header_from_offset(DebugInfoOffset(offset))?;
        let (unit, ..) = self.parse(header)?;
        let unit = Rc::new(unit);
        self.held.truncate(HELD - 1);
        self.held.push_front((offset, unit.clone()));
        Ok(unit)
    }

    /// Reads a unit's root entry: its bases, its ranges (`None`: it does not say), and where its
    /// line program stands. Unlike `gimli::Unit::new` this leaves the line program unread.
    fn parse(
        &mut self,
        header: UnitHeader<Reader>,
    ) -> gimli::Result<(Unit, Option<gimli::RangeIter<Reader>>, Option<LineProgram>)> {
        let encoding = header.encoding();
        let file_type = self.dwarf.file_type;
        let mut unit = Unit {
            abbreviations: self.abbreviations(&header)?,
            name: None,
            comp_dir: None,
            low_pc: 0,
            str_offsets_base: gimli::DebugStrOffsetsBase::default_for_encoding_and_file(
                encoding, file_type,
            ),
            addr_base: gimli::DebugAddrBase(0),
            loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(
                encoding, file_type,
            ),
            rnglists_base: gimli::DebugRngListsBase::default_for_encoding_and_file(
                encoding, file_type,
            ),
            line_program: None,
            dwo_id: None,
            header,
        };
        let root = unit.entry(unit.header.root_offset())?;
        for attribute in root.attrs() {
            match attribute.value() {
                AttributeValue::DebugStrOffsetsBase(base) => unit.str_offsets_base = base,
                AttributeValue::DebugAddrBase(base) => unit.addr_base = base,
                AttributeValue::DebugRngListsBase(base) => unit.rnglists_base = base,
                _ => {}
            }
        }
        let string = |at| {
            let value = root.attr_value(at)?;
            self.dwarf.attr_string(&unit, value).ok()
        };
        let (name, comp_dir) = (string(gimli::DW_AT_name), string(gimli::DW_AT_comp_dir));
        unit.comp_dir = comp_dir;
        if let Some(value) = root.attr_value(gimli::DW_AT_low_pc) {
            unit.low_pc = self.dwarf.attr_address(&unit, value)?.unwrap_or(0);
        }
        let says = [gimli::DW_AT_ranges, gimli::DW_AT_high_pc];
        let ranges = if root.tag() != gimli::DW_TAG_compile_unit
            && root.tag() != gimli::DW_TAG_skeleton_unit
        {
            // Partial and type units hold no code of their own.
            Some(gimli::RangeIter::default())
        } else if says.iter().any(|&at| root.has_attr(at)) {
            Some(self.dwarf.unit_ranges(&unit)?)
        } else {
            None
        };
        let program = match root.attr_value(gimli::DW_AT_stmt_list) {
            Some(AttributeValue::DebugLineRef(offset)) => Some(LineProgram { offset, name }),
            _ => None,
        };
        Ok((unit, ranges, program))
    }

    fn abbreviations(
        &mut self,
        header: &UnitHeader<Reader>,
    ) -> gimli::Result<Arc<gimli::Abbreviations>> {
        let gimli::DebugAbbrevOffset(offset) = header.debug_abbrev_offset();
        if let Some((held, abbreviations)) = &self.abbreviations
            && *held == offset
        {
            return Ok(abbreviations.clone());
        }
        let abbreviations = self
            .pager
            .at_most(TABLE_FUEL, || self.dwarf.abbreviations(header))?;
        self.abbreviations = Some((offset, abbreviations.clone()));
        Ok(abbreviations)
    }
}

/// Bytes of a name or a path at most.
const MAX_TEXT: usize = 8 << 10;

/// The text of a string attribute, if it is not too long for one.
pub(super) fn text(dwarf: &Dwarf, unit: &Unit, value: AttributeValue<Reader>) -> Option<String> {
    let reader = dwarf.attr_string(unit, value).ok()?;
    let text = reader.to_string_lossy().ok()?;
    (reader.len() <= MAX_TEXT).then(|| text.into_owned())
}
