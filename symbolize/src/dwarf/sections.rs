//! The debug sections of a file: paged where they are plain, unpacked where they are compressed.

use std::rc::Rc;

use gimli::SectionId;

use crate::dwarf::Dwarf;
use crate::dwarf::reader::{CACHE_BYTES, Pager, Reader};
use crate::dwarf::unpacked::Compressed;
use crate::elf::{Elf, Section};
use crate::error::{Error, ErrorKind, Result};

/// The sections that names and lines are made of; all others count as absent.
const NEEDED: [SectionId; 10] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugAranges,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

/// Opens the debug sections.
///
/// # Errors
/// [`ErrorKind::OverBudget`]: they are compressed, and too large to be held in `budget` bytes.
pub(super) fn load(elf: &Elf, pager: &Rc<Pager>, budget: u64) -> Result<Dwarf> {
    let mut unpacked = CACHE_BYTES;
    for id in NEEDED {
        if let Some(section) = find(elf, id)
            && let Some(compressed) = Compressed::of(elf.image(), section)?
        {
            unpacked = unpacked.saturating_add(compressed.size);
        }
    }
    // Said before anything is unpacked.
    if unpacked > budget {
        let message = format!("is compressed and takes {unpacked} bytes, {budget} are allowed");
        return Err(Error::new(ErrorKind::OverBudget, message));
    }
    Dwarf::load(|id| {
        let section = if NEEDED.contains(&id) {
            find(elf, id)
        } else {
            None
        };
        let Some(section) = section else {
            return Ok(Reader::paged(pager, 0, 0));
        };
        match Compressed::of(elf.image(), section)? {
            None => Ok(Reader::paged(pager, section.offset, section.size)),
            Some(compressed) => Ok(Reader::unpacked(pager, compressed.unpack())),
        }
    })
}

fn find(elf: &Elf, id: SectionId) -> Option<&Section> {
    let old = || id.name().replace(".debug", ".zdebug");
    elf.section(id.name())
        .or_else(|| elf.section(&old()))
        .filter(|section| section.has_bytes())
}
