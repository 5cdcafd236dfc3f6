//! The command that is profiled: started once sampling runs, waited for, its end passed on.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus};

use crate::cli::command::{self, Command};
use crate::cli::failure::Failure;

/// Makes rprof the parent of descendants whose own parent ends: a daemon still counts.
///
/// # Errors
/// Those of the system call.
pub fn become_subreaper() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(Into::into)
}

/// Starts the command.
///
/// # Errors
/// As [`command::not_run`].
pub fn start(wanted: &Command) -> Result<Child, Failure> {
    let mut words = wanted.words.iter();
    let name = words.next().map_or(OsStr::new(""), |word| word.as_os_str());
    let mut child = std::process::Command::new(&wanted.file);
    child.arg0(name).args(words);
    if let Some(user) = &wanted.user {
        child
            .env("HOME", &user.home)
            .env("USER", user.name.to_string_lossy().as_ref())
            .env("LOGNAME", user.name.to_string_lossy().as_ref());
        let (name, uid, gid) = (user.name.clone(), user.uid, user.gid);
        // SAFETY: between fork and exec only these three system calls' wrappers run; `initgroups`
        // may read files, and no other thread of the child exists that could hold a lock: glibc
        // documents it as usable there in single-threaded programs, and rprof has not started its
        // threads when it starts the command as another user.
        unsafe {
            child.pre_exec(move || become_user(&name, uid, gid));
        }
    }
    child
        .spawn()
        .map_err(|error| command::not_run(&wanted.file, &error))
}

/// Groups first, the user last: afterwards neither could be changed.
fn become_user(name: &CString, uid: u32, gid: u32) -> io::Result<()> {
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

/// Collects children that ended. The command's own end, once it is seen, and whether no child is
/// left.
///
/// # Errors
/// Those of `waitpid`.
pub fn reap(command: u32, ended: &mut Option<ExitStatus>) -> io::Result<bool> {
    use std::os::unix::process::ExitStatusExt;
    loop {
        let mut status = 0;
        // SAFETY: a pointer to our own integer.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        match pid {
            0 => return Ok(false),
            -1 => {
                let error = io::Error::last_os_error();
                return match error.raw_os_error() {
                    Some(libc::ECHILD) => Ok(true),
                    Some(libc::EINTR) => continue,
                    _ => Err(error),
                };
            }
            pid if pid as u32 == command => *ended = Some(ExitStatus::from_raw(status)),
            _ => {}
        }
    }
}
