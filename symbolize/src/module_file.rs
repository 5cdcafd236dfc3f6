//! From a sampled module to an open file that is the one sampled.
//!
//! A module's key, a process that mapped it and the path at the sample enter; an open file leaves,
//! or an error that says what was tried. A candidate counts only if it is the file of the key, or the
//! same inode with another change time and the build id that the process had in its memory: a path proves
//! nothing, a new build takes the place of the old one while that still runs; and what a process has in
//! its memory it may have written there itself, to pass another file off as one that others run.
//!
//! Opening can wait (network file systems): never call this on a thread that others wait for.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rprof_ebpf::module::ModuleKey;
use rustix::fs::{Mode, OFlags};

use crate::beneath;
use crate::build_id::BuildId;
use crate::elf::Elf;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;

/// `FS_IOC_GETVERSION`, `_IOR('v', 1, long)` (include/uapi/linux/fs.h). Most file systems write an
/// `int`.
const FS_IOC_GETVERSION: libc::Ioctl = 0x8008_7601;
const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
const BTRFS_SUPER_MAGIC: i64 = 0x9123_683e;
/// `FILEID_INO32_GEN` (include/linux/exportfs.h): 32-bit inode number, generation.
const FILEID_INO32_GEN: i32 = 1;
/// Mounts of one device that are tried.
const MAX_MOUNTS: usize = 8;

/// What an open file is, as far as the system shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device, inode, size and change time. The generation is 0 if it is not known.
    pub key: ModuleKey,
    /// The file system tells the generation.
    pub has_generation: bool,
    /// The file system shows the device that the kernel's own structures hold (btrfs does not).
    pub has_device: bool,
    /// Device and inode are the file's own, not those of an overlay around it.
    pub has_inode: bool,
}

impl Identity {
    /// Looks at an open file (not one that was only pointed at with `O_PATH`).
    ///
    /// # Errors
    /// What `fstat` returns.
    pub fn of(file: impl AsFd) -> Result<Self> {
        let mut identity = Self::without_generation(&file)?;
        let mut generation: libc::c_long = 0;
        // SAFETY: the descriptor is open, and `generation` is as large as the request says.
        let result = unsafe {
            libc::ioctl(
                file.as_fd().as_raw_fd(),
                FS_IOC_GETVERSION,
                &raw mut generation,
            )
        };
        if result == 0 {
            identity.key.generation = generation as u32;
            identity.has_generation = true;
        }
        Ok(identity)
    }

    fn without_generation(file: impl AsFd) -> Result<Self> {
        let stat = rustix::fs::fstat(&file)?;
        let system = rustix::fs::fstatfs(&file)?.f_type;
        let (major, minor) = (
            rustix::fs::major(stat.st_dev),
            rustix::fs::minor(stat.st_dev),
        );
        Ok(Self {
            key: ModuleKey {
                dev: major << 20 | minor & 0xf_ffff,
                generation: 0,
                ino: stat.st_ino,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                ctime_sec: stat.st_ctime,
                ctime_nsec: u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
                _pad: 0,
            },
            has_generation: false,
            has_device: system != BTRFS_SUPER_MAGIC && system != OVERLAYFS_SUPER_MAGIC,
            has_inode: system != OVERLAYFS_SUPER_MAGIC,
        })
    }

    /// Whether this can be the file that was sampled: nothing that is known of both differs.
    pub fn is(&self, sampled: &ModuleKey) -> bool {
        let time = |key: &ModuleKey| (key.ctime_sec, key.ctime_nsec);
        self.is_but_for_its_time(sampled) && time(&self.key) == time(sampled)
    }

    fn is_but_for_its_time(&self, sampled: &ModuleKey) -> bool {
        let (own, other) = (&self.key, sampled);
        own.size == other.size
            && (!self.has_device || own.dev == other.dev)
            && (!self.has_inode || own.ino == other.ino)
            && (!self.has_inode || !self.has_generation || own.generation == other.generation)
    }

