//! The start-up self-check: rprof's own address space, walked by the very code that samples use.
//!
//! User space runs it in its own context (`BPF_PROG_TEST_RUN` of a raw tracepoint program, 5.10),
//! once for each mapping and gap, and compares what is found with `/proc/self/maps`. An address
//! enters; what the tree holds there leaves by a map. It is never attached to anything, and runs
//! before the first tick: with preemption off, it may use the state slot of its CPU, which it
//! leaves as a tick of another process would.

use aya_ebpf::helpers::generated as helpers;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;

use super::config::offset;
use super::mapping::{self, Found};
use super::maps::state;
use super::memory::at;
use super::state::Backing;
use crate::module::ModuleKey;
use crate::self_check::{Kind, Walked};

#[map]
static WALKED: Array<Walked> = Array::with_max_entries(1, 0);

/// Looks up an address of the current process, not 0. 0: it is in the map; 1: the tree changed.
#[inline(always)]
pub fn look_up(address: u64) -> i32 {
    let (Some(state), Some(to)) = (state(), WALKED.get_ptr_mut(0)) else {
        return 1;
    };
    // SAFETY: the slot of this CPU, on which nothing else runs.
    unsafe {
        let task = helpers::bpf_get_current_task_btf() as *const u8;
        (*state).mm = at(task, offset!(task_mm));
        let Some(entry) = mapping::entry(state, address) else {
            return 1;
        };
        (*to).last = entry.last;
        (*to).start = 0;
        (*to).end = 0;
        (*to).offset = 0;
        (*to).key = ModuleKey::VDSO;
        (*to).kind = Kind::Gap as u64;
        if entry.vma == 0 {
            return 0;
        }
        (*to).kind = Kind::Data as u64;
        if mapping::inspect(state, &entry) == Found::Executable {
            let mapped = &raw mut (*state).mapped;
            (*to).start = (*mapped).start;
            (*to).end = (*mapped).end;
            (*to).kind = Kind::Anonymous as u64;
            if (*mapped).backing != Backing::Anonymous as u64 {
                (*to).offset = (*mapped).offset((*mapped).start);
                (*to).key = (*state).key;
                (*to).kind = if (*state).file == 0 {
                    Kind::Vdso as u64
                } else {
                    Kind::File as u64
                };
            }
            // It belongs to no tick.
            (*mapped).end = 0;
        }
        0
    }
}
