//! The records of the ring buffer. Each begins with a [`RecordHeader`]; lengths are in bytes and
//! a multiple of 8.

use crate::identity::{ProcessKey, Task};
use crate::module::ModuleKey;

/// What a record is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// [`Sample`], then `kernel_frames` and `user_words` 64-bit words.
    Sample = 1,
    /// [`ModuleSeen`], then the path's bytes.
    ModuleSeen = 2,
    /// [`Slice`], then stack bytes; belongs to the next sample of this CPU.
    Slice = 3,
    /// [`Mappings`], then [`Mapping`]s; belongs to the next sample of this CPU.
    Mappings = 4,
    /// [`CodeObject`], then the plan's fields.
    CodeObject = 5,
}

impl RecordKind {
    /// All kinds.
    pub const ALL: [RecordKind; 5] = [
        RecordKind::Sample,
        RecordKind::ModuleSeen,
        RecordKind::Slice,
        RecordKind::Mappings,
        RecordKind::CodeObject,
    ];
}

/// First in each record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// A [`RecordKind`] number.
    pub kind: u32,
    /// The CPU that wrote it.
    pub cpu: u32,
    /// Counts this CPU's samples: slices, mappings and code objects carry the number of the sample
    /// that they were made for.
    pub sequence: u64,
}

/// A tick that is not idle.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// The header.
    pub header: RecordHeader,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time: u64,
    /// Whose it is.
    pub task: Task,
    /// Why the user stack ends where it does: an [`End`] number.
    pub end: u32,
    /// Kernel frames: the first words after this struct, leaf first.
    pub kernel_frames: u32,
    /// Words of user frames after them (see [`crate::frame`]), leaf first.
    pub user_words: u32,
    /// Bits of [`sample_flags`].
    pub flags: u32,
    /// Index of the interpreter whose frames are in it, in the map of interpreters.
    pub interpreter: u32,
    /// Padding, zero.
    pub _pad: u32,
    /// Registers of the last frame walked; what a slice is unwound from.
    pub registers: Registers,
}

/// Bits of [`Sample::flags`].
pub mod sample_flags {
    /// Slices and mappings were sent before: user space can unwind on.
    pub const HAS_SLICE: u32 = 1;
    /// At least one caller was found by frame pointer.
    pub const BY_FRAME_POINTER: u32 = 2;
    /// The runtime of the process is known: its frames are in the sample, or the thread has none.
    pub const RUNTIME_KNOWN: u32 = 4;
}

/// User registers at a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// rbp.
    pub bp: u64,
    /// rbx.
    pub bx: u64,
    /// r8 to r15; true only while [`Registers::leaf`] is 1.
    pub r8: [u64; 8],
    /// rax, rdx, rcx, rsi, rdi: the same.
    pub low: [u64; 5],
    /// 1: this is the interrupted frame itself, pc is exact and all registers are true.
    pub leaf: u64,
    /// Bits of [`lost`]: registers whose value is not known.
    pub lost: u64,
}

/// Bits of [`Registers::lost`].
pub mod lost {
    /// rbp.
    pub const BP: u64 = 1;
    /// rbx.
    pub const BX: u64 = 2;
}

/// Why a user stack ends.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// The walk met a row that says: outermost. Or the task has no user side.
    Complete = 0,
    /// 1,024 frames.
    Depth = 1,
    /// The tick's time was over.
    Time = 2,
    /// A stack word was not in memory.
    WouldFault = 3,
    /// No mapping holds the pc, or the one that does is being changed.
    NoMapping = 4,
    /// No row, and no frame pointer that convinces.
    NoRow = 5,
    /// A row of a kind only user space can follow; unwind on from the slice.
    Unsupported = 6,
    /// A module that is not learned; unwind on from the slice.
    Unlearned = 7,
    /// The CFA did not move towards the root.
    NoProgress = 8,
    /// 32-bit code.
    Compat = 9,
    /// A register that the row needs was lost on the way.
    LostRegister = 10,
    /// The thread has no user registers (it exits, or execs).
    NoUser = 11,
    /// Native frames ended early, the remaining frames of the runtime follow.
    Native = 12,
    /// The frames of the runtime do not hang together.
    Runtime = 13,
    /// A slice of the stack ended before the stack did.
    Slice = 14,
    /// The kernel gave the leaf part of its own stack only. The user side is there.
    Kernel = 15,
    /// The stack leads through a runtime that is not walked: its version or build is not known.
    UnknownRuntime = 16,
    /// The stack leads through a runtime that is not walked: more files of runtimes are in use than
    /// the programs can know.
    RuntimesFull = 17,
    /// The process has more executable mappings than are listed for user space.
    Mappings = 18,
    /// The file of a module does not answer whoever reads it.
    Unanswered = 19,
    /// A module that is being learned, and many samples wait for that already.
    Held = 20,
    /// The file of a module could not be found.
    NoFile = 21,
    /// Only user space could go on, and the stack was not copied for it: copies are rationed.
    NotCopied = 22,
}

impl End {
    /// All ends, by number.
    pub const ALL: [End; 23] = [
        End::Complete,
        End::Depth,
        End::Time,
        End::WouldFault,
        End::NoMapping,
        End::NoRow,
        End::Unsupported,
        End::Unlearned,
        End::NoProgress,
        End::Compat,
        End::LostRegister,
        End::NoUser,
        End::Native,
        End::Runtime,
        End::Slice,
        End::Kernel,
        End::UnknownRuntime,
        End::RuntimesFull,
        End::Mappings,
        End::Unanswered,
        End::Held,
        End::NoFile,
        End::NotCopied,
    ];

