//! How a run stands while it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use rprof_ebpf::record::End;
use rustix::time::{ClockId, clock_gettime};

use crate::ledger::Counts;

/// How a run stands. All figures only grow.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Since sampling began.
    pub elapsed: Duration,
    /// CPUs that are sampled.
    pub cpus: usize,
    /// Ticks that should have come.
    pub expected: u64,
    /// Where ticks ended.
    pub counts: Counts,
    /// Samples that were sent and have not ended yet: in the ring, in a queue, or waiting for names.
    pub in_flight: u64,
    /// Why truncated stacks ended.
    pub truncated: BTreeMap<End, u64>,
    /// CPU time of rprof and its readers, those that have ended included.
    pub cpu: Duration,
    /// Readers that run.
    pub readers: usize,
}

impl Standing {
    /// What has come since an earlier one.
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        since.elapsed = self.elapsed.saturating_sub(before.elapsed);
        since.expected = self.expected.saturating_sub(before.expected);
        for (n, before) in since.counts.0.iter_mut().zip(before.counts.0) {
            *n = n.saturating_sub(before);
        }
        for (end, n) in &mut since.truncated {
            *n = n.saturating_sub(before.truncated.get(end).copied().unwrap_or(0));
        }
        since.cpu = self.cpu.saturating_sub(before.cpu);
        since
    }
}

/// CPU time of this process, of its children that have ended, and of these that run.
pub(super) fn cpu_time(children: &[u32]) -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a structure of ours; all zeros are a valid one.
    let ended = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let own = Duration::new(
        u64::try_from(own.tv_sec).unwrap_or(0),
        u32::try_from(own.tv_nsec).unwrap_or(0),
    );
    let running = children.iter().filter_map(|&pid| cpu_time_of(pid));
    own + time(ended.ru_utime) + time(ended.ru_stime) + running.sum::<Duration>()
}

/// CPU time of a child.
fn cpu_time_of(pid: u32) -> Option<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both pointers are to variables of ours.
    let failed = unsafe {
        libc::clock_getcpuclockid(i32::try_from(pid).ok()?, &mut clock) != 0
            || libc::clock_gettime(clock, &mut time) != 0
    };
    let (seconds, nanoseconds) = (
        u64::try_from(time.tv_sec).ok()?,
        u32::try_from(time.tv_nsec).ok()?,
    );
    (!failed).then(|| Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_counts_while_it_runs_and_after() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let before = cpu_time(&[]);
        std::thread::sleep(Duration::from_millis(300));
        let with = cpu_time(&[child.id()]);
        assert!(
            with > before + Duration::from_millis(20),
            "{before:?} {with:?}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(cpu_time(&[]) >= with);
    }
}
