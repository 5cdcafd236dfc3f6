//! Interpreters. A runtime is a pair of files of the same name: here it says what its frames look
//! like in memory and walks them; in `symbolize` it detects, lays out and names.

pub mod python;

/// Number of CPython in [`crate::module::ModuleInfo::runtime`] and in frames.
pub const PYTHON: u8 = 1;

/// Interpreters (files) of one runtime that can be known at once.
pub const MAX_INTERPRETERS: u32 = 256;
/// Plans that can be in use at once.
pub const MAX_PLANS: u32 = 32;

/// What a code object is called in the map of those whose names were sent.
#[inline(always)]
pub const fn named_key(process: &crate::identity::ProcessKey, address: u64, key: u64) -> u64 {
    (key ^ process.mm)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(address ^ process.start ^ (process.exec_id as u64) << 48)
}
