//! What the walks of all runtimes share: where a runtime's frames stand among the native ones, and
//! where they end.
//!
//! A runtime keeps a *marker* on the native stack for each activation of its interpreter. The marker's
//! address lies in `[sp, CFA)` of exactly the native frame it belongs to; so the walk merges both
//! kinds of frames by address, and needs no code range of the interpreter. Entered from
//! [`crate::programs::native`]; a runtime's own module finds markers and reads frames.

use core::ffi::c_long;

use super::{Interpreter, of_runtime};
use crate::frame::{self, Tag};
use crate::programs::maps::{INTERPRETERS, THREADS, ThreadState};
use crate::programs::memory::user_u64;
use crate::programs::native::{advance, end, push};
use crate::programs::state::{Backing, Phase, State};
use crate::record::{End, sample_flags};

/// Whether this thread runs a runtime's code.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// No frame of an interpreter was met yet.
    NotLooked = 0,
    /// Its markers are known.
    Found = 1,
    /// It has none.
    NotFound = 2,
}

/// Where the walk stands among a runtime's frames.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// A [`Status`] number.
    pub(crate) status: u64,
    /// Whose frames: a number of the registry, 0 before an interpreter's mapping was met.
    pub(crate) runtime: u64,
    /// Index in the map of interpreters.
    pub(crate) interpreter: u64,
    /// Address − virtual address in the interpreter's mapping.
    pub(crate) bias: u64,
    /// Address of the newest marker not yet passed; 0: none is left.
    pub(crate) marker: u64,
    /// The frame that comes next in the current activation; 0: none.
    pub(crate) frame: u64,
    /// 1: native frames have ended, user space will merge what the walk finds now.
    pub(crate) after_native: u64,
    /// 1: the marker lies in a native frame that is none of the interpreter's.
    pub(crate) base: u64,
    /// 1: a marker may be another stack's; only a native frame that holds it can tell.
    pub(crate) unsure: u64,
    /// 1: a pointer was not in memory, so that frames may be missing.
    pub(crate) faulted: u64,
    /// 1: frames may be missing, because it could not be told whose they are.
    pub(crate) doubt: u64,
}

/// What a runtime's module provides.
///
/// # Safety
/// `state` is this CPU's slot in all of them.
pub(crate) trait Runtime {
    /// What its steps remember within a sample.
    type Own;
    /// Looks for the thread's newest marker: calls [`found`], or sets [`Phase::Search`], or neither
    /// if there is none.
    unsafe fn look(state: *mut State);
    /// One step of the search; 0 to go on. It ends with [`found`] or [`not_found`].
    unsafe fn search(state: *mut State) -> c_long;
    /// The newest frame of the activation that `walk.marker` stands for.
    unsafe fn newest(state: *mut State) -> u64;
    /// Writes `walk.frame` (see [`super::frames`]) and moves to its caller, or calls
    /// [`leave`].
    unsafe fn frame(state: *mut State) -> c_long;
}

/// Before the walk of a sample.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn reset(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        let walk = &raw mut (*state).walk;
        (*walk).status = Status::NotLooked as u64;
        (*walk).runtime = 0;
        (*walk).marker = 0;
        (*walk).after_native = 0;
        (*walk).faulted = 0;
        (*walk).doubt = 0;
        (*walk).unsure = 0;
        (*state).frame_base = u64::MAX;
    }
}

/// The interpreter whose frames are walked.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn interpreter(state: *mut State) -> Option<&'static Interpreter> {
    // SAFETY: as said; a map value is there for as long as the program runs.
    unsafe {
        let known = INTERPRETERS.get_ptr((*state).walk.interpreter as u32)?;
        Some(&*known)
    }
}

/// The first frame in an interpreter's file was met: looks for the thread's frames.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn begin(state: *mut State) -> c_long {
    // SAFETY: as said.
    unsafe {
        found_mapping(state);
        (*state).walk.status = Status::NotFound as u64;
        of_runtime!(state, look);
        0
    }
}

/// `state.mapped` is a mapping of an interpreter's file.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn found_mapping(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        let walk = &raw mut (*state).walk;
        if (*walk).status != Status::NotLooked as u64 {
            return;
        }
        (*walk).interpreter = (*state).mapped.module.interpreter as u64;
        let Some(known) = interpreter(state) else {
            return;
        };
        (*walk).bias = (*state).mapped.bias.wrapping_sub(known.text_delta as u64);
        (*walk).runtime = (*state).mapped.module.runtime as u64;
    }
}

