//! What a program or library says about the libraries it needs.
//!
//! An open file enters; loader, names and search paths leave, as strings that were checked for
//! nothing but their length. Only program headers and the dynamic segment are read: the loader sees
//! no more than these. Layouts: System V ABI, ELF-64 Object File Format 1.5.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use object::elf;

use crate::elf::{EM_X86_64, u16_at, u32_at, u64_at};

/// Bytes read first: the headers, and as a rule the loader's name.
const HEAD: usize = 4096;
/// Program headers of one file at most.
const MAX_SEGMENTS: u16 = 512;
/// Entries of the dynamic segment at most.
const MAX_ENTRIES: u64 = 4096;
/// Libraries that one file needs at most.
const MAX_NEEDED: usize = 512;
/// Bytes of a name (`PATH_MAX`).
const MAX_NAME: usize = 4096;
/// Bytes of a search path.
const MAX_SEARCH_PATH: usize = 16 << 10;

const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
const ENTRY_LEN: u64 = 16;

/// The dynamic part of an x86-64 ELF file.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    /// It can be loaded at any address: a library, a loader, or a program that could be one.
    pub(super) is_shared: bool,
    /// `PT_INTERP`.
    pub(super) loader: Option<OsString>,
    /// `DT_NEEDED`, in order.
    pub(super) needed: Vec<OsString>,
    /// `DT_SONAME`.
    pub(super) name: Option<OsString>,
    /// `DT_RPATH`, unless there is a `DT_RUNPATH`: the loader then ignores it.
    pub(super) rpath: Option<OsString>,
    /// `DT_RUNPATH`.
    pub(super) runpath: Option<OsString>,
    /// `DF_1_NODEFLIB`: neither the cache nor the default directories count for what it needs.
    pub(super) no_defaults: bool,
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

impl Dynamic {
    /// `None`: not an x86-64 program or library. A damaged dynamic segment is one that needs nothing.
    pub(super) fn read(file: &File) -> Option<Self> {
        let head = read_head(file, HEAD)?;
        let header: &[u8; HEADER_LEN] = head.first_chunk()?;
        let kind = elf::FileType(u16_at(header, 16));
        if !header.starts_with(b"\x7fELF\x02\x01")
            || u16_at(header, 18) != EM_X86_64
            || !matches!(kind, elf::ET_EXEC | elf::ET_DYN)
        {
            return None;
        }
        let segments = segments(file, &head, header)?;
        let mut found = Self {
            is_shared: kind == elf::ET_DYN,
            ..Self::default()
        };
        let of_kind = |kind: elf::ProgramType| segments.iter().find(|s| s.kind == kind.0);
        found.loader = of_kind(elf::PT_INTERP).and_then(|s| {
            let max = usize::try_from(s.size).ok()?.min(MAX_NAME);
            string(file, s.offset, max)
        });
        if let Some(dynamic) = of_kind(elf::PT_DYNAMIC) {
            // Without its strings a file says nothing; nor does it to the loader.
            let _ = found.read_entries(file, dynamic, &segments);
        }
        Some(found)
    }

    fn read_entries(&mut self, file: &File, dynamic: &Segment, segments: &[Segment]) -> Option<()> {
        let count = (dynamic.size / ENTRY_LEN).min(MAX_ENTRIES);
        let mut bytes = vec![0; (count * ENTRY_LEN) as usize];
        file.read_exact_at(&mut bytes, dynamic.offset).ok()?;
        let entries = || {
            bytes
                .chunks_exact(ENTRY_LEN as usize)
                .map(|e| (elf::DynamicTag(u64_at(e, 0).cast_signed()), u64_at(e, 8)))
                .take_while(|&(tag, _)| tag != elf::DT_NULL)
        };
        let value = |wanted| entries().find(|&(tag, _)| tag == wanted).map(|(_, v)| v);
        let strings = value(elf::DT_STRTAB)?;
        let strings_len = value(elf::DT_STRSZ)?;
        let loaded = segments.iter().find(|s| {
            s.kind == elf::PT_LOAD.0 && strings.checked_sub(s.address).is_some_and(|d| d < s.size)
        })?;
        let strings = loaded.offset.checked_add(strings - loaded.address)?;
        let text = |at: u64, cap: usize| {
            let left = usize::try_from(strings_len.checked_sub(at)?).unwrap_or(cap);
            string(file, strings.checked_add(at)?, left.min(cap))
        };
        self.needed = entries()
            .filter(|&(tag, _)| tag == elf::DT_NEEDED)
            .take(MAX_NEEDED)
            .filter_map(|(_, at)| text(at, MAX_NAME))
            .collect();
        self.name = value(elf::DT_SONAME).and_then(|at| text(at, MAX_NAME));
        self.runpath = value(elf::DT_RUNPATH).and_then(|at| text(at, MAX_SEARCH_PATH));
        if self.runpath.is_none() {
            self.rpath = value(elf::DT_RPATH).and_then(|at| text(at, MAX_SEARCH_PATH));
        }
        let flags = value(elf::DT_FLAGS_1).unwrap_or(0);
        self.no_defaults = flags & elf::DF_1_NODEFLIB.0 != 0;
        Some(())
    }
}

fn segments(file: &File, head: &[u8], header: &[u8; HEADER_LEN]) -> Option<Vec<Segment>> {
    let (offset, size, count) = (u64_at(header, 32), u16_at(header, 54), u16_at(header, 56));
    if usize::from(size) != SEGMENT_LEN || count > MAX_SEGMENTS {
        return None;
    }
    let len = usize::from(count) * SEGMENT_LEN;
    let in_head = usize::try_from(offset)
        .ok()
        .and_then(|start| head.get(start..start.checked_add(len)?));
    let mut further = Vec::new();
    let table = match in_head {
        Some(table) => table,
        None => {
            further.resize(len, 0);
            file.read_exact_at(&mut further, offset).ok()?;
            &further
        }
    };
    let segment = |entry: &[u8]| Segment {
        kind: u32_at(entry, 0),
        offset: u64_at(entry, 8),
        address: u64_at(entry, 16),
        size: u64_at(entry, 32),
    };
    Some(table.chunks_exact(SEGMENT_LEN).map(segment).collect())
}

/// A string that ends in a NUL within `cap` bytes; none that is empty.
fn string(file: &File, offset: u64, cap: usize) -> Option<OsString> {
    // Most are short: a second read is rarely needed.
    for len in [cap.min(256), cap] {
        let mut bytes = vec![0; len];
        let read = read_some(file, offset, &mut bytes)?;
        bytes.truncate(read);
        if let Some(end) = bytes.iter().position(|&b| b == 0) {
            bytes.truncate(end);
            return (end > 0).then(|| OsString::from_vec(bytes));
        }
    }
    None
}

/// The first bytes of a file, `max` at most.
pub(super) fn read_head(file: &File, max: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; max];
    let len = read_some(file, 0, &mut bytes)?;
    bytes.truncate(len);
    Some(bytes)
}

/// Reads up to the end of the file or of `into`, and says how much.
fn read_some(file: &File, offset: u64, into: &mut [u8]) -> Option<usize> {
    let mut len = 0;
    while let Some(rest) = into.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.checked_add(len as u64)?) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(len)
}
