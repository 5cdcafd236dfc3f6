//! A reader process as whoever asks it sees it: started, waited for as long as it is at work, killed
//! when it is not. And all of them together: which are stuck, and what is asked of none any more.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid,
};

use super::protocol::{Question, Reply, receive, receive_len, send};
use super::quarantine::{Place, Quarantine};
use super::{NAME, Patience};

/// A reader that nobody asks anything for so long ends.
pub(super) const IDLE: Duration = Duration::from_secs(4);
/// One that was not asked for so long may be about to.
const FRESH: Duration = Duration::from_secs(3);
/// How long it has to end when nothing is left to ask.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long it has to take a question.
const LOOK: Duration = Duration::from_millis(200);
/// Readers that do not even die when they are killed: as many over one device or process, and nothing of
/// it is read any more; as many in all, over files or over processes, and nothing but of those that
/// answer.
const MAX_STUCK: usize = 2;
const MAX_ALL_STUCK: usize = 16;
/// Questions that somebody waits for beside, at most.
const MAX_LATE: usize = 8;
/// Files that are named at most.
const MAX_SAID: usize = 64;

/// What all readers have in common.
#[derive(Default)]
pub struct Readers {
    state: Mutex<State>,
    /// Told of each reader that starts (`true`) or has ended.
    watch: Option<Box<dyn Fn(u32, bool) + Send + Sync>>,
    /// Nothing is asked or waited for any more.
    hurried: AtomicBool,
}

#[derive(Default)]
struct State {
    /// What is waited for, and since when.
    waits: Vec<(Arc<str>, Instant)>,
    quarantine: Quarantine,
    /// Questions that somebody waits for beside: about files, and about processes.
    late: [usize; 2],
    /// One of them waits for the CFI of a large file: not two at a time are in our memory.
    large: bool,
    /// Those that run.
    pids: BTreeSet<u32>,
    /// Those that were killed, and have not ended yet, and over which device or process.
    killed: Vec<(Process, Place)>,
    /// What had its last chance: a file, or a device (inode 0).
    last: HashSet<Place>,
    /// Nothing more was read of some devices, or of all.
    gave_up: bool,
    /// Nor of some processes' memory.
    gave_up_memory: bool,
    /// Paths of files that kept silent.
    silent: BTreeSet<String>,
}

