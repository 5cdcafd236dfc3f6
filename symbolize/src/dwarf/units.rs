//! Units: which of them hold sampled addresses, and which one holds an entry.

use std::collections::{BTreeSet, VecDeque};
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
    /// Where units begin in `.debug_info`, as far as it is known.
    offsets: BTreeSet<usize>,
    /// All units were passed, and it is known where the code of each is.
    all_known: bool,
    held: VecDeque<Rc<Unit>>,
    /// Abbreviations of the last unit: neighbours often share them.
    abbreviations: Option<(usize, Arc<gimli::Abbreviations>)>,
}

impl<'a> Units<'a> {
    pub(super) fn new(dwarf: &'a Dwarf, pager: &'a Rc<Pager>) -> Self {
        Self {
            dwarf,
            pager,
            offsets: BTreeSet::new(),
            all_known: false,
            held: VecDeque::new(),
            abbreviations: None,
        }
    }

    pub(super) fn dwarf(&self) -> &'a Dwarf {
        self.dwarf
    }

    /// Finds the units that hold addresses which no unit before could explain, and calls `each` with the
    /// indices of these.
    pub(super) fn each(
        &mut self,
        search: &mut Search<'_>,
        mut each: impl FnMut(&Unit, Option<LineProgram>, &[usize], &mut Search<'_>),
    ) -> Result<()> {
        // Most compilers list which unit holds what. What they list is a hint: ranges are the units' own.
        let all = Vec::from_iter(0..search.addresses.len());
        for offset in self.listed(search) {
            if let Ok(header) = self.dwarf.debug_info.header_from_offset(offset) {
                self.pass(header, &all, search, &mut each)?;
            }
        }
        // Not all of them do.
        let wanted = search.unexplained();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut headers = self.dwarf.units();
        let mut all_known = true;
        while let Some(header) = headers.next()? {
            let UnitSectionOffset(offset) = header.offset();
            if self.offsets.len() == MAX_UNITS {
                return Ok(());
            }
            self.offsets.insert(offset);
            all_known &= self.pass(header, &wanted, search, &mut each)?;
        }
        self.all_known = all_known;
        Ok(())
    }

    /// Whether all units were passed, and it is known where the code of each is.
    pub(super) fn are_all_known(&self) -> bool {
        self.all_known
    }

    /// Calls `each` if the unit holds some of the addresses that are wanted (by their indices, ascending)
    /// and have no function yet. False: it is not known where its code is.
    fn pass(
        &mut self,
        header: UnitHeader<Reader>,
        wanted: &[usize],
        search: &mut Search<'_>,
        each: &mut impl FnMut(&Unit, Option<LineProgram>, &[usize], &mut Search<'_>),
    ) -> Result<bool> {
        // A unit that makes no sense costs its own names only.
        let Ok((unit, ranges, program)) = self.parse(header) else {
            return Ok(false);
        };
        let mut says = true;
        let mut held = Vec::new();
        match ranges {
            // What is not said may be anywhere: `each` passes all of it.
            None => {
                self.pager.spend(search.addresses.len() as u64)?;
                held.extend(0..search.addresses.len());
            }
            Some(mut ranges) => {
                while let Some(range) = ranges.next().unwrap_or_else(|_| {
                    says = false;
                    None
                }) {
                    held.extend(search.within(range.begin, range.end)?);
                }
            }
        }
        let free = |i: &usize| search.gathered[*i].chain.is_empty();
        held.retain(|index| free(index) && wanted.binary_search(index).is_ok());
        held.sort_unstable();
        held.dedup();
        if !held.is_empty() {
            let UnitSectionOffset(offset) = unit.header.offset();
            self.offsets.insert(offset);
            each(&unit, program, &held, search);
        }
        Ok(says)
    }

    /// Where the units begin that are listed in `.debug_aranges` for wanted addresses.
    fn listed(&self, search: &mut Search<'_>) -> BTreeSet<DebugInfoOffset> {
        let mut listed = BTreeSet::new();
        let mut headers = self.dwarf.debug_aranges.headers();
        while let Ok(Some(header)) = headers.next() {
            let mut entries = header.entries();
            while let Ok(Some(entry)) = entries.next() {
                let range = entry.range();
                if search
                    .within(range.begin, range.end)
                    .is_ok_and(|held| !held.is_empty())
                {
                    listed.insert(header.debug_info_offset());
                }
            }
        }
        listed
    }

    /// The unit that holds the entry at an offset of `.debug_info`.
    pub(super) fn around(&mut self, entry: usize) -> gimli::Result<Rc<Unit>> {
        let holds = |unit: &UnitHeader<Reader>| {
            let UnitSectionOffset(offset) = unit.offset();
            (offset..offset.saturating_add(unit.length_including_self())).contains(&entry)
        };
        if let Some(unit) = self.held.iter().find(|unit| holds(&unit.header)) {
            return Ok(unit.clone());
        }
        let before = self.offsets.range(..=entry).next_back();
        let mut offset = before.copied().unwrap_or(0);
        let header = loop {
            let header = self
                .dwarf
                .debug_info
                .header_from_offset(DebugInfoOffset(offset))?;
            if holds(&header) {
                break header;
            }
            offset = offset.saturating_add(header.length_including_self());
            if offset > entry || self.offsets.len() == MAX_UNITS {
                return Err(gimli::Error::NoEntryAtGivenOffset(entry as u64));
            }
            self.offsets.insert(offset);
        };
        let (unit, ..) = self.parse(header)?;
        let unit = Rc::new(unit);
        self.held.truncate(HELD - 1);
        self.held.push_front(unit.clone());
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
