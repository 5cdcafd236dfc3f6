//! Pages of a file that a process maps but has not in its page tables, read from the file instead: what
//! they hold is the file's as long as the process has not written to them, and its tables say that.
//!
//! A range of addresses enters; it leaves filled, or not. Only what lies in the page cache is read, so
//! that this waits for no disk and no file system, and the process's tables stay as they are. Only regular
//! files are read, and none of those file systems whose missing pages a program may bring by itself
//! (userfaultfd: shared memory and huge pages).
//!
//! Source: `PROCMAP_QUERY` in include/uapi/linux/fs.h (6.11); without it nothing is read.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, open};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::Pagemap;

/// `_IOWR('f', 17, struct procmap_query)`
const PROCMAP_QUERY: libc::c_ulong = 0xc068_6611;
/// `PROCMAP_QUERY_VMA_READABLE`, `PROCMAP_QUERY_FILE_BACKED_VMA`: no other mapping is looked for.
const READABLE: u64 = 0x01;
const FILE_BACKED: u64 = 0x20;
/// `TMPFS_MAGIC`, `HUGETLBFS_MAGIC` (include/uapi/linux/magic.h)
const BROUGHT_BY_PROGRAMS: [u64; 2] = [0x0102_1994, 0x9584_58f6];

/// `struct procmap_query`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    device: [u32; 2],
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

const _: () = assert!(size_of::<Query>() == 0x68);

/// The files that a process maps.
#[derive(Debug)]
pub struct MappedFiles {
    pid: u32,
    /// Its `/proc/PID/maps`, of the memory it had when that was opened.
    maps: OwnedFd,
    /// The mapping that was looked for last, and its file if that may be read.
    last: Option<(Query, Option<File>)>,
}

impl MappedFiles {
    /// `maps` is the open `/proc/PID/maps` of the process `pid`.
    pub fn new(pid: u32, maps: OwnedFd) -> Self {
        Self {
            pid,
            maps,
            last: None,
        }
    }

    /// Fills `buffer` with what stands at `address`, if all of it is a file's, not written to, and at
    /// hand. `pagemap` is the same process's.
    pub fn read(&mut self, pagemap: &Pagemap, address: u64, buffer: &mut [u8]) -> Option<()> {
        let len = buffer.len();
        pagemap.unwritten(address, len).ok()?;
        let mapping = self.mapping(address)?;
        if address.checked_add(len as u64)? > mapping.end {
            return None;
        }
        let (_, file) = self.last.as_ref()?;
        let from = mapping.offset.checked_add(address - mapping.start)?;
        let into = &mut [IoSliceMut::new(buffer)];
        let read = preadv2(file.as_ref()?, into, from, ReadWriteFlags::NOWAIT).ok()?;
        // Neither may have changed meanwhile.
        let is_same = self.query(address)? == mapping;
        pagemap.unwritten(address, len).ok()?;
        (read == len && is_same).then_some(())
    }

    /// The mapping of an address, with its file at hand.
    fn mapping(&mut self, address: u64) -> Option<Query> {
        let mapping = self.query(address)?;
        let is_known = |(last, _): &(Query, _)| *last == mapping;
        if !self.last.as_ref().is_some_and(is_known) {
            self.last = Some((mapping, self.open(&mapping)));
        }
        Some(mapping)
    }

    /// Whether there is a mapping at an address that the process itself can read; `None`: the kernel
    /// does not say.
    pub fn is_mapped(&self, address: u64) -> Option<bool> {
        match self.ask(address, READABLE) {
            Ok(_) => Some(true),
            Err(Errno::NOENT) => Some(false),
            Err(_) => None,
        }
    }

    fn query(&self, address: u64) -> Option<Query> {
        self.ask(address, FILE_BACKED).ok()
    }

    /// The mapping of an address, if it is as `flags` say.
    fn ask(&self, address: u64, flags: u64) -> Result<Query, Errno> {
        let mut query = Query {
            size: size_of::<Query>() as u64,
            flags,
            address,
            ..Query::default()
        };
        // SAFETY: the kernel reads and writes the struct, whose size it is told; it asks for no name.
        let result = unsafe { libc::ioctl(self.maps.as_raw_fd(), PROCMAP_QUERY, &raw mut query) };
        if result != 0 {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
        }
        // What was asked is no part of the mapping.
        query.address = 0;
        let is_there = (query.start..query.end).contains(&address);
        is_there.then_some(query).ok_or(Errno::NOENT)
    }

    /// The file of a mapping. Its end of `map_files` leads to no other, whatever is called like it.
    fn open(&self, mapping: &Query) -> Option<File> {
        let Query { start, end, .. } = mapping;
        let path = format!("/proc/{}/map_files/{start:x}-{end:x}", self.pid);
        let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let stat = fstat(&file).ok()?;
        let system = fstatfs(&file).ok()?.f_type.cast_unsigned();
        let is_good = FileType::from_raw_mode(stat.st_mode).is_file()
            && stat.st_ino == mapping.inode
            && !BROUGHT_BY_PROGRAMS.contains(&system);
        if !is_good {
            return None;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        open(path, flags, Mode::empty()).ok().map(File::from)
    }
}
