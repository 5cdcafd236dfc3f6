//! How a user frame is written in a sample: one or three 64-bit words, leaf first.
//!
//! The top byte of the first word is its [`Tag`].

/// What kind of frame the word is; the value of the top byte.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// bits 40–55: module id, bits 0–39: file offset of the instruction: callers are
    /// already adjusted to their call.
    Native = 1,
    /// As `Native`; this frame was found by frame pointer, not by rows.
    NativeByFramePointer = 2,
    /// bits 0–47: a pc in executable memory without a file.
    Anonymous = 3,
    /// bits 0–47: a pc in a file that user space has not learned yet.
    Unlearned = 4,
    /// bits 48–55: runtime number, bits 0–31: runtime's instruction position; then a word with the
    /// code object's address, then a word with its key.
    Interpreted = 5,
    /// A frame that was being pushed and so is left out; counted only.
    LeftOut = 6,
    /// bits 0–47: address of a runtime's marker. The interpreted frames that follow belong to the
    /// native frame whose `[sp, CFA)` holds it. Only after native frames ended early.
    Marker = 7,
}

/// Bits of a native frame's file offset.
pub const OFFSET_BITS: u32 = 40;

/// A native frame's word.
#[inline(always)]
pub const fn native(tag: Tag, module: u16, offset: u64) -> u64 {
    (tag as u64) << 56 | (module as u64) << OFFSET_BITS | offset & ((1 << OFFSET_BITS) - 1)
}

/// The word of a pc without a learned module.
#[inline(always)]
pub const fn address(tag: Tag, pc: u64) -> u64 {
    (tag as u64) << 56 | pc & 0xffff_ffff_ffff
}

/// The first of the three words of an interpreted frame.
#[inline(always)]
pub const fn interpreted(runtime: u8, position: u32) -> u64 {
    (Tag::Interpreted as u64) << 56 | (runtime as u64) << 48 | position as u64
}

/// A frame read back from its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A pc in a known module.
    Native {
        /// The module.
        module: u16,
        /// File offset of the pc.
        offset: u64,
        /// Found by frame pointer.
        by_frame_pointer: bool,
    },
    /// A pc in executable memory that no file backs.
    Anonymous {
        /// The pc.
        pc: u64,
    },
    /// A pc in a file that was not known yet.
    Unlearned {
        /// The pc.
        pc: u64,
    },
    /// A frame of an interpreter.
    Interpreted {
        /// Runtime number.
        runtime: u8,
        /// Position of the instruction, as the runtime counts.
        position: u32,
        /// Address of the code object.
        code: u64,
        /// Key of the code object: with address and process it names one object in time.
        key: u64,
    },
    /// A frame left out because it was being pushed.
    LeftOut,
    /// Where the next interpreted frames belong.
    Marker {
        /// Address of the marker on the native stack.
        address: u64,
    },
}

/// Reads the frames of a sample, leaf first. Words that make no sense end the iteration.
#[derive(Clone, Debug)]
pub struct Frames<'a>(pub &'a [u64]);

impl Iterator for Frames<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let (&word, rest) = self.0.split_first()?;
        self.0 = rest;
        let offset = word & ((1 << OFFSET_BITS) - 1);
        let module = (word >> OFFSET_BITS) as u16;
        let pc = word & 0xffff_ffff_ffff;
        Some(match (word >> 56) as u8 {
            1 => Frame::Native {
                module,
                offset,
                by_frame_pointer: false,
            },
            2 => Frame::Native {
                module,
                offset,
                by_frame_pointer: true,
            },
            3 => Frame::Anonymous { pc },
            4 => Frame::Unlearned { pc },
            5 => {
                let [code, key, rest @ ..] = rest else {
                    return None;
                };
                self.0 = rest;
                Frame::Interpreted {
                    runtime: (word >> 48) as u8,
                    position: word as u32,
                    code: *code,
                    key: *key,
                }
            }
            6 => Frame::LeftOut,
            7 => Frame::Marker { address: pc },
            _ => return None,
        })
    }
}
