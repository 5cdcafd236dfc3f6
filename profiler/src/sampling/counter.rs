//! What a command and all its descendants count by the processor's own counters, from the command's first
//! instruction on.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;

use perf_event_open_sys as perf;
use perf_event_open_sys::bindings as sys;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Instructions, the kernel's among them. Virtual machines often have no such counter.
    Instructions,
    /// Nanoseconds of CPU time, which every machine counts, in the same way.
    #[cfg(test)]
    TaskClock,
}

/// Counts what a command does that was started with [`Counter::start`].
#[derive(Debug)]
pub(super) struct Counter {
    event: File,
}

impl Counter {
    /// Starts something that forks and executes a command: from then on it is counted, and all its descendants are.
    /// `None`: this machine does not count that.
    pub(super) fn start<T: Send>(
        what: What,
        start: impl FnOnce() -> T + Send,
    ) -> (Option<Self>, T) {
        // A thread's event is inherited by what this thread forks: one of its own, so that nothing else is.
        let (what, start) = (&what, start);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || (Self::open(*what).ok(), start()));
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn open(what: What) -> io::Result<Self> {
        let mut attributes = sys::perf_event_attr {
            size: size_of::<sys::perf_event_attr>() as u32,
            read_format: u64::from(
                sys::PERF_FORMAT_TOTAL_TIME_ENABLED | sys::PERF_FORMAT_TOTAL_TIME_RUNNING,
            ),
            ..Default::default()
        };
        (attributes.type_, attributes.config) = match what {
            What::Instructions => (
                sys::PERF_TYPE_HARDWARE,
                sys::PERF_COUNT_HW_INSTRUCTIONS.into(),
            ),
            #[cfg(test)]
            What::TaskClock => (
                sys::PERF_TYPE_SOFTWARE,
                sys::PERF_COUNT_SW_TASK_CLOCK.into(),
            ),
        };
        attributes.set_inherit(1);
        // The thread itself is not counted, nor is what is done between fork and exec.
        attributes.set_disabled(1);
        attributes.set_enable_on_exec(1);
        // SAFETY: complete attributes; this thread (0), wherever it runs (-1), no group, closed in what is executed.
        let fd = unsafe {
            perf::perf_event_open(
                &raw mut attributes,
                0,
                -1,
                -1,
                sys::PERF_FLAG_FD_CLOEXEC.into(),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        let event = unsafe { File::from_raw_fd(fd) };
        Ok(Self { event })
    }

    /// How many there were, of all that has ended. Where counters take turns it is what the time counted makes of
    /// all the time.
    ///
    /// # Errors
    /// Those of `read`; it was never counted.
    pub(super) fn read(&mut self) -> io::Result<u64> {
        // value, time enabled, time running (include/uapi/linux/perf_event.h, read_format).
        let mut read = [0u8; 24];
        self.event.read_exact(&mut read)?;
        let at = |n: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&read[8 * n..8 * n + 8]);
            u64::from_ne_bytes(word)
        };
        let (value, enabled, running) = (at(0), at(1), at(2));
        if running == 0 {
            return Err(io::Error::other("never counted"));
        }
        Ok((value as f64 * (enabled as f64 / running as f64)).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The way of every counter, seen at one that each machine has.
    #[test]
    fn a_command_and_its_children_are_counted() {
        let script = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done";
        let script = format!("({script}) & {script}; wait");
        let (counter, child) = Counter::start(What::TaskClock, || {
            let child = Command::new("sh").args(["-c", &script]).spawn();
            child.map(|child| child.id().cast_signed())
        });
        let pid = child.unwrap();
        // What this process does meanwhile is none of it.
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        let mut status = 0;
        // SAFETY: all zero is a value of this type.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: a child of ours, and pointers to variables of ours.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        assert_eq!(waited, pid);
        let time = |of: libc::timeval| of.tv_sec as f64 * 1e9 + of.tv_usec as f64 * 1e3;
        let clock = time(usage.ru_utime) + time(usage.ru_stime);
        let counted = counter.unwrap().read().unwrap() as f64;
        // From fork to exec, and from the end of counting to that of the process, some time goes by.
        let differ = (counted / clock - 1.0).abs();
        assert!(differ < 0.1, "{counted} of {clock}");
        assert!(clock > 20e6, "{clock}");
    }
}
