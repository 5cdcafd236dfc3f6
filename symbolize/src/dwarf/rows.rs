//! Line rows: a line program is run once, past the addresses that are wanted of its unit.

use std::collections::HashMap;
use std::rc::Rc;

use gimli::{LineProgramHeader, Reader as _};

use crate::dwarf::reader::{Pager, Reader};
use crate::dwarf::units::{LineProgram, TABLE_FUEL, text};
use crate::dwarf::{Dwarf, Search, Unit};

/// The paths of a unit's files, made when first asked for.
pub(super) struct Files<'a> {
    dwarf: &'a Dwarf,
    unit: &'a Unit,
    header: Option<LineProgramHeader<Reader>>,
    paths: HashMap<u64, Rc<str>>,
}

impl Files<'_> {
    /// Path of a file by its number; empty if it is not known.
    pub(super) fn path(&mut self, file: u64) -> Rc<str> {
        if let Some(path) = self.paths.get(&file) {
            return path.clone();
        }
        let path: Rc<str> = self.join(file).unwrap_or_default().into();
        self.paths.insert(file, path.clone());
        path
    }

    /// Compilation directory, directory and file, each unless the next is absolute.
    fn join(&self, number: u64) -> Option<String> {
        let header = self.header.as_ref()?;
        let file = header.file(number)?;
        let mut path = match &self.unit.comp_dir {
            Some(directory) => directory.to_string_lossy().ok()?.into_owned(),
            None => String::new(),
        };
        // Directory 0 is the compilation directory; since DWARF 5 it is in the table as well.
        if file.directory_index() != 0
            && let Some(directory) = file.directory(header)
        {
            push(&mut path, &text(self.dwarf, self.unit, directory)?);
        }
        push(&mut path, &text(self.dwarf, self.unit, file.path_name())?);
        Some(path)
    }
}

fn push(path: &mut String, part: &str) {
    if part.starts_with('/') {
        path.clear();
    } else if !path.is_empty() && !path.ends_with('/') {
        path.push('/');
    }
    path.push_str(part);
}

/// Finds the row of each wanted address, and returns the unit's files.
pub(super) fn gather<'a>(
    dwarf: &'a Dwarf,
    pager: &Pager,
    unit: &'a Unit,
    program: Option<LineProgram>,
    wanted: &[usize],
    search: &mut Search<'_>,
) -> gimli::Result<Files<'a>> {
    search.rows.clear();
    let mut files = Files {
        dwarf,
        unit,
        header: None,
        paths: HashMap::new(),
    };
    let Some(LineProgram { offset, name }) = program else {
        return Ok(files);
    };
    let size = unit.header.address_size();
    let program = pager.at_most(TABLE_FUEL, || {
        dwarf
            .debug_line
            .program(offset, size, unit.comp_dir.clone(), name)
    })?;
    files.header = Some(program.header().clone());
    let mut rows = program.rows();
    // The row before, and whether its sequence begins in code.
    let mut last: Option<(u64, u64, u32)> = None;
    let mut is_live = false;
    while let Some((_, row)) = rows.next_row()? {
        let address = row.address();
        match last {
            Some((start, file, line)) if is_live && start < address => {
                search.row(start..address, || files.path(file), line);
                let first = wanted.partition_point(|&i| search.addresses[i] < start);
                for &index in wanted.get(first..).unwrap_or_default() {
                    if search.addresses[index] >= address {
                        break;
                    }
                    pager.spend(1)?;
                    let row = &mut search.gathered[index].row;
                    if row.is_none() {
                        *row = Some((files.path(file), line));
                    }
                }
            }
            None => is_live = search.is_code(address),
            _ => {}
        }
        let line = row.line().map_or(0, |line| line.get());
        let now = (!row.end_sequence()).then(|| {
            let line = u32::try_from(line).unwrap_or(0);
            (address, row.file_index(), line)
        });
        let same = |last: (u64, u64, u32), now: (u64, u64, u32)| (last.1, last.2) == (now.1, now.2);
        if !last.zip(now).is_some_and(|(last, now)| same(last, now)) {
            search.border(address);
        }
        last = now;
    }
    Ok(files)
}
