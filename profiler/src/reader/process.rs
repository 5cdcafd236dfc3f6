//! A reader process as whoever asks it sees it: started, waited for as long as it is at work, killed
//! when it is not.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid,
};

use super::protocol::{Question, Reply, receive, receive_len, send};
use super::quarantine::Place;
use super::readers::Readers;
use super::{NAME, Patience};

/// A reader that nobody asks anything for so long ends, unless it was told another time.
pub(super) const IDLE: Duration = Duration::from_secs(4);
/// One that was not asked for all of that but so long may be about to.
const ABOUT_TO: Duration = Duration::from_secs(1);
/// How long it has to end when nothing is left to ask.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long it has to take a question.
const LOOK: Duration = Duration::from_millis(200);

/// A child. It is signalled and waited for by descriptor: its pid may have been waited for by whoever
/// waits for all children, and given to another process.
pub(super) struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Process {
    /// The process of a pid that cannot be given to another meanwhile.
    pub(super) fn of(pid: Pid) -> io::Result<Self> {
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, fd })
    }

    /// One of ours that answers through this socket, until nobody asks it anything for so long.
    fn spawn(its: UnixStream, idle: Duration) -> io::Result<Self> {
        // Whom nobody reads: `/dev/null` may not be there, in a chroot or a container.
        let (_, nowhere) = io::pipe()?;
        // What was installed under our name meanwhile may be another version: the file that we are.
        let mut child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .arg(idle.as_secs().to_string())
            // Not the folder we were started in: it may be one to be unmounted.
            .current_dir("/")
            // Ctrl-C is for us, who still have questions.
            .process_group(0)
            .stdin(OwnedFd::from(its))
            .stdout(nowhere.try_clone()?)
            .stderr(nowhere)
            .spawn()?;
        Self::of(Pid::from_child(&child)).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Waits for it, which has ended. Whoever waits for all children may have been first.
    pub(super) fn reap(&self) {
        let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
    }

    /// Whether it ends within this time.
    pub(super) fn ended(&self, within: Duration) -> bool {
        is_readable(&self.fd, within)
    }

    fn kill(&self) {
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
    }

    /// CPU time that it has used.
    fn used(&self) -> Option<Duration> {
        let mut clock = 0;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: both write to a variable of ours.
        let failed = unsafe {
            libc::clock_getcpuclockid(self.pid.as_raw_nonzero().get(), &raw mut clock) != 0
                || libc::clock_gettime(clock, &raw mut time) != 0
        };
        (!failed).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// Whether it runs, or would if it had a CPU: on a busy machine it may wait for one for long.
    pub(super) fn is_runnable(&self) -> bool {
        let pid = self.pid.as_raw_nonzero();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let state = stat.as_ref().ok().and_then(|stat| stat.rsplit_once(") "));
        state.is_some_and(|(_, state)| state.starts_with('R'))
    }
}

fn is_readable(fd: &impl AsFd, within: Duration) -> bool {
    let timeout = Timespec::try_from(within).unwrap_or_default();
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// A reader that runs.
pub(super) struct Running {
    readers: Arc<Readers>,
    process: Option<Process>,
    socket: UnixStream,
    asked: Instant,
    /// When it ends if it is not asked.
    idle: Duration,
    looks: Cell<Looks>,
}

/// What was seen of a reader while it was waited for.
#[derive(Clone, Copy)]
struct Looks {
    last: Instant,
    used: Option<Duration>,
    /// Time in which it was ready to run, and others had the CPUs.
    starved: Duration,
}

impl Looks {
    fn begin() -> Self {
        Self {
            last: Instant::now(),
            used: None,
            starved: Duration::ZERO,
        }
    }
}

impl Running {
    /// `look`: how often it is looked at while it is silent; `idle`: it ends if it is not asked for so long.
    pub(super) fn start(
        readers: &Arc<Readers>,
        look: Duration,
        idle: Duration,
    ) -> io::Result<Self> {
        let (ours, its) = UnixStream::pair()?;
        ours.set_read_timeout(Some(look))?;
        ours.set_write_timeout(Some(LOOK))?;
        let process = readers.start(|| Process::spawn(its, idle))?;
        Ok(Self {
            readers: readers.clone(),
            process: Some(process),
            socket: ours,
            asked: Instant::now(),
            idle,
            looks: Cell::new(Looks::begin()),
        })
    }

    /// The same, if it has not ended or is about to because nobody asked anything for long.
    pub(super) fn still(self) -> Option<Self> {
        let fresh = self.asked.elapsed() + ABOUT_TO < self.idle;
        let ended = |process: &Process| process.ended(Duration::ZERO);
        (fresh && !self.process.as_ref().is_some_and(ended)).then_some(self)
    }

    /// The same after an answer.
    pub(super) fn used(mut self) -> Self {
        self.asked = Instant::now();
        self.looks.set(Looks::begin());
        self
    }

    /// Asks it: it is waiting for that, there is no reason to be patient.
    pub(super) fn send(
        &mut self,
        question: &Question,
        file: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.asked = Instant::now();
        self.looks.set(Looks::begin());
        send(&self.socket, question, file)
    }

    /// Whether an answer begins within this time.
    pub(super) fn answers_within(&self, time: Duration) -> bool {
        is_readable(&self.socket, time)
    }

    /// CPU time that it has used, and whether it would use more now.
    pub(super) fn work(&self) -> (Option<Duration>, bool) {
        let process = self.process.as_ref();
        let used = process.and_then(Process::used);
        let runnable = process.is_some_and(Process::is_runnable);
        let mut looks = self.looks.get();
        let now = Instant::now();
        if runnable {
            let worked = used
                .zip(looks.used)
                .map_or(Duration::ZERO, |(now, before)| now.saturating_sub(before));
            looks.starved += now
                .saturating_duration_since(looks.last)
                .saturating_sub(worked);
        }
        (looks.last, looks.used) = (now, used);
        self.looks.set(looks);
        (used, runnable)
    }

    /// Whether it may still answer, which it began when it was `asked`. Time in which others had the CPUs is not
    /// its own, up to as long again: whoever makes it wait may be the one whose file it reads.
    pub(super) fn in_time(&self, asked: Instant, answer: Duration) -> bool {
        let others = self.looks.get().starved.min(answer);
        asked.elapsed() < answer + others
    }

    /// Speaks with it.
    pub(super) fn patient(&self, patience: Patience) -> Patient<'_> {
        Patient {
            running: self,
            patience,
            asked: self.asked,
            alive: self.asked,
            used: None,
        }
    }

    /// Ends it over a file. It is not waited for: it may be beyond signals, and init takes what we leave.
    pub(super) fn kill(mut self, about: Place) {
        if let Some(process) = self.process.take() {
            process.kill();
            self.readers.killed(process, about.whole());
        }
    }
}

impl Drop for Running {
    /// Lets it end, and waits for that: what it cost belongs to what we cost.
    fn drop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if !process.ended(FAREWELL) {
            process.kill();
        }
        self.readers.left(process);
    }
}

