//! CPython: where its frames stand, as both sides know it. `threads` finds those of a sample, `walk`
//! follows them.

#[cfg(target_arch = "bpf")]
mod threads;
#[cfg(target_arch = "bpf")]
pub(crate) mod walk;

/// Byte offsets in CPython's structs, for one minor version and build.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonLayout {
    /// `PY_VERSION_HEX >> 16`, e.g. 0x030b.
    pub version: u32,
    /// `_PyRuntimeState.gilstate.tstate_current`: the state of the thread that holds the lock
    pub runtime_current: u32,
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
    /// `PyThreadState.native_thread_id`
    pub thread_native_id: u32,
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
    /// `PyCodeObject.co_name`
    pub code_name: u32,
    /// `PyCodeObject.co_qualname`
    pub code_qualname: u32,
    /// `PyCodeObject.co_linetable`
    pub code_linetable: u32,
    /// `PyCodeObject._co_firsttraceable`, in code units
    pub code_first_traceable: u32,
    /// `PyCodeObject.co_code_adaptive`: the first instruction
    pub code_instructions: u32,
    /// `PyASCIIObject.hash`, or -1 where none was asked for yet
    pub text_hash: u32,
    /// Padding, zero.
    pub _pad: u32,
}

/// An interpreter's file: what the walk needs to know of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonInterpreter {
    /// Its structs.
    pub layout: PythonLayout,
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

const _: () =
    assert!(size_of::<PythonLayout>() == 26 * 4 && size_of::<PythonInterpreter>() == 26 * 4 + 16);

// SAFETY: integers only, and, as just said, no padding.
unsafe impl super::Layout for PythonInterpreter {
    const RUNTIME: u8 = super::PYTHON;
}

/// The key of a code object: changes when the address is used for another one. Code that is made anew
/// again and again stands at the same address each time, and so do its strings: so what its name is
/// counts as well, by its hash. (Names are interned, which computes it.)
#[inline(always)]
pub const fn code_key(
    first_line: u32,
    filename: u64,
    qualname: u64,
    linetable: u64,
    name_hash: u64,
) -> u64 {
    let mut key = filename ^ (first_line as u64) << 48;
    key = (key ^ key >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key ^= qualname;
    key = (key ^ key >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key ^= linetable;
    key = (key ^ key >> 29).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^= name_hash;
    key = (key ^ key >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key ^ key >> 29
}
