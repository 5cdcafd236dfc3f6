//! What all readers have in common: which run, which are stuck and over what, what is waited for, and what
//! is asked of none any more.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::process::Process;
use super::quarantine::{Place, Quarantine};
use crate::cli::failure::reason;

/// Readers that do not even die when they are killed: as many over one device or process, and nothing of
/// it is read any more; as many in all, over files or over processes, and nothing but of those that
/// answer.
const MAX_STUCK: usize = 2;
const MAX_ALL_STUCK: usize = 16;
/// Questions that somebody waits for beside, at most; and of those, for whom is known to answer alone.
const MAX_LATE: usize = 8;
const RESERVED: usize = 2;
/// Files that are named at most.
const MAX_SAID: usize = 64;

/// What all readers have in common.
#[derive(Default)]
pub struct Readers {
    state: Mutex<State>,
    /// Shared by those who start readers; whoever waits for all children has it alone before each.
    starting: RwLock<()>,
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
    /// One of them waits for the CFI or the names of a large file: not two at a time are in memory.
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
    /// Why one could not be started, the last time; and whether one ever was.
    unstarted: Option<String>,
    started: bool,
}

impl Readers {
    /// `watch` is told the pid of each reader that starts (`true`) or has ended.
    pub fn new(watch: Option<Box<dyn Fn(u32, bool) + Send + Sync>>) -> Self {
        Self {
            watch,
            ..Self::default()
        }
    }

