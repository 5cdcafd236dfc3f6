//! ELF files, as far as names need them: segments, sections, notes.
//!
//! What enters is an [`Image`] that somebody else wrote; what leaves are tables of bounded size,
//! with every offset still to be checked where it is used. 64-bit little-endian files only: 32-bit
//! frames are never walked.
//!
//! Layouts: System V ABI, ELF-64 Object File Format 1.5 (the numbers in the parsers are the field
//! offsets of its structures).

pub(crate) mod mini_debug;
pub mod plt;
pub mod symbols;

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;

/// Sections and segments of one file at most: as many as the 16-bit counts can say.
const MAX_HEADERS: u64 = 0xffff;
/// Bytes of the section name table at most.
const MAX_SECTION_NAMES: u64 = 8 << 20;
const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
const SHT_DYNSYM: u32 = 11;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
const SHF_COMPRESSED: u64 = 0x800;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
/// `e_machine` of x86-64.
pub(crate) const EM_X86_64: u16 = 62;

/// The headers of an ELF file.
#[derive(Debug)]
pub struct Elf {
    image: Image,
    machine: u16,
    segments: Vec<Segment>,
    sections: Vec<Section>,
}

/// A loaded segment or a note segment.
#[derive(Clone, Copy, Debug)]
struct Segment {
    note: bool,
    executable: bool,
    offset: u64,
    address: u64,
    file_size: u64,
}

/// A section header.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Its name, if it is one that is looked for here (`.`-names are short).
    pub(crate) name: Box<str>,
    kind: u32,
    flags: u64,
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: u32,
}

impl Section {
    /// Whether its bytes stand in the file.
    pub(crate) fn has_bytes(&self) -> bool {
        self.kind != SHT_NOBITS
    }

    /// Whether its bytes begin with a compression header.
    pub(crate) fn is_compressed(&self) -> bool {
        self.flags & SHF_COMPRESSED != 0
    }

    fn is_text(&self) -> bool {
        self.flags & SHF_ALLOC != 0 && self.flags & SHF_EXECINSTR != 0
    }

    pub(crate) fn addresses(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.size)
    }
}

