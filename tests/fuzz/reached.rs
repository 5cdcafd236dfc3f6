//! What of the code an input reaches.
//!
//! `cargo xtask fuzz` builds with LLVM's SanitizerCoverage (`-inline-8bit-counters`; its
//! documentation describes the interface), which gives each edge of the program's graph a byte and
//! announces these bytes at start. An ordinary build has none, and no input is new then.

use std::fmt;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

static COUNTERS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LEN: AtomicUsize = AtomicUsize::new(0);

/// Called by each module's constructor, with the same bytes for all of one program.
///
/// # Safety
/// `start..stop` are this program's counters.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    COUNTERS.store(start, Ordering::Relaxed);
    LEN.store(stop.addr() - start.addr(), Ordering::Relaxed);
}

/// Which edges were taken so far, and about how often.
#[derive(Default)]
pub(crate) struct Reached {
    /// By edge: a bit for each order of magnitude.
    seen: Vec<u8>,
}

impl Reached {
    /// Whether anything since the last call was reached for the first time, or much oftener than
    /// ever. Counters are the whole program's: one target at a time.
    pub(crate) fn is_new(&mut self) -> bool {
        let start = COUNTERS.load(Ordering::Relaxed);
        let len = LEN.load(Ordering::Relaxed);
        if len == 0 {
            return false;
        }
        // SAFETY: bytes of the program, there as long as it runs. The code under test counts in them
        // without atomics; nobody minds a lost count.
        let counters = unsafe { std::slice::from_raw_parts(start.cast::<AtomicU8>(), len) };
        // SAFETY: words of bytes that are atomic each.
        let (_, words, _) = unsafe { counters.align_to::<AtomicU64>() };
        self.seen.resize(words.len() * 8, 0);
        let mut new = false;
        for (word, seen) in words.iter().zip(self.seen.chunks_mut(8)) {
            let counts = word.load(Ordering::Relaxed);
            if counts == 0 {
                continue;
            }
            word.store(0, Ordering::Relaxed);
            for (count, seen) in counts.to_ne_bytes().into_iter().zip(seen) {
                let bit = match count {
                    0 => 0,
                    1 => 1,
                    2 => 2,
                    3 => 4,
                    4..8 => 8,
                    8..16 => 16,
                    16..32 => 32,
                    32..128 => 64,
                    _ => 128,
                };
                new |= bit & !*seen != 0;
                *seen |= bit;
            }
        }
        new
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seen.iter().filter(|&&seen| seen != 0).count() {
            0 => Ok(()),
            edges => write!(f, "; {edges} edges"),
        }
    }
}
