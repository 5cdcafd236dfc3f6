//! What user space needs to unwind on where the program cannot: the stack's bytes, and where the
//! process maps code.

use core::ffi::{c_long, c_void};

use aya_ebpf::helpers::generated as helpers;

use super::config::config;
use super::mapping::{self, Found, MAX_ATTEMPTS};
use super::maps::state;
use super::memory::{masked, now, user};
use super::module;
use super::output;
use super::state::{Backing, State};
use crate::module::ModuleKey;
use crate::record::{
    End, MAX_HOLE, MAX_MAPPINGS, MAX_SLICES, Mapping, Mappings, RecordKind, SLICE_BYTES, Slice,
    sample_flags,
};
use crate::runtimes::walk;

/// No mapping begins below (`vm.mmap_min_addr`), and a walk for address 0 finds the end of the tree.
const FIRST_ADDRESS: u64 = 4096;
/// Looks at entries of the tree, which are mappings and the gaps between them: one each, or some more for one
/// that is not believed at once.
const MAX_ENTRIES: u32 = 4096;
/// The copy of a stack ended at missing pages that the stack's own mapping has: what is there would be read with
/// a fault. That it is there that the walk needed a word is for user space to tell. No hole is at this address.
const HOLE_IS_MAPPED: u64 = 1;

/// Sends slices and mappings for the sample in `state`.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn send(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        // Slices are many times larger than samples, which must not be lost for them.
        if !output::half_empty() {
            return;
        }
        let mut context = 0u64;
        (*state).address = (*state).sp;
        (*state).count = 0;
        (*state).listed = 0;
        helpers::bpf_loop(
            MAX_SLICES,
            piece as *mut c_void,
            (&raw mut context).cast(),
            0,
        );
        let mut slice_end = if out_of_time(state) {
            End::Time
        } else {
            End::Slice
        };
        if (*state).count == 0 {
            if (*state).ring_full == 0 && slice_end == End::Slice {
                (*state).sample.end = End::WouldFault as u32;
            }
            return;
        }
        (*state).hole = 0;
        if slice_end == End::Slice && (*state).listed >= MAX_HOLE {
            (*state).hole = (*state).address - MAX_HOLE * SLICE_BYTES as u64;
        }
        (*state).address = FIRST_ADDRESS;
        (*state).listed = 0;
        (*state).count = 0;
        (*state).attempts = 0;
        helpers::bpf_loop(
            MAX_ENTRIES,
            executable as *mut c_void,
            (&raw mut context).cast(),
            0,
        );
        if (*state).hole == HOLE_IS_MAPPED {
            slice_end = End::WouldFault;
        }
        let record = (&raw mut (*state).buffer).cast::<Mappings>();
        let mut count = (*state).count;
        if count > MAX_MAPPINGS as u64 {
            count = MAX_MAPPINGS as u64;
        }
        (*record).header = output::header(state, RecordKind::Mappings);
        (*record).count = count as u32;
        (*record).slice_end = slice_end as u16;
        (*record).list_end = if (*state).count > count {
            End::Mappings
        } else if (*state).listed == 0 {
            End::Time
        } else {
            End::Complete
        } as u16;
        let len = size_of::<Mappings>() as u64 + count * size_of::<Mapping>() as u64;
        if output::send(record.cast(), len, false) {
            (*state).sample.flags |= sample_flags::HAS_SLICE;
        } else {
            (*state).ring_full = 1;
        }
    }
}

/// Whether the tick's time is over.
#[inline(always)]
unsafe fn out_of_time(state: *mut State) -> bool {
    // SAFETY: this CPU's slot.
    now().wrapping_sub(unsafe { (*state).started }) > config!(tick_ns) as u64
}

/// Sends the stack from `state.address` to the end of its page. Pages in the middle may be missing: a
/// large array of which nothing was used.
unsafe extern "C" fn piece(_: u64, _: *mut c_void) -> c_long {
    let Some(state) = state() else { return 1 };
    // SAFETY: this CPU's slot; at most a page into a buffer of several.
    unsafe {
        if out_of_time(state) {
            return 1;
        }
        let address = (*state).address;
        let len = SLICE_BYTES as u64 - (address & (SLICE_BYTES as u64 - 1));
        let record = (&raw mut (*state).buffer).cast::<Slice>();
        (*state).address = address + len;
        if !user(record.add(1).cast(), len as u32, address) {
            (*state).listed += 1;
            return ((*state).listed >= MAX_HOLE) as c_long;
        }
        (*state).listed = 0;
        (*record).header = output::header(state, RecordKind::Slice);
        (*record).address = address;
        (*record).len = len;
        if !output::send(
            record.cast(),
            size_of::<Slice>() as u64 + (len + 7 & !7),
            false,
        ) {
            (*state).ring_full = 1;
            return 1;
        }
        (*state).count += 1;
        0
    }
}

/// Appends the mapping at or after `state.address`, if it is executable.
unsafe extern "C" fn executable(_: u64, _: *mut c_void) -> c_long {
    let Some(state) = state() else { return 1 };
    // SAFETY: this CPU's slot; the index is checked.
    unsafe {
        let address = (*state).address;
        if out_of_time(state) {
            return 1;
        }
        let entry = mapping::entry(state, address);
        let mut found = match entry {
            None => Found::Changing,
            Some(entry) if entry.vma == 0 => Found::Data,
            Some(entry) => mapping::inspect(state, &entry),
        };
        let entry = entry.unwrap_or_default();
        if found == Found::Executable && !mapping::believed(state, &entry, address) {
            found = Found::Changing;
        }
        if found == Found::Changing && (*state).attempts < MAX_ATTEMPTS {
            (*state).attempts += 1;
            return 0;
        }
        (*state).attempts = 0;
        if entry.last == 0 {
            return 1;
        }
        if entry.vma != 0
            && entry.first <= (*state).sp
            && (*state).sp <= entry.last
            && (*state).hole != 0
            && (*state).hole <= entry.last
        {
            (*state).hole = HOLE_IS_MAPPED;
        }
        let mapped = &raw const (*state).mapped;
        if found == Found::Executable {
            let count = (*state).count;
            if count < MAX_MAPPINGS as u64 {
                let to = (&raw mut (*state).buffer)
                    .cast::<u8>()
                    .add(size_of::<Mappings>())
                    .cast::<Mapping>()
                    .add(masked(count, MAX_MAPPINGS as u64 - 1));
                let anonymous = (*mapped).backing == Backing::Anonymous as u64;
                (*to).start = (*mapped).start;
                (*to).end = (*mapped).end;
                (*to).offset = (*mapped).offset((*mapped).start);
                (*to).key = if anonymous {
                    ModuleKey::VDSO
                } else {
                    (*state).key
                };
                (*to).vdso = ((*state).file == 0 && !anonymous) as u64;
            }
            (*state).count = count + 1;
            if (*mapped).backing == Backing::Unlearned as u64 {
                module::announce(state);
            }
            if (*mapped).module.runtime != 0 {
                walk::found_mapping(state);
            }
        }
        if entry.last >= 1 << 47 {
            (*state).listed = 1;
            return 1;
        }
        (*state).address = entry.last + 1;
        0
    }
}