    /// What stands in `[truncated: …]`.
    pub const fn reason(self) -> &'static str {
        match self {
            End::Complete => "complete",
            End::Depth => "depth",
            End::Time => "time",
            End::WouldFault => "would fault",
            End::NoMapping => "no mapping",
            End::NoRow => "no unwind row",
            End::Unsupported => "unwind rule not supported",
            End::Unlearned => "module being learned",
            End::NoProgress => "stack does not grow",
            End::Compat => "32-bit",
            End::LostRegister => "register lost",
            End::NoUser => "no user registers",
            End::Native => "native",
            End::Runtime => "runtime frames",
            End::Slice => "stack slice",
            End::Kernel => "kernel stack",
            End::UnknownRuntime => "unknown runtime version",
            End::RuntimesFull => "too many runtimes",
            End::Mappings => "too many mappings",
            End::Unanswered => "file does not answer",
            End::Held => "module being read",
            End::NoFile => "file not found",
            End::NotCopied => "stack not copied",
        }
    }
}

/// A module met for the first time: then `path_len` bytes of path, components from leaf to root,
/// each with a `/` before it (`/libc.so.6/x86_64-linux-gnu/lib/usr`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ModuleSeen {
    /// The header.
    pub header: RecordHeader,
    /// The process that maps it.
    pub process: ProcessKey,
    /// Its pid in rprof's own namespace (0: not visible).
    pub own_tgid: u32,
    /// Bytes of path that follow.
    pub path_len: u32,
    /// What it is.
    pub key: ModuleKey,
    /// Where the process maps it: start, end.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// Its mount namespace (0: not known).
    pub mount_ns: u32,
    /// Padding, zero.
    pub _pad: u32,
    /// What stands where the file's first bytes would be mapped if all of it were mapped in one
    /// piece: mostly its headers and build id, as the process sees them. Zero: not in memory.
    pub head: [u64; HEAD_BYTES / 8],
}

/// Bytes of [`ModuleSeen::head`]: GNU's and LLVM's linkers put the build id right behind the program
/// headers.
pub const HEAD_BYTES: usize = 1024;

/// A piece of a stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    /// The header.
    pub header: RecordHeader,
    /// Address of the first byte.
    pub address: u64,
    /// How many bytes follow.
    pub len: u64,
}

/// Pages in a row that are missing before what follows is taken to be no stack.
pub const MAX_HOLE: u64 = 8;

/// Bytes of a slice at most; a sample sends up to [`MAX_SLICES`] of them.
pub const SLICE_BYTES: u32 = 4096;
/// See [`SLICE_BYTES`].
pub const MAX_SLICES: u32 = 48;

/// The executable mappings of a process at one sample.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mappings {
    /// The header.
    pub header: RecordHeader,
    /// How many [`Mapping`]s follow.
    pub count: u32,
    /// Why no more follow, an [`End`]: [`End::Complete`] if these are all.
    pub list_end: u16,
    /// Why no more of the stack came, an [`End`].
    pub slice_end: u16,
}

/// Mappings in one record at most.
pub const MAX_MAPPINGS: u32 = 256;

/// An executable mapping.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// File offset of `start`, bytes.
    pub offset: u64,
    /// The file; all zero for the vDSO (`offset` then counts from its start) and for anonymous
    /// memory.
    pub key: ModuleKey,
    /// 1: the vDSO.
    pub vdso: u64,
}

/// What a plan read of a code object. Without fields: something that the plan needs was not in memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CodeObject {
    /// The header.
    pub header: RecordHeader,
    /// Whose memory it stands in.
    pub process: ProcessKey,
    /// Its address.
    pub address: u64,
    /// Its key.
    pub key: u64,
    /// Runtime number.
    pub runtime: u32,
    /// Index of the interpreter in the map of interpreters.
    pub interpreter: u32,
    /// Bytes of fields that follow.
    pub len: u64,
}

/// Types that are read back from words.
///
/// # Safety
/// `#[repr(C)]`, aligned to 8 at most, without padding that is not a named field, and valid for
/// every bit pattern.
pub unsafe trait Shared: Copy {}

// SAFETY: as the trait asks.
unsafe impl Shared for RecordHeader {}
// SAFETY: as the trait asks.
unsafe impl Shared for Sample {}
// SAFETY: as the trait asks.
unsafe impl Shared for ModuleSeen {}
// SAFETY: as the trait asks.
unsafe impl Shared for Slice {}
// SAFETY: as the trait asks.
unsafe impl Shared for Mappings {}
// SAFETY: as the trait asks.
unsafe impl Shared for Mapping {}
// SAFETY: as the trait asks.
unsafe impl Shared for CodeObject {}

/// Takes a `T` off the front of a record; `None` if the record is too short.
pub fn take<T: Shared>(words: &[u64]) -> Option<(T, &[u64])> {
    let rest = words.get(size_of::<T>().div_ceil(8)..)?;
    // SAFETY: the words are at least as long and as aligned as `T`, which any bits are valid for.
    Some((unsafe { words.as_ptr().cast::<T>().read() }, rest))
}

/// Writes a `T` over the front of a record; nothing, if the record is too short.
pub fn put<T: Shared>(value: &T, words: &mut [u64]) {
    if words.len() >= size_of::<T>().div_ceil(8) {
        // SAFETY: the words are at least as long and as aligned as `T`.
        unsafe { words.as_mut_ptr().cast::<T>().write(*value) };
    }
}

// SAFETY: as the trait asks.
unsafe impl Shared for ModuleKey {}
// SAFETY: as the trait asks.
unsafe impl Shared for crate::plan::Plan {}
// SAFETY: as the trait asks.
unsafe impl Shared for crate::runtimes::Interpreter {}
