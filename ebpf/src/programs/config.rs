//! What user space tells the programs before they are loaded: read-only globals, so that the
//! verifier sees constants and drops what cannot happen.

use crate::kernel::KernelLayout;
use crate::select::Config;

#[unsafe(no_mangle)]
pub(crate) static KERNEL: KernelLayout = KernelLayout::ZERO;

#[unsafe(no_mangle)]
pub(crate) static CONFIG: Config = Config::ZERO;

/// A value that user space sets after compilation: the compiler must not use today's.
#[inline(always)]
pub(crate) fn late<T: Copy>(value: &'static T) -> T {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(value) }
}

/// The offset of a kernel field.
macro_rules! offset {
    ($field:ident) => {
        $crate::programs::config::late(&$crate::programs::config::KERNEL.$field) as u64
    };
}
pub(crate) use offset;

/// A setting.
macro_rules! config {
    ($field:ident) => {
        $crate::programs::config::late(&$crate::programs::config::CONFIG.$field)
    };
}
pub(crate) use config;
