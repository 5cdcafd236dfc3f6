//! What a tick works with, one slot a CPU: ticks of one CPU never nest.

use crate::identity::ProcessKey;
pub(crate) use crate::kernel::VMA_BYTES;
use crate::module::{ModuleInfo, ModuleKey};
use crate::record::Sample;
use crate::runtimes::Owns;
use crate::runtimes::frames::{FRAME_BYTES, FRAME_PIECE};
use crate::runtimes::walk::Walk;
pub(crate) use crate::select::MAX_KERNEL_FRAMES;

/// Frames in a sample at most.
pub(crate) const MAX_FRAMES: u64 = 1024;
/// Words of frames: an interpreted frame takes three.
pub(crate) const MAX_WORDS: usize = MAX_KERNEL_FRAMES as usize + 3 * MAX_FRAMES as usize + 1;

/// Bytes of stack that are read at once.
pub(crate) const CHUNK: usize = 1024;
/// Bytes of `struct inode` that are read at once.
pub(crate) const INODE_BYTES: usize = 192;
/// Code objects that one tick names at most.
pub(crate) const MAX_NAMED: u64 = 128;
/// Room for a path, for mappings, for the fields of a code object.
pub(crate) const BUFFER: usize = 26 << 10;
/// Mappings kept between ticks.
pub(crate) const KEPT: usize = 8;

/// An executable mapping, with what is known of its module.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Mapped {
    pub(crate) start: u64,
    /// 0: the slot is free.
    pub(crate) end: u64,
    /// Address − file offset.
    pub(crate) bias: u64,
    /// A [`Backing`] number.
    pub(crate) backing: u64,
    pub(crate) module: ModuleInfo,
}

/// What the last walk of the tree led to, if it is not believed yet.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) vma: u64,
    pub(crate) file: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) bias: u64,
    /// How many walks led to it, and none to another since.
    pub(crate) times: u64,
}

/// What stands behind a mapping.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A module that is known.
    Module = 0,
    /// A file that user space has not learned yet.
    Unlearned = 1,
    /// No file: code made at run time.
    Anonymous = 2,
}

/// A code object to be named after the walk.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Unnamed {
    pub(crate) address: u64,
    pub(crate) key: u64,
    pub(crate) seen: u64,
    pub(crate) plan: u32,
    pub(crate) runtime: u32,
    pub(crate) interpreter: u32,
    pub(crate) _pad: u32,
}

/// What the walk does next.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A native frame.
    Native = 0,
    /// Look for the newest marker of a runtime on this thread's stack.
    Search = 1,
    /// A runtime's frame of the activation that the pending native frame holds.
    Runtime = 2,
    /// Native frames ended early: the rest of the runtime's frames.
    RuntimeRest = 3,
    /// Nothing is left to do.
    Done = 4,
}

#[repr(C)]
pub(crate) struct State {
    // Where the walk is.
    pub(crate) phase: u64,
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
    pub(crate) bx: u64,
    /// The pc is that of an instruction, not of a return address.
    pub(crate) exact: u64,
    /// The frame was found by frame pointer.
    pub(crate) guessed: u64,
    /// Bits of [`crate::record::lost`]: registers whose value is not known.
    pub(crate) lost: u64,
    /// Frames so far, words so far, steps so far.
    pub(crate) frames: u64,
    pub(crate) words: u64,
    pub(crate) steps: u64,
    /// 1: a module was met for the first time in this tick, or the first time for long.
    pub(crate) announced: u64,
    /// Walks of the tree that did not find the current address.
    pub(crate) attempts: u64,
    pub(crate) seen: Seen,
    // The native frame that waits until the runtime's frames before it are written.
    pub(crate) pending: u64,
    pub(crate) next_pc: u64,
    pub(crate) next_sp: u64,
    pub(crate) next_bp: u64,
    pub(crate) next_bx: u64,
    pub(crate) next_lost: u64,
    pub(crate) next_exact: u64,
    pub(crate) next_guessed: u64,
    // The process.
    pub(crate) task: u64,
    pub(crate) mm: u64,
    pub(crate) fsbase: u64,
    pub(crate) started: u64,
    // Cost of this second.
    pub(crate) second_started: u64,
    pub(crate) second_used: u64,
    /// One tick in so many sixteenths is taken in this second.
    pub(crate) thinning: u64,
    // Kept between ticks while the mappings cannot have changed.
    pub(crate) kept_for: ProcessKey,
    pub(crate) kept_sequence: u64,
    pub(crate) kept_generation: u64,
    pub(crate) kept_next: u64,
    pub(crate) mapped: Mapped,
    pub(crate) kept: [Mapped; KEPT],
    /// File key of the last mapping looked at.
    pub(crate) key: ModuleKey,
    pub(crate) file: u64,
    // Buffers.
    /// Where the piece of stack begins (`u64::MAX`: there is none), and its last word's offset.
    pub(crate) chunk_base: u64,
    pub(crate) chunk_last: u64,
    pub(crate) chunk: [u64; CHUNK / 8 + 1],
    pub(crate) node: [u64; 32],
    pub(crate) vma: [u64; VMA_BYTES / 8],
    pub(crate) inode: [u64; INODE_BYTES / 8],
    /// Where the piece of a runtime's frames begins; `u64::MAX`: there is none.
    pub(crate) frame_base: u64,
    pub(crate) frame: [u64; (FRAME_PIECE + FRAME_BYTES) as usize / 8],
    pub(crate) code: [u64; 32],
    pub(crate) walk: Walk,
    pub(crate) runtimes: Owns,
    // Naming.
    pub(crate) unnamed: [Unnamed; MAX_NAMED as usize],
    pub(crate) unnamed_count: u64,
    pub(crate) naming: u64,
    pub(crate) naming_step: u64,
    /// 1: what the step wanted was not in memory.
    pub(crate) unread: u64,
    pub(crate) slots: [u64; 8],
    pub(crate) cursor: u64,
    pub(crate) address: u64,
    pub(crate) count: u64,
    /// Where the hole begins that ended the copy of the stack; 0: there is none.
    pub(crate) hole: u64,
    /// 1: all mappings were looked at.
    pub(crate) listed: u64,
    pub(crate) dentry: u64,
    pub(crate) mount: u64,
    pub(crate) buffer: [u8; BUFFER],
    // What is sent.
    pub(crate) sequence: u64,
    /// 1: a slice found no room.
    pub(crate) ring_full: u64,
    pub(crate) sample: Sample,
    pub(crate) out: [u64; MAX_WORDS],
}
