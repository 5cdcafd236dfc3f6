//! Where CPython keeps its fields, by version.
//!
//! Offsets are those of x86-64 release builds, printed with `offsetof` by a C program that includes
//! the version's own headers with `Py_BUILD_CORE`; each entry names the headers. A test walks live
//! interpreters with them and compares with what the interpreter says of itself.

use rprof_ebpf::plan::TextForm;
use rprof_ebpf::runtimes::python::PythonLayout;

/// What is known of one minor version.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// For the walk and for code objects.
    pub layout: PythonLayout,
    /// How strings stand in memory.
    pub text: TextForm,
    /// `PyVarObject.ob_size` and `PyBytesObject.ob_sval`.
    pub bytes: [u32; 2],
    /// What `PyCode_Type` holds in `tp_basicsize` and `tp_itemsize`, words 4 and 5 of it in a
    /// release build: a build with larger object headers has other words there.
    pub code_type: [u64; 2],
}

/// All versions that can be walked.
const VERSIONS: &[Version] = &[V3_11];

/// CPython 3.11. Sources, the same in 3.11.2 and 3.11.7: `Include/cpython/pystate.h` (thread state,
/// `_PyCFrame`), `Include/cpython/code.h`, `Include/cpython/unicodeobject.h`,
/// `Include/cpython/bytesobject.h`, `Include/internal/pycore_{runtime,interp,frame}.h`;
/// `Objects/codeobject.c` (`PyCode_Type`).
const V3_11: Version = Version {
    layout: PythonLayout {
        version: 0x030b,
        runtime_current: 576,
        runtime_interpreters: 40,
        interp_next: 0,
        interp_threads: 16,
        thread_next: 8,
        thread_id: 152,
        thread_native_id: 160,
        thread_cframe: 56,
        cframe_current: 8,
        cframe_previous: 16,
        frame_code: 32,
        frame_previous: 48,
        frame_instr: 56,
        frame_is_entry: 68,
        frame_owner: 69,
        object_type: 8,
        code_first_line: 72,
        code_filename: 112,
        code_name: 120,
        code_qualname: 128,
        code_linetable: 136,
        code_first_traceable: 168,
        code_instructions: 184,
        text_hash: 24,
        _pad: 0,
    },
    text: TextForm {
        len_at: 16,
        state_at: 32,
        ascii_at: 48,
        compact_at: 72,
    },
    bytes: [16, 32],
    code_type: [184, 2],
};

impl Version {
    /// The entry of a version, given as `PY_VERSION_HEX >> 16`.
    pub fn of(version: u32) -> Option<&'static Self> {
        VERSIONS.iter().find(|v| v.layout.version == version)
    }
}
