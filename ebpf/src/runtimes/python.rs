//! CPython: where its frames stand.
//!
//! Each C activation of the evaluation loop keeps a marker on its own C stack (3.11, 3.12: a
//! `_PyCFrame`). The marker's address lies in `[sp, CFA)` of exactly the native frame it belongs
//! to; so the walk merges Python frames with native ones by address and needs no code range.

/// Byte offsets in CPython's structs, for one minor version and build.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonLayout {
    /// `PY_VERSION_HEX >> 16`, e.g. 0x030b.
    pub version: u32,
    /// `_PyRuntimeState.interpreters.head`
    pub runtime_interpreters: u32,
    /// `PyInterpreterState.next`
    pub interp_next: u32,
    /// `PyInterpreterState.threads.head`
    pub interp_threads: u32,
    /// `PyThreadState.next`
    pub thread_next: u32,
    /// `PyThreadState.thread_id` (`pthread_self()`)
    pub thread_id: u32,
    /// `PyThreadState.cframe`
    pub thread_cframe: u32,
    /// `_PyCFrame.current_frame`
    pub cframe_current: u32,
    /// `_PyCFrame.previous`
    pub cframe_previous: u32,
    /// `_PyInterpreterFrame.f_code`
    pub frame_code: u32,
    /// `_PyInterpreterFrame.previous`
    pub frame_previous: u32,
    /// `_PyInterpreterFrame.prev_instr`
    pub frame_instr: u32,
    /// `_PyInterpreterFrame.is_entry`
    pub frame_is_entry: u32,
    /// `_PyInterpreterFrame.owner`
    pub frame_owner: u32,
    /// `PyObject.ob_type`
    pub object_type: u32,
    /// `PyCodeObject.co_firstlineno`
    pub code_first_line: u32,
    /// `PyCodeObject.co_filename`
    pub code_filename: u32,
    /// `PyCodeObject.co_qualname`
    pub code_qualname: u32,
    /// `PyCodeObject.co_linetable`
    pub code_linetable: u32,
    /// `PyCodeObject._co_firsttraceable`, in code units
    pub code_first_traceable: u32,
    /// `PyCodeObject.co_code_adaptive`: the first instruction
    pub code_instructions: u32,
    /// Index of the plan that names a code object.
    pub plan: u32,
}

/// An interpreter's file: what the walk needs to know of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonInterpreter {
    /// Its structs.
    pub layout: PythonLayout,
    /// Virtual address − file offset of its executable segment.
    pub text_delta: i64,
    /// Virtual addresses of [`symbols`].
    pub symbols: [u64; 2],
}

/// What stands where in [`PythonInterpreter::symbols`].
pub mod symbols {
    /// `_PyRuntime`
    pub const RUNTIME: usize = 0;
    /// `PyCode_Type`
    pub const CODE_TYPE: usize = 1;
}

// No padding: it goes into a map byte by byte.
const _: () =
    assert!(size_of::<PythonLayout>() == 22 * 4 && size_of::<PythonInterpreter>() == 22 * 4 + 24);

/// Bytes of a frame that the walk reads at once, and of a code object.
pub const FRAME_BYTES: u32 = 80;
/// See [`FRAME_BYTES`].
pub const CODE_BYTES: u32 = 192;