/// Native frames have ended where the programs cannot follow them, maybe before the first frame
/// of an interpreter that the process maps. Its frames are walked all the same, for user space
/// to merge. True if there is something to walk.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn begin_after_native(state: *mut State) -> bool {
    // SAFETY: as said.
    unsafe {
        let walk = &raw mut (*state).walk;
        if (*walk).runtime == 0 {
            return false;
        }
        (*state).sample.flags |= sample_flags::RUNTIME_KNOWN;
        if (*walk).status != Status::NotLooked as u64 {
            return false;
        }
        (*walk).after_native = 1;
        (*walk).status = Status::NotFound as u64;
        of_runtime!(state, look);
        true
    }
}

/// What [`remember`] was told of this thread.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn remembered(state: *mut State) -> Option<u64> {
    // SAFETY: as said; a map value.
    unsafe {
        let thread = THREADS.get_ptr(&(*state).sample.task.host.tid)?;
        let process = &raw const (*state).sample.task.process;
        let known = &raw const (*thread).process;
        ((*known).mm == (*process).mm
            && (*known).start == (*process).start
            && (*known).exec_id == (*process).exec_id
            && (*known).tgid == (*process).tgid)
            .then(|| (*thread).address)
    }
}

/// Keeps where the state of this thread stands for its next samples, which must look whether it is
/// still that.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn remember(state: *mut State, address: u64) {
    // SAFETY: as said.
    unsafe {
        let known = ThreadState {
            process: (*state).sample.task.process,
            address,
        };
        let _ = THREADS.insert(&(*state).sample.task.host.tid, &known, 0);
    }
}

/// The thread's newest marker is known.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn found(state: *mut State, marker: u64) {
    // SAFETY: as said.
    unsafe {
        (*state).walk.marker = marker;
        (*state).walk.status = Status::Found as u64;
        (*state).phase = Phase::Native as u64;
        if (*state).walk.after_native != 0 {
            rest(state);
        }
    }
}

/// Frames may be missing: it cannot be told whose they are. A stack that seems complete is then said
/// not to be.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn in_doubt(state: *mut State) {
    // SAFETY: as said.
    unsafe { (*state).walk.doubt = 1 };
}

/// The search found no marker of this thread.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn not_found(state: *mut State) -> c_long {
    // SAFETY: as said.
    unsafe {
        let after_native = (*state).walk.after_native != 0;
        (*state).phase = if after_native {
            Phase::Done
        } else {
            Phase::Native
        } as u64;
    }
    0
}

/// The marker lies in the native frame that is pending: its frames come first.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn enter(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        let mapped = &raw const (*state).mapped;
        let outside = (*mapped).backing == Backing::Module as u64
            && (*mapped).module.runtime as u64 != (*state).walk.runtime
            // A frame that was guessed may be two, and the marker the other's.
            && (*state).next_guessed == 0;
        (*state).walk.base = outside as u64;
        (*state).walk.frame = of_runtime!(state, newest);
        (*state).phase = Phase::Runtime as u64;
    }
}

/// Native frames ended early: what is left of the runtime's follows.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn rest(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        if (*state).walk.unsure != 0 {
            in_doubt(state);
            (*state).phase = Phase::Done as u64;
            return;
        }
        push(state, frame::address(Tag::Marker, (*state).walk.marker));
        (*state).walk.frame = of_runtime!(state, newest);
        (*state).phase = Phase::RuntimeRest as u64;
    }
}

/// The activation ended: on to the next marker (0: none is left), and back to the native frame that
/// holds this one.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn leave(state: *mut State, next: u64) -> c_long {
    // SAFETY: as said.
    unsafe {
        (*state).walk.marker = next;
        if (*state).phase == Phase::RuntimeRest as u64 {
            if next == 0 {
                (*state).phase = Phase::Done as u64;
                return 1;
            }
            rest(state);
            return 0;
        }
        if next == 0 && (*state).walk.base != 0 {
            // Where a library lets functions have stacks of their own (greenlet) it sets up the first
            // marker of each, in a function that never returns: the caller it once had is gone, and
            // what stands there now is another's.
            push(state, (*state).pending);
            return end(state, End::Complete);
        }
        advance(state, (*state).pending)
    }
}

/// A pointer of the runtime's. 0 ends whatever list it belongs to; one that is not in memory
/// does too, and then the sample says so.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn link(state: *mut State, address: u64) -> u64 {
    match user_u64(address) {
        Some(pointer) => pointer,
        None => {
            // SAFETY: as said.
            unsafe { (*state).walk.faulted = 1 };
            0
        }
    }
}

/// After the walk: what may be missing is said.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn reckon(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        if (*state).walk.faulted != 0 {
            (*state).sample.end = End::WouldFault as u32;
        } else if (*state).walk.doubt != 0 {
            let end = (*state).sample.end;
            // Ends that user space may still turn into a complete one.
            if end == End::Complete as u32
                || end == End::Unlearned as u32
                || end == End::Unsupported as u32
            {
                (*state).sample.end = End::Runtime as u32;
            }
        }
    }
}
