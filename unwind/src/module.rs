//! A module's ELF file: its executable segments, and where its call frame information stands.
//!
//! A [`ReadRef`] enters, so that files of targets are read with `pread` and never mapped. Only the
//! ELF header, the header tables and the unwind sections are read. Section headers are a help, not
//! a need: `.eh_frame` is also found through `PT_GNU_EH_FRAME`.

use std::ops::Range;

use std::borrow::Cow;

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian, Pointer};
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{CompressionHeader, FileHeader, ProgramHeader, SectionHeader};
use object::read::{CompressedData, CompressionFormat, ReadRef};

use rprof_ebpf::rows::{Rule, RuleKind};

use crate::cfi::Cfi;
use crate::error::Error;
use crate::x86_64::rule::plain;
use crate::x86_64::unlisted;

/// Bytes of an unwind section at most; the largest browsers have 40 MiB.
const MAX_SECTION: u64 = 128 << 20;
/// Program headers that are looked at.
const MAX_SEGMENTS: u32 = 4096;
/// Section headers that are looked at: executables have some tens.
const MAX_SECTIONS: u32 = 4096;
/// Bytes of section names at most.
const MAX_NAMES: u64 = 1 << 20;

const ENDIAN: object::LittleEndian = object::LittleEndian;

/// An executable segment (`PT_LOAD` with `PF_X`), as far as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address of its first byte, as the file states it.
    pub address: u64,
    /// File offset of its first byte.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
}

/// The executable segments of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// The segments, in the order of the program headers.
    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.0.iter()
    }

    /// The segment that holds a stated virtual address.
    pub fn at_address(&self, address: u64) -> Option<&Segment> {
        self.0
            .iter()
            .find(|s| address.wrapping_sub(s.address) < s.size)
    }

    /// File offset of a stated virtual address in executable memory.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let segment = self.at_address(address)?;
        Some(address - segment.address + segment.offset)
    }

    /// Stated virtual address of a file offset in executable memory.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        let segment = self
            .0
            .iter()
            .find(|s| offset.wrapping_sub(s.offset) < s.size)?;
        Some(offset - segment.offset + segment.address)
    }

    /// Virtual address − file offset of the largest segment.
    pub fn text_delta(&self) -> i64 {
        let largest = self.0.iter().max_by_key(|s| s.size);
        largest.map_or(0, |s| s.address.wrapping_sub(s.offset) as i64)
    }
}

impl FromIterator<Segment> for Segments {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

/// How the bytes of an ELF image are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As in a file: a segment stands at its file offset.
    File,
    /// As in memory: a segment stands at its virtual address less that of the image's start.
    Memory,
}

/// A parsed ELF file or image.
pub(crate) struct Module<'data, R> {
    data: R,
    /// All loaded segments: (segment, executable).
    loads: Vec<(Segment, bool)>,
    eh_frame_hdr: Option<Segment>,
    entry: u64,
    sections: &'data [SectionHeader64<object::LittleEndian>],
    names: &'data [u8],
}

