//! The maps, and the state slot of this CPU.

use aya_ebpf::btf_maps::{Array as BtfArray, ArrayOfMaps};
use aya_ebpf::helpers::generated as helpers;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};

use super::state::State;
use crate::identity::{LostKey, LostTicks, ProcessKey};
use crate::ledger::COUNTERS;
use crate::module::{ModuleInfo, ModuleKey};
use crate::plan::Plan;
use crate::rows::{CHUNK_WORDS, MAX_CHUNKS};
use crate::runtimes::{Interpreter, MAX_INTERPRETERS, MAX_PLANS};

/// A chunk of row space.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Chunk {
    pub(crate) words: [u32; CHUNK_WORDS as usize],
}

/// `BPF_F_MMAPABLE`: user space writes rows without a system call.
const MMAPABLE: usize = 1024;

#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
/// One slot a CPU; not a per-CPU array, because those end at 32 KiB a value.
#[map]
static STATES: Array<State> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static MODULES: HashMap<ModuleKey, ModuleInfo> = HashMap::with_max_entries(4096, 0);
/// Modules that were announced and wait to be learned.
#[map]
pub(crate) static ANNOUNCED: LruHashMap<ModuleKey, u64> = LruHashMap::with_max_entries(512, 0);
#[btf_map]
pub(crate) static CHUNKS: ArrayOfMaps<BtfArray<Chunk, 1, MMAPABLE>, { MAX_CHUNKS as usize }> =
    ArrayOfMaps::new();
/// Moves whenever MODULES changes: mappings kept between ticks are then forgotten.
#[map]
pub(crate) static GENERATION: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);
/// Ticks lost inside the programs, by process and column. Not an LRU map: that forgets counts. What
/// finds no room is counted for the machine, and in no process.
#[map]
pub(crate) static LOST: HashMap<LostKey, LostTicks> = HashMap::with_max_entries(2048, 0);
/// Processes that were asked for or ruled out, by pid in rprof's namespace: bits of
/// [`crate::select::target`].
#[map]
pub(crate) static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(4096, 0);
#[map]
pub(crate) static INTERPRETERS: Array<Interpreter> = Array::with_max_entries(MAX_INTERPRETERS, 0);
#[map]
pub(crate) static PLANS: Array<Plan> = Array::with_max_entries(MAX_PLANS, 0);
/// The thread state of a thread, by tid.
#[map]
pub(crate) static THREADS: LruHashMap<u32, ThreadState> = LruHashMap::with_max_entries(2048, 0);
/// Code objects whose names were sent, by a hash of process, address and key.
#[map]
pub(crate) static NAMED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(8192, 0);

/// Where a thread's state stands; true only as long as process and TLS base agree.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ThreadState {
    pub(crate) process: ProcessKey,
    pub(crate) address: u64,
}

/// The state slot of this CPU.
#[inline(always)]
pub(crate) fn state() -> Option<*mut State> {
    // SAFETY: no arguments; a tick cannot move to another CPU.
    let cpu = unsafe { helpers::bpf_get_smp_processor_id() };
    STATES.get_ptr_mut(cpu)
}
