//! From a pc to its mapping, without per-process state: a walk of the target's maple tree, without
//! a lock, validated after use.
//!
//! Tree layout: `include/linux/maple_tree.h` (6.1 to 7.2). The root is `node | 2`; an entry's low
//! byte carries the type of the node it points to in bits 3–6. A node is 256 bytes: parent, pivots,
//! slots. A slot's range ends at its pivot, the last one's at the node's own end.

use super::config::offset;
use super::maps::MODULES;
use super::memory::{at, kernel, kernel_u32, kernel_u64};
use super::module;
use super::state::{Backing, KEPT, Mapped, State, VMA_BYTES};
use crate::module::{ModuleInfo, ModuleKey};

/// `VM_EXEC` (include/linux/mm.h).
const VM_EXEC: u64 = 4;
const PAGE_SHIFT: u64 = 12;
/// Kernel field offsets of members that this kernel does not have.
const ABSENT: u64 = crate::kernel::ABSENT as u64;
/// The bit of a lock's owner that says that it was a reader (kernel/locking/rwsem.c).
const RWSEM_READER_OWNED: u64 = 1;
/// Levels that a tree of 2^47 addresses can have, with room to spare.
const MAX_LEVELS: u32 = 8;
/// How often the tree is walked again for one address.
pub(crate) const MAX_ATTEMPTS: u64 = 4;

/// What the tree holds at an address.
#[derive(Clone, Copy, Default)]
pub(crate) struct Entry {
    /// The `vm_area_struct`, 0 for a gap.
    pub(crate) vma: u64,
    /// First address of the entry.
    pub(crate) first: u64,
    /// Last address of the entry.
    pub(crate) last: u64,
}

/// Finds the tree's entry for an address, not 0. `None`: the tree changed under the walk.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn entry(state: *mut State, address: u64) -> Option<Entry> {
    // SAFETY: node is 256 bytes, indices are masked to its 32 words.
    unsafe {
        let mut entry = kernel_u64((*state).mm + offset!(mm_root));
        let mut first = 0;
        let mut last = u64::MAX;
        if entry & 3 != 2 || entry <= 4096 {
            // A tree of one entry has no node.
            let vma = entry;
            return Some(Entry { vma, first, last });
        }
        let node = &raw mut (*state).node;
        for _ in 0..MAX_LEVELS {
            let kind = entry >> 3 & 15;
            if !kernel(node.cast(), 256, entry & !0xff) {
                return None;
            }
            // A dead node: its parent is itself. It may still be in the tree, and then its first pivot is no
            // pivot any more, but the next dead node (`mat_add`, lib/maple_tree.c, 6.1).
            if (*node)[0] & !0xff == entry & !0xff {
                return None;
            }
            // The slot is the number of pivots below the address. Unused pivots are 0; and where an
            // arange_64 node's 9 pivots end, its slots begin: pointers, above any address. Counted
            // without a branch, so that the verifier has one path through a node, not 16.
            let mut slot = 0;
            for i in 0..15 {
                slot += below((*node)[1 + i].wrapping_sub(1), address.wrapping_sub(1));
            }
            let pivot = (*node)[(1 + slot) as usize & 31];
            // arange_64: 9 pivots, 10 slots; range_64 and leaf_64: 15 and 16.
            let (pivots, slots) = if kind == 3 { (9, 10) } else { (15, 16) };
            if slot < pivots && pivot != 0 {
                last = pivot;
            }
            if slot != 0 {
                first = (*node)[slot as usize & 31].wrapping_add(1);
            }
            entry = (*node)[(slots + slot) as usize & 31];
            if kind == 1 {
                let vma = entry;
                return Some(Entry { vma, first, last });
            }
            if entry <= 4096 {
                return None;
            }
        }
        None
    }
}

/// 1 if a < b, else 0, without a branch: the borrow of a − b.
#[inline(always)]
pub(crate) fn below(a: u64, b: u64) -> u64 {
    ((!a & b) | ((!a | b) & a.wrapping_sub(b))) >> 63
}

/// What [`inspect`] found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// An executable mapping: it is in `state.mapped`.
    Executable,
    /// A mapping of something else.
    Data,
    /// A mapping that is being changed.
    Changing,
}

