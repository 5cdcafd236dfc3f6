//! A module: a mapped ELF file (or the vDSO), and what the program knows of it.

/// What makes a file one module, all taken at the sample from `vm_file->f_inode`: an inode number
/// alone is given out again at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleKey {
    /// `i_sb->s_dev`, the kernel's encoding (major << 20 | minor).
    pub dev: u32,
    /// `i_generation`.
    pub generation: u32,
    /// `i_ino`.
    pub ino: u64,
    /// `i_size`, bytes.
    pub size: u64,
    /// `i_ctime`, seconds.
    pub ctime_sec: i64,
    /// `i_ctime`, nanoseconds.
    pub ctime_nsec: u32,
    /// Padding, zero.
    pub _pad: u32,
}

impl ModuleKey {
    /// The vDSO, which has no file.
    pub const VDSO: Self = Self {
        dev: 0,
        generation: 0,
        ino: 0,
        size: 0,
        ctime_sec: 0,
        ctime_nsec: 0,
        _pad: 0,
    };
}

/// Number of a module in this run, from 1. Never given twice.
pub type ModuleId = u16;

/// Text is indexed in pages of this many bits (1 KiB).
pub const PAGE_BITS: u32 = 10;

/// What the program knows of a module.
///
/// The same file offset names the same byte in every process that maps the file, so rows are
/// addressed by file offset.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    /// The module's number; 0 never occurs.
    pub id: u32,
    /// File offset of the first indexed page, in pages of 1 << [`PAGE_BITS`] bytes.
    pub first_page: u32,
    /// How many pages are indexed. 0: no row at all, frame pointers are tried.
    pub pages: u32,
    /// Where its index stands: word address in row space (see [`crate::rows`]).
    pub index: u32,
    /// Where its rules stand: word address in row space.
    pub rules: u32,
    /// Which runtime's interpreter this file holds: [`crate::runtimes`] number, 0 for none.
    pub runtime: u32,
    /// Index of the interpreter in the map of interpreters.
    pub interpreter: u32,
    /// An [`End`]: walks end in it, and bring no slices, which nobody could use now. 0: none.
    ///
    /// [`End`]: crate::record::End
    pub end: u32,
}

impl ModuleInfo {
    /// All zero: no module.
    pub const ZERO: Self = Self {
        id: 0,
        first_page: 0,
        pages: 0,
        index: 0,
        rules: 0,
        runtime: 0,
        interpreter: 0,
        end: 0,
    };
}
