//! Counting ticks that end inside the programs, and samples that leave them.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use super::maps::{COUNTS, LOST};
use super::state::State;
use crate::identity::{LostKey, LostTicks};
use crate::ledger::{Column, SENT};

const BPF_NOEXIST: u64 = 1;

/// Counts a tick of this CPU.
#[inline(always)]
pub(crate) fn count(column: Column) {
    add(column as u32);
}

/// Counts a sample that user space will get.
#[inline(always)]
pub(crate) fn sent() {
    add(SENT);
}

#[inline(always)]
fn add(counter: u32) {
    if let Some(n) = COUNTS.get_ptr_mut(counter) {
        // SAFETY: this CPU's own value; ticks of one CPU do not nest.
        unsafe { *n += 1 };
    }
}

/// Counts a tick that is lost here, for the machine and for its process.
#[inline(always)]
pub(crate) fn lose(state: *mut State, column: Column) {
    count(column);
    // SAFETY: the slot of this CPU.
    let (key, first) = unsafe {
        let task = &raw const (*state).sample.task;
        let key = LostKey {
            start: (*task).process.start,
            host: (*task).host.tgid,
            own: (*task).own.tgid,
            column: column as u64,
        };
        let first = LostTicks {
            ticks: 1,
            comm: (*task).comm,
        };
        (key, first)
    };
    if !more(&key) && LOST.insert(&key, &first, BPF_NOEXIST).is_err() {
        // Another CPU was first; or the map is full.
        more(&key);
    }
}

/// One more tick of a row that is there.
#[inline(always)]
fn more(key: &LostKey) -> bool {
    let Some(row) = LOST.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a map value, aligned; other CPUs change it by the same instruction only.
    unsafe { atomic_xadd::<_, u64, { AtomicOrdering::Relaxed }>(&raw mut (*row).ticks, 1) };
    true
}
