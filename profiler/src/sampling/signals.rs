//! Signals, as readable events: Ctrl-C, termination, a terminal that goes away, ended children, and all
//! others that would end rprof and take its samples with it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// Those that end a recording: a terminal that goes away, and time that is used up, take no samples with
/// them.
const STOPS: [i32; 5] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGXCPU,
];

/// Those that end who does not expect them.
const OTHERS: [i32; 8] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];

/// What was signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C, or `kill`: the number.
    Stop(i32),
    /// One that says nothing to rprof, and yet would end it: the number.
    Other(i32),
    /// A child ended.
    Child,
}

/// A descriptor that becomes readable when one of the signals came.
pub struct Signals {
    fd: OwnedFd,
    /// Ends a wait, too, when it is readable.
    bell: Option<Arc<OwnedFd>>,
    /// The mask that rprof was started with.
    before: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals in this thread, and so in those it starts later. A child inherits that:
    /// give it back [`Signals::before`].
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the set is initialised by `sigemptyset`, all zero is an action, and the pointers are to
        // variables of ours; the descriptor is new and ours.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in STOPS.into_iter().chain(OTHERS).chain([libc::SIGCHLD]) {
                libc::sigaddset(&mut set, signal);
            }
            // Whoever said `nohup` wants it to go on. Blocked it would be queued though it is ignored
            // (`sig_ignored`, kernel/signal.c). Others that are ignored end a recording all the same: a
            // shell has Ctrl-C ignored by what it starts in the background, where `kill -INT` is for rprof.
            let mut hangup: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut hangup);
            if hangup.sa_sigaction == libc::SIG_IGN {
                libc::sigdelset(&mut set, libc::SIGHUP);
            }
            // A file that grows too large is an error of the write, which is then saved elsewhere.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let mut before = std::mem::zeroed();
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before);
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self {
                fd: OwnedFd::from_raw_fd(fd),
                bell: None,
                before,
            })
        }
    }

    /// The mask that rprof was started with.
    pub fn before(&self) -> libc::sigset_t {
        self.before
    }

    /// Waits end also when this can be read.
    pub fn wait_also_for(&mut self, bell: Arc<OwnedFd>) {
        self.bell = Some(bell);
    }

    /// They do so no more.
    pub fn wait_for_nothing_else(&mut self) {
        self.bell = None;
    }

    /// The next signal, waiting up to `timeout` for one (`None`: as long as it takes), or until one of
    /// the processes ends; those are taken off the list.
    ///
    /// # Errors
    /// Those of `poll` and `read`.
    pub fn next(
        &self,
        timeout: Option<std::time::Duration>,
        processes: &mut Vec<OwnedFd>,
    ) -> io::Result<Option<Signal>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let bell = self.bell.as_deref();
        let watched = std::iter::once(&self.fd)
            .chain(processes.iter())
            .chain(bell);
        let mut fds: Vec<PollFd<'_>> = watched.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ended = ready.iter().skip(1);
        processes.retain(|_| !ended.next().copied().unwrap_or(false));
        if !ready.first().copied().unwrap_or(false) {
            return Ok(None);
        }
        let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let len = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes one whole record or none; all zeros are a valid one.
        let (read, info) = unsafe {
            let read = libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), len);
            (read, info.assume_init())
        };
        if read != len as isize {
            return Ok(None);
        }
        Ok(Some(match info.ssi_signo as i32 {
            libc::SIGCHLD => Signal::Child,
            number if OTHERS.contains(&number) => Signal::Other(number),
            number => Signal::Stop(number),
        }))
    }
}