/// The key of a code object: changes when the address is used for another one.
#[inline(always)]
pub const fn code_key(first_line: u32, filename: u64, qualname: u64, linetable: u64) -> u64 {
    let mut key = filename ^ (first_line as u64) << 48;
    key = (key ^ key >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key ^= qualname;
    key = (key ^ key >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key ^= linetable;
    key = (key ^ key >> 29).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ key >> 32
}

/// The walk, in the eBPF program.
#[cfg(target_arch = "bpf")]
pub(crate) mod walk {
    use core::ffi::c_long;

    use super::{CODE_BYTES, FRAME_BYTES, PythonInterpreter, PythonLayout, code_key, symbols};
    use crate::frame::{self, Tag};
    use crate::programs::config::config;
    use crate::programs::maps::{NAMED, PYTHONS, THREADS, ThreadState};
    use crate::programs::memory::{at, masked, user, user_u64};
    use crate::programs::native::{advance, end, push};
    use crate::programs::state::{MAX_NAMED, Phase, State, Unnamed};
    use crate::record::{End, sample_flags};
    use crate::runtimes::{PYTHON, named_key};

    /// Bytes of a thread state that are read at once.
    const THREAD_BYTES: u32 = 192;
    /// Bytes of frames that are read at once.
    pub(crate) const FRAME_PIECE: u32 = 1024;
    /// Thread states looked at in search of this thread's.
    const MAX_THREADS: u64 = 2048;
    /// `FRAME_OWNED_BY_GENERATOR` (Include/internal/pycore_frame.h, 3.11).
    const OWNED_BY_GENERATOR: u8 = 1;

    /// Whether this thread runs Python.
    #[repr(u64)]
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Status {
        /// No frame of an interpreter was met yet.
        NotLooked = 0,
        /// Its thread state is known.
        Found = 1,
        /// It has none.
        NotFound = 2,
    }

    /// Where the walk stands among Python's frames.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(crate) struct PythonWalk {
        /// A [`Status`] number.
        pub(crate) status: u64,
        /// Address of the newest `_PyCFrame` not yet passed; 0: none is left.
        pub(crate) marker: u64,
        /// The frame that comes next in the current activation.
        pub(crate) frame: u64,
        /// Address − virtual address in the interpreter's mapping.
        pub(crate) bias: u64,
        /// Index in the map of interpreters.
        pub(crate) interpreter: u64,
        /// Search: current interpreter state, thread state, best marker so far, its thread state.
        pub(crate) interp: u64,
        pub(crate) thread: u64,
        pub(crate) best: u64,
        pub(crate) best_thread: u64,
        pub(crate) searched: u64,
        /// 1: native frames have ended, user space will merge what the walk finds now.
        pub(crate) after_native: u64,
        /// 1: the interpreter's mapping was met, `interpreter` and `bias` are its.
        pub(crate) mapped: u64,
        /// 1: a pointer was not in memory, so that frames may be missing.
        pub(crate) faulted: u64,
    }

    /// A 64-bit field of a struct whose first `len` bytes were read.
    #[inline(always)]
    unsafe fn field<T: Copy>(bytes: *const u8, offset: u32, len: u32) -> Option<T> {
        if offset > len - 8 {
            return None;
        }
        // SAFETY: just checked.
        Some(unsafe { at(bytes, offset as u64) })
    }

    #[inline(always)]
    unsafe fn interpreter(state: *mut State) -> Option<*const PythonInterpreter> {
        // SAFETY: this CPU's slot.
        PYTHONS.get_ptr(unsafe { (*state).python.interpreter } as u32)
    }

    /// The first frame in an interpreter's file was met: looks for the thread state.
    ///
    /// # Safety
    /// `state` is this CPU's slot.
    #[inline(always)]
    pub(crate) unsafe fn begin(state: *mut State) -> c_long {
        // SAFETY: as said.
        unsafe {
            found_mapping(state);
            look(state);
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
            let python = &raw mut (*state).python;
            if (*python).status != Status::NotLooked as u64 {
                return;
            }
            (*python).interpreter = (*state).mapped.module.interpreter as u64;
            let Some(known) = interpreter(state) else {
                return;
            };
            (*python).bias = (*state)
                .mapped
                .bias
                .wrapping_sub((*known).text_delta as u64);
            (*python).mapped = 1;
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
            let python = &raw mut (*state).python;
            if (*python).mapped == 0 {
                return false;
            }
            (*state).sample.flags |= sample_flags::RUNTIME_KNOWN;
            if (*python).status != Status::NotLooked as u64 {
                return false;
            }
            (*python).after_native = 1;
            look(state);
            if (*python).status == Status::Found as u64 {
                rest(state);
            }
            true
        }
    }

    /// Looks for the thread state where it was last time, or prepares the search.
    #[inline(always)]
    unsafe fn look(state: *mut State) {
        // SAFETY: this CPU's slot.
        unsafe {
            let python = &raw mut (*state).python;
            (*python).status = Status::NotFound as u64;
            let Some(known) = interpreter(state) else {
                return;
            };
            let layout = &raw const (*known).layout;
            let tid = (*state).sample.task.host.tid;
            if let Some(thread) = THREADS.get_ptr(&tid) {
                let process = (*state).sample.task.process;
                if (*thread).process.mm == process.mm
                    && (*thread).process.start == process.start
                    && (*thread).process.exec_id == process.exec_id
                    && (*thread).process.tgid == process.tgid
                    && let Some(marker) = own_marker(state, layout, (*thread).address)
                {
                    (*python).marker = marker;
                    (*python).status = Status::Found as u64;
                    return;
                }
            }
            let runtime = (*python)
                .bias
                .wrapping_add((*known).symbols[symbols::RUNTIME]);
            (*python).interp = link(
                state,
                runtime.wrapping_add((*layout).runtime_interpreters as u64),
            );
            (*python).thread = threads(state, layout, (*python).interp);
            (*python).best = 0;
            (*python).searched = 0;
            (*state).phase = Phase::FindThread as u64;
        }
    }

    /// First thread state of an interpreter state.
    #[inline(always)]
    unsafe fn threads(state: *mut State, layout: *const PythonLayout, interp: u64) -> u64 {
        if interp == 0 {
            return 0;
        }
        // SAFETY: this CPU's slot; a map value.
        unsafe { link(state, interp.wrapping_add((*layout).interp_threads as u64)) }
    }

    /// A pointer of the interpreter's. 0 ends whatever list it belongs to; one that is not in memory
    /// does too, and then the sample says so.
    #[inline(always)]
    unsafe fn link(state: *mut State, address: u64) -> u64 {
        match user_u64(address) {
            Some(pointer) => pointer,
            None => {
                // SAFETY: this CPU's slot.
                unsafe { (*state).python.faulted = 1 };
                0
            }
        }
    }

    /// Reads a thread state into `state.code`; its newest marker, if it is this thread's and the
    /// marker lies on the current stack.
    #[inline(always)]
    unsafe fn own_marker(
        state: *mut State,
        layout: *const PythonLayout,
        thread: u64,
    ) -> Option<u64> {
        // SAFETY: 192 bytes into a buffer of 256.
        unsafe {
            let bytes = (&raw mut (*state).code).cast::<u8>();
            if !user(bytes.cast(), THREAD_BYTES, thread) {
                return None;
            }
            let id: u64 = field(bytes, (*layout).thread_id, THREAD_BYTES)?;
            // Not compared: `native_thread_id`, which a forked child of 3.11 does not renew.
            if id != (*state).fsbase {
                return None;
            }
            let marker: u64 = field(bytes, (*layout).thread_cframe, THREAD_BYTES)?;
            // A thread that runs no Python has its root marker, inside the thread state.
            (marker >= (*state).sp && marker.wrapping_sub(thread) >= 4096).then_some(marker)
        }
    }

    /// One step of the search: one thread state. Of several that are this thread's
    /// (sub-interpreters), the one whose marker is newest.
    ///
    /// # Safety
    /// `state` is this CPU's slot.
    #[inline(always)]
    pub(crate) unsafe fn find_thread(state: *mut State) -> c_long {
        // SAFETY: as said.
        unsafe {
            let python = &raw mut (*state).python;
            let Some(known) = interpreter(state) else {
                return end(state, End::Runtime);
            };
            let layout = &raw const (*known).layout;
            let thread = (*python).thread;
            (*python).searched += 1;
            if thread == 0 || (*python).searched > MAX_THREADS {
                let interp = (*python).interp;
                if interp != 0 && (*python).searched <= MAX_THREADS {
                    let next = interp.wrapping_add((*layout).interp_next as u64);
                    (*python).interp = link(state, next);
                    (*python).thread = threads(state, layout, (*python).interp);
                    if (*python).thread != 0 {
                        return 0;
                    }
                }
                let after_native = (*python).after_native != 0;
                (*state).phase = Phase::Native as u64;
                if (*python).best == 0 {
                    (*state).sample.flags |= sample_flags::NO_THREAD_STATE;
                    return after_native as c_long;
                }
                (*python).marker = (*python).best;
                (*python).status = Status::Found as u64;
                let found = ThreadState {
                    process: (*state).sample.task.process,
                    address: (*python).best_thread,
                };
                let _ = THREADS.insert(&(*state).sample.task.host.tid, &found, 0);
                if after_native {
                    rest(state);
                }
                return 0;
            }
            if let Some(marker) = own_marker(state, layout, thread)
                && ((*python).best == 0 || marker < (*python).best)
            {
                (*python).best = marker;
                (*python).best_thread = thread;
            }
            (*python).thread = link(state, thread.wrapping_add((*layout).thread_next as u64));
            0
        }
    }

    /// The marker lies in the native frame that is pending: its frames come first.
    ///
    /// # Safety
    /// `state` is this CPU's slot.
    #[inline(always)]
    pub(crate) unsafe fn enter(state: *mut State) {
        // SAFETY: as said.
        unsafe {
            (*state).python.frame = current_frame(state);
            (*state).phase = Phase::Runtime as u64;
        }
    }

    /// Native frames ended early: what is left of Python's follows.
    ///
    /// # Safety
    /// `state` is this CPU's slot.
    #[inline(always)]
    pub(crate) unsafe fn rest(state: *mut State) {
        // SAFETY: as said.
        unsafe {
            push(state, frame::address(Tag::Marker, (*state).python.marker));
            (*state).python.frame = current_frame(state);
            (*state).phase = Phase::RuntimeRest as u64;
        }
    }

    /// `current_frame` of the marker.
    #[inline(always)]
    unsafe fn current_frame(state: *mut State) -> u64 {
        // SAFETY: this CPU's slot.
        unsafe {
            let Some(known) = interpreter(state) else {
                return 0;
            };
            let at = (*state)
                .python
                .marker
                .wrapping_add((*known).layout.cframe_current as u64);
            link(state, at)
        }
    }

    /// The activation ended: on to the next marker, and back to the native frame that holds it.
    #[inline(always)]
    unsafe fn leave(state: *mut State, layout: *const PythonLayout) -> c_long {
        // SAFETY: this CPU's slot.
        unsafe {
            let marker = (*state).python.marker;
            let next = link(state, marker.wrapping_add((*layout).cframe_previous as u64));
            // Markers lie ever closer to the root; the outermost is in the thread state.
            let on_stack = next > marker
                && link(state, next.wrapping_add((*layout).cframe_previous as u64)) != 0;
            (*state).python.marker = if on_stack { next } else { 0 };
            if (*state).phase == Phase::RuntimeRest as u64 {
                if !on_stack {
                    (*state).phase = Phase::Done as u64;
                    return 1;
                }
                rest(state);
                return 0;
            }
            advance(state, (*state).pending)
        }
    }

    /// One Python frame.
    ///
    /// # Safety
    /// `state` is this CPU's slot.
    #[inline(always)]
    pub(crate) unsafe fn frame(state: *mut State) -> c_long {
        // SAFETY: as said; buffers are larger than what is read into them.
        unsafe {
            let Some(known) = interpreter(state) else {
                return end(state, End::Runtime);
            };
            let layout = &raw const (*known).layout;
            let address = (*state).python.frame;
            if address == 0 {
                return leave(state, layout);
            }
            let Some(bytes) = frame_bytes(state, address) else {
                return end(state, End::WouldFault);
            };
            let Some(object) = field::<u64>(bytes, (*layout).frame_code, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let Some(previous) = field::<u64>(bytes, (*layout).frame_previous, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let Some(instruction) = field::<u64>(bytes, (*layout).frame_instr, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let Some(entry) = field::<u8>(bytes, (*layout).frame_is_entry, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let Some(owner) = field::<u8>(bytes, (*layout).frame_owner, FRAME_BYTES) else {
                return end(state, End::Runtime);
            };
            let code = (&raw mut (*state).code).cast::<u8>();
            if !user(code.cast(), CODE_BYTES, object) {
                return end(state, End::WouldFault);
            }
            if !code_frame(state, known, object, instruction, owner).unwrap_or(false) {
                push(state, (Tag::LeftOut as u64) << 56);
            }
            (*state).python.frame = previous;
            if entry != 0 {
                return leave(state, layout);
            }
            0
        }
    }

    /// The bytes of a frame. Frames of a thread stand close together, callers below their callees: what
    /// is read ends with the frame and begins as far below it as the buffer reaches.
    #[inline(always)]
    unsafe fn frame_bytes(state: *mut State, address: u64) -> Option<*const u8> {
        const LAST: u64 = FRAME_PIECE as u64 - FRAME_BYTES as u64;
        // SAFETY: this CPU's slot; the distance is checked, and masked for the verifier: the buffer is
        // longer than a piece by a frame.
        unsafe {
            let buffer = (&raw mut (*state).frame).cast::<u8>();
            let mut distance = address.wrapping_sub((*state).frame_base);
            if distance > LAST {
                distance = LAST;
                (*state).frame_base = address.wrapping_sub(LAST);
                if !user(buffer.cast(), FRAME_PIECE, (*state).frame_base) {
                    distance = 0;
                    (*state).frame_base = u64::MAX;
                    if !user(buffer.cast(), FRAME_BYTES, address) {
                        return None;
                    }
                }
            }
            Some(buffer.add(masked(distance, FRAME_PIECE as u64 - 1)))
        }
    }

    /// Writes the frame of the code object in `state.code`. False or `None`: it is being pushed, or
    /// is no code object.
    #[inline(always)]
    unsafe fn code_frame(
        state: *mut State,
        known: *const PythonInterpreter,
        object: u64,
        instruction: u64,
        owner: u8,
    ) -> Option<bool> {
        // SAFETY: this CPU's slot; a map value.
        unsafe {
            let layout = &raw const (*known).layout;
            let code = (&raw const (*state).code).cast::<u8>();
            let type_: u64 = field(code, (*layout).object_type, CODE_BYTES)?;
            let code_type = (*state)
                .python
                .bias
                .wrapping_add((*known).symbols[symbols::CODE_TYPE]);
            if type_ != code_type {
                return None;
            }
            let line: u32 = field(code, (*layout).code_first_line, CODE_BYTES)?;
            let filename: u64 = field(code, (*layout).code_filename, CODE_BYTES)?;
            let qualname: u64 = field(code, (*layout).code_qualname, CODE_BYTES)?;
            let linetable: u64 = field(code, (*layout).code_linetable, CODE_BYTES)?;
            let traceable: u32 = field(code, (*layout).code_first_traceable, CODE_BYTES)?;
            let first = object.wrapping_add((*layout).code_instructions as u64);
            let position = instruction.wrapping_sub(first);
            // Also true of an instruction before the first: a frame that has not begun.
            if position > u32::MAX as u64
                || (owner != OWNED_BY_GENERATOR && position < traceable as u64 * 2)
            {
                return None;
            }
            let key = code_key(line, filename, qualname, linetable);
            (*state).frames += 1;
            push(state, frame::interpreted(PYTHON, position as u32 >> 1));
            push(state, object);
            push(state, key);
            to_be_named(state, object, key, (*layout).plan);
            Some(true)
        }
    }

    /// Notes a code object not named yet; after the walk its names are copied.
    #[inline(always)]
    unsafe fn to_be_named(state: *mut State, address: u64, key: u64, plan: u32) {
        // SAFETY: this CPU's slot.
        unsafe {
            if config!(name_code) == 0 {
                return;
            }
            let seen = named_key(&(*state).sample.task.process, address, key);
            if NAMED.get_ptr(&seen).is_some() {
                return;
            }
            if (*state).unnamed_count >= MAX_NAMED || NAMED.insert(&seen, &1, 0).is_err() {
                return;
            }
            // Read anew, so that the mask below stays: verifiers before Linux 6.8 do not know the
            // bound of what was spilled before it was compared.
            let count = (&raw const (*state).unnamed_count).read_volatile();
            let interpreter = (*state).python.interpreter as u32;
            (*state).unnamed[count as usize & (MAX_NAMED as usize - 1)] = Unnamed {
                address,
                key,
                seen,
                plan,
                runtime: PYTHON as u32,
                interpreter,
                _pad: 0,
            };
            (*state).unnamed_count = count + 1;
        }
    }
}
