//! What a command and all its descendants count by counters of the processor and of the kernel, from the command's
//! first instruction on.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::time::Duration;

use perf_event_open_sys as perf;
use perf_event_open_sys::bindings as sys;

/// Counts what a command does that was started with [`Counters::start`].
#[derive(Debug)]
pub(super) struct Counters {
    /// Instructions, the kernel's among them. Virtual machines often have no such counter.
    instructions: Option<Counter>,
    /// Nanoseconds of CPU time, which every machine counts: also of who is not waited for, or still runs.
    clock: Option<Counter>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Instructions,
    TaskClock,
}

#[derive(Debug)]
struct Counter {
    event: File,
}

impl Counters {
    /// Starts something that forks and executes a command: from then on it is counted, and all its descendants are.
    pub(super) fn start<T: Send>(start: impl FnOnce() -> T + Send) -> (Self, T) {
        let open = |what| Counter::open(what).ok();
        // A thread's events are inherited by what this thread forks: one of its own, so that nothing else is.
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let counters = Self {
                    instructions: open(What::Instructions),
                    clock: open(What::TaskClock),
                };
                (counters, start())
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Instructions until now; `None`: this machine does not count them.
    pub(super) fn instructions(&mut self) -> Option<u64> {
        self.instructions.as_mut()?.read().ok()
    }

    /// CPU time until now; `None`: the kernel lets nobody count it.
    pub(super) fn clock(&mut self) -> Option<Duration> {
        let nanoseconds = self.clock.as_mut()?.read().ok()?;
        Some(Duration::from_nanos(nanoseconds))
    }
}

impl Counter {
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

    /// How many there were. Where counters take turns it is what the time counted makes of
    /// all the time.
    ///
    /// # Errors
    /// Those of `read`; it was never counted.
    fn read(&mut self) -> io::Result<u64> {
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

    /// A part of a second, by the shell's own work.
    const WORK: &str = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done";

    /// Seconds: by the counter, and by the clocks of the command and of who it waited for.
    fn counted(script: &str) -> (f64, f64) {
        let (mut counters, child) = Counters::start(|| {
            let child = Command::new("bash").args(["-c", script]).spawn();
            child.map(|child| child.id().cast_signed())
        });
        let pid = child.unwrap();
        // What this process does meanwhile is none of it.
        let started = std::time::Instant::now();
        while started.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        let mut status = 0;
        // SAFETY: all zero is a value of this type.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: a child of ours, and pointers to variables of ours.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        assert_eq!((waited, status), (pid, 0));
        let time = |of: libc::timeval| of.tv_sec as f64 + of.tv_usec as f64 / 1e6;
        let clock = time(usage.ru_utime) + time(usage.ru_stime);
        (counters.clock().unwrap().as_secs_f64(), clock)
    }

    #[test]
    fn a_command_and_its_children_are_counted() {
        let (counted, clock) = counted(&format!("({WORK}) & {WORK}; wait"));
        // From fork to exec, and from the end of counting to that of the process, some time goes by.
        let differ = (counted / clock - 1.0).abs();
        assert!(differ < 0.1, "{counted} of {clock}");
        assert!(clock > 0.02, "{clock}");
    }
}
