//! A read plan: what must be read to name a code object, as data.
//!
//! One description, two executors: the eBPF program at the sample, and user space with
//! `process_vm_readv`. Both produce the same bytes: the fields of the plan in order, each a
//! [`FieldHeader`] and its bytes padded to 8.

/// Pointers that a plan can hold at once; slot 0 begins as the code object's address.
pub const SLOTS: usize = 8;
/// Steps of a plan.
pub const MAX_STEPS: usize = 16;
/// Bytes of one field at most.
pub const MAX_FIELD: u32 = 16 << 10;

/// One step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What to do: an [`Op`] number.
    pub op: u8,
    /// Slot of the pointer it starts from.
    pub base: u8,
    /// [`Op::Pointer`]: slot to fill.
    pub into: u8,
    /// [`Op::Text`]: index of the string form in [`Plan::texts`].
    pub text: u8,
    /// Added to the base, bytes.
    pub offset: u32,
    /// [`Op::Bytes`]: how many; [`Op::Counted`], [`Op::Text`]: at most how many.
    pub len: u32,
    /// [`Op::Counted`]: where the 64-bit length stands, bytes from the base pointer.
    pub len_at: u32,
}

/// What a step does.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// slot\[into\] = *(slot\[base\] + offset).
    Pointer = 1,
    /// A field: `len` bytes at slot\[base\] + offset.
    Bytes = 2,
    /// A field: as many bytes at slot\[base\] + offset as the length at slot\[base\] + len_at says.
    /// Longer than `len`: empty, with [`FieldHeader::cut`] set.
    Counted = 3,
    /// A field: the characters of the string object at slot\[base\], cut at `len` bytes.
    Text = 4,
}

/// A string object whose character width and place follow from a word of flags (CPython's PEP 393;
/// sources: `Include/cpython/unicodeobject.h`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextForm {
    /// Where the 64-bit length in characters stands.
    pub len_at: u32,
    /// Where the 32-bit state stands.
    pub state_at: u32,
    /// Where characters stand in a compact ASCII string.
    pub ascii_at: u32,
    /// Where they stand in another compact string.
    pub compact_at: u32,
}

/// A whole plan.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The steps; `len` of them count.
    pub steps: [Step; MAX_STEPS],
    /// String forms.
    pub texts: [TextForm; 2],
    /// Number of steps.
    pub len: u32,
    /// 1: the object begins with a 64-bit count of references. A freed object keeps its other bytes
    /// for a while, though what they point to is used again; so user space, which reads later than
    /// the sample, gives nothing unless the count is that of a live object before and after. The
    /// program need not look: at the sample the object is in use.
    pub counted: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            steps: [Step::default(); MAX_STEPS],
            texts: [TextForm::default(); 2],
            len: 0,
            counted: 0,
        }
    }
}

/// Stands before the bytes of a field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldHeader {
    /// Bytes that follow (then padding to 8).
    pub len: u32,
    /// Text: bytes a character (1, 2, 4). Else 1.
    pub width: u8,
    /// 1: the object's own length was more than the plan allows.
    pub cut: u8,
    /// Padding, zero.
    pub _pad: u16,
}
