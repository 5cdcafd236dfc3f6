//! Debug sections, read a page at a time.
//!
//! What enters is a section of a file, however large; what leaves is a [`gimli::Reader`] over it
//! that holds one page, from a small cache that all readers of a file share. No section is ever
//! held whole, except compressed ones, which cannot be read from the middle. How much may be read is
//! bounded too: hostile references would otherwise read forever.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gimli::{Error, LittleEndian, ReaderOffsetId, Result};

use crate::dwarf::unpacked::Unpacked;
use crate::image::Image;

/// Pages are as large as a disk reads at once; the cache is 2 MiB.
pub(super) const PAGE: usize = 16 << 10;
const PAGES: usize = 128;
/// A string, or a block, is at most this long.
const MAX_SLICE: usize = 64 << 10;

/// Memory that a [`Pager`]'s cache takes, in bytes.
pub(super) const CACHE_BYTES: u64 = (PAGE * PAGES) as u64;

/// A page's number and its bytes.
type Page = (u64, Rc<[u8]>);

/// The pages of a file that were used last.
#[derive(Debug)]
pub(super) struct Pager {
    image: Image,
    /// A page stands in the slot of its number modulo [`PAGES`].
    pages: RefCell<Vec<Option<Page>>>,
    /// How many reads are still allowed.
    fuel: Cell<u64>,
    /// A compressed section could not be unpacked.
    is_broken: Cell<bool>,
}

impl Pager {
    pub(super) fn new(image: Image, fuel: u64) -> Rc<Self> {
        Rc::new(Self {
            image,
            pages: RefCell::new(vec![None; PAGES]),
            fuel: Cell::new(fuel),
            is_broken: Cell::new(false),
        })
    }

    /// Whether reading ended because too much was read.
    pub(super) fn is_exhausted(&self) -> bool {
        self.fuel.get() == 0
    }

    /// Whether a compressed section could not be unpacked as far as it was read.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    /// Runs `read`, which may spend no more than `reads` of what is left.
    pub(super) fn at_most<T>(&self, reads: u64, read: impl FnOnce() -> T) -> T {
        let all = self.fuel.get();
        let allowed = all.min(reads);
        self.fuel.set(allowed);
        let result = read();
        self.fuel.set(all - (allowed - self.fuel.get()));
        result
    }

    /// Pays for reads, or for work of about that size.
    pub(super) fn spend(&self, reads: u64) -> Result<()> {
        let left = self.fuel.get().saturating_sub(reads);
        self.fuel.set(left);
        if left == 0 {
            return Err(Error::Io);
        }
        Ok(())
    }

    /// Page `number` of the file; the last one may be short.
    fn page(&self, number: u64) -> Result<Rc<[u8]>> {
        self.spend(64)?;
        let slot = number as usize % PAGES;
        let mut pages = self.pages.borrow_mut();
        if let Some(Some((held, page))) = pages.get(slot)
            && *held == number
        {
            return Ok(page.clone());
        }
        let offset = number * PAGE as u64;
        let len = self.image.len().saturating_sub(offset).min(PAGE as u64);
        let mut page: Rc<[u8]> = std::iter::repeat_n(0, len as usize).collect();
        let into = Rc::get_mut(&mut page).unwrap_or_default();
        self.image
            .read_exact_at(offset, into)
            .map_err(|_| Error::Io)?;
        pages[slot] = Some((number, page.clone()));
        Ok(page)
    }

    /// Page `number` of a compressed section; the last one may be short.
    fn page_of(&self, section: &Unpacked, number: u64) -> Result<Rc<[u8]>> {
        self.spend(64)?;
        section.page(number).map_err(|_| {
            self.is_broken.set(true);
            Error::Io
        })
    }
}

/// A place in a section, and how far it goes.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pager: Rc<Pager>,
    /// A compressed section; else it stands in the pager's file.
    unpacked: Option<Rc<Unpacked>>,
    /// The page at hand, and where it starts.
    page: Rc<[u8]>,
    page_start: u64,
    /// Offsets in the file, or in the compressed section.
    at: u64,
    end: u64,
}

impl Reader {
    /// A section that stands in the pager's file.
    pub(super) fn paged(pager: &Rc<Pager>, offset: u64, size: u64) -> Self {
        let file = pager.image.len();
        let at = offset.min(file);
        Self {
            pager: pager.clone(),
            unpacked: None,
            page: Rc::new([]),
            page_start: 0,
            at,
            end: at.saturating_add(size).min(file),
        }
    }

