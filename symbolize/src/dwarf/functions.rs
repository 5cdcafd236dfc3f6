//! Functions: the entries of a unit are passed once, in their order, keeping the ones around wanted
//! addresses.

use gimli::{AttributeValue, UnitOffset, UnitSectionOffset};

use crate::dwarf::reader::Reader;
use crate::dwarf::rows::Files;
use crate::dwarf::{Dwarf, Scope, Search, Unit};

/// Entries within entries at most; compilers stay below 100.
const MAX_DEPTH: usize = 1024;
/// Functions inlined into one another at most.
const MAX_CHAIN: usize = 256;

/// An entry that is open, and the wanted addresses that lie in it.
struct Open {
    depth: isize,
    inside: Vec<usize>,
}

/// What is read of a function's entry.
#[derive(Default)]
struct Attributes {
    low: Option<u64>,
    high: Option<AttributeValue<Reader>>,
    ranges: Option<AttributeValue<Reader>>,
    sibling: Option<UnitOffset>,
    call_file: Option<u64>,
    call_line: u32,
}

/// Finds the chain of functions around each wanted address.
pub(super) fn gather(
    dwarf: &Dwarf,
    unit: &Unit,
    mut files: Files<'_>,
    wanted: &[usize],
    search: &mut Search<'_>,
) -> gimli::Result<()> {
    let mut entries = unit.entries_raw(None)?;
    // Depth of the entry that `entries` began at.
    let mut base = 0;
    let mut open: Vec<Open> = Vec::new();
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let depth = base + entries.next_depth();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        while open.last().is_some_and(|o| o.depth >= depth) {
            open.pop();
        }
        let is_function = abbreviation.tag() == gimli::DW_TAG_subprogram;
        let is_inlined = abbreviation.tag() == gimli::DW_TAG_inlined_subroutine
            && open.last().is_some_and(|o| !o.inside.is_empty());
        if !is_function && !is_inlined {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let mut attributes = Attributes::default();
        for &specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(specification)?;
            attributes.take(dwarf, unit, &attribute)?;
        }
        let around = match open.last() {
            Some(parent) if is_inlined => &parent.inside,
            _ => wanted,
        };
        let mut inside = attributes.covered(dwarf, unit, around, search)?;
        let is_free = |index: &usize| {
            let chain = &search.gathered[*index].chain;
            chain.len() < MAX_CHAIN && (is_inlined || chain.is_empty())
        };
        inside.retain(is_free);
        if inside.is_empty()
            && let Some(sibling) = attributes.sibling
            && sibling.0 > entries.next_offset().0
        {
            entries = unit.entries_raw(Some(sibling))?;
            base = depth;
            continue;
        }
        let UnitSectionOffset(entry) = offset.to_unit_section_offset(&unit.header);
        let call = attributes
            .call_file
            .filter(|_| is_inlined && !inside.is_empty())
            .map(|file| (files.path(file), attributes.call_line));
        for &index in &inside {
            search.gathered[index].chain.push(Scope {
                entry,
                call: call.clone(),
            });
        }
        if abbreviation.has_children() {
            if open.len() == MAX_DEPTH {
                return Err(gimli::Error::UnsupportedOffset);
            }
            open.push(Open { depth, inside });
        }
    }
    Ok(())
}

impl Attributes {
    fn take(
        &mut self,
        dwarf: &Dwarf,
        unit: &Unit,
        attribute: &gimli::Attribute<Reader>,
    ) -> gimli::Result<()> {
        match attribute.name() {
            gimli::DW_AT_low_pc => self.low = dwarf.attr_address(unit, attribute.value())?,
            gimli::DW_AT_high_pc => self.high = Some(attribute.value()),
            gimli::DW_AT_ranges => self.ranges = Some(attribute.value()),
            gimli::DW_AT_sibling => {
                if let AttributeValue::UnitRef(sibling) = attribute.value() {
                    self.sibling = Some(sibling);
                }
            }
            gimli::DW_AT_call_file => {
                if let AttributeValue::FileIndex(file) = attribute.value() {
                    self.call_file = Some(file);
                }
            }
            gimli::DW_AT_call_line => {
                let line = attribute.udata_value().and_then(|l| u32::try_from(l).ok());
                self.call_line = line.unwrap_or(0);
            }
            _ => {}
        }
        Ok(())
    }

    /// Which of the addresses of `around` (ascending) the entry covers, ascending.
    fn covered(
        &self,
        dwarf: &Dwarf,
        unit: &Unit,
        around: &[usize],
        search: &mut Search<'_>,
    ) -> gimli::Result<Vec<usize>> {
        let mut inside = Vec::new();
        let mut cover = |begin: u64, end: u64| -> gimli::Result<()> {
            let range = search.within(begin, end)?;
            let first = around.partition_point(|&i| i < range.start);
            let upto = around.partition_point(|&i| i < range.end);
            inside.extend(around.get(first..upto).unwrap_or_default());
            Ok(())
        };
        if let Some(ranges) = &self.ranges {
            if let Ok(Some(mut ranges)) = dwarf.attr_ranges(unit, ranges.clone()) {
                while let Ok(Some(range)) = ranges.next() {
                    cover(range.begin, range.end)?;
                }
            }
            inside.sort_unstable();
            inside.dedup();
        } else if let (Some(low), Some(high)) = (self.low, &self.high) {
            let end = match high {
                AttributeValue::Udata(size) => low.checked_add(*size),
                high => dwarf.attr_address(unit, high.clone()).ok().flatten(),
            };
            cover(low, end.unwrap_or(low))?;
        }
        Ok(inside)
    }
}
