//! The bytes of a module: an open file, or a copy in memory (the vDSO, a decompressed section).
//!
//! Files are read with `pread` into buffers of bounded size and never mapped: a mapping of a file
//! that its owner truncates is a SIGBUS.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// Bytes with a length that was taken once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Bytes,
    len: u64,
}

#[derive(Clone, Debug)]
enum Bytes {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

/// A file in a state that it is in: if it is written to, it has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Image {
    /// An open file, as long as it is now.
    ///
    /// # Errors
    /// The file's length cannot be read.
    pub fn of_file(file: File) -> Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self {
            bytes: Bytes::File(Arc::new(file)),
            len,
        })
    }

    /// A copy in memory.
    pub fn of_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            len: bytes.len() as u64,
            bytes: Bytes::Memory(bytes),
        }
    }

    /// The state of its file; `None`: it is none.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let Bytes::File(file) = &self.bytes else {
            return None;
        };
        let about = file.metadata().ok()?;
        Some(Stamp {
            file: (about.dev(), about.ino()),
            len: self.len,
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// No bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the image ends before; else what the system says.
    pub fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        match &self.bytes {
            Bytes::File(file) => Ok(file.read_exact_at(into, offset)?),
            Bytes::Memory(bytes) => {
                let from = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..start.checked_add(into.len())?))
                    .ok_or_else(|| Error::malformed("reaches past the end"))?;
                into.copy_from_slice(from);
                Ok(())
            }
        }
    }

    /// `len` bytes from `offset`, if they are no more than `cap`.
    ///
    /// # Errors
    /// [`ErrorKind::OverBudget`] beyond the cap, [`ErrorKind::Malformed`] beyond the image.
    pub fn read_vec(&self, offset: u64, len: u64, cap: u64) -> Result<Vec<u8>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::malformed("reaches past the end"));
        }
        if len > cap {
            let message = format!("{len} bytes, {cap} allowed");
            return Err(Error::new(ErrorKind::OverBudget, message));
        }
        let mut bytes = vec![0; len as usize];
        self.read_exact_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Calls `each` with consecutive pieces of the range, each a multiple of `unit` bytes long
    /// (what remains in the end is left out) and at most 64 KiB, and the offset of its first byte.
    ///
    /// # Errors
    /// What reading or `each` returns.
    pub fn stream(
        &self,
        offset: u64,
        len: u64,
        unit: usize,
        mut each: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        const PIECE: usize = 64 << 10;
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::malformed("reaches past the end"));
        }
        let unit = unit.max(1);
        let piece = (PIECE / unit).max(1) * unit;
        let mut buffer = vec![0; piece.min(len as usize)];
        let (mut at, mut left) = (offset, len - len % unit as u64);
        while left > 0 {
            let take = left.min(piece as u64) as usize;
            let into = &mut buffer[..take];
            self.read_exact_at(at, into)?;
            each(at, into)?;
            at += take as u64;
            left -= take as u64;
        }
        Ok(())
    }

    /// The bytes from `offset` up to a NUL, which must come within `cap` bytes.
    pub(crate) fn c_string(&self, offset: u64, cap: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < cap {
            let at = offset.saturating_add(bytes.len() as u64);
            let mut piece = [0; 128];
            let take = self.len.saturating_sub(at).min(piece.len() as u64) as usize;
            if take == 0 {
                break;
            }
            self.read_exact_at(at, &mut piece[..take])?;
            match piece[..take].iter().position(|&b| b == 0) {
                Some(end) => {
                    bytes.extend_from_slice(&piece[..end]);
                    return Ok(bytes);
                }
                None => bytes.extend_from_slice(&piece[..take]),
            }
        }
        Err(Error::malformed("a string without an end"))
    }
}
