//! Compressed debug sections: unpacked as far as they are read, for most questions need a part of them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use crate::dwarf::reader::PAGE;
use crate::elf::{Section, u32_at, u64_at};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;

const ELFCOMPRESS_ZLIB: u32 = 1;
const ELFCOMPRESS_ZSTD: u32 = 2;
/// Sizes of the headers: `Elf64_Chdr`, and the older `ZLIB` with a big-endian length.
const CHDR: u64 = 24;
const ZLIB_GNU: u64 = 12;

/// A compressed section's data.
pub(super) struct Compressed {
    zstd: bool,
    /// Bytes when unpacked, as its header says.
    pub(super) size: u64,
    data: Part,
}

impl Compressed {
    /// `None`: the section is not compressed.
    pub(super) fn of(image: &Image, section: &Section) -> Result<Option<Self>> {
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
            data: Part {
                image: image.clone(),
                at: section.offset.saturating_add(skip),
                left: section.size.saturating_sub(skip),
            },
        }))
    }

    /// Its bytes.
    pub(super) fn unpack(self) -> io::Result<Unpacked> {
        let data = io::BufReader::with_capacity(64 << 10, self.data);
        let stream: Box<dyn Read> = if self.zstd {
            let decoder = ruzstd::decoding::StreamingDecoder::new(data);
            Box::new(decoder.map_err(io::Error::other)?)
        } else {
            Box::new(flate2::bufread::ZlibDecoder::new(data))
        };
        Ok(Unpacked {
            size: self.size,
            stream: RefCell::new(stream),
            pages: RefCell::default(),
            is_broken: Cell::new(false),
        })
    }
}

/// The bytes of a compressed section, from its begin up to the last page that was asked for.
pub(super) struct Unpacked {
    /// Bytes of the whole section.
    pub(super) size: u64,
    stream: RefCell<Box<dyn Read>>,
    pages: RefCell<Vec<Rc<[u8]>>>,
    is_broken: Cell<bool>,
}

impl Unpacked {
    /// Page `number` of the section; the last one may be short.
    pub(super) fn page(&self, number: u64) -> io::Result<Rc<[u8]>> {
        let mut pages = self.pages.borrow_mut();
        while pages.len() as u64 <= number {
            let left = self.size.saturating_sub((pages.len() * PAGE) as u64);
            if left == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut page: Rc<[u8]> =
                std::iter::repeat_n(0, left.min(PAGE as u64) as usize).collect();
            let into = Rc::get_mut(&mut page).unwrap_or_default();
            if self.is_broken.get() || self.stream.borrow_mut().read_exact(into).is_err() {
                self.is_broken.set(true);
                return Err(io::ErrorKind::InvalidData.into());
            }
            pages.push(page);
        }
        Ok(pages[number as usize].clone())
    }
}

impl fmt::Debug for Unpacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacked")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A part of an image as a stream.
struct Part {
    image: Image,
    at: u64,
    left: u64,
}

impl Read for Part {
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