impl Elf {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`]: not an ELF file, or its headers lie outside of it;
    /// [`ErrorKind::Unsupported`]: not 64-bit little-endian.
    pub fn parse(image: Image) -> Result<Self> {
        let mut header = [0; 64];
        image
            .read_exact_at(0, &mut header)
            .map_err(|e| e.context("ELF header"))?;
        if !header.starts_with(b"\x7fELF") {
            return Err(Error::malformed("not an ELF file"));
        }
        if header[4] != 2 || header[5] != 1 {
            let message = "an ELF file that is not 64-bit little-endian";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let segments = segments(&image, &header).map_err(|e| e.context("program headers"))?;
        // A file without sections still has its build id and, in the future, its dynamic symbols.
        let sections = sections(&image, &header).map_err(|e| e.context("section headers"))?;
        Ok(Self {
            machine: u16_at(&header, 18),
            segments,
            sections,
            image,
        })
    }

    /// The bytes.
    pub fn image(&self) -> &Image {
        &self.image
    }

    pub(crate) fn machine(&self) -> u16 {
        self.machine
    }

    pub(crate) fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| &*s.name == name)
    }

    /// The virtual address of a file offset that lies in an executable segment.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.segments
            .iter()
            .filter(|s| s.executable && !s.note)
            .find(|s| {
                offset
                    .checked_sub(s.offset)
                    .is_some_and(|d| d < s.file_size)
            })
            .and_then(|s| (offset - s.offset).checked_add(s.address))
    }

    /// The file offset of a virtual address in an executable segment.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        self.segments
            .iter()
            .filter(|s| s.executable && !s.note)
            .find(|s| {
                address
                    .checked_sub(s.address)
                    .is_some_and(|d| d < s.file_size)
            })
            .and_then(|s| (address - s.address).checked_add(s.offset))
    }

    /// The addresses of the executable section that holds an address.
    pub(crate) fn text_around(&self, address: u64) -> Option<Range<u64>> {
        self.text().find(|text| text.contains(&address))
    }

    /// The addresses of all executable sections; if the file has no sections, of all executable
    /// segments.
    pub(crate) fn text(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let sections = self.sections.iter().filter(|s| s.is_text());
        let segments = self.segments.iter().filter(|s| s.executable && !s.note);
        sections.map(Section::addresses).chain(
            segments
                .filter(|_| self.sections.is_empty())
                .map(|s| s.address..s.address.saturating_add(s.file_size)),
        )
    }

    pub(crate) fn symbol_tables(&self) -> impl Iterator<Item = &Section> {
        self.sections
            .iter()
            .filter(|s| matches!(s.kind, SHT_SYMTAB | SHT_DYNSYM))
    }

    pub(crate) fn has_symtab(&self) -> bool {
        self.sections
            .iter()
            .any(|s| s.kind == SHT_SYMTAB && s.size > 0)
    }

    /// File ranges that hold notes: note segments, and sections by the name of the GNU build id
    /// (all that a file split off by `objcopy --only-keep-debug` can still point to).
    pub(crate) fn notes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let segments = self.segments.iter().filter(|s| s.note);
        let sections = self
            .sections
            .iter()
            .filter(|s| s.has_bytes() && &*s.name == ".note.gnu.build-id");
        sections
            .map(|s| (s.offset, s.size))
            .chain(segments.map(|s| (s.offset, s.file_size)))
    }
}

fn segments(image: &Image, header: &[u8; 64]) -> Result<Vec<Segment>> {
    let (offset, size, count) = (
        u64_at(header, 32),
        u16_at(header, 54) as usize,
        u16_at(header, 56) as u64,
    );
    let mut segments = Vec::new();
    if count == 0 {
        return Ok(segments);
    }
    if size < 56 {
        return Err(Error::malformed("entries too small"));
    }
    image.stream(offset, size as u64 * count, size, |_, piece| {
        for entry in piece.chunks_exact(size) {
            let kind = u32_at(entry, 0);
            if kind == PT_LOAD || kind == PT_NOTE {
                segments.push(Segment {
                    note: kind == PT_NOTE,
                    executable: u32_at(entry, 4) & PF_X != 0,
                    offset: u64_at(entry, 8),
                    address: u64_at(entry, 16),
                    file_size: u64_at(entry, 32),
                });
            }
        }
        Ok(())
    })?;
    Ok(segments)
}

fn sections(image: &Image, header: &[u8; 64]) -> Result<Vec<Section>> {
    let (offset, size) = (u64_at(header, 40), u16_at(header, 58) as usize);
    let (mut count, mut names) = (u16_at(header, 60) as u64, u16_at(header, 62) as u64);
    let mut sections = Vec::new();
    if offset == 0 {
        return Ok(sections);
    }
    if size < 64 {
        return Err(Error::malformed("entries too small"));
    }
    // Section 0 holds what does not fit the header's 16 bits.
    let mut first = [0; 64];
    image.read_exact_at(offset, &mut first)?;
    if count == 0 {
        count = u64_at(&first, 32);
    }
    if names == 0xffff {
        names = u32_at(&first, 40) as u64;
    }
    if count > MAX_HEADERS {
        return Err(Error::malformed(format!("{count} sections")));
    }
    let mut name_offsets = Vec::new();
    image.stream(offset, size as u64 * count, size, |_, piece| {
        for entry in piece.chunks_exact(size) {
            name_offsets.push(u32_at(entry, 0) as usize);
            sections.push(Section {
                name: "".into(),
                kind: u32_at(entry, 4),
                flags: u64_at(entry, 8),
                address: u64_at(entry, 16),
                offset: u64_at(entry, 24),
                size: u64_at(entry, 32),
                link: u32_at(entry, 40),
            });
        }
        Ok(())
    })?;
    let Some(table) = sections.get(names as usize) else {
        return Err(Error::malformed("no section names"));
    };
    let table = image.read_vec(table.offset, table.size, MAX_SECTION_NAMES)?;
    for (section, at) in sections.iter_mut().zip(name_offsets) {
        let name = table.get(at..).unwrap_or_default();
        let name = name.split(|&b| b == 0).next().unwrap_or_default();
        // Names that are looked for are short; one hostile long name must not be held 65,535 times.
        section.name = std::str::from_utf8(name.get(..name.len().min(64)).unwrap_or_default())
            .unwrap_or_default()
            .into();
    }
    Ok(sections)
}

/// Little-endian fields of fixed structures. `bytes` must be as long as the structure: callers take
/// it from arrays and `chunks_exact`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// See [`u16_at`].
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// See [`u16_at`].
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
