//! The command that is profiled: started once sampling runs, waited for, its end passed on.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities};

use super::limits::Limits;
use crate::cli::command::{self, Command};
use crate::cli::failure::{Failure, exit, reason};
use crate::push::credentials;

/// Makes rprof the parent of descendants whose own parent ends: a daemon still counts.
///
/// # Errors
/// Those of the system call.
pub fn become_subreaper() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(Into::into)
}

/// Starts the command, with the signal mask and the limits that rprof itself was started
/// with.
///
/// # Errors
/// As [`command::not_run`].
pub fn start(wanted: &Command, mask: libc::sigset_t, limits: Limits) -> Result<Child, Failure> {
    let mut words = wanted.words.iter();
    let name = words.next().map_or(OsStr::new(""), |word| word.as_os_str());
    let mut child = std::process::Command::new(&wanted.file);
    child.arg0(name).args(words);
    // A secret of ours, which is nobody else's.
    child.env_remove(credentials::VARIABLE);
    let user = wanted.user.clone();
    if let Some(user) = &user {
        child
            .env("HOME", &user.home)
            .env("USER", user.name.to_string_lossy().as_ref())
            .env("LOGNAME", user.name.to_string_lossy().as_ref());
    }
    // SAFETY: between fork and exec only wrappers of system calls run. `initgroups` also reads
    // files and allocates, which glibc keeps usable in the child of a program with threads.
    unsafe {
        child.pre_exec(move || {
            if let Some(user) = &user {
                become_user(&user.name, user.uid, user.gid)?;
            }
            limits.restore();
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            libc::pthread_sigmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
            Ok(())
        });
    }
    child.spawn().map_err(|error| match &wanted.user {
        Some(user) if error.raw_os_error() == Some(libc::EPERM) && !may_become() => {
            Failure::new(format!(
                "cannot become {}: {} (CAP_SETUID, CAP_SETGID)",
                user.name.to_string_lossy(),
                reason(&error)
            ))
            .code(exit::CANNOT_RUN)
            .next("rprof check")
        }
        _ => command::not_run(&wanted.file, &error),
    })
}

/// Whether rprof may run a command as somebody else.
fn may_become() -> bool {
    let wanted = CapabilitySet::SETUID | CapabilitySet::SETGID;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Groups first, the user last: afterwards neither could be changed.
fn become_user(name: &CStr, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: a NUL-terminated name, and numbers.
    let failed = unsafe {
        libc::initgroups(name.as_ptr(), gid) < 0 || libc::setgid(gid) < 0 || libc::setuid(uid) < 0
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// What became of the command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collected {
    /// How it ended, once it has.
    pub status: Option<ExitStatus>,
    /// CPU time of the command and its descendants that ended: each one's own clock and what it waited for itself.
    /// Who lets the kernel collect its children (`SIG_IGN` of SIGCHLD) hides theirs.
    pub cpu: Duration,
}

/// Collects children that ended, each after `before` was called with it. Returns whether no child is left, but for
/// those that `is_ours`.
///
/// # Errors
/// Those of `wait4`.
pub fn reap(
    command: u32,
    collected: &mut Collected,
    before: impl Fn(u32),
    is_ours: impl Fn(u32) -> bool,
) -> io::Result<bool> {
    use std::os::unix::process::ExitStatusExt;
    let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: all zero is a value of this type.
        let mut child: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: a pointer to a variable of ours.
        if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut child, look) } != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ECHILD) => Ok(true),
                Some(libc::EINTR) => continue,
                _ => Err(error),
            };
        }
        // SAFETY: `waitid` fills these fields, or leaves them zero.
        let pid = unsafe { child.si_pid() };
        if pid == 0 {
            return Ok(children().is_ok_and(|pids| pids.into_iter().all(is_ours)));
        }
        let of_command = !is_ours(pid.cast_unsigned());
        before(pid.cast_unsigned());
        let mut status = 0;
        // SAFETY: all zero is a value of this type.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: pointers to variables of ours.
        let waited = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if waited != pid {
            continue;
        }
        if of_command {
            collected.cpu += time(usage.ru_utime) + time(usage.ru_stime);
        }
        if pid.cast_unsigned() == command {
            collected.status = Some(ExitStatus::from_raw(status));
        }
    }
}

fn time(of: libc::timeval) -> Duration {
    Duration::from_micros(of.tv_sec.unsigned_abs() * 1_000_000 + of.tv_usec.unsigned_abs())
}

/// Our children (CONFIG_PROC_CHILDREN, which distributions have).
///
/// # Errors
/// Our own folder in `/proc` cannot be read.
pub fn children() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        // A thread may have ended since.
        let text = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        pids.extend(text.split_whitespace().flat_map(str::parse::<u32>));
    }
    Ok(pids)
}

/// Waits for the command, which went on after sampling ended.
///
/// # Errors
/// Those of `waitpid`.
pub fn wait(command: u32) -> io::Result<ExitStatus> {
    use std::os::unix::process::ExitStatusExt;
    loop {
        let mut status = 0;
        // SAFETY: a pointer to our own integer.
        let pid = unsafe { libc::waitpid(command as i32, &mut status, 0) };
        if pid >= 0 {
            return Ok(ExitStatus::from_raw(status));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