    /// Whether this is an inode of the sampled file's number, that was changed since (a link to it was made
    /// or removed, say): its build id must confirm that the content was not.
    fn may_have_changed(&self, sampled: &ModuleKey) -> bool {
        self.has_inode
            && (self.has_device || self.has_generation)
            && self.is_but_for_its_time(sampled)
    }
}

/// What a sample says of a module (see [`rprof_ebpf::record::ModuleSeen`]).
#[derive(Clone, Copy, Debug)]
pub struct Sampled<'a> {
    /// What it is.
    pub key: ModuleKey,
    /// A process that maps it, in our own pid namespace; 0 if none is visible.
    pub pid: u32,
    /// Where that process maps it: start and end of the mapping.
    pub mapping: (u64, u64),
    /// The path's components from leaf to root, each with a `/` before it.
    pub components: &'a [u8],
    /// The build id that the process had in its memory, if it could be read.
    pub build_id: Option<&'a BuildId>,
    /// Further processes that see the same mounts, for when that process is gone.
    pub neighbours: &'a [u32],
}

/// Which way led to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By inode and generation, on a mount of its device.
    Handle,
    /// Through `map_files` of a process that maps it.
    MapFiles,
    /// By its path in our own root.
    HostPath,
    /// By its path, below the root of a process that maps it: what lies along it is that process's to
    /// choose, file systems that never answer included.
    ProcessPath,
}

/// The path that a sample's components name.
pub fn path(components: &[u8]) -> PathBuf {
    let mut path = PathBuf::from("/");
    for name in components.rsplit(|&b| b == b'/').filter(|n| !n.is_empty()) {
        path.push(std::ffi::OsStr::from_bytes(name));
    }
    path
}

/// Opens the file of a sampled module, by the ways that `may` agrees to, just before each is tried.
///
/// # Errors
/// [`ErrorKind::OtherFile`] if only other files were found, [`ErrorKind::PermissionDenied`] or
/// [`ErrorKind::NotFound`] if none was; the message lists each way that was tried.
pub fn find(sampled: &Sampled<'_>, mut may: impl FnMut(Way) -> bool) -> Result<(File, Way)> {
    let ways = [
        (Way::Handle, "by handle", by_handle as fn(&_) -> _),
        (Way::MapFiles, "map_files", by_map_files),
        (Way::HostPath, "path", by_host_path),
        (
            Way::ProcessPath,
            "path below the process's root",
            by_process_path,
        ),
    ];
    let mut tried = Vec::new();
    let mut kind = ErrorKind::NotFound;
    for (way, name, open) in ways {
        if !may(way) {
            tried.push(format!("{name}: not now"));
            continue;
        }
        match open(sampled) {
            Ok(file) => return Ok((file, way)),
            Err(error) => {
                kind = match (kind, error.kind()) {
                    (ErrorKind::OtherFile, _) | (_, ErrorKind::OtherFile) => ErrorKind::OtherFile,
                    (_, ErrorKind::PermissionDenied) => ErrorKind::PermissionDenied,
                    (kind, _) => kind,
                };
                tried.push(format!("{name}: {error}"));
            }
        }
    }
    let path = path(sampled.components);
    let message = format!("{}: {}", path.display(), tried.join("; "));
    Err(Error::new(kind, message))
}

/// Opens what `pointed` points at, if it is the file that was sampled.
fn accept(pointed: OwnedFd, sampled: &Sampled<'_>) -> Result<File> {
    let other = || Err(Error::new(ErrorKind::OtherFile, "is another file"));
    let pointed_at = Identity::without_generation(&pointed)?;
    let changed = pointed_at.has_inode && pointed_at.is_but_for_its_time(&sampled.key);
    let may_be = pointed_at.is(&sampled.key) || changed && sampled.build_id.is_some();
    if !may_be {
        return other();
    }
    let file = beneath::reopen(pointed)?;
    let identity = Identity::of(&file)?;
    if identity.is(&sampled.key) {
        return Ok(file);
    }
    match sampled.build_id {
        Some(expected)
            if identity.may_have_changed(&sampled.key) && build_id(&file)? == *expected =>
        {
            Ok(file)
        }
        _ => other(),
    }
}

