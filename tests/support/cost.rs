//! What rprof's eBPF programs cost, as the kernel counts it: only while [`Stats`] lives.

use std::os::fd::{FromRawFd, OwnedFd};

/// `BPF_ENABLE_STATS` (include/uapi/linux/bpf.h).
const ENABLE_STATS: libc::c_int = 32;

/// The kernel counts, for all programs of the machine.
#[must_use = "it does no longer when this is dropped"]
pub struct Stats(#[expect(dead_code, reason = "counts while it is open")] OwnedFd);

impl Stats {
    /// From now on.
    ///
    /// # Panics
    /// If the kernel cannot.
    pub fn on() -> Self {
        // `enable_stats.type`: 0, run times.
        let attributes = [0u32; 4];
        // SAFETY: the attributes are as long as said, and only read.
        let fd = unsafe {
            let size = size_of_val(&attributes);
            libc::syscall(libc::SYS_bpf, ENABLE_STATS, attributes.as_ptr(), size)
        };
        assert!(fd >= 0, "bpf: {}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor, ours alone.
        Self(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }
}

/// Runs of programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs {
    /// How many ticks.
    pub ticks: u64,
    /// How long they took, all together.
    pub nanos: u64,
}

/// The runs of the programs that a process holds.
pub fn run_time(pid: u32) -> Runs {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs");
    let mut programs = std::collections::HashMap::new();
    for entry in folder.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let figure = |name: &str| -> Option<u64> {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
        };
        // Several descriptors may be of one program.
        if let (Some(ticks), Some(nanos)) = (figure("run_cnt"), figure("run_time_ns")) {
            programs.insert(figure("prog_id"), Runs { ticks, nanos });
        }
    }
    programs.values().fold(Runs::default(), |sum, runs| Runs {
        ticks: sum.ticks + runs.ticks,
        nanos: sum.nanos + runs.nanos,
    })
}
