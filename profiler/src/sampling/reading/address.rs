//! What a process is read by: its pidfd, or, once its first thread has ended and others live on, the id of
//! one of those, which a pidfd of that thread keeps from being another's unnoticed.
//!
//! A sample's key and ids enter; an address leaves, kept open for the next question. It says, after a read,
//! whether what was read is of the process that was sampled. Who is not known to be without its first
//! thread is not asked about it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rprof_ebpf::identity::{Ids, ProcessKey};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sampling::identity::Identity;

/// Processes whose descriptors are kept open.
const MAX_OPEN: usize = 256;
/// `PIDFD_THREAD` (include/uapi/linux/pidfd.h): `O_EXCL`, since 6.9.
const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// Why what was read does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The process's first thread has ended; by another it can be read still.
    FirstThread,
    /// The thread that it was read by has.
    Thread,
    /// So has the process, or it is another program by now.
    Program,
}

/// What one process is read by.
pub(super) struct Address {
    pidfd: OwnedFd,
    /// The thread that it is of, as rprof sees it; `None`: the process.
    thread: Option<u32>,
    identity: Arc<Identity>,
}

impl Address {
    /// Points at it, and asks it nothing.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The thread to read, if it is not the first one.
    pub(super) fn thread(&self) -> Option<u32> {
        self.thread
    }

    /// Whether it is that of this process, as it has been since the process was sampled.
    pub(super) fn still(&self, process: &ProcessKey) -> Result<(), Ended> {
        if self.identity.is(self.pidfd(), process) {
            return Ok(());
        }
        Err(match self.thread {
            // By an `exec` as well: of all ids only the process's own is the same after it.
            Some(_) => Ended::Thread,
            None if self.identity.is_without_memory(self.pidfd(), process) => Ended::FirstThread,
            None => Ended::Program,
        })
    }
}

/// The addresses of all that was asked about.
pub(super) struct Addresses {
    identity: Arc<Identity>,
    open: HashMap<ProcessKey, Arc<Address>>,
}

impl Addresses {
    /// None yet.
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity: Arc::new(identity),
            open: HashMap::new(),
        }
    }

    /// That of a process, which rprof saw as `own` when this thread of it was sampled. `by_thread`: it is
    /// known to be without its first one.
    ///
    /// # Errors
    /// `SRCH`: the process, or the thread, has ended. Others: the kernel's.
    pub(super) fn of(
        &mut self,
        process: &ProcessKey,
        own: Ids,
        by_thread: bool,
    ) -> Result<Arc<Address>, Errno> {
        if self.open.len() >= MAX_OPEN {
            self.open.clear();
        }
        let known = self.open.get(process);
        let by_thread = by_thread || known.is_some_and(|known| known.thread.is_some());
        if let Some(known) = known
            && known.thread.is_some() == by_thread
            && (!by_thread || known.still(process).is_ok())
        {
            return Ok(known.clone());
        }
        let (id, flags, thread) = match by_thread {
            true => (own.tid, THREAD, Some(own.tid)),
            false => (own.tgid, PidfdFlags::empty(), None),
        };
        let address = Arc::new(Address {
            pidfd: open(id, flags)?,
            thread,
            identity: self.identity.clone(),
        });
        // Its id may be another's by now; that would never be noticed of one that lives.
        if by_thread && address.still(process).is_err() {
            return Err(Errno::SRCH);
        }
        self.open.insert(*process, address.clone());
        Ok(address)
    }
}

/// Points at a process or a thread, which is not asked anything. One that we do not see has the id 0.
fn open(id: u32, flags: PidfdFlags) -> Result<OwnedFd, Errno> {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    pidfd_open(id.ok_or(Errno::INVAL)?, flags)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::JoinHandle;

    use super::*;
    use crate::sampling::identity::tests::{identity, knows_threads, wait};

    /// A thread of ours, until it is dropped.
    struct Thread(u32, Option<(Sender<()>, JoinHandle<()>)>);

    impl Thread {
        fn start() -> Self {
            let (end, ended) = channel::<()>();
            let (say, said) = channel();
            let thread = std::thread::spawn(move || {
                let _ = say.send(rustix::thread::gettid());
                let _ = ended.recv();
            });
            let tid = said.recv().expect("its id").as_raw_pid();
            Self(tid.cast_unsigned(), Some((end, thread)))
        }
    }

    impl Drop for Thread {
        fn drop(&mut self) {
            if let Some((end, thread)) = self.1.take() {
                drop(end);
                let _ = thread.join();
            }
        }
    }

    /// By the one that was sampled.
    #[test]
    fn a_thread_that_has_ended_is_replaced() {
        let identity = identity();
        let pidfd = open(std::process::id(), PidfdFlags::empty()).expect("ourselves");
        let process = identity.key(pidfd.as_fd());
        let mut addresses = Addresses::new(identity);
        let own = |thread: &Thread| Ids {
            tgid: std::process::id(),
            tid: thread.0,
        };
        let [first, second] = [Thread::start(), Thread::start()];
        let mut of = |thread: &Thread, by_thread| addresses.of(&process, own(thread), by_thread);

        // Nothing is known of the process's first thread: it is as good as any.
        let address = of(&first, false).expect("ourselves");
        assert_eq!((address.thread(), address.still(&process)), (None, Ok(())));
        if !knows_threads(first.0) {
            return println!("SKIPPED: a_thread_that_has_ended_is_replaced: needs Linux 6.9");
        }
        let address = of(&first, true).expect("a thread");
        assert_eq!(address.thread(), Some(first.0));
        assert_eq!(address.still(&process), Ok(()));
        // As long as it lives there is no reason to take another.
        for by_thread in [true, false] {
            let kept = of(&second, by_thread).expect("a thread");
            assert!(Arc::ptr_eq(&kept, &address));
        }
        let ended = own(&first);
        drop(first);
        wait(|| address.still(&process).is_err());
        assert_eq!(address.still(&process), Err(Ended::Thread));
        let address = of(&second, false).expect("the other thread");
        assert_eq!(address.thread(), Some(second.0));
        drop(second);
        wait(|| address.still(&process).is_err());
        // None is known that lives.
        let gone = addresses.of(&process, ended, false).err();
        assert_eq!(gone, Some(Errno::SRCH));
        // The next sample's is.
        let third = Thread::start();
        let address = addresses.of(&process, own(&third), false).expect("another");
        assert_eq!(address.thread(), Some(third.0));
    }

    /// A thread of another process has the id by now.
    #[test]
    fn a_thread_of_another_process_is_none() {
        let identity = identity();
        let pidfd = open(std::process::id(), PidfdFlags::empty()).expect("ourselves");
        let mut process = identity.key(pidfd.as_fd());
        process.start += 1;
        let mut addresses = Addresses::new(identity);
        let thread = Thread::start();
        let own = Ids {
            tgid: process.tgid,
            tid: thread.0,
        };
        assert!(addresses.of(&process, own, true).is_err());
        assert!(addresses.open.is_empty());
        // Of a process that is found out later: it costs nothing before.
        let address = addresses.of(&process, own, false).expect("somebody");
        assert_eq!(address.still(&process), Err(Ended::Program));
    }
}
