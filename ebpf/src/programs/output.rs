//! The ring buffer.

use core::ffi::c_void;

use aya_ebpf::helpers::generated as helpers;

use super::account;
use super::config::config;
use super::maps::RING;
use super::state::{MAX_KERNEL_FRAMES, MAX_WORDS, State};
use crate::ledger::Column;
use crate::record::{RecordHeader, RecordKind, Sample, sample_flags};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;
const BPF_RB_RING_SIZE: u64 = 1;

fn ring() -> *mut c_void {
    (&raw const RING).cast_mut().cast()
}

/// The header of a record for the sample in `state`.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn header(state: *mut State, kind: RecordKind) -> RecordHeader {
    // SAFETY: as said.
    unsafe {
        RecordHeader {
            kind: kind as u32,
            cpu: helpers::bpf_get_smp_processor_id(),
            sequence: (*state).sequence,
        }
    }
}

/// Sends a record; true if there was room. The reader is not woken by each one, but by fill level,
/// or at once.
///
/// # Safety
/// `record` points to `len` readable bytes.
#[inline(always)]
pub(crate) unsafe fn send(record: *mut c_void, len: u64, at_once: bool) -> bool {
    // SAFETY: as said.
    unsafe {
        let waiting = helpers::bpf_ringbuf_query(ring(), BPF_RB_AVAIL_DATA);
        let wake = at_once || waiting > config!(wake_bytes);
        let flags = if wake {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        };
        helpers::bpf_ringbuf_output(ring(), record, len, flags) == 0
    }
}

/// Whether more than half of the ring is free.
#[inline(always)]
pub(crate) fn half_empty() -> bool {
    // SAFETY: the ring is a map of this program.
    unsafe {
        let waiting = helpers::bpf_ringbuf_query(ring(), BPF_RB_AVAIL_DATA);
        waiting < helpers::bpf_ringbuf_query(ring(), BPF_RB_RING_SIZE) / 2
    }
}

/// Sends the sample, or counts it as lost.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn sample(state: *mut State) {
    // SAFETY: the number of words is bounded by what `out` holds.
    unsafe {
        let mut words = (*state).words;
        if words > MAX_WORDS as u64 {
            words = MAX_WORDS as u64;
        }
        let kernel = (*state).sample.kernel_frames & MAX_KERNEL_FRAMES;
        (*state).sample.user_words = (words as u32).wrapping_sub(kernel);
        (*state).sample.header = header(state, RecordKind::Sample);
        (*state).sample.interpreter = (*state).walk.interpreter as u32;
        let len = size_of::<Sample>() as u64 + words * 8;
        // Slices fill the ring quickly.
        let at_once = (*state).sample.flags & sample_flags::HAS_SLICE != 0;
        if send((&raw mut (*state).sample).cast(), len, at_once) {
            account::sent();
        } else {
            account::lose(state, Column::RingFull);
        }
    }
}
