//! Whose tick it is: identity as the kernel keeps it, taken from the current task.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated as helpers;

use super::config::{config, offset};
use super::maps::TARGETS;
use super::memory::{at, kernel, kernel_u32, kernel_u64};
use super::state::State;
use crate::identity::{COMM_LEN, Ids, task_flags};
use crate::select::{INITIAL_PID_NS, MAX_CGROUP_LEVELS, Select, target};

/// `PF_IO_WORKER | PF_USER_WORKER | PF_KTHREAD` (include/linux/sched.h): no user side.
const KERNEL_ONLY: u32 = 0x10 | 0x4000 | 0x20_0000;
/// Parents looked at to find out whose descendant a task is.
const MAX_ANCESTORS: u32 = 4096;

/// Fills in `state.sample.task`, `mm` and `fsbase`. User registers are looked at elsewhere.
///
/// # Safety
/// `state` is this CPU's slot, `task` comes from `bpf_get_current_task_btf`.
#[inline(always)]
pub(crate) unsafe fn identify(state: *mut State, task: *const u8) {
    // SAFETY: as said; offsets come from this kernel's BTF, and the verifier checks them.
    unsafe {
        let out = &raw mut (*state).sample.task;
        let leader: *const u8 = at(task, offset!(task_group_leader));
        let mm: u64 = at(task, offset!(task_mm));
        let flags: u32 = at(task, offset!(task_flags));
        let id = helpers::bpf_get_current_pid_tgid();
        (*out).host = Ids {
            tgid: (id >> 32) as u32,
            tid: id as u32,
        };
        let kernel_only = flags & KERNEL_ONLY != 0;
        (*out).flags = if kernel_only {
            task_flags::KERNEL_ONLY
        } else {
            0
        };
        (*state).mm = if kernel_only { 0 } else { mm };
        (*state).fsbase = at(task, offset!(task_fsbase));
        (*out).process.tgid = (id >> 32) as u32;
        (*out).process.exec_id = at(task, offset!(task_exec_id));
        (*out).process.start = kernel_u64(leader as u64 + offset!(task_start));
        (*out).process.mm = (*state).mm;
        (*out).cgroup = helpers::bpf_get_current_cgroup_id();
        let nsproxy: u64 = at(task, offset!(task_nsproxy));
        (*out).mount_ns =
            kernel_u32(kernel_u64(nsproxy + offset!(nsproxy_mnt)) + offset!(mntns_inum));
        helpers::bpf_get_current_comm((&raw mut (*out).thread).cast(), COMM_LEN as u32);
        kernel(
            (&raw mut (*out).comm).cast(),
            COMM_LEN as u32,
            leader as u64 + offset!(task_comm),
        );
        let thread_pid: u64 = at(task, offset!(task_thread_pid));
        let level = kernel_u32(thread_pid + offset!(pid_level));
        if level == 0 {
            let seen = config!(own_ns) == INITIAL_PID_NS;
            (*out).own = if seen {
                (*out).host
            } else {
                Ids { tgid: 0, tid: 0 }
            };
            (*out).innermost = (*out).host;
        } else {
            let leader_pid = kernel_u64(leader as u64 + offset!(task_thread_pid));
            (*out).own = Ids {
                tgid: own_nr(leader_pid),
                tid: own_nr(thread_pid),
            };
            (*out).innermost = Ids {
                tgid: nr(leader_pid, level).0,
                tid: nr(thread_pid, level).0,
            };
        }
    }
}

/// Bytes of a `struct upid`: number, padding, namespace.
const UPID_BYTES: u64 = 16;

/// Number and namespace of a `struct pid` at a level.
#[inline(always)]
fn nr(pid: u64, level: u32) -> (u32, u64) {
    let upid = pid + offset!(pid_numbers) + (level & 31) as u64 * UPID_BYTES;
    (
        kernel_u32(upid + offset!(upid_nr)),
        kernel_u64(upid + offset!(upid_ns)),
    )
}

