//! What a process maps, one mapping at a time: asked of its open `/proc/PID/maps`, which stays that of
//! the memory it was opened for.
//!
//! Source: `PROCMAP_QUERY` in include/uapi/linux/fs.h (6.11). Kernels before that say nothing.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

/// `_IOWR('f', 17, struct procmap_query)`
const PROCMAP_QUERY: libc::c_ulong = 0xc068_6611;
/// `PROCMAP_QUERY_VMA_READABLE`, `PROCMAP_QUERY_FILE_BACKED_VMA`: no other mapping is looked for.
const READABLE: u64 = 0x01;
const FILE_BACKED: u64 = 0x20;

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

/// A mapping of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Behind the last address.
    pub end: u64,
    /// File offset of `start`.
    pub offset: u64,
    /// Major and minor number of the device, and inode: an overlay's where there is one.
    pub device: [u32; 2],
    /// See `device`.
    pub inode: u64,
}

/// The mappings of a process.
#[derive(Debug)]
pub struct Mappings(OwnedFd);

impl Mappings {
    /// Takes an open `/proc/PID/maps`.
    pub fn new(maps: OwnedFd) -> Self {
        Self(maps)
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

    /// The file's mapping at an address.
    pub fn file(&self, address: u64) -> Option<Mapping> {
        let query = self.ask(address, FILE_BACKED).ok()?;
        Some(Mapping {
            start: query.start,
            end: query.end,
            offset: query.offset,
            device: query.device,
            inode: query.inode,
        })
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
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), PROCMAP_QUERY, &raw mut query) };
        if result != 0 {
            let error = std::io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
        }
        let is_there = (query.start..query.end).contains(&address);
        is_there.then_some(query).ok_or(Errno::NOENT)
    }
}
