//! What a mapped file is, and telling user space of one met for the first time.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated as helpers;

use super::config::offset;
use super::maps::{ANNOUNCED, state};
use super::memory::{at, kernel, kernel_u32, kernel_u64, masked, user};
use super::output;
use super::state::{BUFFER, INODE_BYTES, State};
use crate::record::{HEAD_BYTES, MAX_MAPPINGS, Mapping, Mappings, ModuleSeen, RecordKind};

/// Path components looked at.
const MAX_COMPONENTS: u32 = 64;
/// Bytes of a path.
const PATH_BYTES: u64 = 4096;
/// Bytes of one component (`NAME_MAX`).
const NAME_BYTES: u64 = 255;
/// Where in the buffer an announcement is made: behind the mappings of a slice.
const AT: usize = 20 << 10;
const _: () = {
    let mappings = size_of::<Mappings>() + MAX_MAPPINGS as usize * size_of::<Mapping>();
    let announcement = size_of::<ModuleSeen>() + PATH_BYTES as usize + NAME_BYTES as usize + 1;
    assert!(mappings <= AT && AT + announcement <= BUFFER);
};
/// A module announced is announced again after this many nanoseconds.
const ANNOUNCE_AGAIN: u64 = 1_000_000_000;

/// A field of the inode: out of the bytes already read where they reach that far.
macro_rules! inode_field {
    ($bytes:expr, $inode:expr, $field:ident, $type_:ty, $read:ident) => {
        if offset!($field) + 8 <= INODE_BYTES as u64 {
            at::<$type_>($bytes, offset!($field))
        } else {
            $read($inode + offset!($field)) as $type_
        }
    };
}

/// Takes the key of a `struct file` into `state.key`. The inode is the real one, also on overlays.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn key(state: *mut State, file: u64) {
    // SAFETY: offsets are constants within the bytes read.
    unsafe {
        let inode = kernel_u64(file + offset!(file_inode));
        let bytes = (&raw mut (*state).inode).cast::<u8>();
        kernel(bytes.cast(), INODE_BYTES as u32, inode);
        let sb = inode_field!(bytes, inode, inode_sb, u64, kernel_u64);
        let key = &raw mut (*state).key;
        (*key).ino = inode_field!(bytes, inode, inode_ino, u64, kernel_u64);
        (*key).size = inode_field!(bytes, inode, inode_size, u64, kernel_u64);
        (*key).generation = inode_field!(bytes, inode, inode_generation, u32, kernel_u32);
        (*key).ctime_sec = inode_field!(bytes, inode, inode_ctime_sec, i64, kernel_u64);
        // Since 6.13 the top bit says that somebody looked at the time (I_CTIME_QUERIED).
        (*key).ctime_nsec =
            inode_field!(bytes, inode, inode_ctime_nsec, u32, kernel_u32) & 0x3fff_ffff;
        (*key).dev = kernel_u32(sb + offset!(sb_dev));
        (*key)._pad = 0;
    }
}

/// Tells user space of the module `state.key` in `state.mapped`, once.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn announce(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        let now = (*state).started;
        if let Some(when) = ANNOUNCED.get_ptr(&(*state).key)
            && now.wrapping_sub(*when) < ANNOUNCE_AGAIN
        {
            return;
        }
        let seen = (&raw mut (*state).buffer)
            .cast::<u8>()
            .add(AT)
            .cast::<ModuleSeen>();
        (*seen).header = output::header(state, RecordKind::ModuleSeen);
        (*seen).process = (*state).sample.task.process;
        (*seen).own_tgid = (*state).sample.task.own.tgid;
        (*seen).key = (*state).key;
        (*seen).start = (*state).mapped.start;
        (*seen).end = (*state).mapped.end;
        (*seen).mount_ns = (*state).sample.task.mount_ns;
        (*seen)._pad = 0;
        // What cannot be read is zeroed.
        let head = (&raw mut (*seen).head).cast();
        user(head, HEAD_BYTES as u32, (*state).mapped.bias);
        (*state).cursor = 0;
        let file = (*state).file;
        if file != 0 {
            (*state).dentry = kernel_u64(file + offset!(file_dentry));
            let vfsmount = kernel_u64(file + offset!(file_mnt));
            (*state).mount = vfsmount.wrapping_sub(offset!(mount_mnt));
            let mut context = 0u64;
            helpers::bpf_loop(
                MAX_COMPONENTS,
                component as *mut c_void,
                (&raw mut context).cast(),
                0,
            );
        }
        let mut len = (*state).cursor;
        if len > PATH_BYTES {
            len = PATH_BYTES;
        }
        (*seen).path_len = len as u32;
        if output::send(
            seen.cast(),
            size_of::<ModuleSeen>() as u64 + (len + 7 & !7),
            true,
        ) {
            let _ = ANNOUNCED.insert(&(*state).key, &now, 0);
            (*state).announced = 1;
        }
    }
}

/// Appends one component of the path, then moves towards the root, across mounts.
unsafe extern "C" fn component(_: u64, _: *mut c_void) -> c_long {
    let Some(state) = state() else { return 1 };
    // SAFETY: this CPU's slot; the cursor is masked so that a component always fits the buffer.
    unsafe {
        let dentry = (*state).dentry;
        let mount = (*state).mount;
        let parent = kernel_u64(dentry + offset!(dentry_parent));
        let root = kernel_u64(mount + offset!(mount_mnt) + offset!(vfsmount_root));
        if dentry == root || dentry == parent {
            let above = kernel_u64(mount + offset!(mount_parent));
            if above == mount || above == 0 {
                return 1;
            }
            (*state).dentry = kernel_u64(mount + offset!(mount_mountpoint));
            (*state).mount = above;
            return 0;
        }
        let mut name = [0u64; 2];
        if !kernel((&raw mut name).cast(), 16, dentry + offset!(dentry_name)) {
            return 1;
        }
        let mut len = name[0] >> 32;
        if len > NAME_BYTES {
            len = NAME_BYTES;
        }
        let cursor = (*state).cursor;
        if cursor + len + 1 > PATH_BYTES {
            return 1;
        }
        let path = (&raw mut (*state).buffer)
            .cast::<u8>()
            .add(AT + size_of::<ModuleSeen>());
        *path.add(masked(cursor, PATH_BYTES - 1)) = b'/';
        let to = path.add(cursor as usize + 1 & (PATH_BYTES as usize - 1));
        if !kernel(to.cast(), len as u32 & 255, name[1]) {
            return 1;
        }
        (*state).cursor = cursor + 1 + len;
        (*state).dentry = parent;
        0
    }
}
