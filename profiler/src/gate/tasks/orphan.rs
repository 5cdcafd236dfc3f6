//! A recorder that `rprof gate` has started, and the command in it, end with it, however it ends: a job of CI that is
//! killed must not leave a benchmark that runs on beside the next one. The recorder waits for that end; nothing is
//! written then.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getpgrp, getpid, getppid, pidfd_open};

/// Begins the name that a recorder of gate has: no option, for nobody has to type it.
pub(super) const NAME: &str = "rprof-of-gate-";

/// The name of a recorder that this process starts.
pub fn name(gate: u32) -> String {
    format!("{NAME}{gate}")
}

/// The process of gate that has started us, if one has.
pub fn gate(words: &[OsString]) -> Option<u32> {
    words.first()?.to_str()?.strip_prefix(NAME)?.parse().ok()
}

/// Ends this process and its group when that one, its parent, has ended.
pub fn end_with(parent: u32) {
    let Some(parent) = i32::try_from(parent).ok().and_then(Pid::from_raw) else {
        return;
    };
    // Gate makes a group for each recorder. In another's group are others.
    if getpgrp() != getpid() {
        return;
    }
    let opened = pidfd_open(parent, PidfdFlags::empty());
    if getppid() != Some(parent) {
        // It has ended before it could be watched, and its pid may be anyone's.
        end();
    }
    // Without a descriptor or a thread only the killed leave something.
    if let Ok(parent) = opened {
        without_signals(|| {
            let _ = std::thread::Builder::new()
                .name("rprof-of-gate".into())
                .spawn(move || wait(&parent));
        });
    }
}

fn wait(parent: &OwnedFd) {
    loop {
        let mut watched = [PollFd::new(parent, PollFlags::IN)];
        match poll(&mut watched, None) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => end(),
            Err(_) => return,
        }
    }
}

/// The group has nobody else to tell it.
fn end() {
    // SAFETY: numbers only. The group is our own, and we are in it.
    unsafe { libc::killpg(0, libc::SIGKILL) };
}

/// A thread that starts in it takes no signals: those are for the one that waits for them.
fn without_signals(start: impl FnOnce()) {
    // SAFETY: `sigfillset` makes a set of what all zeros are, and the pointers are to variables of ours.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
    }
}
