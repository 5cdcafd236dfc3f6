//! Names of code objects, copied in the target's own context the first time they are met: the
//! executor of [`crate::plan`] that never faults and needs no pid.

use core::ffi::{c_long, c_void};
use core::hint::black_box;

use aya_ebpf::helpers::generated as helpers;

use super::config::config;
use super::maps::{NAMED, PLANS, state};
use super::memory::{masked, now, user, user_u64};
use super::output;
use super::state::{BUFFER, MAX_NAMED, State};
use crate::plan::{FieldHeader, MAX_FIELD, MAX_STEPS, Op, SLOTS, Step, TextForm};
use crate::record::{CodeObject, RecordKind};

/// Where a field may begin at most, counted from the first; a mask, so that the verifier sees that
/// a field of [`MAX_FIELD`] fits.
const CURSOR_MASK: u64 = 0x1fff;
const HEADERS: usize = size_of::<CodeObject>() + size_of::<FieldHeader>();
const _: () = assert!(HEADERS + CURSOR_MASK as usize + MAX_FIELD as usize <= BUFFER);

/// Names what the walk noted in `state.unnamed`.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn name(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        if (*state).unnamed_count == 0 {
            return;
        }
        (*state).naming = 0;
        (*state).naming_step = 0;
        let mut context = 0u64;
        let steps = MAX_NAMED as u32 * (MAX_STEPS as u32 + 1);
        helpers::bpf_loop(steps, step as *mut c_void, (&raw mut context).cast(), 0);
    }
}

/// One step of one plan.
unsafe extern "C" fn step(_: u64, _: *mut c_void) -> c_long {
    let Some(state) = state() else { return 1 };
    // SAFETY: this CPU's slot.
    unsafe {
        let naming = (*state).naming;
        if naming >= (*state).unnamed_count {
            return 1;
        }
        let object = &raw const (*state).unnamed[naming as usize & (MAX_NAMED as usize - 1)];
        let number = (*state).naming_step;
        if number == 0 {
            (*state).slots[0] = (*object).address;
            (*state).cursor = 0;
        }
        let Some(plan) = PLANS.get_ptr((*object).plan) else {
            return 1;
        };
        // Out of time, what is left is not named either: its next sample asks again. But a first one is
        // named: where each walk takes all the time, none would ever be.
        let spent = now().wrapping_sub((*state).started);
        let mut good = naming == 0 || spent <= config!(tick_ns) as u64;
        let mut read = true;
        if good && number < (*plan).len as u64 && number < MAX_STEPS as u64 {
            let step = &raw const (*plan).steps[number as usize & (MAX_STEPS - 1)];
            (*state).unread = 0;
            if run(state, step, (&raw const (*plan).texts).cast()) {
                (*state).naming_step = number + 1;
                return 0;
            }
            read = false;
            good = (*state).unread != 0;
        }
        if good {
            let record = (&raw mut (*state).buffer).cast::<CodeObject>();
            (*record).header = output::header(state, RecordKind::CodeObject);
            (*record).process = (*state).sample.task.process;
            (*record).address = (*object).address;
            (*record).key = (*object).key;
            (*record).runtime = (*object).runtime;
            (*record).interpreter = (*object).interpreter;
            // Without fields: user space learns why there is no name.
            let mut len = if read { (*state).cursor } else { 0 };
            if len > CURSOR_MASK + MAX_FIELD as u64 {
                len = CURSOR_MASK + MAX_FIELD as u64;
            }
            (*record).len = len;
            good = output::send(record.cast(), size_of::<CodeObject>() as u64 + len, false);
        }
        if !good || !read {
            // Its next sample asks again.
            let _ = NAMED.remove(&(*object).seen);
        }
        (*state).naming = naming + 1;
        (*state).naming_step = 0;
        0
    }
}

/// A word of the object; notes in `state.unread` that it was not in memory.
#[inline(always)]
unsafe fn word(state: *mut State, address: u64) -> Option<u64> {
    let value = user_u64(address);
    // SAFETY: this CPU's slot.
    unsafe { (*state).unread |= value.is_none() as u64 };
    value
}

/// Runs one step; false if something could not be read (`state.unread`) or makes no sense.
#[inline(always)]
unsafe fn run(state: *mut State, step: *const Step, texts: *const TextForm) -> bool {
    // SAFETY: this CPU's slot, a map value; slot numbers are masked.
    unsafe {
        let base = (*state).slots[(*step).base as usize & (SLOTS - 1)];
        let from = base.wrapping_add((*step).offset as u64);
        let op = (*step).op;
        if op == Op::Pointer as u8 {
            let Some(pointer) = word(state, from) else {
                return false;
            };
            (*state).slots[(*step).into as usize & (SLOTS - 1)] = pointer;
            return true;
        }
        if op == Op::Bytes as u8 {
            return field(state, from, (*step).len as u64, 1, 0);
        }
        if op == Op::Counted as u8 {
            let Some(len) = word(state, base.wrapping_add((*step).len_at as u64)) else {
                return false;
            };
            let cut = len > (*step).len as u64;
            return field(state, from, if cut { 0 } else { len }, 1, cut as u8);
        }
        if op == Op::Text as u8 {
            let form = texts.add((*step).text as usize & 1);
            let Some(len) = word(state, base.wrapping_add((*form).len_at as u64)) else {
                return false;
            };
            let Some(flags) = word(state, base.wrapping_add((*form).state_at as u64)) else {
                return false;
            };
            // PEP 393: interned 2 bits, kind 3, compact 1, ascii 1.
            let width = flags >> 2 & 7;
            let compact = flags >> 5 & 1;
            let ascii = flags >> 6 & 1;
            if compact == 0 || (width != 1 && width != 2 && width != 4) {
                return false;
            }
            let at = if ascii != 0 {
                (*form).ascii_at
            } else {
                (*form).compact_at
            };
            let most = (*step).len as u64;
            let cut = len > most || len * width > most;
            let bytes = if cut { most } else { len * width };
            return field(
                state,
                base.wrapping_add(at as u64),
                bytes,
                width as u8,
                cut as u8,
            );
        }
        false
    }
}

/// Appends a field.
#[inline(always)]
unsafe fn field(state: *mut State, from: u64, len: u64, width: u8, cut: u8) -> bool {
    // SAFETY: the cursor is masked and the length checked: both together fit the buffer.
    unsafe {
        let cursor = (*state).cursor;
        if cursor > CURSOR_MASK || len > MAX_FIELD as u64 {
            return false;
        }
        let at = (&raw mut (*state).buffer)
            .cast::<u8>()
            .add(size_of::<CodeObject>() + masked(cursor, CURSOR_MASK));
        *at.cast::<FieldHeader>() = FieldHeader {
            len: len as u32,
            width,
            cut,
            _pad: 0,
        };
        if len != 0 {
            // Compared again where it is used: verifiers before Linux 6.8 forget the bound of a
            // number that was spilled before it was compared.
            let bytes = black_box(len);
            if bytes > MAX_FIELD as u64 {
                return false;
            }
            if !user(at.add(size_of::<FieldHeader>()).cast(), bytes as u32, from) {
                (*state).unread = 1;
                return false;
            }
        }
        (*state).cursor = cursor + size_of::<FieldHeader>() as u64 + (len + 7 & !7);
        true
    }
}
