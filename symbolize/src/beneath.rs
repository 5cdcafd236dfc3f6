//! Opening files whose names a target chose.
//!
//! A directory that counts as root and a path enter; an open regular file below it leaves. Links
//! cannot lead out, nor through `/proc`; nothing that opening could block on, or set off, is ever
//! opened: the file is first only pointed at (`O_PATH`), looked at, and then opened for reading.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

use crate::error::{Error, ErrorKind, Result};

/// Points at the directory that lookups start from.
///
/// # Errors
/// It is no directory, or cannot be reached.
pub fn root(directory: impl AsRef<Path>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = directory.as_ref();
    rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|e| Error::from(e).context(directory.display()))
}

/// Opens the regular file at `path` below `root`; absolute paths and links start at `root` too.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::PermissionDenied`]; [`ErrorKind::Unsupported`] if it is not
/// a regular file.
pub fn open(root: impl AsFd, path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    point(root, path)
        .and_then(reopen)
        .map_err(|e| e.context(path.display()))
}

/// The same, with no links on the way: neither the file nor a folder of its path is one.
///
/// # Errors
/// As [`open`], and if there is one.
pub(crate) fn open_itself(root: impl AsFd, path: &Path) -> Result<File> {
    resolve(root, path, ResolveFlags::NO_SYMLINKS)
        .and_then(reopen)
        .map_err(|e| e.context(path.display()))
}

/// Only points at a file below `root`.
pub(crate) fn point(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    resolve(root, path, ResolveFlags::empty())
}

fn resolve(root: impl AsFd, path: &Path, more: ResolveFlags) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    Ok(rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

/// Opens for reading what `file` points at, if it is a regular file.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if it is not; what opening returns.
pub fn reopen(file: OwnedFd) -> Result<File> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new(ErrorKind::Unsupported, "not a regular file"));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let open = |flags| rustix::fs::openat(CWD, &path, flags, Mode::empty());
    // That we read it is not to be written into it, where we may decide that.
    let opened = open(flags | OFlags::NOATIME).or_else(|_| open(flags))?;
    Ok(opened.into())
}
