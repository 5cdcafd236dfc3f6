//! Pages of a file that a process maps but has not in its page tables, read from the file instead: what
//! they hold is the file's as long as the process has not written to them, and its tables say that.
//!
//! A range of addresses enters; it leaves filled, or not. Only what lies in the page cache is read, so
//! that this waits for no disk, and nothing is fetched: a read that finds a page missing would begin to
//! bring it, `RWF_NOWAIT` or not, so the cache is asked first (`cachestat`, 6.5). Only regular files on
//! devices of their own are read: what has none (FUSE, NFS, overlays, shared memory) asks a server when
//! it is opened, leads to another file than the one that is mapped, or has pages that a program brings.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;

use rustix::fs::{Advice, FileType, Mode, OFlags, fadvise, fstat, open};
use rustix::io::{ReadWriteFlags, preadv2};

use super::mappings::Mapping;
use super::{Mappings, Pagemap};
use crate::beneath;

const PAGE: u64 = 4096;
/// `__NR_cachestat` (arch/x86/entry/syscalls/syscall_64.tbl); newer than what libc knows.
const CACHESTAT: libc::c_long = 451;

/// The files that a process maps.
#[derive(Debug)]
pub struct MappedFiles {
    pid: u32,
    mappings: Mappings,
    /// The mapping that was looked for last, and its file if that may be read.
    last: Option<(Mapping, Option<File>)>,
}

impl MappedFiles {
    /// `mappings` are those of the process `pid`.
    pub fn new(pid: u32, mappings: Mappings) -> Self {
        Self {
            pid,
            mappings,
            last: None,
        }
    }

    /// What the process maps.
    pub fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// Fills `buffer` with what stands at `address`, if all of it is a file's, not written to, and at
    /// hand. `pagemap` is the same process's.
    pub fn read(&mut self, pagemap: &Pagemap, address: u64, buffer: &mut [u8]) -> Option<()> {
        let len = buffer.len();
        pagemap.look().unwritten(address, len).ok()?;
        let mapping = self.mapping(address)?;
        if address.checked_add(len as u64)? > mapping.end {
            return None;
        }
        let (_, file) = self.last.as_ref()?;
        let file = file.as_ref()?;
        let from = mapping.offset.checked_add(address - mapping.start)?;
        if !is_cached(file, from, len as u64) {
            return None;
        }
        let into = &mut [IoSliceMut::new(buffer)];
        let read = preadv2(file, into, from, ReadWriteFlags::NOWAIT).ok()?;
        // Neither may have changed meanwhile.
        let is_same = self.mappings.file(address)? == mapping;
        pagemap.look().unwritten(address, len).ok()?;
        (read == len && is_same).then_some(())
    }

    /// The mapping of an address, with its file at hand.
    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        let mapping = self.mappings.file(address)?;
        let is_known = |(last, _): &(Mapping, _)| *last == mapping;
        if !self.last.as_ref().is_some_and(is_known) {
            self.last = Some((mapping, self.open(&mapping)));
        }
        Some(mapping)
    }

    /// The file of a mapping. Its entry of `map_files` leads to no other, whatever is called like it.
    fn open(&self, mapping: &Mapping) -> Option<File> {
        let Mapping { start, end, .. } = mapping;
        if mapping.device[0] == 0 {
            return None;
        }
        let path = format!("/proc/{}/map_files/{start:x}-{end:x}", self.pid);
        let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let stat = fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
        if !is_file || stat.st_ino != mapping.inode {
            return None;
        }
        let file = beneath::reopen(file).ok()?;
        // Nothing is read ahead: between the look at the cache and the read a page may go.
        fadvise(&file, 0, None, Advice::Random).ok()?;
        Some(file)
    }
}

/// `struct cachestat_range` and `struct cachestat` (include/uapi/linux/mman.h)
#[repr(C)]
struct Range {
    offset: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Whether all pages of a range are in the page cache. No, if we may not know.
fn is_cached(file: &File, offset: u64, len: u64) -> bool {
    let first = offset / PAGE;
    let pages = (offset + len).div_ceil(PAGE) - first;
    let range = Range {
        offset: first * PAGE,
        len: pages * PAGE,
    };
    let mut stat = CacheStat::default();
    // SAFETY: the kernel reads the one struct and writes the other.
    let result = unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            &raw const range,
            &raw mut stat,
            0,
        )
    };
    result == 0 && stat.cached >= pages
}
