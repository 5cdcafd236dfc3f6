//! Interpreters. A runtime is a pair of files of the same name: here it says what its frames look
//! like in memory and walks them; in `symbolize` it detects, lays out and names.

pub mod python;

/// Number of CPython in [`crate::module::ModuleInfo::runtime`] and in frames.
pub const PYTHON: u8 = 1;

/// Layouts that a runtime's map can hold (versions and builds that run at once).
pub const MAX_LAYOUTS: u32 = 32;