/// Namespaces within namespaces (`MAX_PID_NS_LEVEL`, include/linux/pid_namespace.h).
const MAX_LEVELS: u32 = 32;

/// The number of a `struct pid` in rprof's own namespace, 0 if it is not visible there.
#[inline(always)]
fn own_nr(pid: u64) -> u32 {
    let own = config!(own_ns);
    if own == INITIAL_PID_NS {
        return nr(pid, 0).0;
    }
    let level = kernel_u32(pid + offset!(pid_level));
    for i in 0..=MAX_LEVELS {
        if i > level {
            break;
        }
        let (number, ns) = nr(pid, i);
        if kernel_u32(ns + offset!(pidns_inum)) == own {
            return number;
        }
    }
    0
}

/// Whether the current task is one that was asked for. Asked before anything else is read: with
/// `-p`, most ticks are others'.
///
/// # Safety
/// `task` comes from `bpf_get_current_task_btf`.
#[inline(always)]
pub(crate) unsafe fn selected(task: *const u8) -> bool {
    let select = config!(select);
    if select == Select::All as u32 {
        return true;
    }
    if select == Select::Cgroup as u32 {
        return in_cgroup(config!(cgroup));
    }
    // SAFETY: as said.
    unsafe {
        let own = if config!(own_ns) == INITIAL_PID_NS {
            at(task, offset!(task_tgid))
        } else {
            let leader: u64 = at(task, offset!(task_group_leader));
            own_nr(kernel_u64(leader + offset!(task_thread_pid)))
        };
        if let Some(wanted) = TARGETS.get_ptr(&own) {
            return *wanted & target::ITSELF != 0;
        }
        if select == Select::Targets as u32 {
            return false;
        }
        let mut line = Line {
            leader: at(task, offset!(task_group_leader)),
            exec_id: at::<u32>(task, offset!(task_exec_id)) as u64,
            wanted: 0,
        };
        helpers::bpf_loop(
            MAX_ANCESTORS,
            ancestor as *mut c_void,
            (&raw mut line).cast(),
            0,
        );
        line.wanted != 0
    }
}

/// The line of a task's parents, as far as it was followed.
#[repr(C)]
struct Line {
    /// The leader of the process looked at last.
    leader: u64,
    /// The task's own exec id.
    exec_id: u64,
    /// 1: a process whose descendants are wanted was met.
    wanted: u64,
}

/// Looks at the next parent; 1 when it is known whether the task is wanted.
unsafe extern "C" fn ancestor(_: u64, line: *mut c_void) -> c_long {
    let line: *mut Line = line.cast();
    // SAFETY: the caller's variable; kernel memory is read so that it cannot fault.
    unsafe {
        let parent = kernel_u64((*line).leader + offset!(task_real_parent));
        let leader = kernel_u64(parent + offset!(task_group_leader));
        (*line).leader = leader;
        if leader == 0 {
            return 1;
        }
        let own = own_nr(kernel_u64(leader + offset!(task_thread_pid)));
        if let Some(wanted) = TARGETS.get_ptr(&own) {
            // rprof's own child, before its exec, is rprof still.
            let same_program = kernel_u32(leader + offset!(task_exec_id)) as u64 == (*line).exec_id;
            let not_begun = *wanted & target::ITSELF == 0 && same_program;
            (*line).wanted = (*wanted & target::DESCENDANTS != 0 && !not_begun) as u64;
            return 1;
        }
        (kernel_u32(leader + offset!(task_tgid)) <= 1) as c_long
    }
}

/// Whether the current task is in this cgroup, or in one below it.
#[inline(always)]
fn in_cgroup(wanted: u64) -> bool {
    for level in 0..MAX_CGROUP_LEVELS {
        // SAFETY: a number only. 0: the task's own group is above this level.
        let id = unsafe { helpers::bpf_get_current_ancestor_cgroup_id(level) };
        if id == wanted || id == 0 {
            return id == wanted;
        }
    }
    false
}
