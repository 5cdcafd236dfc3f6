//! The programs that run now, and their libraries.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use crate::beneath;
use crate::error::Result;

use super::loader::closure;
use super::root::Root;
use super::{CodeFile, Environment};

/// Files of all programs at most.
const MAX_FILES: usize = 2048;
/// Paths that are tried below one root at most.
const MAX_TRIES: u32 = 16 << 10;
/// Root directories at most: containers have one each.
const MAX_ROOTS: usize = 64;

/// What runs on this machine.
#[derive(Debug, Default)]
pub struct Running {
    /// Each file once: executables in the order of the first process that runs them, each followed by those of its
    /// libraries that did not come before.
    pub files: Vec<CodeFile>,
    /// Distinct executables among them.
    pub executables: usize,
    /// There were more executables, roots or files than are looked at.
    pub cut: bool,
}

/// The code of the programs that all processes run now: see [`of_processes`].
///
/// To be called once, at start: its work grows with the number of processes, by one `statx` each.
///
/// # Errors
/// `/proc` cannot be listed.
pub fn running(limit: usize, begin: impl FnMut(u32, u64) -> bool) -> Result<Running> {
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    of_processes(pids, limit, begin)
}

/// The code of the programs that these processes run now, `limit` distinct executables at most, and
/// only those that `begin` agrees to: before an executable is opened it is given its device, as
/// module keys have it, and its inode.
///
/// It costs a target nothing but a reference on its executable's file, for a moment: `exe` and
/// `root` are looked up under the task's own spin lock; neither is `mmap_lock` taken, nor is the
/// process's memory referenced (fs/proc/base.c, `proc_exe_link`; kernel/fork.c,
/// `get_task_exe_file`). The environments of these processes stay unknown: they are memory.
///
/// # Errors
/// `/proc` cannot be opened.
pub fn of_processes(
    pids: impl IntoIterator<Item = u32>,
    limit: usize,
    mut begin: impl FnMut(u32, u64) -> bool,
) -> Result<Running> {
    let proc = beneath::root("/proc")?;
    let environment = Environment::default();
    let mut running = Running::default();
    let mut roots: Vec<(Place, Root)> = Vec::new();
    let mut executables = HashSet::new();
    let mut order: Vec<(usize, usize)> = Vec::new();
    for pid in pids {
        // Kernel threads have no executable; others may be gone, or not ours to see.
        let Some(place) = Place::of(&proc, &format!("{pid}/exe")) else {
            continue;
        };
        if !executables.insert((place.device, place.inode)) {
            continue;
        }
        if running.executables >= limit {
            running.cut = true;
            break;
        }
        let (major, minor) = place.device;
        if !begin(major << 20 | minor & 0xf_ffff, place.inode) {
            continue;
        }
        let Some((file, directory)) = open(&proc, pid) else {
            continue;
        };
        let Some(place) = Place::of(&directory, "") else {
            continue;
        };
        let at = match roots.iter().position(|(known, _)| *known == place) {
            Some(at) => at,
            None if roots.len() < MAX_ROOTS => {
                roots.push((place, Root::new(directory, MAX_FILES, MAX_TRIES)));
                roots.len() - 1
            }
            None => {
                running.cut = true;
                continue;
            }
        };
        let Some((_, root)) = roots.get_mut(at) else {
            continue;
        };
        let Ok(programs) = root.programs_of(file, &environment) else {
            continue;
        };
        running.executables += 1;
        for program in programs {
            let objects = closure(root, program, &environment);
            order.extend(objects.into_iter().map(|object| (at, object)));
        }
    }
    let mut files: Vec<_> = roots
        .into_iter()
        .map(|(_, root)| root.into_files())
        .collect();
    let mut inodes = HashSet::new();
    for (root, object) in order {
        let Some(file) = files
            .get_mut(root)
            .and_then(|files| files.get_mut(object)?.take())
        else {
            continue;
        };
        if running.files.len() >= MAX_FILES {
            running.cut = true;
            break;
        }
        // Several roots can show one file.
        if let Ok(status) = file.file.metadata()
            && inodes.insert((status.dev(), status.ino()))
        {
            running.files.push(file);
        }
    }
    Ok(running)
}

/// A file, and the mount that shows it: mount namespaces have the same directory on mounts of their
/// own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    mount: u64,
    device: (u32, u32),
    inode: u64,
}

impl Place {
    /// Follows a link of `/proc`, or looks at the directory itself if `link` is empty. Never asks a
    /// file system that would have to ask a server.
    fn of(directory: impl AsFd, link: &str) -> Option<Self> {
        let flags = match link {
            "" => AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
            _ => AtFlags::STATX_DONT_SYNC,
        };
        let mask = StatxFlags::INO | StatxFlags::MNT_ID;
        let status = rustix::fs::statx(directory, link, flags, mask).ok()?;
        Some(Self {
            mount: status.stx_mnt_id,
            device: (status.stx_dev_major, status.stx_dev_minor),
            inode: status.stx_ino,
        })
    }
}

/// A process's executable, and its root.
fn open(proc: impl AsFd, pid: u32) -> Option<(File, OwnedFd)> {
    let point = |link: &str, flags| {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat(&proc, format!("{pid}/{link}"), flags, Mode::empty()).ok()
    };
    let executable = point("exe", OFlags::empty())?;
    let root = point("root", OFlags::DIRECTORY)?;
    Some((beneath::reopen(executable).ok()?, root))
}
