//! A recorder that `rprof gate` has started, and the command in it, end with it, however it ends: a job of CI that is
//! killed must not leave a benchmark that runs on beside the next one. The recorder waits for that end; nothing is
//! written then.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpgrp, getpid, getppid, pidfd_open, pidfd_send_signal,
    wait, waitpid,
};

use crate::sampling::{child, privileges};

/// Begins the name that a recorder of gate has: no option, for nobody has to type it.
pub(super) const NAME: &str = "rprof-of-gate-";
/// Children are ended so many times at most: one that starts others faster than that ends them stays.
const ROUNDS: u32 = 100;
/// Between two rounds: who is killed ends, and leaves its children to us.
const ROUND: Duration = Duration::from_millis(5);

/// The name of a recorder that this process starts.
pub fn name(gate: u32) -> String {
    format!("{NAME}{gate}")
}

/// The process of gate that has started us, if one has.
pub fn gate(words: &[OsString]) -> Option<u32> {
    words.first()?.to_str()?.strip_prefix(NAME)?.parse().ok()
}

/// Ends this process, its group, and its descendants when that one, its parent, has ended.
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
                .spawn(move || watch(&parent));
        });
    }
}

fn watch(parent: &OwnedFd) {
    privileges::sample_only();
    loop {
        let mut watched = [PollFd::new(parent, PollFlags::IN)];
        match poll(&mut watched, None) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => end(),
            Err(_) => return,
        }
    }
}

/// They have nobody else to tell them.
fn end() {
    // Nothing is written any more.
    crate::profile::output::remove_partial_files();
    end_children(&[]);
    // SAFETY: numbers only. The group is our own, and we are in it.
    unsafe { libc::killpg(0, libc::SIGKILL) };
}

/// Ends our children but for these, and theirs, whatever group or session they have made of themselves: this process
/// is a subreaper, and so each child that ends leaves its own to us.
pub(super) fn end_children(but: &[u32]) {
    for _ in 0..ROUNDS {
        let mut children = child::children().unwrap_or_default();
        children.retain(|child| !but.contains(child));
        if children.is_empty() {
            return;
        }
        for child in children {
            let Some(pid) = Pid::from_raw(child.cast_signed()) else {
                continue;
            };
            let Ok(opened) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            // Another thread may have waited for it meanwhile, and then its pid is anyone's.
            if child::children().is_ok_and(|children| children.contains(&child)) {
                let _ = pidfd_send_signal(&opened, Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        std::thread::sleep(ROUND);
    }
}

/// Takes note of children that have ended, which others have left to us.
pub(super) fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
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
