//! The debug sections of a file: paged where they are plain, decompressed where they are not.

use std::io::{self, Read};
use std::rc::Rc;

use gimli::SectionId;

use crate::dwarf::Dwarf;
use crate::dwarf::reader::{CACHE_BYTES, Pager, Reader};
use crate::elf::{Elf, Section, u32_at, u64_at};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;

const ELFCOMPRESS_ZLIB: u32 = 1;
const ELFCOMPRESS_ZSTD: u32 = 2;
/// Sizes of the headers: `Elf64_Chdr`, and the older `ZLIB` with a big-endian length.
const CHDR: u64 = 24;
const ZLIB_GNU: u64 = 12;

/// The sections that names and lines are made of; all others count as absent.
const NEEDED: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
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
            return Ok(Reader::in_memory(pager, []));
        };
        match Compressed::of(elf.image(), section)? {
            None => Ok(Reader::paged(pager, section.offset, section.size)),
            Some(compressed) => {
                let bytes = compressed.read(elf.image());
                let bytes = bytes.map_err(|e| Error::from(e).context(&section.name))?;
                Ok(Reader::in_memory(pager, bytes))
            }
        }
    })
}

fn find(elf: &Elf, id: SectionId) -> Option<&Section> {
    let old = || id.name().replace(".debug", ".zdebug");
    elf.section(id.name())
        .or_else(|| elf.section(&old()))
        .filter(|section| section.has_bytes())
}

/// A compressed section's data.
struct Compressed {
    zstd: bool,
    /// Bytes when decompressed, as its header says.
    size: u64,
    offset: u64,
    len: u64,
}

impl Compressed {
    /// `None`: the section is not compressed.
    fn of(image: &Image, section: &Section) -> Result<Option<Self>> {
        let mut header = [0; CHDR as usize];
        let (zstd, size, skip) = if section.is_compressed() {
            image.read_exact_at(section.offset, &mut header)?;
            let zstd = match u32_at(&header, 0) {
                ELFCOMPRESS_ZLIB => false,
                ELFCOMPRESS_ZSTD => true,
                other => {
                    let message = format!("{}: compression {other}", section.name);
                    return Err(Error::new(ErrorKind::Unsupported, message));
                }
            };
            (zstd, u64_at(&header, 8), CHDR)
        } else if section.name.starts_with(".zdebug") && section.size >= ZLIB_GNU {
            let header = &mut header[..ZLIB_GNU as usize];
            image.read_exact_at(section.offset, header)?;
            if !header.starts_with(b"ZLIB") {
                return Ok(None);
            }
            (false, u64_at(header, 4).swap_bytes(), ZLIB_GNU)
        } else {
            return Ok(None);
        };
        Ok(Some(Self {
            zstd,
            size,
            offset: section.offset.saturating_add(skip),
            len: section.size.saturating_sub(skip),
        }))
    }

    fn read(&self, image: &Image) -> io::Result<Rc<[u8]>> {
        let data = io::BufReader::with_capacity(
            64 << 10,
            ImageRead {
                image,
                at: self.offset,
                left: self.len,
            },
        );
        let size = usize::try_from(self.size).map_err(io::Error::other)?;
        let mut bytes: Rc<[u8]> = std::iter::repeat_n(0, size).collect();
        let into = Rc::get_mut(&mut bytes).unwrap_or_default();
        if self.zstd {
            let decoder = ruzstd::decoding::StreamingDecoder::new(data);
            decoder.map_err(io::Error::other)?.read_exact(into)?;
        } else {
            flate2::bufread::ZlibDecoder::new(data).read_exact(into)?;
        }
        Ok(bytes)
    }
}

/// A part of an image as a stream.
struct ImageRead<'a> {
    image: &'a Image,
    at: u64,
    left: u64,
}

impl Read for ImageRead<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let take = self.left.min(into.len() as u64) as usize;
        let into = into.get_mut(..take).unwrap_or_default();
        self.image
            .read_exact_at(self.at, into)
            .map_err(io::Error::other)?;
        self.at += take as u64;
        self.left -= take as u64;
        Ok(take)
    }
}
