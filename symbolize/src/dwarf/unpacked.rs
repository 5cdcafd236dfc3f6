//! Compressed debug sections: unpacked as far as they are read, for most questions need a part of them. Whoever
//! asks about a file again finds what was unpacked before.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use crate::dwarf::reader::PAGE;
use crate::elf::{Section, u32_at, u64_at};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Stamp};

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

    /// Its bytes; those that were unpacked before are known, unless they were too many.
    pub(super) fn unpack(self) -> Unpacked {
        let which = self.data.image.stamp().map(|file| Which {
            file,
            at: self.data.at,
            size: self.size,
        });
        let pages = which.and_then(|which| {
            KEPT.with_borrow_mut(|kept| {
                let at = kept.iter().position(|(known, _)| *known == which)?;
                Some(kept.remove(at).1)
            })
        });
        Unpacked {
            size: self.size,
            which,
            stream: RefCell::new(Stream::Unread(self)),
            pages: RefCell::new(pages.unwrap_or_default()),
        }
    }

    /// The same from behind so many bytes on.
    fn stream(&self, behind: u64) -> io::Result<Box<dyn Read>> {
        let data = io::BufReader::with_capacity(64 << 10, self.data.clone());
        let mut stream: Box<dyn Read> = match self.zstd {
            true => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(data);
                Box::new(decoder.map_err(io::Error::other)?)
            }
            false => Box::new(flate2::bufread::ZlibDecoder::new(data)),
        };
        // One that is too short fails when it is read on.
        io::copy(&mut stream.by_ref().take(behind), &mut io::sink())?;
        Ok(stream)
    }
}

/// A compressed section: its file, where it begins there, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Which {
    file: Stamp,
    at: u64,
    size: u64,
}

/// What a section begins with.
type Pages = Vec<Rc<[u8]>>;

thread_local! {
    /// Of sections that were read: most of a question about a few places is to unpack what lies before them.
    /// What was used last stands last.
    static KEPT: RefCell<Vec<(Which, Pages)>> = const { RefCell::new(Vec::new()) };
}

/// Pages that are kept.
const MOST_KEPT: usize = (8 << 20) / PAGE;

/// The bytes of a compressed section, from its begin up to the last page that was asked for.
pub(super) struct Unpacked {
    /// Bytes of the whole section.
    pub(super) size: u64,
    which: Option<Which>,
    /// Where the next page comes from.
    stream: RefCell<Stream>,
    pages: RefCell<Pages>,
}

enum Stream {
    Unread(Compressed),
    Begun(Box<dyn Read>),
    Broken,
}

impl Unpacked {
    /// Page `number` of the section; the last one may be short.
    pub(super) fn page(&self, number: u64) -> io::Result<Rc<[u8]>> {
        let mut pages = self.pages.borrow_mut();
        while pages.len() as u64 <= number {
            let known = (pages.len() * PAGE) as u64;
            let left = self.size.saturating_sub(known);
            if left == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let page = self.next(known, left.min(PAGE as u64) as usize);
            if page.is_err() {
                self.stream.replace(Stream::Broken);
            }
            pages.push(page?);
        }
        Ok(pages[number as usize].clone())
    }

    /// The next bytes, behind those that are known.
    fn next(&self, known: u64, len: usize) -> io::Result<Rc<[u8]>> {
        let mut stream = self.stream.borrow_mut();
        if let Stream::Unread(compressed) = &*stream {
            *stream = Stream::Begun(compressed.stream(known)?);
        }
        let Stream::Begun(stream) = &mut *stream else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut page: Rc<[u8]> = std::iter::repeat_n(0, len).collect();
        stream.read_exact(Rc::get_mut(&mut page).unwrap_or_default())?;
        Ok(page)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let pages = self.pages.take();
        let broken = matches!(self.stream.get_mut(), Stream::Broken);
        let Some(which) = self.which.filter(|_| !broken) else {
            return;
        };
        // Else it would drive out all others, and then itself.
        if pages.is_empty() || pages.len() > MOST_KEPT {
            return;
        }
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            kept.retain(|(known, _)| *known != which);
            kept.push((which, pages));
            let mut all: usize = kept.iter().map(|(_, pages)| pages.len()).sum();
            while all > MOST_KEPT {
                all -= kept.remove(0).1.len();
            }
        });
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
#[derive(Clone)]
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
