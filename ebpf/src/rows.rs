//! Unwind rows, as the eBPF program looks them up.
//!
//! *Row space* is one long array of 32-bit words, cut into chunks of [`CHUNK_WORDS`]; a *word
//! address* is `chunk << 16 | word`. A module is one contiguous run of words:
//!
//! ```text
//! rules   4 words each, aligned to 4: [`Rule`]
//! index   1 word a page of text: word address of the page's block
//! blocks  1 word: number of rows n, then n rows: low half = low 16 bits of the file offset from
//!         which the row holds, high half = number of its rule in the module. The first row of a
//!         block is the one that already holds where the page begins.
//! ```
//!
//! Neither a block nor a rule crosses a chunk border.

/// Words in a chunk.
pub const CHUNK_WORDS: u32 = 1 << 16;
/// Bytes in a chunk.
pub const CHUNK_BYTES: u32 = CHUNK_WORDS * 4;
/// Chunks that row space can have.
pub const MAX_CHUNKS: u32 = 256;
/// Rows in one block at most; a page with more is not indexed (its block says rule 0 only).
pub const MAX_BLOCK_ROWS: u32 = 1024;
/// Words of a [`Rule`].
pub const RULE_WORDS: u32 = 4;

/// How the caller of a frame is found. All offsets are from registers *at this row*.
///
/// The caller's sp is the CFA itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// Where the CFA is: a [`RuleKind`] number.
    pub kind: u8,
    /// [`RuleKind::Register`], [`RuleKind::DerefRegister`]: DWARF number of the register.
    pub register: u8,
    /// Where the caller's rbp is saved: a [`Rule::slot`]. 0: unchanged. [`LOST`]: not known.
    pub rbp: i16,
    /// The same for rbx.
    pub rbx: i16,
    /// Where the return address is: CFA + 8 × this, normally −1.
    pub ra: i16,
    /// Bytes; see [`RuleKind`].
    pub offset: i32,
    /// Bytes; the second offset of the kinds that have one.
    pub offset2: i32,
}

/// A register whose value in the caller this row does not tell.
pub const LOST: i16 = i16::MIN;

/// Slots from [`AT_RBP_FIRST`] on count from the register rbp, not from the CFA: this one is *rbp.
/// Functions that align their stack save registers so.
pub const AT_RBP: i16 = 0x6000;
/// See [`AT_RBP`].
pub const AT_RBP_FIRST: i16 = 0x5000;

/// What [`Rule::kind`] says.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleKind {
    /// No CFI covers this address (outside of functions, or a module without CFI here): a caller
    /// can only be guessed by frame pointer.
    None = 0,
    /// CFA = register + offset. Register is a DWARF number: 7 rsp, 6 rbp, 3 rbx; another one only
    /// where it still has its value, in a leaf.
    Register = 1,
    /// CFA = *(register + offset) + offset2.
    DerefRegister = 2,
    /// A PLT stub: CFA = rsp + 8 + ((rip & 15) >= offset ? 8 : 0).
    Plt = 3,
    /// The outermost frame: its return address is undefined.
    End = 4,
    /// A signal trampoline: rsp points to a `ucontext`, all registers stand there.
    Signal = 5,
    /// There is CFI, but no rule above can say it: user space unwinds on from a slice of the stack.
    Unsupported = 6,
    /// Right after the system call that makes a thread, at a leaf: the child (rax is 0) has no
    /// caller; the parent's CFA is register + offset.
    Clone = 7,
}

const _: () = assert!(size_of::<Rule>() == RULE_WORDS as usize * 4);

impl Rule {
    /// Address of a saved register: CFA + 8 × slot, or what [`AT_RBP`] says.
    #[inline(always)]
    pub const fn slot(slot: i16, cfa: u64, rbp: u64) -> u64 {
        let (base, words) = if slot >= AT_RBP_FIRST {
            (rbp, slot as i64 - AT_RBP as i64)
        } else {
            (cfa, slot as i64)
        };
        base.wrapping_add((words as u64).wrapping_mul(8))
    }

    /// A rule from its words, two at a time, as they stand in row space.
    #[inline(always)]
    pub const fn from_words(low: u64, high: u64) -> Self {
        Self {
            kind: low as u8,
            register: (low >> 8) as u8,
            rbp: (low >> 16) as i16,
            rbx: (low >> 32) as i16,
            ra: (low >> 48) as i16,
            offset: high as i32,
            offset2: (high >> 32) as i32,
        }
    }
}