/// Reads the `vm_area_struct` that the tree has for an address, and what is behind it, into
/// `state.mapped`.
///
/// VMAs are reused in place or freed without waiting for us; so everything is read again after use.
/// Split and merge change start and offset one after the other, and the tree last of all: where this
/// tick interrupted them nothing changes until it ends. So a start that is not the tree's counts as
/// changed, and so does a file whose offset may be yet to come (see [`moving`]).
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn inspect(state: *mut State, found: &Entry) -> Found {
    // SAFETY: offsets are constants below VMA_BYTES − 8, or the verifier refuses the program.
    unsafe {
        let vma = found.vma;
        let bytes = (&raw mut (*state).vma).cast::<u8>();
        if !kernel(bytes.cast(), VMA_BYTES as u32, vma) {
            return Found::Changing;
        }
        let start: u64 = at(bytes, offset!(vma_start));
        let end: u64 = at(bytes, offset!(vma_end));
        let pgoff: u64 = at(bytes, offset!(vma_pgoff));
        let file: u64 = at(bytes, offset!(vma_file));
        let mm: u64 = at(bytes, offset!(vma_mm));
        let flags: u64 = at(bytes, offset!(vma_flags));
        if start != found.first || mm != (*state).mm {
            return Found::Changing;
        }
        if flags & VM_EXEC == 0 {
            return Found::Data;
        }
        let mapped = &raw mut (*state).mapped;
        (*mapped).end = 0;
        (*state).file = file;
        if file == 0 {
            let vdso = kernel_u64(mm + offset!(mm_vdso));
            // It is never split (special mappings refuse that), and `mremap` moves what is said of it too.
            if start == vdso {
                (*mapped).bias = vdso;
                (*state).key = ModuleKey::VDSO;
                find_module(state);
            } else {
                (*mapped).bias = 0;
                (*mapped).backing = Backing::Anonymous as u64;
                (*mapped).module = ModuleInfo::ZERO;
            }
        } else {
            if moving(file, mm) {
                return Found::Changing;
            }
            (*mapped).bias = start.wrapping_sub(pgoff << PAGE_SHIFT);
            module::key(state, file);
            find_module(state);
        }
        if !kernel(bytes.cast(), VMA_BYTES as u32, vma)
            || at::<u64>(bytes, offset!(vma_start)) != start
            || at::<u64>(bytes, offset!(vma_end)) != end
            || at::<u64>(bytes, offset!(vma_pgoff)) != pgoff
            || at::<u64>(bytes, offset!(vma_file)) != file
            || at::<u64>(bytes, offset!(vma_mm)) != mm
        {
            return Found::Changing;
        }
        (*mapped).start = start;
        (*mapped).end = end;
        Found::Executable
    }
}

/// Whether what [`inspect`] found for an address can be believed: nothing has been changed in the whole
/// tick, or the tree says the same once more. A mapping that ends before the address, while the tree has
/// it there, is being split, and the other part is not in the tree yet: that moves no offset, and is
/// believed the third time. False: look again.
///
/// Between the walk and the look at what it led to, a node may be cleared and a VMA be given to another
/// mapping, even of the same address: then it says what it will be, field by field.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn believed(state: *mut State, found: &Entry, address: u64) -> bool {
    // SAFETY: as said.
    unsafe {
        let mapped = &raw mut (*state).mapped;
        let whole = address < (*mapped).end;
        if whole && is_quiet(state) {
            return true;
        }
        let seen = &raw mut (*state).seen;
        let same = (*seen).vma == found.vma
            && (*seen).file == (*state).file
            && (*seen).start == (*mapped).start
            && (*seen).end == (*mapped).end
            && (*seen).bias == (*mapped).bias;
        let times = if same { (*seen).times + 1 } else { 1 };
        (*seen).vma = found.vma;
        (*seen).file = (*state).file;
        (*seen).start = (*mapped).start;
        (*seen).end = (*mapped).end;
        (*seen).bias = (*mapped).bias;
        (*seen).times = times;
        let good = times >= if whole { 2 } else { 3 };
        if good {
            (*seen).times = 0;
        } else {
            (*mapped).end = 0;
        }
        good
    }
}

/// Whether nothing of the process's mappings has changed in this tick, or does now.
#[inline(always)]
unsafe fn is_quiet(state: *mut State) -> bool {
    // SAFETY: this CPU's slot.
    unsafe {
        let sequence = sequence((*state).mm);
        sequence & 1 == 0 && sequence == (*state).kept_sequence
    }
}

/// The sequence count of a process's `mmap_lock`: odd while it is held for writing, and where the kernel
/// does not count.
#[inline(always)]
fn sequence(mm: u64) -> u64 {
    match offset!(mm_lock_seq) {
        ABSENT => 1,
        offset => u64::from(kernel_u32(mm + offset)),
    }
}