    /// Those that run.
    pub fn pids(&self) -> Vec<u32> {
        self.state().pids.iter().copied().collect()
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

    /// Why one could not be started, and whether another was.
    pub fn unstarted(&self) -> (Option<String>, bool) {
        let state = self.state();
        (state.unstarted.clone(), state.started)
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
    pub(super) fn wait_for(self: &Arc<Self>, path: &str) -> Wait {
        let wait: (Arc<str>, Instant) = (path.into(), Instant::now());
        self.state().waits.push(wait.clone());
        Wait(self.clone(), wait.0)
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

    /// Whether files of the same device are known to keep silent.
    pub(super) fn doubts(&self, place: Place) -> bool {
        self.state().quarantine.doubts(place, Instant::now())
    }

    /// Whether a file of the same device answered, and none is known to keep silent.
    pub(super) fn trusts(&self, place: Place) -> bool {
        self.state().quarantine.trusts(place, Instant::now())
    }

    /// Whether a file is not to be asked now. `last`: somebody asks for the last time, and says what came of it.
    pub(super) fn refuses(&self, place: Place, path: &str, last: bool) -> bool {
        let mut state = self.state();
        let held = state.quarantine.holds(place, Instant::now());
        if !state.killed.is_empty() {
            self.bury(&mut state);
        }
        let stuck = state.stuck_like(place);
        let given_up = state.stuck_over(place) >= MAX_STUCK
            || state.alive_over(place) >= MAX_ALL_STUCK
            || stuck >= MAX_ALL_STUCK && !state.quarantine.trusts(place, Instant::now());
        state.gave_up |= given_up && !path.is_empty();
        state.gave_up_memory |= given_up && place.is_process();
        if (held || given_up) && !last {
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

    /// Takes a reader in that `spawn` starts.
    pub(super) fn start(&self, spawn: impl FnOnce() -> io::Result<Process>) -> io::Result<Process> {
        // To spawn takes milliseconds, and longer while the machine swaps: nobody who only asks something
        // may wait for that, so the state is not locked. But one that ends at once must not be waited for
        // before it is opened and noted: its pid might be another's by then, which would be ruled out as a
        // reader is, or even killed as one. So who waits for all children comes before or after. Who asks
        // in between whether it `contains` it takes it for somebody else's, goes on for that, and asks
        // again.
        let _starting = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        let process = spawn().inspect_err(|error| self.state().unstarted = Some(reason(error)))?;
        let mut state = self.state();
        state.started = true;
        state.pids.insert(process.pid());
        if let Some(watch) = &self.watch {
            watch(process.pid(), true);
        }
        Ok(process)
    }

    /// A reader was killed over a device or process.
    pub(super) fn killed(&self, process: Process, over: Place) {
        self.state().killed.push((process, over));
    }

    /// A reader has ended, or was killed over nothing.
    pub(super) fn left(&self, process: Process) {
        let mut state = self.state();
        state.killed.push((process, Place::Unknown));
        self.bury(&mut state);
    }

    /// Takes leave of those that have ended.
    fn bury(&self, state: &mut State) {
        let killed = std::mem::take(&mut state.killed).into_iter();
        let (gone, killed): (Vec<_>, _) =
            killed.partition(|(process, _)| process.ended(Duration::ZERO));
        state.killed = killed;
        for (process, _) in gone {
            self.release(state, process.pid());
            process.reap();
        }
    }

    /// To be called before a child is waited for: then its pid may be given to another process. Waits for
    /// readers that are being started: it may be one.
    pub fn ended(&self, pid: u32) {
        drop(self.starting.write());
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
pub(super) struct Wait(Arc<Readers>, Arc<str>);

impl Drop for Wait {
    fn drop(&mut self) {
        self.0
            .state()
            .waits
            .retain(|(path, _)| !Arc::ptr_eq(path, &self.1));
    }
}

impl State {
    /// Readers that were killed over this device or process, and have not ended.
    fn alive_over(&self, place: Place) -> usize {
        let over = self
            .killed
            .iter()
            .filter(|(_, over)| *over == place.whole());
        over.count()
    }

    /// Those of them that cannot.
    fn stuck_over(&self, place: Place) -> usize {
        // One that has yet to get a CPU to die on is not stuck.
        let stuck = self
            .killed
            .iter()
            .filter(|(process, over)| *over == place.whole() && !process.is_runnable());
        stuck.count()
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

/// One of the few places for those who wait beside. Those who wait for files and those who wait for
/// processes take none from each other.
pub(super) struct Seat {
    readers: Arc<Readers>,
    row: usize,
    large: bool,
}

impl Seat {
    /// One for who asks about this place. `large`: for the CFI or the names of a large file, which one may
    /// wait for at a time.
    pub(super) fn take(readers: &Arc<Readers>, place: Place, large: bool) -> Option<Self> {
        let row = usize::from(place.is_process());
        let mut state = readers.state();
        let reserved = match state.quarantine.trusts(place, Instant::now()) {
            true => 0,
            false => RESERVED,
        };
        if state.late[row] >= MAX_LATE - reserved || large && state.large {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

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
        let others: Vec<_> = (1..MAX_LATE - RESERVED)
            .map(|_| take(FILE, false))
            .collect();
        assert!(others.iter().all(Option::is_some));
        assert!(take(FILE, false).is_none() && take(PROCESS, false).is_some());
        // Who answers needs not wait behind who does not.
        const GOOD: Place = Place::File { dev: 8, ino: 1 };
        readers.answered(GOOD);
        let good: Vec<_> = (0..RESERVED).map(|_| take(GOOD, false)).collect();
        assert!(good.iter().all(Option::is_some) && take(GOOD, false).is_none());
        drop(good);
        drop(others);
        assert!(take(FILE, true).is_none());
        drop(large);
        assert!(take(FILE, true).is_some());
    }

    #[test]
    fn one_that_is_started_keeps_only_who_waits_for_children_waiting() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let watch = {
            let told = told.clone();
            move |pid, runs| told.lock().expect("whole").push((pid, runs))
        };
        let readers = Readers::new(Some(Box::new(watch)));
        let (begun, wait_begun) = mpsc::channel();
        let (go, wait_go) = mpsc::channel();
        let pid = std::process::id();
        let is_open = thread::scope(|scope| {
            let spawn = move || {
                let _ = begun.send(());
                let _ = wait_go.recv();
                Process::of(getpid())
            };
            scope.spawn(|| readers.start(spawn).map(drop));
            let _ = wait_begun.recv();
            let is_open = readers.state.try_lock().is_ok();
            scope.spawn(|| readers.ended(pid));
            // It has the time to be first.
            thread::sleep(Duration::from_millis(50));
            let _ = go.send(());
            is_open
        });
        assert!(is_open);
        assert_eq!(*told.lock().expect("whole"), [(pid, true), (pid, false)]);
        assert!(!readers.contains(pid));
    }

    #[test]
    fn one_that_waits_for_a_cpu_is_not_stuck() {
        let is_refused = |script: &str, runs: bool| {
            let readers = Readers::default();
            readers.answered(FILE);
            let mut child = std::process::Command::new("sh");
            let mut child = child.args(["-c", script]).spawn().expect("a shell");
            for _ in 0..MAX_STUCK {
                let pid = rustix::process::Pid::from_child(&child);
                readers.killed(Process::of(pid).expect("it runs"), FILE.whole());
            }
            // It may be seen before it is where it stays.
            let is_there = |(process, _): &(Process, Place)| process.is_runnable() == runs;
            while !readers.state().killed.iter().all(is_there) {}
            let refused = readers.refuses(FILE, "/a", false);
            child.kill().expect("it runs");
            child.wait().expect("it ends");
            refused
        };
        assert!(!is_refused("while :; do :; done", true));
        assert!(is_refused("exec sleep 60", false));
    }

    #[test]
    fn readers_that_are_stuck_over_others() {
        let stuck = |over| {
            let readers = Readers::default();
            for _ in 0..MAX_ALL_STUCK {
                // They live, as we do.
                let process = Process::of(getpid()).expect("ourselves");
                readers.killed(process, over);
            }
            readers
        };
        let other = Place::Process { pid: 2, start: 5 };
        let readers = stuck(other);
        readers.answered(PROCESS);
        // Neither files, nor who answers, nor what is not known to keep silent more than need be.
        assert!(!readers.refuses(FILE, "/a", false) && !readers.refuses(PROCESS, "", false));
        assert!(readers.last_chance(FILE));
        assert!(readers.refuses(other, "", false) && readers.state().gave_up_memory);
        let readers = stuck(Place::File { dev: 8, ino: 0 });
        assert!(!readers.refuses(PROCESS, "", false) && readers.refuses(FILE, "/a", false));
        readers.answered(FILE);
        assert!(!readers.refuses(FILE, "/a", false));
    }
}