impl Readers {
    /// `watch` is told the pid of each reader that starts (`true`) or has ended.
    pub fn new(watch: Option<Box<dyn Fn(u32, bool) + Send + Sync>>) -> Self {
        Self {
            watch,
            ..Self::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a process is a reader.
    pub fn contains(&self, pid: u32) -> bool {
        self.state().pids.contains(&pid)
    }

    /// Files that kept silent, and whether some, or some processes, were not asked any more.
    pub fn silent(&self) -> (Vec<String>, [bool; 2]) {
        let state = self.state();
        let gave_up = [state.gave_up, state.gave_up_memory];
        (state.silent.iter().cloned().collect(), gave_up)
    }

    /// Files that have been waited for this long: whose names or rows they are is up to who asks.
    pub fn waits(&self, this_long: Duration) -> Vec<String> {
        let state = self.state();
        let waits = state
            .waits
            .iter()
            .filter(|(path, since)| !path.is_empty() && since.elapsed() >= this_long);
        waits.map(|(path, _)| path.to_string()).collect()
    }

    /// Ends all waiting: what has not answered by now is silent.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Whether nothing is asked or waited for any more.
    pub(super) fn is_hurried(&self) -> bool {
        self.hurried.load(Ordering::Relaxed)
    }

    /// A file is waited for from now until what is given is dropped.
    pub(super) fn wait_for(&self, path: &str) -> Wait<'_> {
        let wait: (Arc<str>, Instant) = (path.into(), Instant::now());
        self.state().waits.push(wait.clone());
        Wait(self, wait.0)
    }

    /// A file kept silent.
    pub(super) fn keeps_silent(&self, place: Place, path: &str) {
        let mut state = self.state();
        state.quarantine.silent(place, Instant::now());
        state.say(path);
    }

    /// A file answered.
    pub(super) fn answered(&self, place: Place) {
        self.state().quarantine.answered(place);
    }

    /// Whether a file is in quarantine.
    pub(super) fn leaves_alone(&self, place: Place) -> bool {
        self.state().quarantine.holds(place, Instant::now())
    }

    /// Whether a file is not to be asked now.
    pub(super) fn refuses(&self, place: Place, path: &str) -> bool {
        let mut state = self.state();
        let held = state.quarantine.holds(place, Instant::now());
        if !state.killed.is_empty() {
            self.bury(&mut state);
        }
        let stuck = state.stuck_like(place);
        let given_up = state.stuck_over(place) >= MAX_STUCK
            || stuck >= MAX_ALL_STUCK && !state.quarantine.trusts(place);
        state.gave_up |= given_up && !path.is_empty();
        state.gave_up_memory |= given_up && place.is_process();
        if held || given_up {
            state.say(path);
        }
        held || given_up
    }

    /// Whether what is refused may be asked once more, because nothing will be later: a file, or one file
    /// of a device.
    pub(super) fn last_chance(&self, place: Place) -> bool {
        let mut state = self.state();
        let stuck =
            state.stuck_over(place) >= MAX_STUCK || state.stuck_like(place) >= MAX_ALL_STUCK;
        let all = place.whole();
        let about = match state.quarantine.holds(all, Instant::now()) {
            true => all,
            false => place,
        };
        !stuck && state.last.insert(about)
    }

    /// Takes leave of those that have ended; how many have not.
    fn bury(&self, state: &mut State) -> usize {
        let killed = std::mem::take(&mut state.killed).into_iter();
        let (gone, killed): (Vec<_>, _) =
            killed.partition(|(process, _)| process.ended(Duration::ZERO));
        state.killed = killed;
        for (process, _) in gone {
            let pid = process.pid.as_raw_nonzero().get().cast_unsigned();
            self.release(state, pid);
            // Whoever waits for all children may have been first.
            let _ = waitpid(Some(process.pid), WaitOptions::NOHANG);
        }
        state.killed.len()
    }

    /// To be called before a child is waited for: then its pid may be given to another process.
    pub fn ended(&self, pid: u32) {
        self.release(&mut self.state(), pid);
    }

    fn release(&self, state: &mut State, pid: u32) {
        if state.pids.remove(&pid)
            && let Some(watch) = &self.watch
        {
            watch(pid, false);
        }
    }
}

/// See [`Readers::wait_for`].
pub(super) struct Wait<'a>(&'a Readers, Arc<str>);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0
            .state()
            .waits
            .retain(|(path, _)| !Arc::ptr_eq(path, &self.1));
    }
}

impl State {
    /// Readers that were killed over this device or process, and have not ended.
    fn stuck_over(&self, place: Place) -> usize {
        let over = self.killed.iter().map(|(_, over)| *over);
        over.filter(|over| *over == place.whole()).count()
    }

    /// Those over files, or those over processes: the one says nothing of the other.
    fn stuck_like(&self, place: Place) -> usize {
        let like = |over: &Place| over.is_process() == place.is_process();
        self.killed.iter().filter(|(_, over)| like(over)).count()
    }

    fn say(&mut self, path: &str) {
        if self.silent.len() < MAX_SAID && !path.is_empty() && path != "/" {
            self.silent.insert(path.to_owned());
        }
    }
}

