//! Words of the user's stack, read in pieces: a read of 1 KiB costs hardly more than one of 8
//! bytes, and neighbouring frames' words lie together.

use super::memory::{at, user, user_u64};
use super::state::{CHUNK, State};

/// How far below the wanted word a piece begins: saved registers of the same frame stand there.
const BELOW: u64 = 64;

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
        if distance > CHUNK as u64 - 8 {
            let mut base = address.wrapping_sub(BELOW);
            if base < (*state).sp {
                base = (*state).sp;
            }
            distance = address.wrapping_sub(base);
            if distance > CHUNK as u64 - 8 || !user(chunk.cast(), CHUNK as u32, base) {
                // The top of the stack, or a page that is not there: the word alone.
                (*state).chunk_base = u64::MAX;
                return user_u64(address);
            }
            (*state).chunk_base = base;
        }
        Some(at(chunk, distance & (CHUNK as u64 - 1)))
    }
}
