//! CPython's walk, in the eBPF programs.
//!
//! The marker of an activation (3.11, 3.12) is a `_PyCFrame` on the stack of its evaluation loop. The
//! thread state leads to the newest one, each of them to its frames and to the one before.

use core::ffi::c_long;

use super::{PythonInterpreter, PythonLayout, code_key, symbols};
use crate::programs::memory::user;
use crate::programs::native::end;
use crate::programs::state::{Phase, State};
use crate::record::End;
use crate::runtimes::walk::{
    FRAME_BYTES, Runtime, field, found, frame_bytes, interpreted, interpreter, leave, left_out,
    link, not_found, remember, remembered,
};

/// Bytes of a thread state that are read at once.
const THREAD_BYTES: u32 = 192;
/// Bytes of a code object that are read at once.
const CODE_BYTES: u32 = 192;
/// Thread states looked at in search of this thread's.
const MAX_THREADS: u64 = 2048;
/// `FRAME_OWNED_BY_GENERATOR` (Include/internal/pycore_frame.h, 3.11).
const OWNED_BY_GENERATOR: u8 = 1;

/// The search: current interpreter state, thread state, best marker so far, its thread state.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Search {
    interp: u64,
    thread: u64,
    best: u64,
    best_thread: u64,
    searched: u64,
}

/// The layout of the interpreter whose frames are walked.
#[inline(always)]
unsafe fn python(state: *mut State) -> Option<&'static PythonInterpreter> {
    // SAFETY: this CPU's slot.
    unsafe { interpreter(state)?.layout() }
}

/// CPython's steps.
pub(crate) enum Walker {}

impl Runtime for Walker {
    type Own = Search;

    /// The thread state where it was last time, or the beginning of the search.
    #[inline(always)]
    unsafe fn look(state: *mut State) {
        // SAFETY: this CPU's slot.
        unsafe {
            let Some(known) = python(state) else { return };
            let layout = &known.layout;
            if let Some(thread) = remembered(state)
                && let Some(marker) = own_marker(state, layout, thread)
            {
                return found(state, marker);
            }
            let search = &raw mut (*state).runtimes.python;
            let runtime = (*state).walk.bias.wrapping_add(known.symbols[symbols::RUNTIME]);
            (*search).interp = link(
                state,
                runtime.wrapping_add(layout.runtime_interpreters as u64),
            );
            (*search).thread = threads(state, layout, (*search).interp);
            (*search).best = 0;
            (*search).searched = 0;
            (*state).phase = Phase::Search as u64;
        }
    }

    /// One thread state. Of several that are this thread's (sub-interpreters), the one whose marker
    /// is newest.
    #[inline(always)]
    unsafe fn search(state: *mut State) -> c_long {
        // SAFETY: this CPU's slot.
        unsafe {
            let search = &raw mut (*state).runtimes.python;
            let Some(known) = python(state) else {
                return end(state, End::Runtime);
            };
            let layout = &known.layout;
            let thread = (*search).thread;
            (*search).searched += 1;
            if thread == 0 || (*search).searched > MAX_THREADS {
                let interp = (*search).interp;
                if interp != 0 && (*search).searched <= MAX_THREADS {
                    let next = interp.wrapping_add(layout.interp_next as u64);
                    (*search).interp = link(state, next);
                    (*search).thread = threads(state, layout, (*search).interp);
                    if (*search).thread != 0 {
                        return 0;
                    }
                }
                if (*search).best == 0 {
                    return not_found(state);
                }
                remember(state, (*search).best_thread);
                found(state, (*search).best);
                return 0;
            }
            if let Some(marker) = own_marker(state, layout, thread)
                && ((*search).best == 0 || marker < (*search).best)
            {
                (*search).best = marker;
                (*search).best_thread = thread;
            }
            (*search).thread = link(state, thread.wrapping_add(layout.thread_next as u64));
            0
        }
    }

    /// `current_frame` of the marker.
    #[inline(always)]
    unsafe fn newest(state: *mut State) -> u64 {
        // SAFETY: this CPU's slot.
        unsafe {
            let Some(known) = python(state) else { return 0 };
            let marker = (*state).walk.marker;
            link(
                state,
                marker.wrapping_add(known.layout.cframe_current as u64),
            )
        }
    }

