//! Settings of the programs, constant for a run.

/// What to sample, and within which bounds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which tasks are wanted: a [`Select`] number.
    pub select: u32,
    /// Inode number of rprof's pid namespace.
    pub own_ns: u32,
    /// Kernel frames of a sample at most; [`MAX_KERNEL_FRAMES`] or less, 0: none are wanted.
    pub kernel_frames: u32,
    /// A tick ends after this many nanoseconds.
    pub tick_ns: u32,
    /// The programs use at most this many nanoseconds of each second of a CPU.
    pub second_ns: u32,
    /// 1: code objects are named at the sample.
    pub name_code: u32,
    /// Id of the cgroup that tasks are wanted of (its directory's inode number), for
    /// [`Select::Cgroup`].
    pub cgroup: u64,
    /// The ring wakes its reader when this many bytes wait.
    pub wake_bytes: u64,
}

impl Config {
    /// All zero.
    pub const ZERO: Self = Self {
        select: 0,
        own_ns: 0,
        kernel_frames: 0,
        tick_ns: 0,
        second_ns: 0,
        name_code: 0,
        cgroup: 0,
        wake_bytes: 0,
    };
}

/// Which tasks are wanted.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// All of them.
    All = 0,
    /// Those whose process is in the map of targets.
    Targets = 1,
    /// Those, and processes whose parent chain meets one of them.
    TargetsAndChildren = 2,
    /// Those in a cgroup, or in one below it. Asked at the tick: a moment later the group a task was in
    /// may be gone, and nobody could say where it had been.
    Cgroup = 3,
}

/// Bits of a value in the map of targets. None set: ruled out, with its descendants.
pub mod target {
    /// The process itself is wanted.
    pub const ITSELF: u32 = 1;
    /// Its descendants are.
    pub const DESCENDANTS: u32 = 2;
}

/// Levels of the cgroup hierarchy, the root included, on which a wanted group is looked for.
pub const MAX_CGROUP_LEVELS: i32 = 32;

/// Kernel frames that a sample has room for: what kernels give unless `kernel.perf_event_max_stack`
/// says otherwise.
pub const MAX_KERNEL_FRAMES: u32 = 127;

/// `PROC_PID_INIT_INO` (include/linux/proc_ns.h): inode number of the initial pid namespace.
pub const INITIAL_PID_NS: u32 = 0xefff_fffc;
