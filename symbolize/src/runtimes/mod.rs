//! Interpreters: which file holds one, how its frames are laid out, and what its code objects are
//! called.
//!
//! A module's file enters [`detect`]; out comes what the eBPF side needs to walk its frames (a
//! layout, addresses) and the read [`Plan`] that names its code objects. The bytes that such a plan
//! read, at the sample or later, enter [`Detected::decode`]; out comes a [`Code`]. Nothing here
//! reads a target: the plan is data, [`crate::reads`] executes it.
//!
//! A runtime is a module here and one of the same name in [`rprof_ebpf::runtimes`]; its line in
//! `RUNTIMES` is all that the rest of the project knows of it.

mod code;
mod exports;
mod fields;
pub mod python;

use std::fmt;
use std::path::Path;

use object::ReadRef;
use rprof_ebpf::plan::Plan;
use rprof_ebpf::runtimes::Interpreter;

pub use code::{Code, DecodeError, Run};
pub use exports::Exports;

/// A runtime.
struct Runtime {
    /// Its number in [`rprof_ebpf::runtimes`].
    number: u8,
    /// Finds it in a file; the path is a hint only (a file may be unlinked or renamed).
    detect: fn(&Exports<'_>, Option<&Path>) -> Result<Option<Detected>, Unknown>,
    /// See [`Detected::decode`].
    decode: fn(&Interpreter, &[u8]) -> Result<Code, DecodeError>,
}

/// The registry.
const RUNTIMES: &[Runtime] = &[python::RUNTIME];

/// A runtime that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// Its name and version for people: `CPython 3.11.7`.
    pub version: String,
    /// What the eBPF side walks its frames with; the plan has no index yet.
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
        let number = self.interpreter.runtime;
        let runtime = RUNTIMES.iter().find(|r| u32::from(r.number) == number);
        let runtime = runtime.ok_or(DecodeError::Runtime)?;
        (runtime.decode)(&self.interpreter, fields)
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
    for runtime in RUNTIMES {
        if let Some(found) = (runtime.detect)(&exports, path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
