//! CPython's walk, in the eBPF programs.
//!
//! The marker of an activation (3.11, 3.12) is a `_PyCFrame` on the stack of its evaluation loop. The
//! thread state leads to the newest one, each of them to its frames and to the one before.

use core::ffi::c_long;

use super::threads::{self, Own, next_of_all};
use super::{PythonInterpreter, PythonLayout, code_key, symbols};
use crate::programs::memory::{user, user_u64};
use crate::programs::native::end;
use crate::programs::state::State;
use crate::record::End;
use crate::runtimes::frames::{FRAME_BYTES, field, frame_bytes, interpreted, left_out};
use crate::runtimes::walk::{Runtime, in_doubt, interpreter, leave, link};

/// Bytes of a code object that are read at once.
const CODE_BYTES: u32 = 192;
/// `FRAME_OWNED_BY_GENERATOR` (Include/internal/pycore_frame.h, 3.11).
const OWNED_BY_GENERATOR: u8 = 1;

/// The layout of the interpreter whose frames are walked.
#[inline(always)]
unsafe fn python(state: *mut State) -> Option<&'static PythonInterpreter> {
    // SAFETY: this CPU's slot.
    unsafe { interpreter(state)?.layout() }
}

/// CPython's steps.
pub(crate) enum Walker {}

impl Runtime for Walker {
    type Own = Own;

    #[inline(always)]
    unsafe fn look(state: *mut State) {
        // SAFETY: this CPU's slot.
        unsafe { threads::look(state) }
    }

    #[inline(always)]
    unsafe fn search(state: *mut State) -> c_long {
        // SAFETY: this CPU's slot.
        unsafe {
            match python(state) {
                Some(known) => threads::search(state, known),
                None => end(state, End::Runtime),
            }
        }
    }

    /// `current_frame` of the marker.
    #[inline(always)]
    unsafe fn newest(state: *mut State) -> u64 {
        // SAFETY: this CPU's slot.
        unsafe {
            let Some(known) = python(state) else { return 0 };
            let marker = (*state).walk.marker;
            link(
                state,
                marker.wrapping_add(known.layout.cframe_current as u64),
            )
        }
    }

    #[inline(always)]
    unsafe fn frame(state: *mut State) -> c_long {
        // SAFETY: this CPU's slot.
        unsafe {
            let Some(known) = python(state) else {
                return end(state, End::Runtime);
            };
            let address = (*state).walk.frame;
            if address != 0 {
                let why = one_frame(state, known, address);
                if why != End::Complete {
                    return end(state, why);
                }
            }
            if (*state).walk.frame != 0 {
                return 0;
            }
            leave(state, next_marker(state, &known.layout))
        }
    }
}

/// Writes one frame and moves to its caller in the same activation, to 0 if it is the last.
#[inline(always)]
unsafe fn one_frame(state: *mut State, known: &PythonInterpreter, address: u64) -> End {
    // SAFETY: this CPU's slot; buffers are larger than what is read into them.
    unsafe {
        let layout = &known.layout;
        let Some(bytes) = frame_bytes(state, address) else {
            return End::WouldFault;
        };
        let Some(object) = field::<u64>(bytes, layout.frame_code, FRAME_BYTES) else {
            return End::Runtime;
        };
        let Some(previous) = field::<u64>(bytes, layout.frame_previous, FRAME_BYTES) else {
            return End::Runtime;
        };
        let Some(instruction) = field::<u64>(bytes, layout.frame_instr, FRAME_BYTES) else {
            return End::Runtime;
        };
        let Some(entry) = field::<u8>(bytes, layout.frame_is_entry, FRAME_BYTES) else {
            return End::Runtime;
        };
        let Some(owner) = field::<u8>(bytes, layout.frame_owner, FRAME_BYTES) else {
            return End::Runtime;
        };
        let code = (&raw mut (*state).code).cast::<u8>();
        if !user(code.cast(), CODE_BYTES, object) {
            return End::WouldFault;
        }
        if code_frame(state, known, object, instruction, owner).is_none() {
            left_out(state);
        }
        (*state).walk.frame = if entry != 0 { 0 } else { previous };
        End::Complete
    }
}

/// The marker that comes after the current one towards the root; 0 if there is none.
#[inline(always)]
unsafe fn next_marker(state: *mut State, layout: &PythonLayout) -> u64 {
    // SAFETY: this CPU's slot.
    unsafe {
        let marker = (*state).walk.marker;
        let previous = layout.cframe_previous as u64;
        let mut next = link(state, marker.wrapping_add(previous));
        // Markers lie ever closer to the root; the outermost is in the thread state.
        if next <= marker {
            // One that is not the outermost, on another stack: its activations are missing.
            if next != 0 && user_u64(next.wrapping_add(previous)) != Some(0) {
                in_doubt(state);
            }
            next = 0;
        } else if link(state, next.wrapping_add(previous)) == 0 {
            next = 0;
        }
        next_of_all(state, marker, next)
    }
}

/// Writes the frame of the code object in `state.code`. `None`: it is being pushed, or is no
/// code object.
#[inline(always)]
unsafe fn code_frame(
    state: *mut State,
    known: &PythonInterpreter,
    object: u64,
    instruction: u64,
    owner: u8,
) -> Option<()> {
    // SAFETY: this CPU's slot; a map value.
    unsafe {
        let layout = &known.layout;
        let code = (&raw const (*state).code).cast::<u8>();
        let type_: u64 = field(code, layout.object_type, CODE_BYTES)?;
        let code_type = (*state).walk.bias.wrapping_add(known.symbols[symbols::CODE_TYPE]);
        if type_ != code_type {
            return None;
        }
        let line: u32 = field(code, layout.code_first_line, CODE_BYTES)?;
        let filename: u64 = field(code, layout.code_filename, CODE_BYTES)?;
        let name: u64 = field(code, layout.code_name, CODE_BYTES)?;
        let qualname: u64 = field(code, layout.code_qualname, CODE_BYTES)?;
        let linetable: u64 = field(code, layout.code_linetable, CODE_BYTES)?;
        let traceable: u32 = field(code, layout.code_first_traceable, CODE_BYTES)?;
        let first = object.wrapping_add(layout.code_instructions as u64);
        let position = instruction.wrapping_sub(first);
        // Also true of an instruction before the first: a frame that has not begun.
        if position > u32::MAX as u64
            || (owner != OWNED_BY_GENERATOR && position < traceable as u64 * 2)
        {
            return None;
        }
        // Not in memory: no other key has this hash, so it counts as not named yet.
        let hash = user_u64(name.wrapping_add(layout.text_hash as u64)).unwrap_or(0);
        let key = code_key(line, filename, qualname, linetable, hash);
        interpreted(state, position as u32 >> 1, object, key);
        Some(())
    }
}

