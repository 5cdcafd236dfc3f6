//! Words of the user's stack, read in pieces: a read of 1 KiB costs hardly more than one of 8
//! bytes, and neighbouring frames' words lie together.

use super::memory::{at, user, user_u64};
use super::state::{CHUNK, State};

/// How far below the wanted word a piece begins: saved registers of the same frame stand there.
const BELOW: u64 = 64;
/// Bytes read where frames are large: the rest of a piece would be cold memory that nobody needs.
const SPARSE: usize = 128;

/// The word at `address`; `None` if its page is not in memory.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn word(state: *mut State, address: u64) -> Option<u64> {
    // SAFETY: the distance is checked against the piece's length, and masked for the verifier.
    unsafe {
        let chunk = (&raw mut (*state).chunk).cast::<u8>();
        let mut distance = address.wrapping_sub((*state).chunk_base);
        if distance > (*state).chunk_last {
            let mut base = address.wrapping_sub(BELOW);
            if base < (*state).sp {
                base = (*state).sp;
            }
            let far = distance > CHUNK as u64 + 4 * BELOW && (*state).chunk_base != u64::MAX;
            distance = address.wrapping_sub(base);
            let read = distance <= BELOW
                && if far {
                    (*state).chunk_last = SPARSE as u64 - 8;
                    user(chunk.cast(), SPARSE as u32, base)
                } else {
                    (*state).chunk_last = CHUNK as u64 - 8;
                    user(chunk.cast(), CHUNK as u32, base)
                };
            if !read {
                // The top of the stack, or a page that is not there: the word alone.
                forget(state);
                return user_u64(address);
            }
            (*state).chunk_base = base;
        }
        Some(at(chunk, distance & (CHUNK as u64 - 1)))
    }
}

/// Forgets the piece that was read.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn forget(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        (*state).chunk_base = u64::MAX;
        (*state).chunk_last = 0;
    }
}
