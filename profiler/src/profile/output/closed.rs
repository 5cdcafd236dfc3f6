//! Whether standard output was closed when rprof began. Rust's runtime opens `/dev/null` in its place
//! before `main`, and a profile written there would be gone without a word: so it is looked at before
//! the runtime begins.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether standard output was closed.
pub(super) fn stdout_was() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

extern "C" fn look() {
    // SAFETY: asks for the flags of a descriptor, open or not, and touches nothing else.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    CLOSED.store(flags < 0, Ordering::Relaxed);
}

// SAFETY: functions of this section are called once each, before `main`; it needs no runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;
