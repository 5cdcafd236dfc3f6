//! The CPU time that processes used, as the kernel says it; programs that are run to their end.

use std::process::Command;
use std::time::Duration;

/// What a process used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Its process id.
    pub pid: u32,
    /// User and system time from its start (the fork) to its end.
    pub cpu: Duration,
}

/// A process that was started.
pub struct Started {
    pid: libc::pid_t,
    line: String,
}

/// Starts a program.
#[expect(
    clippy::zombie_processes,
    reason = "`finish` waits, and is told what the process used"
)]
pub fn start(command: &mut Command) -> Started {
    let line = format!("{command:?}");
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    // `Child` neither waits nor kills when it is dropped.
    Started {
        pid: child.id() as libc::pid_t,
        line,
    }
}

impl Started {
    /// Waits for its end.
    ///
    /// # Panics
    /// If it fails.
    pub fn finish(self) -> Usage {
        let mut status = 0;
        // SAFETY: all zeros are a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: pointers to our own variables; the child is ours and not yet waited for.
        let waited = unsafe { libc::wait4(self.pid, &mut status, 0, &mut usage) };
        assert_eq!((waited, status), (self.pid, 0), "{}", self.line);
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        Usage {
            pid: self.pid as u32,
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
        }
    }
}

/// CPU seconds that a process has used, all threads (`/proc/PID/stat`, in hundredths).
///
/// # Panics
/// If there is none.
pub fn cpu_seconds(pid: u32) -> f64 {
    // Fields 14 and 15 of proc(5).
    of_stat(pid, [14, 15])
}

/// CPU seconds of those of its children that have ended, and that it has waited for.
///
/// # Panics
/// If it does not run.
pub fn cpu_seconds_of_children(pid: u32) -> f64 {
    of_stat(pid, [16, 17])
}

fn of_stat(pid: u32, fields: [usize; 2]) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, after_name) = stat.rsplit_once(") ").expect("a name in brackets");
    let words: Vec<&str> = after_name.split(' ').collect();
    let ticks = |n: usize| words[n].parse::<f64>().expect("a number");
    // The first two fields are before the words.
    fields.iter().map(|field| ticks(field - 3)).sum::<f64>() / 100.0
}
