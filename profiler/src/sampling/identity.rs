//! Is a process still the one that was sampled? Asked of the kernel after its memory was read, before what
//! was read is believed. A process's pidfd stands for its first thread, one of a thread for that.
//!
//! A pidfd and the key from a sample enter; yes or no leaves. A process that has called `exec` since the
//! sample has another key, which user space cannot see by itself: pid and start time stay, and so may the
//! addresses of code objects. Since exec ids only grow, a key that is the same before and after a read was
//! the same all the time.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{ProgramError, RawTracePoint};
use rprof_ebpf::identity::{ProcessKey, found};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::programs;
use super::test_run::run;

/// Asks the kernel who a pidfd stands for.
pub struct Identity {
    program: OwnedFd,
    /// One answer at a time.
    answer: Mutex<Array<MapData, ProcessKey>>,
}

/// Why nobody can be asked.
#[derive(Debug)]
pub enum Error {
    /// The program was refused.
    Programs(programs::Error),
    /// It cannot be run.
    Run(io::Error),
    /// It does not find ourselves: this kernel keeps its processes otherwise.
    Differs,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Programs(error) => write!(f, "its program cannot be loaded: {error}"),
            Self::Run(error) => write!(f, "its program cannot be run: {error}"),
            Self::Differs => f.write_str("it does not find rprof itself"),
        }
    }
}

