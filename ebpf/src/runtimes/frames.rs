//! A runtime's frames: read from its memory, written into the sample.

use super::Interpreter;
use super::walk::interpreter;
use crate::frame::{self, Tag};
use crate::programs::config::config;
use crate::programs::maps::NAMED;
use crate::programs::memory::{at, masked, user};
use crate::programs::native::push;
use crate::programs::state::{MAX_NAMED, State, Unnamed};
use crate::runtimes::named_key;

/// Bytes of frames that are read at once.
pub(crate) const FRAME_PIECE: u32 = 1024;
/// Bytes of one frame at most.
pub(crate) const FRAME_BYTES: u32 = 80;

/// A field of a struct whose first `len` bytes were read; 64 bits of it at most.
///
/// # Safety
/// `bytes` points to that many.
#[inline(always)]
pub(crate) unsafe fn field<T: Copy>(bytes: *const u8, offset: u32, len: u32) -> Option<T> {
    const { assert!(size_of::<T>() <= 8) };
    if offset > len - 8 {
        return None;
    }
    // SAFETY: just checked.
    Some(unsafe { at(bytes, offset as u64) })
}

/// The first [`FRAME_BYTES`] of a frame. Frames of a thread stand close together, callers below their
/// callees: what is read ends with the frame and begins as far below it as the buffer reaches.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn frame_bytes(state: *mut State, address: u64) -> Option<*const u8> {
    const LAST: u64 = FRAME_PIECE as u64 - FRAME_BYTES as u64;
    // SAFETY: as said; the distance is checked, and masked for the verifier: the buffer is longer
    // than a piece by a frame.
    unsafe {
        let buffer = (&raw mut (*state).frame).cast::<u8>();
        let mut distance = address.wrapping_sub((*state).frame_base);
        if distance > LAST {
            distance = LAST;
            (*state).frame_base = address.wrapping_sub(LAST);
            if !user(buffer.cast(), FRAME_PIECE, (*state).frame_base) {
                distance = 0;
                (*state).frame_base = u64::MAX;
                if !user(buffer.cast(), FRAME_BYTES, address) {
                    return None;
                }
            }
        }
        Some(buffer.add(masked(distance, FRAME_PIECE as u64 - 1)))
    }
}

/// Writes a frame: the runtime's position in its code object, the object's address and key.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn interpreted(state: *mut State, position: u32, object: u64, key: u64) {
    // SAFETY: as said.
    unsafe {
        let Some(known) = interpreter(state) else {
            return;
        };
        (*state).frames += 1;
        push(state, frame::interpreted(known.runtime as u8, position));
        push(state, object);
        push(state, key);
        to_be_named(state, known, object, key);
    }
}

/// A frame that was being pushed: counted, not shown.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn left_out(state: *mut State) {
    // SAFETY: as said.
    unsafe { push(state, (Tag::LeftOut as u64) << 56) };
}

/// Notes a code object not named yet; after the walk its names are copied.
#[inline(always)]
unsafe fn to_be_named(state: *mut State, known: &Interpreter, address: u64, key: u64) {
    // SAFETY: this CPU's slot.
    unsafe {
        if config!(name_code) == 0 {
            return;
        }
        let seen = named_key(&(*state).sample.task.process, address, key);
        if NAMED.get_ptr(&seen).is_some() {
            return;
        }
        if (*state).unnamed_count >= MAX_NAMED {
            return;
        }
        // Not noted, it is sent again by its next sample.
        let _ = NAMED.insert(&seen, &1, 0);
        // Read anew, so that the mask below stays: verifiers before Linux 6.8 do not know the
        // bound of what was spilled before it was compared.
        let count = (&raw const (*state).unnamed_count).read_volatile();
        let interpreter = (*state).walk.interpreter as u32;
        (*state).unnamed[count as usize & (MAX_NAMED as usize - 1)] = Unnamed {
            address,
            key,
            seen,
            plan: known.plan,
            runtime: known.runtime,
            interpreter,
            _pad: 0,
        };
        (*state).unnamed_count = count + 1;
    }
}
