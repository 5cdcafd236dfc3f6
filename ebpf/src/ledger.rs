//! The ledger: every expected tick ends in exactly one column.
//!
//! The programs count each tick that they do not hand on, and each sample that they send
//! ([`SENT`]): so the ticks that the kernel delivered are known whatever becomes of the samples in
//! user space. There is no column for a full map: none costs a sample. Names that were sent and
//! could not be noted are sent again; a module without a place takes that of one that was not used for
//! long; an interpreter without one leaves its stacks truncated, which says so.

/// Declares the columns once: number, name, and whether it is a loss.
macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident = $n:literal, $text:literal, $loss:literal;)*) => {
        /// Where a tick ended.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Column { $($(#[$doc])* $name = $n,)* }

        impl Column {
            /// All columns, in the order they are shown.
            pub const ALL: &'static [Column] = &[$(Column::$name),*];

            /// The column's name for people.
            pub const fn name(self) -> &'static str {
                match self { $(Column::$name => $text,)* }
            }

            /// Whether ticks in this column are samples that were lost.
            pub const fn is_loss(self) -> bool {
                match self { $(Column::$name => $loss,)* }
            }
        }
    };
}

columns! {
    /// The CPU had nothing to run.
    Idle = 0, "idle", false;
    /// A task that was not asked for (`-p`, `--cgroup`, another program than the command).
    NotSelected = 1, "not selected", false;
    /// In the profile, its stack complete by rows and runtimes.
    Resolved = 2, "resolved", false;
    /// In the profile, complete, but at least one caller was found by frame pointer.
    ByFramePointer = 3, "resolved by frame pointer", false;
    /// In the profile, its stack ends in `[truncated: …]`.
    Truncated = 4, "truncated", false;
    /// Expected by the event's enabled time, but the kernel did not deliver it.
    NotDelivered = 5, "not delivered by the kernel", true;
    /// The program used more of a CPU than it may, and sat this tick out.
    RateLowered = 6, "rate lowered", true;
    /// The ring buffer was full.
    RingFull = 7, "ring full", true;
    /// A worker's queue was full.
    QueueFull = 8, "queue full", true;
    /// A thread of rprof died with it.
    WorkerLost = 9, "worker lost", true;
    /// A page that the stack or a name needs was not in memory.
    WouldFault = 10, "would fault", true;
    /// A page that only a read that un-shares or maps it could get.
    SharedPage = 11, "shared page", true;
    /// A code object changed between sample and read.
    Changed = 12, "changed", true;
    /// The target was gone before its names could be read.
    TargetGone = 13, "target gone", true;
    /// The interpreter's file was seen for the first time.
    RuntimeBeingLearned = 14, "runtime being learned", true;
    /// The profile's memory was used up, and its part file did not help.
    MemoryFull = 15, "profile full", true;
    /// A file or process that rprof read from did not answer in time.
    Quarantined = 16, "quarantined", true;
    /// A code object's names could not be copied at any sample.
    Unnamed = 17, "names not read", true;
    /// rprof itself could not make sense of the record: a defect.
    Malformed = 18, "malformed", true;
    /// The kernel does not let rprof read the process (Yama, another security module).
    NotPermitted = 19, "not permitted", true;
}

/// How many columns there are.
pub const COLUMNS: usize = Column::ALL.len();

/// Where the programs count, beside columns: samples that they sent.
pub const SENT: u32 = COLUMNS as u32;
/// How many numbers the programs count for each CPU.
pub const COUNTERS: u32 = SENT + 1;
