//! CPython: detected, laid out, named. The walk is in `rprof_ebpf::runtimes::python`.
//!
//! A file enters [`detect`], what a plan read of a code object enters [`decode`]. What differs
//! between versions is data in [`layout`]: another version is another entry there.

mod detect;
pub mod layout;
mod line_table;
mod names;

pub use detect::detect;
pub use names::{decode, plan};

/// The line of the registry.
pub(super) const RUNTIME: super::Runtime = super::Runtime {
    number: rprof_ebpf::runtimes::PYTHON,
    detect,
    decode,
};
