//! Who a sample belongs to, as the kernel said it at the sample.

/// A process from one `exec` to the next. Whatever is cached about a process hangs on all of it, so
/// that neither a reused pid nor an `exec` can inherit a name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Process id (`task->tgid`) in the initial pid namespace.
    pub tgid: u32,
    /// Low half of `task->self_exec_id`: moves with each `exec`.
    pub exec_id: u32,
    /// `group_leader->start_boottime`, nanoseconds since boot.
    pub start: u64,
    /// Address of the `mm_struct`: what addresses hang on (0: a kernel thread).
    pub mm: u64,
}

/// What the look at who a pidfd stands for comes to.
pub mod found {
    /// No thread that is left.
    pub const NOBODY: i32 = 0;
    /// A thread of another process.
    pub const ANOTHER: i32 = 1;
    /// One of rprof's.
    pub const OURSELVES: i32 = 2;
}

/// Process and thread id as one pid namespace shows them (0: not visible there).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ids {
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
}

/// Length of `task->comm`, the final NUL included.
pub const COMM_LEN: usize = 16;

/// The task that a sample interrupted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Task {
    /// Its process.
    pub process: ProcessKey,
    /// Ids in the initial namespace, in rprof's own, and in the task's innermost.
    pub host: Ids,
    /// See [`Task::host`].
    pub own: Ids,
    /// See [`Task::host`].
    pub innermost: Ids,
    /// cgroup v2 id (the inode number of its directory).
    pub cgroup: u64,
    /// `group_leader->comm`.
    pub comm: [u8; COMM_LEN],
    /// The thread's own `comm`.
    pub thread: [u8; COMM_LEN],
    /// Bits of [`task_flags`].
    pub flags: u32,
    /// Mount namespace (the inode number of `/proc/PID/ns/mnt`); 0: not known.
    pub mount_ns: u32,
}

/// Bits of [`Task::flags`].
pub mod task_flags {
    /// A kernel thread, io_uring or vhost worker: kernel frames only, and that is complete.
    pub const KERNEL_ONLY: u32 = 1;
    /// The interrupted user code is 32-bit.
    pub const COMPAT: u32 = 2;
    /// The interrupt hit in the kernel.
    pub const IN_KERNEL: u32 = 4;
}

/// A row of the map of ticks lost inside the programs: whose, and in which column.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LostKey {
    /// `group_leader->start_boottime`, nanoseconds since boot.
    pub start: u64,
    /// Process id in the initial pid namespace.
    pub host: u32,
    /// Process id in rprof's own namespace (0: not visible).
    pub own: u32,
    /// A [`crate::ledger::Column`] number.
    pub column: u64,
}

/// What the map of lost ticks says of a row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostTicks {
    /// How many.
    pub ticks: u64,
    /// `group_leader->comm` at the first of them.
    pub comm: [u8; COMM_LEN],
}
