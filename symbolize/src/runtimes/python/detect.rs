//! Which CPython a file holds.
//!
//! A shared `libpython` and an executable that has the interpreter in it look alike: both define
//! `PyCode_Type` and `PyEval_EvalCode`, which every CPython exports, stripped or not. Extension
//! modules and launchers only use them. The version is `Py_Version`, a constant since 3.11; for
//! earlier ones, none of which can be walked, a name will do.

use std::path::Path;

use rprof_ebpf::runtimes::Interpreter;
use rprof_ebpf::runtimes::python::{PythonInterpreter, symbols};

use super::layout::Version;
use super::names::plan;
use crate::runtimes::{Detected, Exports, Unknown};

/// `PY_RELEASE_LEVEL_GAMMA`: alphas and betas still move their fields.
const RELEASE_CANDIDATE: u64 = 0xc;

/// See [`crate::runtimes::detect`].
///
/// # Errors
/// [`Unknown`] for a CPython that has no entry in [`super::layout`], and for builds whose objects
/// have larger headers.
pub fn detect(exports: &Exports<'_>, path: Option<&Path>) -> Result<Option<Detected>, Unknown> {
    let (Some(code_type), Some(_)) = (
        exports.address("PyCode_Type"),
        exports.address("PyEval_EvalCode"),
    ) else {
        return Ok(None);
    };
    let Some(hex) = exports.address("Py_Version").and_then(|a| exports.word(a)) else {
        return Err(Unknown::Version(match version_by_name(exports, path) {
            Some(version) => format!("CPython {version}"),
            None => "CPython before 3.11".to_owned(),
        }));
    };
    let version = format!("CPython {}", Hex(hex));
    let known = u32::try_from(hex >> 16).ok().and_then(Version::of);
    let (Some(known), Some(runtime)) = (known, exports.address("_PyRuntime")) else {
        return Err(Unknown::Version(version));
    };
    if hex >> 4 & 0xf < RELEASE_CANDIDATE {
        return Err(Unknown::Version(version));
    }
    // `Py_REF_DEBUG` defines the counter; `Py_TRACE_REFS` puts two pointers before each object.
    let word = |n: u64| exports.word(code_type.checked_add(n * 8)?);
    let code_type_words = [word(4), word(5)];
    if exports.address("_Py_RefTotal").is_some() || code_type_words != known.code_type.map(Some) {
        return Err(Unknown::Build(version, "debug build"));
    }
    let mut addresses = [0; 2];
    addresses[symbols::RUNTIME] = runtime;
    addresses[symbols::CODE_TYPE] = code_type;
    let python = PythonInterpreter {
        layout: known.layout,
        symbols: addresses,
    };
    Ok(Some(Detected {
        version,
        interpreter: Interpreter::new(exports.text_delta().unwrap_or(0), &python),
        plan: plan(known),
    }))
}

/// `PY_VERSION_HEX` for people.
struct Hex(u64);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let byte = |shift: u32| self.0 >> shift & 0xff;
        write!(f, "{}.{}.{}", byte(24), byte(16), byte(8))?;
        let serial = self.0 & 0xf;
        match self.0 >> 4 & 0xf {
            0xa => write!(f, "a{serial}"),
            0xb => write!(f, "b{serial}"),
            0xc => write!(f, "rc{serial}"),
            _ => Ok(()),
        }
    }
}

/// `3.8` from a library's own name, or from the path of an executable.
fn version_by_name(exports: &Exports<'_>, path: Option<&Path>) -> Option<String> {
    let of_path = || path?.file_name()?.to_str()?.strip_prefix("python");
    let name = exports.string_after("libpython").or_else(of_path)?;
    let end = name.find(|c: char| !c.is_ascii_digit() && c != '.');
    let version = name.get(..end.unwrap_or(name.len()))?.trim_matches('.');
    version.contains('.').then(|| version.to_owned())
}