impl Identity {
    /// Loads the program, and tries it on ourselves.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn load(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let missing = || Error::Programs(programs::Error::Missing("process"));
        let failed = |error: ProgramError| Error::Programs(error.into());
        let map = ebpf.take_map("PROCESS").ok_or_else(missing)?;
        let map = Array::try_from(map).map_err(|error| Error::Programs(error.into()))?;
        let program = ebpf.program_mut("process").ok_or_else(missing)?;
        let program: &mut RawTracePoint = program.try_into().map_err(failed)?;
        program.load().map_err(failed)?;
        let program = program.fd().map_err(failed)?.as_fd();
        let identity = Self {
            program: program.try_clone_to_owned().map_err(Error::Run)?,
            answer: Mutex::new(map),
        };
        let ourselves = pidfd_open(getpid(), PidfdFlags::empty());
        let ourselves = ourselves.map_err(|error| Error::Run(error.into()))?;
        match identity.ask(ourselves.as_fd()) {
            Ok((found::OURSELVES, _)) => Ok(identity),
            Ok(_) => Err(Error::Differs),
            Err(error) => Err(Error::Run(error)),
        }
    }

    /// Whether a pidfd stands for this process, from the `exec` that the key is of to the next.
    pub fn is(&self, pidfd: BorrowedFd<'_>, process: &ProcessKey) -> bool {
        self.ask(pidfd).is_ok_and(|(_, key)| key == *process)
    }

    /// Whether a pidfd stands for this process, as [`Self::is`] would say, but for memory: a thread that has
    /// ended gives it back, and others of the process may live on.
    pub fn is_without_memory(&self, pidfd: BorrowedFd<'_>, process: &ProcessKey) -> bool {
        self.is(pidfd, &ProcessKey { mm: 0, ..*process })
    }

    /// One of [`found`], and the key of a process that was found.
    fn ask(&self, pidfd: BorrowedFd<'_>) -> io::Result<(i32, ProcessKey)> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let found = run(self.program.as_fd(), pidfd.as_raw_fd() as u64)?.cast_signed();
        let key = match found {
            found::NOBODY => ProcessKey::default(),
            _ => answer.get(&0, 0).map_err(io::Error::other)?,
        };
        Ok((found, key))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use rprof_ebpf::select::Config;
    use rustix::process::Pid;

    use super::*;
    use crate::sampling::kernel_layout;
    use crate::sampling::programs::{Programs, Setup};

    pub(crate) fn identity() -> Identity {
        let kernel = kernel_layout::read().expect("a kernel with BTF");
        let mut programs = Programs::load(&Setup {
            kernel: &kernel,
            config: &Config::ZERO,
            cpus: 1,
            ring_bytes: 4096,
        });
        let programs = programs.as_mut().expect("programs");
        programs.identity().expect("its program")
    }

    impl Identity {
        pub(crate) fn key(&self, pidfd: BorrowedFd<'_>) -> ProcessKey {
            self.ask(pidfd).expect("an answer").1
        }
    }

    /// `PIDFD_THREAD` (include/uapi/linux/pidfd.h), since 6.9
    const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

    /// Whether this kernel has pidfds of threads, as of this one.
    pub(crate) fn knows_threads(tid: u32) -> bool {
        let tid = Pid::from_raw(tid.cast_signed()).expect("a thread");
        pidfd_open(tid, THREAD).err() != Some(rustix::io::Errno::INVAL)
    }

    /// Waits for something that is about to be so.
    pub(crate) fn wait(mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(10), "in vain");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A shell that waits for a word, and then becomes another program.
    fn shell() -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", "read word; exec cat"]);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        shell.spawn().expect("a shell")
    }

    #[test]
    fn an_exec_makes_another_of_it() {
        let identity = identity();
        let mut child = shell();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a child");
        let (kind, before) = identity.ask(pidfd.as_fd()).expect("an answer");
        assert_eq!((kind, before.tgid), (found::ANOTHER, child.id()));
        assert!(before.mm != 0 && before.start != 0, "{before:?}");
        assert!(identity.is(pidfd.as_fd(), &before));

        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(b"word\nx").expect("it listens");
        let mut byte = [0];
        let stdout = child.stdout.as_mut().expect("piped");
        stdout.read_exact(&mut byte).expect("it is cat now");
        let (_, after) = identity.ask(pidfd.as_fd()).expect("an answer");
        assert!(after.exec_id != before.exec_id && after.mm != before.mm);
        assert_eq!((after.tgid, after.start), (before.tgid, before.start));
        assert!(!identity.is(pidfd.as_fd(), &before));

        drop(stdin);
        assert!(child.wait().is_ok());
        assert!(!identity.is(pidfd.as_fd(), &after), "it has ended");
    }

    /// Says the id of its second thread; a byte ends its first (the system call of one thread's end).
    const TWO_THREADS: &str = "import ctypes, os, threading, time\n\
        thread = threading.Thread(target=time.sleep, args=(60,))\n\
        thread.start()\n\
        print(thread.native_id, flush=True)\n\
        os.read(0, 1)\n\
        ctypes.CDLL(None).syscall(60, 0)\n";

    #[test]
    fn a_process_without_its_first_thread() {
        let identity = identity();
        let mut python = Command::new("/usr/bin/python3.11");
        let python = python.args(["-c", TWO_THREADS]).stdin(Stdio::piped());
        let mut child = python.stdout(Stdio::piped()).spawn().expect("Python 3.11");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a child");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut line).expect("its id");
        let tid: u32 = line.trim().parse().expect("its id");
        let process = identity.key(pidfd.as_fd());
        assert!(!identity.is_without_memory(pidfd.as_fd(), &process));

        let stdin = child.stdin.as_mut().expect("piped");
        stdin.write_all(b"x").expect("it listens");
        wait(|| !identity.is(pidfd.as_fd(), &process));
        assert!(identity.is_without_memory(pidfd.as_fd(), &process));
        let mut other = process;
        other.exec_id += 1;
        assert!(!identity.is_without_memory(pidfd.as_fd(), &other));
        let thread = Pid::from_raw(tid.cast_signed()).expect("a thread");
        let thread = knows_threads(tid).then(|| pidfd_open(thread, THREAD).expect("it lives"));
        if let Some(thread) = &thread {
            assert_eq!(identity.key(thread.as_fd()), process);
        }

        assert!(child.kill().is_ok() && child.wait().is_ok());
        assert!(!identity.is_without_memory(pidfd.as_fd(), &process));
        if let Some(thread) = thread {
            assert!(!identity.is(thread.as_fd(), &process));
        } else {
            println!("SKIPPED: a_process_without_its_first_thread: needs Linux 6.9");
        }
    }

    #[test]
    fn what_is_no_pidfd_is_not_us() {
        let identity = identity();
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).expect("ourselves");
        let (_, us) = identity.ask(pidfd.as_fd()).expect("an answer");
        assert!(identity.is(pidfd.as_fd(), &us));
        let file = std::fs::File::open("/proc/self/stat").expect("our own");
        assert!(!identity.is(file.as_fd(), &us));
    }
}