    #[inline(always)]
    unsafe fn frame(state: *mut State) -> c_long {
        // SAFETY: this CPU's slot; buffers are larger than what is read into them.
        unsafe {
            let Some(known) = python(state) else {
                return end(state, End::Runtime);
            };
            let layout = &known.layout;
            let address = (*state).walk.frame;
            if address == 0 {
                return leave(state, next_marker(state, layout));
            }
            let Some(bytes) = frame_bytes(state, address) else {
                return end(state, End::WouldFault);
            };
            let Some(object) = field::<u64>(bytes, layout.frame_code, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let Some(previous) = field::<u64>(bytes, layout.frame_previous, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let Some(instruction) = field::<u64>(bytes, layout.frame_instr, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let Some(entry) = field::<u8>(bytes, layout.frame_is_entry, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let Some(owner) = field::<u8>(bytes, layout.frame_owner, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let code = (&raw mut (*state).code).cast::<u8>();
            if !user(code.cast(), CODE_BYTES, object) {
                return end(state, End::WouldFault);
            }
            if code_frame(state, known, object, instruction, owner).is_none() {
                left_out(state);
            }
            (*state).walk.frame = previous;
            if entry != 0 {
                return leave(state, next_marker(state, layout));
            }
            0
        }
    }
}

/// First thread state of an interpreter state.
#[inline(always)]
unsafe fn threads(state: *mut State, layout: &PythonLayout, interp: u64) -> u64 {
    if interp == 0 {
        return 0;
    }
    // SAFETY: this CPU's slot.
    unsafe { link(state, interp.wrapping_add(layout.interp_threads as u64)) }
}

/// Reads a thread state into `state.code`; its newest marker, if it is this thread's and the
/// marker lies on the current stack.
#[inline(always)]
unsafe fn own_marker(state: *mut State, layout: &PythonLayout, thread: u64) -> Option<u64> {
    // SAFETY: 192 bytes into a buffer of 256.
    unsafe {
        let bytes = (&raw mut (*state).code).cast::<u8>();
        if !user(bytes.cast(), THREAD_BYTES, thread) {
            return None;
        }
        let id: u64 = field(bytes, layout.thread_id, THREAD_BYTES)?;
        // Not compared: `native_thread_id`, which a forked child of 3.11 does not renew.
        if id != (*state).fsbase {
            return None;
        }
        let marker: u64 = field(bytes, layout.thread_cframe, THREAD_BYTES)?;
        // A thread that runs no Python has its root marker, inside the thread state.
        (marker >= (*state).sp && marker.wrapping_sub(thread) >= 4096).then_some(marker)
    }
}

/// The marker before the current one; 0 if there is none.
#[inline(always)]
unsafe fn next_marker(state: *mut State, layout: &PythonLayout) -> u64 {
    // SAFETY: this CPU's slot.
    unsafe {
        let marker = (*state).walk.marker;
        let previous = layout.cframe_previous as u64;
        let next = link(state, marker.wrapping_add(previous));
        // Markers lie ever closer to the root; the outermost is in the thread state.
        if next > marker && link(state, next.wrapping_add(previous)) != 0 {
            next
        } else {
            0
        }
    }
}

/// Writes the frame of the code object in `state.code`. `None`: it is being pushed, or is no
/// code object.
#[inline(always)]
unsafe fn code_frame(
    state: *mut State,
    known: &PythonInterpreter,
    object: u64,
    instruction: u64,
    owner: u8,
) -> Option<()> {
    // SAFETY: this CPU's slot; a map value.
    unsafe {
        let layout = &known.layout;
        let code = (&raw const (*state).code).cast::<u8>();
        let type_: u64 = field(code, layout.object_type, CODE_BYTES)?;
        let code_type = (*state).walk.bias.wrapping_add(known.symbols[symbols::CODE_TYPE]);
        if type_ != code_type {
            return None;
        }
        let line: u32 = field(code, layout.code_first_line, CODE_BYTES)?;
        let filename: u64 = field(code, layout.code_filename, CODE_BYTES)?;
        let qualname: u64 = field(code, layout.code_qualname, CODE_BYTES)?;
        let linetable: u64 = field(code, layout.code_linetable, CODE_BYTES)?;
        let traceable: u32 = field(code, layout.code_first_traceable, CODE_BYTES)?;
        let first = object.wrapping_add(layout.code_instructions as u64);
        let position = instruction.wrapping_sub(first);
        // Also true of an instruction before the first: a frame that has not begun.
        if position > u32::MAX as u64
            || (owner != OWNED_BY_GENERATOR && position < traceable as u64 * 2)
        {
            return None;
        }
        let key = code_key(line, filename, qualname, linetable);
        interpreted(state, position as u32 >> 1, object, key);
        Some(())
    }
}