impl<'data, R: ReadRef<'data>> Module<'data, R> {
    /// Reads the headers.
    pub(crate) fn parse(data: R, layout: Layout) -> Result<Self, Error> {
        let header =
            FileHeader64::<object::LittleEndian>::parse(data).map_err(|_| Error::NotElf)?;
        if !header.is_little_endian() {
            return Err(Error::NotElf);
        }
        if header.e_machine(ENDIAN) != elf::EM_X86_64 {
            return Err(Error::OtherMachine);
        }
        let unreadable = |_| Error::Unreadable("program headers");
        if header.phnum(ENDIAN, data).map_err(unreadable)? > MAX_SEGMENTS {
            return Err(Error::Unreadable("program headers"));
        }
        let headers = header.program_headers(ENDIAN, data).map_err(unreadable)?;
        let base = match layout {
            Layout::File => None,
            Layout::Memory => headers.iter().find(|h| h.p_type(ENDIAN) == elf::PT_LOAD),
        };
        let base = base.map(|h| h.p_vaddr(ENDIAN).wrapping_sub(h.p_offset(ENDIAN)));
        let segment = |h: &ProgramHeader64<object::LittleEndian>| Segment {
            address: h.p_vaddr(ENDIAN),
            offset: match base {
                None => h.p_offset(ENDIAN),
                Some(base) => h.p_vaddr(ENDIAN).wrapping_sub(base),
            },
            size: h.p_filesz(ENDIAN),
        };
        let of_type = |t| headers.iter().filter(move |h| h.p_type(ENDIAN) == t);
        let loads = of_type(elf::PT_LOAD)
            .map(|h| (segment(h), h.p_flags(ENDIAN).contains(elf::PF_X)))
            .filter(|(s, _)| {
                s.offset.checked_add(s.size).is_some() && s.address.checked_add(s.size).is_some()
            })
            .collect();
        let (sections, names) = match layout {
            Layout::File => section_headers(header, data).unwrap_or_default(),
            // The section headers of an image need not have been loaded.
            Layout::Memory => Default::default(),
        };
        Ok(Self {
            data,
            loads,
            eh_frame_hdr: of_type(elf::PT_GNU_EH_FRAME).next().map(segment),
            entry: header.e_entry(ENDIAN),
            sections,
            names,
        })
    }

    /// Rules of code that is known although CFI need not cover it: addresses, apart from each other,
    /// and what holds there.
    pub(crate) fn known(&self) -> Vec<(Range<u64>, Rule)> {
        let mut known = Vec::new();
        // Nobody called the code at the entry point, whether CFI says so or, as that of ld.so,
        // nothing. Of many libraries it is just where their text begins.
        let entry = self.loads.iter().find_map(|(load, executable)| {
            let skipped = self.entry.checked_sub(load.address)?;
            (*executable && skipped < load.size)
                .then(|| (load.offset + skipped, load.size - skipped))
        });
        if let Some((offset, size)) = entry {
            let len = unlisted::entry(self.code(offset, size.min(unlisted::MAX_ENTRY)));
            let end = self.entry.saturating_add(len as u64);
            known.push((self.entry..end, plain(RuleKind::End)));
        }
        for name in [b".init".as_slice(), b".fini"] {
            let Some(section) = self.section(name) else {
                continue;
            };
            let Some((offset, size)) = section.file_range(ENDIAN) else {
                continue;
            };
            let code = match size {
                0..=unlisted::MAX_EDGE => self.bytes(offset, size, "code").unwrap_or_default(),
                _ => &[],
            };
            let start = section.sh_addr(ENDIAN);
            let mut end = start.saturating_add(size);
            for (from, rule) in unlisted::edge(code).into_iter().flatten().rev() {
                let from = start.saturating_add(from as u64);
                known.push((from..end, rule));
                end = from;
            }
        }
        known
    }

    /// Bytes of code at a file offset.
    pub(crate) fn code(&self, offset: u64, size: u64) -> &'data [u8] {
        self.bytes(offset, size, "code").unwrap_or_default()
    }

    /// The executable segments.
    pub(crate) fn segments(&self) -> Result<Segments, Error> {
        let text = self.loads.iter().filter(|(s, x)| *x && s.size > 0);
        let segments: Vec<_> = text.map(|(s, _)| *s).collect();
        if segments.is_empty() {
            return Err(Error::NoText);
        }
        Ok(Segments(segments))
    }

    /// Reads the call frame information.
    pub(crate) fn cfi(&self) -> Result<Cfi<'data>, Error> {
        let address = |name| self.section(name).map_or(0, |s| s.sh_addr(ENDIAN));
        let mut bases = BaseAddresses::default()
            .set_text(address(b".text"))
            .set_got(address(b".got"));
        if let Some(hdr) = self.eh_frame_hdr {
            bases = bases.set_eh_frame_hdr(hdr.address);
        }
        let section = self.section(b".eh_frame").and_then(|s| {
            let (offset, size) = s.file_range(ENDIAN)?;
            (size > 0).then(|| Segment {
                address: s.sh_addr(ENDIAN),
                offset,
                size,
            })
        });
        let ends_at_zero = section.is_none();
        let place = match (section, self.eh_frame_hdr) {
            (Some(section), _) => Some(section),
            (None, Some(header)) => Some(
                self.eh_frame_by_header(header, &bases)
                    .ok_or(Error::Unreadable(".eh_frame_hdr"))?,
            ),
            (None, None) => None,
        };
        let eh_frame = match place {
            Some(place) => {
                bases = bases.set_eh_frame(place.address);
                self.bytes(place.offset, place.size, ".eh_frame")?
            }
            None => &[],
        };
        Ok(Cfi {
            eh_frame: Cow::Borrowed(eh_frame),
            ends_at_zero,
            debug_frame: self.debug_frame().unwrap_or_default(),
            bases,
        })
    }

    /// Where `.eh_frame` begins, as `.eh_frame_hdr` says, to the end of its segment.
    fn eh_frame_by_header(&self, place: Segment, bases: &BaseAddresses) -> Option<Segment> {
        // Version, encodings and pointer: at most 4 + 8 bytes; a count must follow.
        let bytes = self
            .bytes(place.offset, place.size.min(32), ".eh_frame_hdr")
            .ok()?;
        let parsed = EhFrameHdr::new(bytes, LittleEndian).parse(bases, 8).ok()?;
        let Pointer::Direct(address) = parsed.eh_frame_ptr() else {
            return None;
        };
        let (load, _) = self
            .loads
            .iter()
            .find(|(s, _)| address.wrapping_sub(s.address) < s.size)?;
        let skipped = address - load.address;
        Some(Segment {
            address,
            offset: load.offset + skipped,
            size: (load.size - skipped).min(MAX_SECTION),
        })
    }

    fn debug_frame(&self) -> Option<Cow<'data, [u8]>> {
        let section = self.section(b".debug_frame")?;
        let Some((header, offset, size)) = section.compression(ENDIAN, self.data).ok()? else {
            let (offset, size) = section.file_range(ENDIAN)?;
            return Some(Cow::Borrowed(
                self.bytes(offset, size, ".debug_frame").ok()?,
            ));
        };
        let format = match header.ch_type(ENDIAN) {
            elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => return None,
        };
        let uncompressed_size: u64 = header.ch_size(ENDIAN);
        if uncompressed_size > MAX_SECTION {
            return None;
        }
        let data = self.bytes(offset, size, ".debug_frame").ok()?;
        CompressedData {
            format,
            data,
            uncompressed_size,
        }
        .decompress()
        .ok()
    }

    fn section(&self, name: &[u8]) -> Option<&'data SectionHeader64<object::LittleEndian>> {
        self.sections.iter().find(|s| {
            let at = s.sh_name.get(ENDIAN) as usize;
            let stored = self.names.get(at..).unwrap_or_default();
            stored
                .strip_prefix(name)
                .is_some_and(|r| r.first() == Some(&0))
        })
    }

    fn bytes(&self, offset: u64, size: u64, what: &'static str) -> Result<&'data [u8], Error> {
        if size > MAX_SECTION {
            return Err(Error::Unreadable(what));
        }
        let read = self.data.read_bytes_at(offset, size);
        read.map_err(|()| Error::Unreadable(what))
    }
}

/// Section headers and their names, if the file has them.
fn section_headers<'data, R: ReadRef<'data>>(
    header: &FileHeader64<object::LittleEndian>,
    data: R,
) -> Option<(&'data [SectionHeader64<object::LittleEndian>], &'data [u8])> {
    if header.shnum(ENDIAN, data).ok()? > MAX_SECTIONS {
        return None;
    }
    let sections = header.section_headers(ENDIAN, data).ok()?;
    let index = header.shstrndx(ENDIAN, data).ok()?;
    let (offset, size) = sections.get(index as usize)?.file_range(ENDIAN)?;
    let names = data.read_bytes_at(offset, size.min(MAX_NAMES)).ok()?;
    Some((sections, names))
}
