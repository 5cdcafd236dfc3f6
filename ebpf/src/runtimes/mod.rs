//! Interpreters. A runtime is a pair of modules of the same name: here it says what its frames look
//! like in memory and walks them; in `symbolize` it detects, lays out and names.
//!
//! Adding one: its module here, its line in [`registry!`](self), and the same two in `symbolize`.
//! Nothing else knows a runtime by name. Its module here has
//!
//! - a struct of offsets and addresses that implements [`Layout`], for both sides;
//! - `walk` (programs only) with a type `Walker` that implements `walk::Runtime`: the four steps of a
//!   walk, and what they remember within a sample.

#[cfg(target_arch = "bpf")]
pub(crate) mod frames;
#[cfg(target_arch = "bpf")]
pub(crate) mod walk;

/// Declares the runtimes, with their numbers in [`crate::module::ModuleInfo::runtime`] and in
/// frames, and the programs' way from a number to a walk.
macro_rules! registry {
    ($($(#[$doc:meta])* $name:ident = $number:literal: $module:ident;)*) => {
        $(
            pub mod $module;
            $(#[$doc])*
            pub const $name: u8 = $number;
        )*

        /// What each runtime's walk remembers within a sample.
        #[cfg(target_arch = "bpf")]
        #[repr(C)]
        pub(crate) struct Owns {
            $(pub(crate) $module: <$module::walk::Walker as walk::Runtime>::Own,)*
        }

        /// Calls a step of the runtime whose frames are being walked.
        #[cfg(target_arch = "bpf")]
        macro_rules! of_runtime {
            ($state:expr, $step:ident) => {{
                use $crate::runtimes::walk::Runtime;
                let number = (*$state).walk.runtime as u8;
                $(if number == $crate::runtimes::$name {
                    $crate::runtimes::$module::walk::Walker::$step($state)
                } else)* {
                    Default::default()
                }
            }};
        }
        #[cfg(target_arch = "bpf")]
        pub(crate) use of_runtime;
    };
}

registry! {
    /// CPython.
    PYTHON = 1: python;
}

/// Interpreters (files) that can be known at once.
pub const MAX_INTERPRETERS: u32 = 256;
/// Plans that can be in use at once.
pub const MAX_PLANS: u32 = 32;
/// Room for a [`Layout`], in 64-bit words.
pub const LAYOUT_WORDS: usize = 20;

/// An interpreter's file, whatever its runtime: an entry of the programs' map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Number of its runtime.
    pub runtime: u32,
    /// Index of the plan that names its code objects; whoever fills the map of plans gives it out.
    pub plan: u32,
    /// Virtual address − file offset of its executable segment.
    pub text_delta: i64,
    layout: [u64; LAYOUT_WORDS],
}

/// What one runtime's walk must know of an interpreter's file.
///
/// # Safety
/// `#[repr(C)]`, without padding, valid for every bit pattern, aligned to 8 at most, no longer than
/// [`LAYOUT_WORDS`]: it crosses the border byte by byte.
pub unsafe trait Layout: Copy {
    /// Number of its runtime.
    const RUNTIME: u8;
}

impl Interpreter {
    /// An interpreter whose plan has no index yet.
    pub fn new<L: Layout>(text_delta: i64, layout: &L) -> Self {
        const { assert!(size_of::<L>() <= LAYOUT_WORDS * 8 && align_of::<L>() <= 8) };
        let mut words = [0; LAYOUT_WORDS];
        // SAFETY: no padding, and it fits.
        unsafe { words.as_mut_ptr().cast::<L>().write(*layout) };
        Self {
            runtime: L::RUNTIME as u32,
            plan: 0,
            text_delta,
            layout: words,
        }
    }

    /// Its layout; `None` if it is another runtime's.
    #[inline(always)]
    pub fn layout<L: Layout>(&self) -> Option<&L> {
        const { assert!(size_of::<L>() <= LAYOUT_WORDS * 8 && align_of::<L>() <= 8) };
        // SAFETY: as long and as aligned, and valid for every bit pattern.
        (self.runtime == L::RUNTIME as u32).then(|| unsafe { &*self.layout.as_ptr().cast() })
    }
}

/// What a code object is called in the map of those whose names were sent.
#[inline(always)]
pub const fn named_key(process: &crate::identity::ProcessKey, address: u64, key: u64) -> u64 {
    (key ^ process.mm)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(address ^ process.start ^ (process.exec_id as u64) << 48)
}