/// Speaks with a reader as long as it is at work.
pub(super) struct Patient<'a> {
    running: &'a Running,
    patience: Patience,
    /// Since when it is at this answer.
    asked: Instant,
    /// When it was last known to be at work.
    alive: Instant,
    used: Option<Duration>,
}

impl Patient<'_> {
    /// The next reply, and the descriptor that came along.
    pub(super) fn receive(&mut self) -> io::Result<(Reply, Option<OwnedFd>)> {
        let (len, file) = self.wait(receive_len)?;
        self.asked = Instant::now();
        self.running.looks.set(Looks::begin());
        Ok((receive(self, len, self.patience.bytes)?, file))
    }

    fn wait<T>(&mut self, mut attempt: impl FnMut(&UnixStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(&self.running.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It may not be kept alive for ever by a byte now and then.
                result if self.in_time() => {
                    self.alive = Instant::now();
                    return result;
                }
                _ => return Err(io::ErrorKind::TimedOut.into()),
            }
            let (used, runnable) = self.running.work();
            if used != self.used || runnable {
                (self.used, self.alive) = (used, Instant::now());
            }
            if self.running.readers.is_hurried()
                || self.alive.elapsed() >= self.patience.silence
                || !self.in_time()
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn in_time(&self) -> bool {
        self.running.in_time(self.asked, self.patience.answer)
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait(|mut socket| socket.read(into))
    }
}
