//! What a tick works with, one slot a CPU: ticks of one CPU never nest.

use crate::identity::ProcessKey;
use crate::module::{ModuleInfo, ModuleKey};
use crate::record::Sample;
use crate::runtimes::python::walk::PythonWalk;

/// Frames in a sample at most.
pub const MAX_FRAMES: u64 = 1024;
/// Kernel frames in a sample at most (the kernel's own limit, `kernel.perf_event_max_stack`).
pub const MAX_KERNEL_FRAMES: u32 = 127;
/// Words of frames: an interpreted frame takes three.
pub const MAX_WORDS: usize = MAX_KERNEL_FRAMES as usize + 3 * MAX_FRAMES as usize + 1;

/// Bytes of stack that are read at once.
pub const CHUNK: usize = 1024;
/// Bytes of the struct `vm_area_struct` that are read at once: all fields of the layout.
pub const VMA_BYTES: usize = 256;
/// Bytes of `struct inode` that are read at once.
pub const INODE_BYTES: usize = 192;
/// Code objects that one tick names at most.
pub const MAX_NAMED: u64 = 64;
/// Room for a path, for mappings, for the fields of a code object.
pub const BUFFER: usize = 25 << 10;
/// Mappings kept between ticks.
pub const KEPT: usize = 8;

/// An executable mapping, with what is known of its module.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Mapped {
    pub start: u64,
    /// 0: the slot is free.
    pub end: u64,
    /// Address − file offset.
    pub bias: u64,
    /// A [`Backing`] number.
    pub backing: u64,
    pub module: ModuleInfo,
}

/// What stands behind a mapping.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backing {
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
pub struct Unnamed {
    pub address: u64,
    pub key: u64,
    pub seen: u64,
    pub plan: u32,
    pub runtime: u32,
    pub interpreter: u32,
    pub _pad: u32,
}

/// What the walk does next.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A native frame.
    Native = 0,
    /// Look for the runtime's thread state.
    FindThread = 1,
    /// A runtime's frame of the activation that the pending native frame holds.
    Runtime = 2,
    /// Native frames ended early: the rest of the runtime's frames.
    RuntimeRest = 3,
    /// Nothing is left to do.
    Done = 4,
}

#[repr(C)]
pub struct State {
    // Where the walk is.
    pub phase: u64,
    pub pc: u64,
    pub sp: u64,
    pub bp: u64,
    pub bx: u64,
    /// The pc is that of an instruction, not of a return address.
    pub exact: u64,
    /// The frame was found by frame pointer.
    pub guessed: u64,
    /// Bits of [`crate::record::lost`]: registers whose value is not known.
    pub lost: u64,
    /// Frames so far, words so far, steps so far.
    pub frames: u64,
    pub words: u64,
    pub steps: u64,
    /// Walks of the tree that did not find the current pc.
    pub attempts: u64,
    // The native frame that waits until the runtime's frames before it are written.
    pub pending: u64,
    pub next_pc: u64,
    pub next_sp: u64,
    pub next_bp: u64,
    pub next_bx: u64,
    pub next_lost: u64,
    pub next_exact: u64,
    pub next_guessed: u64,
    // The process.
    pub task: u64,
    pub mm: u64,
    pub fsbase: u64,
    pub started: u64,
    // Cost of this second.
    pub second_started: u64,
    pub second_used: u64,
    // Kept between ticks while the mappings cannot have changed.
    pub kept_for: ProcessKey,
    pub kept_sequence: u64,
    pub kept_generation: u64,
    pub kept_next: u64,
    pub mapped: Mapped,
    pub kept: [Mapped; KEPT],
    /// File key of the last mapping looked at.
    pub key: ModuleKey,
    pub file: u64,
    // Buffers.
    /// Where the piece of stack begins (`u64::MAX`: there is none), and its last word's offset.
    pub chunk_base: u64,
    pub chunk_last: u64,
    pub chunk: [u64; CHUNK / 8 + 1],
    pub node: [u64; 32],
    pub vma: [u64; VMA_BYTES / 8],
    pub inode: [u64; INODE_BYTES / 8],
    pub frame: [u64; 16],
    pub code: [u64; 32],
    pub python: PythonWalk,
    // Naming.
    pub unnamed: [Unnamed; MAX_NAMED as usize],
    pub unnamed_count: u64,
    pub naming: u64,
    pub naming_step: u64,
    pub slots: [u64; 8],
    pub cursor: u64,
    pub address: u64,
    pub count: u64,
    pub dentry: u64,
    pub mount: u64,
    pub buffer: [u8; BUFFER],
    // What is sent.
    pub sequence: u64,
    pub sample: Sample,
    pub out: [u64; MAX_WORDS],
}
