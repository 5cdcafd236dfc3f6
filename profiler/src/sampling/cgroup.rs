//! cgroups by id: the id in a sample is the inode of the group's directory.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Groups kept at most.
const MAX_GROUPS: usize = 16 << 10;
/// `FILEID_KERNFS` (include/linux/exportfs.h): the handle is the 64-bit id.
const FILEID_KERNFS: i32 = 0xfe;
/// Where the cgroup v2 hierarchy is mounted, alone or beside v1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// Paths of cgroups, each looked up once.
#[derive(Debug, Default)]
pub struct Cgroups {
    mount: Option<Option<(OwnedFd, &'static str)>>,
    paths: HashMap<u64, Option<Arc<str>>>,
}

impl Cgroups {
    /// The path of a group below the hierarchy's root; `None` for the root itself, and where there
    /// is no hierarchy or no such group any more.
    pub fn get(&mut self, id: u64) -> Option<Arc<str>> {
        if let Some(path) = self.paths.get(&id) {
            return path.clone();
        }
        if self.paths.len() >= MAX_GROUPS {
            self.paths.clear();
        }
        let path = self.look_up(id);
        self.paths.insert(id, path.clone());
        path
    }

    fn look_up(&mut self, id: u64) -> Option<Arc<str>> {
        /// `struct file_handle` with an 8-byte handle (include/uapi/linux/fcntl.h).
        #[repr(C)]
        struct Handle {
            bytes: u32,
            type_: i32,
            id: [u8; 8],
        }
        let (mount, root) = self.mount.get_or_insert_with(hierarchy).as_ref()?;
        let mut handle = Handle {
            bytes: 8,
            type_: FILEID_KERNFS,
            id: id.to_ne_bytes(),
        };
        // SAFETY: a complete handle; the descriptor is new and ours.
        let group = unsafe {
            let fd = libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_raw_fd(),
                &raw mut handle,
                libc::O_PATH | libc::O_CLOEXEC,
            );
            if fd < 0 {
                return None;
            }
            OwnedFd::from_raw_fd(fd as i32)
        };
        let path = std::fs::read_link(format!("/proc/self/fd/{}", group.as_raw_fd())).ok()?;
        let path = path.to_string_lossy();
        let below = path.strip_prefix(root)?;
        (!below.is_empty()).then(|| below.into())
    }
}

/// The mounted cgroup v2 hierarchy.
fn hierarchy() -> Option<(OwnedFd, &'static str)> {
    MOUNTS.into_iter().find_map(|path| {
        let fd = open_directory(path).ok()?;
        let system = rustix::fs::fstatfs(&fd).ok()?;
        (system.f_type == CGROUP2_SUPER_MAGIC).then_some((fd, path))
    })
}

/// The id of the cgroup whose directory this is.
///
/// # Errors
/// Those of `stat`: it is gone, say.
pub fn id_of(directory: &Path) -> io::Result<u64> {
    std::fs::metadata(directory).map(|found| found.ino())
}

fn open_directory(path: &str) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: a NUL-terminated path; the descriptor is new and ours.
    unsafe {
        let fd = libc::open(
            path.as_ptr(),
            libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC,
        );
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}
