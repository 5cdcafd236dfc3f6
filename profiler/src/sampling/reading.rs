//! Names that the sample could not copy, read by ourselves: by pidfd, without waiting, and only on
//! kernels that can do that.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rprof_ebpf::identity::ProcessKey;
use rprof_ebpf::record::Sample;
use rprof_symbolize::reads::{self, Flags, ProcessVm, ReadError, Reads};
use rprof_symbolize::runtimes::Code;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::modules::Modules;

/// Processes whose descriptors are kept open.
const MAX_OPEN: usize = 256;

/// Reads processes' memory.
pub struct ProcessReader {
    flags: Flags,
    open: Mutex<HashMap<ProcessKey, Option<ProcessVm>>>,
}

impl ProcessReader {
    /// A reader, if the kernel has both flags.
    pub fn new() -> Option<Self> {
        let flags = Flags::probe();
        (flags.pidfd && flags.nowait).then(|| Self {
            flags,
            open: Mutex::default(),
        })
    }

    /// Reads code objects (address and key) of the process that a sample interrupted.
    pub fn read(
        &self,
        sample: &Sample,
        objects: &[(u64, u64)],
        modules: &Modules,
    ) -> Vec<Result<Code, ReadError>> {
        let gone = || objects.iter().map(|_| Err(ReadError::Gone)).collect();
        let Ok(mut open) = self.open.lock() else {
            return gone();
        };
        if open.len() >= MAX_OPEN {
            open.clear();
        }
        let process = open
            .entry(sample.task.process)
            .or_insert_with(|| self.open(sample.task.own.tgid, &sample.task.process));
        let Some(process) = process else {
            return gone();
        };
        let Some(detected) = modules.interpreter(sample.interpreter) else {
            return gone();
        };
        objects
            .iter()
            .map(|&(address, _)| {
                let fields = reads::execute(&detected.plan, process as &mut dyn Reads, address)?;
                detected.decode(&fields).map_err(|_| ReadError::BadAddress)
            })
            .collect()
    }

    /// Opens a process; `None` if it is gone, or another one has its pid.
    fn open(&self, pid: u32, process: &ProcessKey) -> Option<ProcessVm> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let number = pid.as_raw_nonzero();
        let pagemap: OwnedFd = rustix::fs::open(
            format!("/proc/{number}/pagemap"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        // The pid may have been given to another process before the pidfd was opened; from then on
        // it cannot.
        (start_time(number.get())? == process.start / CLOCK_TICK).then_some(())?;
        ProcessVm::open(self.flags, pidfd, pagemap).ok()
    }
}

/// Nanoseconds of the clock that `/proc/PID/stat` counts in (`USER_HZ` is 100 on x86).
const CLOCK_TICK: u64 = 10_000_000;

/// Start time of a process in clock ticks since boot: field 22 of its stat file.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}
