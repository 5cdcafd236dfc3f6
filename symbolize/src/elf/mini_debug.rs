//! MiniDebugInfo: the symbols that Fedora and its kin leave in stripped files.
//!
//! A `.gnu_debugdata` section enters, an ELF file with nothing but symbols leaves. It is an xz stream
//! with one LZMA2 block; dictionary and output are bounded by what the caller allows.
//!
//! Layouts: "The .xz File Format" 1.2.0, 2.1.1 (stream header), 3.1 (block header), 5.3.1 (LZMA2).

use std::io::Read;

use crate::elf::Elf;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;

const MAGIC: &[u8] = b"\xfd7zXZ\0";
const STREAM_HEADER: usize = 12;
const LZMA2: u64 = 0x21;

/// Unpacks the symbols of a file; `None` if it has none of this kind.
///
/// # Errors
/// [`ErrorKind::OverBudget`]: they take more than `budget` bytes; [`ErrorKind::Unsupported`]: more
/// than plain LZMA2.
pub(crate) fn unpack(elf: &Elf, budget: u64) -> Result<Option<Elf>> {
    let Some(section) = elf.section(".gnu_debugdata").filter(|s| s.has_bytes()) else {
        return Ok(None);
    };
    let share = budget / 4;
    let packed = elf.image().read_vec(section.offset, section.size, share)?;
    let unsupported = || Error::new(ErrorKind::Unsupported, "not a plain xz stream");
    let (dictionary, data) = block(&packed).ok_or_else(unsupported)?;
    let dictionary = u64::from(dictionary).min(share) as u32;
    let mut bytes = Vec::new();
    lzma_rust2::Lzma2Reader::new(data, dictionary, None)
        .take(share + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > share {
        return Err(Error::new(ErrorKind::OverBudget, "symbols are too large"));
    }
    Elf::parse(Image::of_bytes(bytes)).map(Some)
}

/// Dictionary size and data of the first block, if LZMA2 is its only filter.
fn block(stream: &[u8]) -> Option<(u32, &[u8])> {
    if !stream.starts_with(MAGIC) {
        return None;
    }
    let header = stream.get(STREAM_HEADER..)?;
    let size = (usize::from(*header.first()?) + 1) * 4;
    let (header, data) = header.split_at_checked(size)?;
    let flags = *header.get(1)?;
    let mut rest = header.get(2..)?;
    for present in [0x40, 0x80] {
        if flags & present != 0 {
            number(&mut rest)?;
        }
    }
    let is_plain = flags & 3 == 0 && number(&mut rest)? == LZMA2 && number(&mut rest)? == 1;
    let bits = u32::from(*rest.first()?);
    let dictionary = match bits {
        0..40 => (2 | bits & 1) << (bits / 2 + 11),
        40 => u32::MAX,
        _ => return None,
    };
    is_plain.then_some((dictionary, data))
}

/// A number of seven bits a byte.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
