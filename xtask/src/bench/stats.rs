//! The kernel's clock for eBPF programs.
//!
//! It costs each run of a program some time, so it is on only while a tick is measured. The
//! descriptor that `BPF_ENABLE_STATS` gives keeps it on: whatever becomes of this process, the
//! kernel switches it off again, and `kernel.bpf_stats_enabled` is not touched.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `BPF_ENABLE_STATS`, `BPF_STATS_RUN_TIME` (include/uapi/linux/bpf.h).
const ENABLE_STATS: libc::c_int = 32;
const RUN_TIME: u32 = 0;

/// On as long as it lives.
#[must_use = "the clock is off again when this is dropped"]
pub(super) struct RunTimes(
    #[expect(dead_code, reason = "the kernel counts while it is open")] OwnedFd,
);

impl RunTimes {
    /// Switches the clock on.
    pub(super) fn on() -> Result<Self, String> {
        let attributes = RUN_TIME;
        // SAFETY: the command reads the 4 bytes of `attributes`; the descriptor is new and ours.
        unsafe {
            let fd = libc::syscall(libc::SYS_bpf, ENABLE_STATS, &attributes, size_of::<u32>());
            if fd < 0 {
                let error = io::Error::last_os_error();
                return Err(format!(
                    "cannot have eBPF programs timed: {error}; run it as root"
                ));
            }
            Ok(Self(OwnedFd::from_raw_fd(fd as libc::c_int)))
        }
    }
}