    /// A compressed section.
    pub(super) fn unpacked(pager: &Rc<Pager>, section: Unpacked) -> Self {
        Self {
            pager: pager.clone(),
            page: Rc::new([]),
            page_start: 0,
            at: 0,
            end: section.size,
            unpacked: Some(Rc::new(section)),
        }
    }

    /// The bytes at hand from `at` on, at least one of them unless the section ends.
    fn piece(&mut self, at: u64) -> Result<&[u8]> {
        if !self.holds(at) {
            let number = at / PAGE as u64;
            self.page = match &self.unpacked {
                Some(section) => self.pager.page_of(section, number)?,
                None => self.pager.page(number)?,
            };
            self.page_start = number * PAGE as u64;
        }
        let from = (at - self.page_start) as usize;
        let upto = self.page.len().min((self.end - self.page_start) as usize);
        self.page
            .get(from..upto)
            .ok_or(Error::UnexpectedEof(self.id(at)))
    }

    fn holds(&self, at: u64) -> bool {
        at.checked_sub(self.page_start)
            .is_some_and(|from| from < self.page.len() as u64)
    }

    fn id(&self, at: u64) -> ReaderOffsetId {
        ReaderOffsetId(at)
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let len = self.end - self.at;
        if len > MAX_SLICE as u64 {
            return Err(Error::UnexpectedEof(self.id(self.at)));
        }
        let mut bytes = vec![0; len as usize];
        gimli::Reader::read_slice(&mut self.clone(), &mut bytes)?;
        Ok(bytes)
    }
}

impl gimli::Reader for Reader {
    type Endian = LittleEndian;
    type Offset = usize;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        (self.end - self.at) as usize
    }

    fn empty(&mut self) {
        self.end = self.at;
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.len() {
            return Err(Error::UnexpectedEof(self.id(self.at)));
        }
        self.end = self.at + len as u64;
        Ok(())
    }

    fn offset_from(&self, base: &Self) -> usize {
        self.at.wrapping_sub(base.at) as usize
    }

    fn offset_id(&self) -> ReaderOffsetId {
        self.id(self.at)
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        (self.at..self.end)
            .contains(&id.0)
            .then(|| (id.0 - self.at) as usize)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        let mut reader = self.clone();
        let mut at = self.at;
        while at < self.end && at - self.at < MAX_SLICE as u64 {
            let piece = reader.piece(at)?;
            if let Some(found) = piece.iter().position(|&b| b == byte) {
                return Ok((at - self.at) as usize + found);
            }
            at += piece.len() as u64;
        }
        Err(Error::UnexpectedEof(self.id(self.at)))
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        if len > self.len() {
            return Err(Error::UnexpectedEof(self.id(self.at)));
        }
        self.at += len as u64;
        Ok(())
    }

    fn split(&mut self, len: usize) -> Result<Self> {
        let mut first = self.clone();
        first.truncate(len)?;
        self.at += len as u64;
        Ok(first)
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        self.bytes().map(Cow::Owned)
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        let text = String::from_utf8(self.bytes()?);
        text.map(Cow::Owned).map_err(|_| Error::BadUtf8)
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        let bytes = self.bytes()?;
        Ok(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
    }

    #[inline]
    fn read_slice(&mut self, into: &mut [u8]) -> Result<()> {
        if into.len() as u64 > self.end - self.at {
            return Err(Error::UnexpectedEof(self.id(self.at)));
        }
        // Most reads are small and lie in the page at hand.
        let from = self.at.wrapping_sub(self.page_start) as usize;
        if let Some(bytes) = from
            .checked_add(into.len())
            .and_then(|upto| self.page.get(from..upto))
        {
            into.copy_from_slice(bytes);
            self.at += into.len() as u64;
            return self.pager.spend(1);
        }
        let mut filled = 0;
        while filled < into.len() {
            let piece = self.piece(self.at)?;
            let take = piece.len().min(into.len() - filled);
            if take == 0 {
                return Err(Error::UnexpectedEof(self.id(self.at)));
            }
            into[filled..filled + take].copy_from_slice(&piece[..take]);
            filled += take;
            self.at += take as u64;
        }
        Ok(())
    }

    #[inline]
    fn read_u8(&mut self) -> Result<u8> {
        let from = self.at.wrapping_sub(self.page_start) as usize;
        if self.at < self.end
            && let Some(&byte) = self.page.get(from)
        {
            self.at += 1;
            self.pager.spend(1)?;
            return Ok(byte);
        }
        let mut byte = [0];
        self.read_slice(&mut byte)?;
        Ok(byte[0])
    }
}
