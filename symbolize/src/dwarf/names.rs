//! Names: what the entries of the functions around an address, or the entries that these refer to,
//! say about them.

use std::collections::HashMap;

use gimli::{AttributeValue, DebugInfoOffset, UnitSectionOffset};

use crate::Line;
use crate::demangle::demangle;
use crate::dwarf::units::{Units, text};
use crate::dwarf::{Gathered, Options, Place};
use crate::error::{Error, ErrorKind, Result};

/// Entries that a function's name may be away; concrete, abstract, declaration are three.
const MAX_REFERENCES: usize = 16;

#[derive(Clone, Debug, Default)]
struct Name {
    function: String,
    first_line: u32,
    by_linkage_name: bool,
}

/// Turns what was gathered into lines.
pub(super) struct Naming<'a, 'b> {
    units: &'a mut Units<'b>,
    names: HashMap<usize, Name>,
    inlines: bool,
    /// Bytes that names may still have.
    left: u64,
}

impl<'a, 'b> Naming<'a, 'b> {
    pub(super) fn new(units: &'a mut Units<'b>, options: Options) -> Self {
        Self {
            units,
            names: HashMap::new(),
            inlines: options.inlines,
            left: options.budget,
        }
    }

    /// What was gathered of one place, with its names.
    ///
    /// # Errors
    /// [`ErrorKind::OverBudget`]: the names themselves are too long.
    pub(super) fn place(&mut self, gathered: &Gathered) -> Result<Place> {
        let place = self.named(gathered);
        let bytes = |line: &Line| line.function.len() + line.file.len() + size_of::<Line>();
        let bytes: usize = place.lines.iter().map(bytes).sum();
        let left = self.left.checked_sub(bytes as u64);
        self.left = left
            .ok_or_else(|| Error::new(ErrorKind::OverBudget, "names that are long without end"))?;
        Ok(place)
    }

    fn named(&mut self, gathered: &Gathered) -> Place {
        let mut place = Place::default();
        // Where control is within the function at hand: the row for the innermost one, for those around
        // it the call that was inlined.
        let mut at = gathered.row.clone();
        for (depth, scope) in gathered.chain.iter().enumerate().rev() {
            if self.inlines || depth == 0 {
                let name = self.names.entry(scope.entry);
                let name = name.or_insert_with(|| name_of(self.units, scope.entry));
                let (file, line) = at.clone().unwrap_or_default();
                place.lines.push(Line {
                    function: name.function.clone(),
                    file: file.to_string(),
                    line,
                    first_line: name.first_line,
                });
                place.by_linkage_name = name.by_linkage_name;
            }
            at = scope.call.clone();
        }
        if gathered.chain.is_empty()
            && let Some((file, line)) = at
        {
            place.lines.push(Line {
                file: file.to_string(),
                line,
                ..Line::default()
            });
        }
        place
    }
}

/// The name of the function at an entry; empty if none is found.
fn name_of(units: &mut Units<'_>, entry: usize) -> Name {
    let mut found = Name::default();
    let mut plain = None;
    let mut at = Some(entry);
    for _ in 0..MAX_REFERENCES {
        let Some(offset) = at.take() else { break };
        let Ok(unit) = units.around(offset) else {
            break;
        };
        let dwarf = units.dwarf();
        let Some(offset) = UnitSectionOffset(offset).to_unit_offset(&unit.header) else {
            break;
        };
        let Ok(entry) = unit.entry(offset) else {
            break;
        };
        for attribute in entry.attrs() {
            match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                    if let Some(name) = text(dwarf, &unit, attribute.value())
                        && found.function.is_empty()
                    {
                        // C has assembler names here: not more than a bare name.
                        found.function = demangle(&name).into_owned();
                        found.by_linkage_name = found.function != name;
                    }
                }
                gimli::DW_AT_name if plain.is_none() => {
                    plain = text(dwarf, &unit, attribute.value());
                }
                gimli::DW_AT_decl_line if found.first_line == 0 => {
                    let line = attribute.udata_value().and_then(|l| u32::try_from(l).ok());
                    found.first_line = line.unwrap_or(0);
                }
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => {
                    at = match attribute.value() {
                        AttributeValue::UnitRef(to) => {
                            let UnitSectionOffset(to) = to.to_unit_section_offset(&unit.header);
                            Some(to)
                        }
                        AttributeValue::DebugInfoRef(DebugInfoOffset(to)) => Some(to),
                        _ => at,
                    };
                }
                _ => {}
            }
        }
        if found.by_linkage_name && plain.is_some() && found.first_line != 0 {
            break;
        }
    }
    // A bare name reads better than a mangling that could not be read.
    if let Some(plain) = plain.filter(|_| !found.by_linkage_name) {
        found.function = plain;
    }
    found
}