fn build_id(file: &File) -> Result<BuildId> {
    let elf = Elf::parse(Image::of_file(file.try_clone()?)?)?;
    BuildId::of(&elf).ok_or_else(|| Error::new(ErrorKind::OtherFile, "has no build id"))
}

fn by_handle(sampled: &Sampled<'_>) -> Result<File> {
    let key = &sampled.key;
    let ino = u32::try_from(key.ino)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "inode number beyond 32 bits"))?;
    let mut last = Error::new(ErrorKind::NotFound, "no mount of its device");
    for mount in mounts(key.dev)?.into_iter().take(MAX_MOUNTS) {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let opened = rustix::fs::open(&mount, flags, Mode::empty()).map_err(Error::from);
        match opened.and_then(|mount| accept(open_handle(mount, ino, key.generation)?, sampled)) {
            Ok(file) => return Ok(file),
            Err(error) => last = error.context(mount.display()),
        }
    }
    Err(last)
}

/// `struct file_handle` (include/uapi/linux/fcntl.h) with the eight bytes of `FILEID_INO32_GEN`.
#[repr(C)]
struct FileHandle {
    handle_bytes: u32,
    handle_type: i32,
    ino: u32,
    generation: u32,
}

fn open_handle(mount: OwnedFd, ino: u32, generation: u32) -> Result<OwnedFd> {
    let mut handle = FileHandle {
        handle_bytes: 8,
        handle_type: FILEID_INO32_GEN,
        ino,
        generation,
    };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the descriptor is open, and the handle has as many bytes as it says.
    let fd = unsafe {
        libc::open_by_handle_at(
            mount.as_raw_fd(),
            (&raw mut handle).cast::<libc::file_handle>(),
            flags,
        )
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where the device is mounted, as far as we see.
fn mounts(dev: u32) -> Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let device = format!("{}:{}", dev >> 20, dev & 0xf_ffff);
    Ok(table
        .split(|&b| b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|&b| b == b' ').skip(2);
            let is_its = fields.next()? == device.as_bytes();
            is_its.then(|| unescape(fields.nth(1)?)).flatten()
        })
        .collect())
}

/// Mount points are written with `\040` for a space and the like.
fn unescape(field: &[u8]) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\' {
            let digits = std::str::from_utf8(after.get(..3)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 8).ok()?);
            rest = &after[3..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    Some(OsString::from_vec(bytes).into())
}

fn by_map_files(sampled: &Sampled<'_>) -> Result<File> {
    let (pid, (start, end)) = (visible(sampled)?, sampled.mapping);
    let link = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    accept(rustix::fs::open(link, flags, Mode::empty())?, sampled)
}

fn by_process_path(sampled: &Sampled<'_>) -> Result<File> {
    let mut last = Err(Error::new(
        ErrorKind::NotFound,
        "no process of ours maps it",
    ));
    let own = visible(sampled).ok();
    for pid in own.iter().chain(sampled.neighbours) {
        last = below(&format!("/proc/{pid}/root"), sampled);
        if last.is_ok() {
            break;
        }
    }
    last
}

fn by_host_path(sampled: &Sampled<'_>) -> Result<File> {
    below("/", sampled)
}

fn below(root: &str, sampled: &Sampled<'_>) -> Result<File> {
    let root = beneath::root(Path::new(root))?;
    accept(beneath::point(root, &path(sampled.components))?, sampled)
}

fn visible(sampled: &Sampled<'_>) -> Result<u32> {
    (sampled.pid != 0)
        .then_some(sampled.pid)
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "no process of ours maps it"))
}