/// A child. It is signalled and waited for by descriptor: its pid may have been waited for by whoever
/// waits for all children, and given to another process.
struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Process {
    /// Whether it ends within this time.
    fn ended(&self, within: Duration) -> bool {
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
    fn is_runnable(&self) -> bool {
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

/// One of the few places for those who wait beside. Those who wait for files and those who wait for
/// processes take none from each other.
pub(super) struct Seat {
    readers: Arc<Readers>,
    row: usize,
    large: bool,
}

impl Seat {
    /// One for who asks about this place. `large`: for the CFI of a large file, which one may wait for at
    /// a time.
    pub(super) fn take(readers: &Arc<Readers>, place: Place, large: bool) -> Option<Self> {
        let row = usize::from(place.is_process());
        let mut state = readers.state();
        if state.late[row] >= MAX_LATE || large && state.large {
            return None;
        }
        state.late[row] += 1;
        state.large |= large;
        let readers = readers.clone();
        Some(Self {
            readers,
            row,
            large,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.readers.state();
        state.late[self.row] -= 1;
        state.large &= !self.large;
    }
}

/// A reader that runs.
pub(super) struct Running {
    readers: Arc<Readers>,
    process: Option<Process>,
    socket: UnixStream,
    asked: Instant,
}

impl Running {
    /// `look`: how often it is looked at while it is silent.
    pub(super) fn start(readers: &Arc<Readers>, look: Duration) -> io::Result<Self> {
        let (ours, its) = UnixStream::pair()?;
        ours.set_read_timeout(Some(look))?;
        ours.set_write_timeout(Some(LOOK))?;
        // What was installed under our name meanwhile may be another version: the file that we are.
        let mut state = readers.state();
        let mut child = Command::new("/proc/self/exe")
            .arg0(NAME)
            // Not the folder we were started in: it may be one to be unmounted.
            .current_dir("/")
            // Ctrl-C is for us, who still have questions.
            .process_group(0)
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let process = Process { pid, fd };
        state.pids.insert(child.id());
        if let Some(watch) = &readers.watch {
            watch(child.id(), true);
        }
        drop(state);
        Ok(Self {
            readers: readers.clone(),
            process: Some(process),
            socket: ours,
            asked: Instant::now(),
        })
    }

    /// The same, if it has not ended or is about to because nobody asked anything for long.
    pub(super) fn still(self) -> Option<Self> {
        let fresh = self.asked.elapsed() < FRESH;
        let ended = |process: &Process| process.ended(Duration::ZERO);
        (fresh && !self.process.as_ref().is_some_and(ended)).then_some(self)
    }

    /// The same after an answer.
    pub(super) fn used(mut self) -> Self {
        self.asked = Instant::now();
        self
    }

    /// Asks it: it is waiting for that, there is no reason to be patient.
    pub(super) fn send(
        &mut self,
        question: &Question,
        file: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.asked = Instant::now();
        send(&self.socket, question, file)
    }

    /// Whether an answer begins within this time.
    pub(super) fn answers_within(&self, time: Duration) -> bool {
        is_readable(&self.socket, time)
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
            self.readers.state().killed.push((process, about.whole()));
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
        let mut state = self.readers.state();
        state.killed.push((process, Place::Unknown));
        self.readers.bury(&mut state);
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
        Ok((receive(self, len, self.patience.bytes)?, file))
    }

    fn wait<T>(&mut self, mut attempt: impl FnMut(&UnixStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(&self.running.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It may not be kept alive for ever by a byte now and then.
                result if self.asked.elapsed() < self.patience.answer => {
                    self.alive = Instant::now();
                    return result;
                }
                _ => return Err(io::ErrorKind::TimedOut.into()),
            }
            let process = self.running.process.as_ref();
            let used = process.and_then(Process::used);
            if used != self.used || process.is_some_and(Process::is_runnable) {
                (self.used, self.alive) = (used, Instant::now());
            }
            if self.running.readers.is_hurried()
                || self.alive.elapsed() >= self.patience.silence
                || self.asked.elapsed() >= self.patience.answer
            {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait(|mut socket| socket.read(into))
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    const FILE: Place = Place::File { dev: 7, ino: 1 };
    const PROCESS: Place = Place::Process { pid: 1, start: 5 };

    #[test]
    fn one_large_file_at_a_time() {
        let readers = Arc::new(Readers::default());
        let take = |place, large| Seat::take(&readers, place, large);
        let large = take(FILE, true);
        assert!(large.is_some() && take(FILE, true).is_none());
        let others: Vec<_> = (1..MAX_LATE).map(|_| take(FILE, false)).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(take(FILE, false).is_none() && take(PROCESS, false).is_some());
        drop(others);
        assert!(take(FILE, true).is_none());
        drop(large);
        assert!(take(FILE, true).is_some());
    }

    #[test]
    fn readers_that_are_stuck_over_others() {
        let stuck = |over| {
            let readers = Readers::default();
            for _ in 0..MAX_ALL_STUCK {
                // They live, as we do.
                let fd = pidfd_open(getpid(), PidfdFlags::empty()).expect("ourselves");
                let process = Process { pid: getpid(), fd };
                readers.state().killed.push((process, over));
            }
            readers
        };
        let other = Place::Process { pid: 2, start: 5 };
        let readers = stuck(other);
        readers.answered(PROCESS);
        // Neither files, nor who answers, nor what is not known to keep silent more than need be.
        assert!(!readers.refuses(FILE, "/a") && !readers.refuses(PROCESS, ""));
        assert!(readers.last_chance(FILE));
        assert!(readers.refuses(other, "") && readers.state().gave_up_memory);
        let readers = stuck(Place::File { dev: 8, ino: 0 });
        assert!(!readers.refuses(PROCESS, "") && readers.refuses(FILE, "/a"));
        readers.answered(FILE);
        assert!(!readers.refuses(FILE, "/a"));
    }
}
