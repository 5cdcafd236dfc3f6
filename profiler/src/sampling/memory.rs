//! Our own memory: small, and there when the machine swaps.

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// Allocations from this size on are given back to the kernel when they are freed: what is read of
/// a large library must not stay with us.
const LARGE: i32 = 128 << 10;
/// Arenas of the allocator: each keeps what was freed in it.
const ARENAS: i32 = 2;

/// Makes our own pages stay in memory once they are there, and the allocator give back what it can.
/// Whether the pages stay: sampling works without that, but may lose ticks while the machine swaps.
pub fn prepare() -> bool {
    // SAFETY: only settings of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
    // Without the capability the lock counts against RLIMIT_MEMLOCK, and allocations beyond it fail.
    let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
        || getrlimit(Resource::Memlock).current.is_none();
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: only a setting of our own pages.
    may && unsafe { libc::mlockall(flags) } == 0
}

/// When memory is short, we die before those we watch. Where there is a command, after its start: it is not
/// to inherit this.
pub fn be_the_first_to_go() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "900");
}
