//! Interpreters: which file holds one, how its frames are laid out, and what its code objects are
//! called.
//!
//! A module's file enters [`detect`]; out comes what the eBPF side needs to walk its frames (a
//! layout, addresses) and the read [`Plan`] that names its code objects. The bytes that such a plan
//! read, at the sample or later, enter [`Detected::decode`]; out comes a [`Code`]. Nothing here
//! reads a target: the plan is data, [`crate::reads`] executes it.
//!
//! A runtime is a module here and one of the same name in `rprof_ebpf::runtimes`; it is registered
//! by its line in `DETECTORS` and its variant of [`Interpreter`].

mod code;
mod exports;
mod fields;
pub mod python;

use std::fmt;
use std::path::Path;

use object::ReadRef;
use rprof_ebpf::plan::Plan;
use rprof_ebpf::runtimes::python::PythonInterpreter;

pub use code::{Code, DecodeError, Run};
pub use exports::Exports;

/// Finds one runtime in a file; the path is a hint only (a file may be unlinked or renamed).
type Detector = fn(&Exports<'_>, Option<&Path>) -> Result<Option<Detected>, Unknown>;

/// The registry.
const DETECTORS: &[Detector] = &[python::detect];

/// What the eBPF side walks a runtime's frames with: an entry of that runtime's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpreter {
    /// CPython.
    Python(PythonInterpreter),
}

impl Interpreter {
    /// Its number in [`rprof_ebpf::runtimes`].
    pub fn runtime(&self) -> u8 {
        match self {
            Self::Python(_) => rprof_ebpf::runtimes::PYTHON,
        }
    }

    /// Sets the index of its plan, which whoever fills the map of plans gives out; 0 before.
    pub fn set_plan(&mut self, index: u32) {
        match self {
            Self::Python(python) => python.layout.plan = index,
        }
    }
}

/// A runtime that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// Its name and version for people: `CPython 3.11.7`.
    pub version: String,
    /// Where its fields and symbols are.
    pub interpreter: Interpreter,
    /// What to read of a code object.
    pub plan: Plan,
}

impl Detected {
    /// Makes sense of what [`Detected::plan`] read of one code object: fields as
    /// [`rprof_ebpf::plan`] describes them.
    ///
    /// # Errors
    /// [`DecodeError`], whatever the bytes are.
    pub fn decode(&self, fields: &[u8]) -> Result<Code, DecodeError> {
        match &self.interpreter {
            Interpreter::Python(python) => python::decode(python, fields),
        }
    }
}

/// A runtime was recognised, but not one whose memory we know how to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// Name and version of it: `CPython 3.14.0`.
    Version(String),
    /// Name and version, and what makes its objects other than that version's: `debug build`.
    Build(String, &'static str),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "unknown runtime version: {version}"),
            Self::Build(version, build) => write!(f, "unknown runtime build: {version}, {build}"),
        }
    }
}

impl std::error::Error for Unknown {}

/// The runtime that an ELF file holds; `Ok(None)` for all others, also damaged ones.
///
/// `data` is the file's bytes or, so that only the parts needed are read, an [`object::ReadCache`];
/// `path` is what the target calls it.
///
/// # Errors
/// [`Unknown`]: a runtime that cannot be walked. Its frames stay native.
pub fn detect<'d, R: ReadRef<'d> + 'd>(
    data: R,
    path: Option<&Path>,
) -> Result<Option<Detected>, Unknown> {
    let Some(exports) = Exports::parse(data) else {
        return Ok(None);
    };
    for detector in DETECTORS {
        if let Some(found) = detector(&exports, path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