/// Whether a thread of this process changes a mapping of the file right now, on kernels that do it in an
/// order that [`inspect`] cannot see through: `__vma_adjust` (mm/mmap.c, 6.1 and 6.2) sets the start,
/// stores it in the tree, and only then sets the offset. It holds the file's `i_mmap_rwsem` meanwhile. Where
/// the kernel counts changes (6.12) asking would cost 22 of 1,000 samples of a program that changes its
/// mappings without pause, for a moment of one instruction.
#[inline(always)]
fn moving(file: u64, mm: u64) -> bool {
    if offset!(mm_lock_seq) != ABSENT || offset!(mapping_lock_owner) == ABSENT {
        return false;
    }
    let mapping = kernel_u64(file + offset!(file_mapping));
    // A task's address with flags in its low bits (kernel/locking/rwsem.c). 0 is nobody, and a reader's
    // is not kept up to date.
    let owner = kernel_u64(mapping + offset!(mapping_lock_owner));
    owner & RWSEM_READER_OWNED == 0 && kernel_u64((owner & !7) + offset!(task_mm)) == mm
}

/// Looks up `state.key` among the known modules.
#[inline(always)]
unsafe fn find_module(state: *mut State) {
    // SAFETY: this CPU's slot.
    unsafe {
        let mapped = &raw mut (*state).mapped;
        match MODULES.get_ptr(&(*state).key) {
            Some(info) => {
                (*mapped).module = *info;
                (*mapped).backing = Backing::Module as u64;
            }
            None => {
                (*mapped).module = ModuleInfo::ZERO;
                (*mapped).backing = Backing::Unlearned as u64;
            }
        }
    }
}

/// Makes `state.mapped` the mapping that holds `pc`. False: none does, the tree changed under the walk, or
/// what it says is not [`believed`] yet: the caller tries again, unless `state.attempts` are used up.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn find(state: *mut State, pc: u64) -> bool {
    // SAFETY: as said.
    unsafe {
        if pc >= (*state).mapped.start && pc < (*state).mapped.end {
            return true;
        }
        let kept = &raw mut (*state).kept;
        // One more than the number of the one that holds the pc, 0 for none; without a branch.
        let mut hit = 0;
        for i in 0..KEPT as u64 {
            let entry = &raw const (*kept)[i as usize];
            hit |= (1 - below(pc, (*entry).start)) * below(pc, (*entry).end) * (i + 1);
        }
        if hit != 0 {
            (*state).mapped = (*kept)[(hit - 1) as usize & (KEPT - 1)];
            // Two of them overlap if mappings changed within this tick.
            if pc >= (*state).mapped.start && pc < (*state).mapped.end {
                return true;
            }
        }
        let Some(found) = entry(state, pc) else {
            return false;
        };
        let looked = match found.vma {
            0 => Found::Data,
            _ => inspect(state, &found),
        };
        if looked != Found::Executable {
            if looked == Found::Data && is_quiet(state) {
                // It will be so the next time, too.
                (*state).attempts = MAX_ATTEMPTS;
            }
            return false;
        }
        if !believed(state, &found, pc) {
            return false;
        }
        if (*state).mapped.backing == Backing::Unlearned as u64 {
            // Not kept: it may be learned by the next frame.
            module::announce(state);
            return true;
        }
        let slot = (*state).kept_next as usize & (KEPT - 1);
        (*state).kept_next += 1;
        (*kept)[slot] = (*state).mapped;
        true
    }
}

/// Forgets the mappings kept from the last tick unless nothing can have changed them: the same
/// process, the same even sequence count of its `mmap_lock`, the same table of modules.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn keep_or_forget(state: *mut State, generation: u64) {
    // SAFETY: as said.
    unsafe {
        let sequence = sequence((*state).mm);
        let process = (*state).sample.task.process;
        if sequence & 1 == 0
            && (*state).kept_sequence == sequence
            && (*state).kept_generation == generation
            && (*state).kept_for.mm == process.mm
            && (*state).kept_for.start == process.start
            && (*state).kept_for.exec_id == process.exec_id
            && (*state).kept_for.tgid == process.tgid
        {
            if (*state).mapped.backing == Backing::Unlearned as u64 {
                // It is announced again, if it was lost.
                (*state).mapped.end = 0;
            }
            return;
        }
        (*state).kept_for = process;
        (*state).kept_sequence = sequence;
        (*state).kept_generation = generation;
        (*state).mapped.end = 0;
        for i in 0..KEPT {
            (*state).kept[i].end = 0;
        }
    }
}

impl Mapped {
    /// File offset of a pc in this mapping.
    #[inline(always)]
    pub(crate) fn offset(&self, pc: u64) -> u64 {
        pc.wrapping_sub(self.bias)
    }
}
