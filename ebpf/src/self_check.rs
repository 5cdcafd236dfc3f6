//! What the start-up self-check finds: rprof's own address space, as the programs walk it.

use crate::module::ModuleKey;

/// What the walked tree holds at an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Last address of the mapping or the gap.
    pub last: u64,
    /// First address; of code only, else 0.
    pub start: u64,
    /// Behind the last address; of code only, else 0.
    pub end: u64,
    /// File offset of `start`; 0 unless it is the code of a file or the vDSO.
    pub offset: u64,
    /// The file, or [`ModuleKey::VDSO`] if it is not the code of one.
    pub key: ModuleKey,
    /// A [`Kind`] number.
    pub kind: u64,
}

/// What an address is taken for.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No mapping.
    Gap = 0,
    /// Not executable.
    Data = 1,
    /// Code of a file.
    File = 2,
    /// Code of the vDSO.
    Vdso = 3,
    /// Code of no file.
    Anonymous = 4,
}
