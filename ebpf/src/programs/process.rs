//! Who a pidfd of rprof's own stands for, at this moment, as a sample of that thread would say: of a
//! process's pidfd its first thread, whose memory is given back when it ends though others live on.
//!
//! User space runs it in its own context (`BPF_PROG_TEST_RUN` of a raw tracepoint program, 5.10) after
//! it has read a process's memory: only the kernel knows whether that was still the program that the
//! sample was taken of. A descriptor enters; the process's key leaves by a map. Should a kernel keep
//! these things otherwise, what leaves is no key of any sample, and what was read does not count.

use aya_ebpf::helpers::generated as helpers;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;

use super::config::offset;
use super::memory::{at, kernel_u32, kernel_u64};
use crate::identity::{ProcessKey, found};

#[map]
static PROCESS: Array<ProcessKey> = Array::with_max_entries(1, 0);

/// Looks up the thread of a pidfd: one of [`found`].
#[inline(always)]
pub fn process_of(descriptor: u64) -> i32 {
    let Some(to) = PROCESS.get_ptr_mut(0) else {
        return found::NOBODY;
    };
    // SAFETY: offsets come from this kernel's BTF, what lies behind other pointers is read so that it
    // cannot fault; the value is a map's.
    unsafe {
        let task = helpers::bpf_get_current_task_btf() as *const u8;
        let table = kernel_u64(at::<u64>(task, offset!(task_files)) + offset!(files_fdt));
        let files = kernel_u64(table + offset!(fdtable_fd));
        let file = kernel_u64(files.wrapping_add(descriptor.wrapping_mul(8)));
        // In a file system of its own since 6.9 (fs/pidfs.c), before that in the file (kernel/fork.c).
        let inode = kernel_u64(file + offset!(file_inode));
        let of_inode = kernel_u64(inode + offset!(inode_private));
        let pid = match of_inode {
            0 => kernel_u64(file + offset!(file_private)),
            pid => pid,
        };
        // `PIDTYPE_PID` is 0 (include/linux/pid_types.h): the first of the lists, on both sides.
        let node = kernel_u64(pid + offset!(pid_tasks));
        if node == 0 {
            return found::NOBODY;
        }
        let thread = node - offset!(task_pid_links);
        let leader = kernel_u64(thread + offset!(task_group_leader));
        // Each from the task that a sample takes it from.
        (*to).tgid = kernel_u32(thread + offset!(task_tgid));
        (*to).exec_id = kernel_u32(thread + offset!(task_exec_id));
        (*to).start = kernel_u64(leader + offset!(task_start));
        (*to).mm = kernel_u64(thread + offset!(task_mm));
        match leader == at::<u64>(task, offset!(task_group_leader)) {
            true => found::OURSELVES,
            false => found::ANOTHER,
        }
    }
}
