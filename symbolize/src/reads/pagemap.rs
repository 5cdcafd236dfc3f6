//! Which pages of a process a read would leave as they are.
//!
//! An address range and an open `/proc/PID/pagemap` enter, a verdict leaves. The answer is a moment
//! old when it is used: it keeps reads off pages that are absent or shared, and the read itself must
//! not wait either.
//!
//! Source: `Documentation/admin-guide/mm/pagemap.rst`; bits 56 and 61 since Linux 4.2 and 3.5.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::ReadError;

const PRESENT: u64 = 1 << 63;
/// In swap, or on its way to another place.
const SWAPPED: u64 = 1 << 62;
/// A page of a file, or shared anonymous memory: reading does not un-share it.
const FILE: u64 = 1 << 61;
/// A guard region: not to be touched (6.15).
const GUARD: u64 = 1 << 58;
/// Mapped by this process alone.
const EXCLUSIVE: u64 = 1 << 56;

const PAGE: u64 = 4096;
/// `TASK_SIZE` with four-level page tables. With five levels programs that ask for it have memory
/// beyond; no allocator does.
const USER_END: u64 = (1 << 47) - PAGE;
/// Pages of one question at most.
const MAX_PAGES: u64 = 32;
/// Pages that are looked at together: their entries are one cache line times eight.
const BLOCK: usize = 64;

/// An open `/proc/PID/pagemap`. It stays that of the memory it was opened for: after an `exec` it
/// ends at once.
#[derive(Debug)]
pub struct Pagemap(OwnedFd);

impl Pagemap {
    /// Takes an open pagemap.
    pub fn new(pagemap: OwnedFd) -> Self {
        Self(pagemap)
    }

    /// Looks at pages: what it has seen of one, and of those around it, it does not look at again.
    pub fn look(&self) -> Look<'_> {
        Look {
            pagemap: &self.0,
            blocks: Vec::new(),
        }
    }
}

/// Entries of a pagemap at one moment, as far as they were asked for.
#[derive(Debug)]
pub struct Look<'p> {
    pagemap: &'p OwnedFd,
    /// By the first page.
    blocks: Vec<(u64, [u64; BLOCK])>,
}

impl Look<'_> {
    /// `Ok` if all pages of the range are present, and none of them would be un-shared by a read
    /// that pins it.
    ///
    /// # Errors
    /// [`ReadError::WouldFault`], [`ReadError::SharedPage`], [`ReadError::BadAddress`] (no user
    /// address, or longer than 32 pages), [`ReadError::Gone`], [`ReadError::NotPermitted`],
    /// [`ReadError::NotRead`].
    pub fn readable(&mut self, address: u64, len: usize) -> Result<(), ReadError> {
        self.all(address, len, |entry| {
            if entry & PRESENT == 0 {
                Err(ReadError::WouldFault)
            } else if entry & (FILE | EXCLUSIVE) == 0 {
                Err(ReadError::SharedPage)
            } else {
                Ok(())
            }
        })
    }

    /// `Ok` if no page of the range was written to, if it is a file's: each is the file's own, or none is
    /// there yet.
    ///
    /// # Errors
    /// As [`Look::readable`]; [`ReadError::WouldFault`] for any other page.
    pub fn unwritten(&mut self, address: u64, len: usize) -> Result<(), ReadError> {
        self.all(address, len, |entry| {
            let is_files = entry & PRESENT != 0 && entry & FILE != 0;
            let is_none = entry & (PRESENT | SWAPPED | GUARD) == 0;
            (is_files || is_none)
                .then_some(())
                .ok_or(ReadError::WouldFault)
        })
    }

    /// What `each` says of the entries of all pages of a range, up to the first error.
    fn all(
        &mut self,
        address: u64,
        len: usize,
        each: impl Fn(u64) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let end = u64::try_from(len)
            .ok()
            .and_then(|len| address.checked_add(len))
            .filter(|&end| end <= USER_END)
            .ok_or(ReadError::BadAddress)?;
        let pages = address / PAGE..end.div_ceil(PAGE);
        if pages.end - pages.start > MAX_PAGES {
            return Err(ReadError::BadAddress);
        }
        pages
            .map(|page| self.entry(page))
            .try_for_each(|entry| each(entry?))
    }

    /// The entry of a page; [`ReadError::Gone`] once the memory is no more.
    fn entry(&mut self, page: u64) -> Result<u64, ReadError> {
        let (first, within) = (page - page % BLOCK as u64, page as usize % BLOCK);
        let seen = self.blocks.iter().find(|(other, _)| *other == first);
        if let Some((_, entries)) = seen {
            return Ok(entries[within]);
        }
        let mut entries = [[0; 8]; BLOCK];
        let wanted = entries.as_flattened_mut();
        match rustix::io::pread(self.pagemap, &mut *wanted, first * 8) {
            // After the last page that there can be nothing is.
            Ok(1..) => {}
            Ok(0) | Err(Errno::SRCH) => return Err(ReadError::Gone),
            Err(Errno::PERM | Errno::ACCESS) => return Err(ReadError::NotPermitted),
            Err(_) => return Err(ReadError::NotRead),
        }
        let entries = entries.map(u64::from_le_bytes);
        self.blocks.push((first, entries));
        Ok(entries[within])
    }
}
