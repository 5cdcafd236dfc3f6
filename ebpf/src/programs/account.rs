//! Counting ticks that end inside the programs.

use super::maps::{COUNTS, LOST};
use super::state::State;
use crate::identity::LostKey;
use crate::ledger::Column;

/// Counts a tick of this CPU.
#[inline(always)]
pub(crate) fn count(column: Column) {
    if let Some(n) = COUNTS.get_ptr_mut(column as u32) {
        // SAFETY: this CPU's own value; ticks of one CPU do not nest.
        unsafe { *n += 1 };
    }
}

/// Counts a tick that is lost here, for the machine and for its process.
#[inline(always)]
pub(crate) fn lose(state: *mut State, column: Column) {
    count(column);
    // SAFETY: the slot of this CPU.
    let key = LostKey {
        process: unsafe { (*state).sample.task.process },
        column: column as u64,
    };
    match LOST.get_ptr_mut(&key) {
        // SAFETY: a race with another CPU loses one count of one process; the machine's is exact.
        Some(n) => unsafe { *n += 1 },
        None => {
            let _ = LOST.insert(&key, &1, 0);
        }
    }
}
