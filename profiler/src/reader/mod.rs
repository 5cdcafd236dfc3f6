//! Reader processes: the only ones that open, read, look at or close files of targets, and that read
//! targets' memory.
//!
//! A file may lie on a file system that never answers (FUSE, NFS), and a process's memory behind a lock
//! of its own that is never free; who asks may be beyond any signal until that changes. A thread in that
//! state would keep rprof from ending, and the pipes it writes to open. So a [`Reader`] is a process of
//! its own: our own binary, with nothing but a socket. Questions go to it, what a file or a process holds
//! comes back, and one that keeps silent is killed, left to the kernel, and replaced. Of a file rprof
//! itself holds at most an `O_PATH` descriptor, which it only passes on: neither that nor closing it asks
//! the file system anything. Of a process it holds a pidfd, which asks the process nothing.
//!
//! What kept silent is left alone for a while (`quarantine`), whoever asked.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rprof_ebpf::identity::ProcessKey;
use rprof_ebpf::module::ModuleKey;
use rprof_symbolize::module_file::Sampled;
use rprof_symbolize::runtimes::Detected;
use rprof_unwind::Table;
use rprof_unwind::slice::FrameInfo;

mod any;
mod memory;
mod names;
mod process;
mod protocol;
mod quarantine;
mod readers;
mod serve;
mod talk;

pub use any::take_any;
pub use memory::{Fields, MAX_OBJECTS, Objects};
pub use names::{Answer, Named, Places};
use process::{IDLE, Patient, Running};
use protocol::{Ask, MAX_BYTES, Passed, Reply, Rest, Wanted};
pub use protocol::{Stamp, Start};
pub use quarantine::Place;
pub use readers::Readers;
use readers::Seat;
pub use serve::serve;
use talk::{Along, Heard, Spare, Take, Talk};
pub use talk::{Asked, Late, Standing};

/// A reader's name: as `argv[0]` it makes rprof one.
pub const NAME: &str = "rprof-reader";

/// Words that the rows of one module may take: a bad binary must never cost the others.
pub const MAX_MODULE_WORDS: u32 = 2 << 20;
/// Files from this size on are large: a compiler's libraries take a tenth of a second to read, for
/// which no other module may wait.
pub const LARGE: u64 = 8 << 20;
/// Bytes of one module's CFI at most; the largest browsers have 40 MiB.
const MAX_CFI: u64 = 64 << 20;
/// Distinct executables that are looked at before the first tick.
const EXECUTABLES: u32 = 256;
/// How often that is begun again without what did not answer.
const ROUNDS: usize = 6;

/// How long a reader may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until whoever asked goes on with something else, if they can: see [`Late`].
    pub soon: Option<Duration>,
    /// Without an answer, and without having used a CPU or waited for one.
    pub silence: Duration,
    /// At work on one answer.
    pub answer: Duration,
    /// There is no later time to ask: what is in quarantine is asked once more, not for long.
    pub last: bool,
    /// Bytes of an answer's message at most.
    pub bytes: u64,
    /// Without a question, before it ends.
    pub idle: Duration,
}

/// Samples wait for what is learned.
pub const LEARNING: Patience = Patience {
    soon: Some(Duration::from_millis(100)),
    silence: Duration::from_secs(1),
    answer: Duration::from_secs(10),
    last: false,
    bytes: MAX_BYTES,
    idle: IDLE,
};
/// What takes long is learned beside.
pub const ERRANDS: Patience = Patience {
    soon: None,
    ..LEARNING
};
/// Nothing waits for names but the end, and the names of other files.
pub const NAMING: Patience = Patience {
    soon: Some(Duration::from_millis(500)),
    silence: Duration::from_secs(5),
    answer: Duration::from_secs(30),
    last: true,
    bytes: MAX_BYTES,
    // It is asked once an interval, if at all, and knows what it has unpacked.
    idle: Duration::from_secs(35),
};
/// Memory of processes: it takes microseconds, or something is wrong with the process.
pub const MEMORY: Patience = Patience {
    soon: Some(Duration::from_millis(20)),
    silence: Duration::from_millis(200),
    answer: Duration::from_secs(1),
    last: false,
    bytes: memory::MAX_ANSWER,
    idle: IDLE,
};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// None yet: it is waited for beside.
    Late,
    /// Nothing was asked: as many answers are waited for as may be.
    Busy,
    /// None came in time, or none came lately and so nothing was asked.
    Silent,
    /// The reader is at fault, not the file: another time it may answer.
    Broken(String),
    /// The reason, which lies in the file.
    Said(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Late | Self::Busy | Self::Silent => {
                f.write_str("its file did not answer in time")
            }
            Self::Broken(why) | Self::Said(why) => f.write_str(why),
        }
    }
}

/// Points at a file (`O_PATH`), and says what its content was when it was found: one that is overwritten
/// would give its new names to old samples.
#[derive(Debug)]
pub struct Pointed {
    /// The descriptor.
    pub fd: OwnedFd,
    /// The content.
    pub stamp: Stamp,
}

/// A module's file.
#[derive(Debug)]
pub struct Found {
    /// What it is.
    pub key: ModuleKey,
    /// Its path as the process that maps it sees it.
    pub path: String,
    /// Points at it.
    pub file: Pointed,
    /// The interpreter that it holds; `Err`: one that cannot be walked, and its version.
    pub interpreter: Result<Option<Detected>, String>,
}

/// What is learned before the first tick.
pub enum Ahead {
    /// A program that is to be started.
    Program(Start),
    /// What these processes run, by their pids as we see them; none: all that runs.
    Running(Vec<u32>),
}

/// The rows of a module, if it has any.
pub type Made = Result<Option<Table>, Failed>;

/// Asks one reader process after the other, and one question after the other.
pub struct Reader {
    readers: Arc<Readers>,
    patience: Patience,
    running: Option<Running>,
    spare: Spare,
}

impl Reader {
    /// A reader that is started by the first question.
    pub fn new(readers: Arc<Readers>, patience: Patience) -> Self {
        Self {
            readers,
            patience,
            running: None,
            spare: Spare::default(),
        }
    }

    /// Whether nothing may be asked about a module's file now: it kept silent, or readers are stuck over
    /// its device.
    pub fn leaves_alone(&self, key: &ModuleKey, path: &str) -> bool {
        self.readers.refuses(Place::of(key), path, false)
    }

    /// Whether a file on the same device answered, and none there is known to keep silent.
    pub fn trusts(&self, key: &ModuleKey) -> bool {
        self.readers.trusts(Place::of(key))
    }

    /// Finds the file of a sampled module. Fails if it cannot be found.
    pub fn find(&mut self, sampled: &Sampled<'_>) -> Asked<Found> {
        let key = sampled.key;
        let path = rprof_symbolize::module_file::path(sampled.components);
        let talk = self.talk(&key, &path.to_string_lossy());
        let take = move |_: &mut Patient<'_>, mut reply: Reply, file| {
            let found = reply.found(file, Some(key))?;
            Ok(ControlFlow::Break(found.map_err(Failed::Said)))
        };
        let elsewhere = !self.readers.leaves_alone(Place::of(&key).elsewhere());
        let wanted = Ask::Find(Wanted::new(sampled, elsewhere));
        self.ask(talk, Along::default(), wanted, Box::new(take))
    }

    /// Makes the rows of a module's file. Fails if they are too many.
    pub fn rows(&mut self, key: &ModuleKey, path: &str, file: &Pointed) -> Asked<Option<Table>> {
        let take = |patient: &mut Patient<'_>, reply: Reply, _| {
            Ok(ControlFlow::Break(reply.rows(patient)?))
        };
        let talk = self.talk(key, path);
        self.ask(talk, file.into(), Ask::Rows(()), Box::new(take))
    }

    /// Reads the CFI of a module's file. Fails if there is none, or too much. That of a large file is
    /// late at once, if it may be.
    pub fn frame_info(&mut self, key: &ModuleKey, path: &str, file: &Pointed) -> Asked<FrameInfo> {
        let take = |patient: &mut Patient<'_>, reply: Reply, _| {
            let answer = reply
                .checked()
                .map(|_| FrameInfo::read_from(patient, MAX_CFI));
            Ok(ControlFlow::Break(transpose(answer)?))
        };
        let mut talk = self.talk(key, path);
        talk.large = key.size >= LARGE;
        if talk.large {
            talk.patience.soon = talk.patience.soon.map(|_| Duration::ZERO);
        }
        self.ask(talk, file.into(), Ask::Frames(()), Box::new(take))
    }

    /// Names places of a module's file. Fails if it is no ELF file.
    pub fn names(&mut self, key: &ModuleKey, file: &Pointed, places: Places) -> Asked<Answer> {
        let take = |_: &mut Patient<'_>, reply: Reply, _| {
            let answer = reply.checked().map(|reply| reply.names.unwrap_or_default());
            Ok(ControlFlow::Break(answer))
        };
        let mut talk = self.talk(key, &places.path);
        talk.large = key.size >= LARGE;
        self.ask(talk, file.into(), Ask::Names(places), Box::new(take))
    }

    /// Reads code objects of a process, whose pidfd this is.
    pub fn memory(
        &mut self,
        process: &ProcessKey,
        pidfd: BorrowedFd<'_>,
        objects: Objects,
    ) -> Asked<Fields> {
        let take = |_: &mut Patient<'_>, reply: Reply, _| {
            let fields = reply
                .checked()
                .map(|reply| reply.memory.unwrap_or_default());
            Ok(ControlFlow::Break(fields))
        };
        let talk = Talk::new(self, Place::of_process(process), "");
        let along = Along {
            fd: Some(pidfd),
            stamp: None,
        };
        self.ask(talk, along, Ask::Memory(objects), Box::new(take))
    }

    /// The files of the program that is to be started, or the interpreters among those of what
    /// runs, with their rows; until `each` fails. What does not answer is passed over.
    pub fn prepare(&mut self, ahead: Ahead, mut each: impl FnMut(Found, Made) -> io::Result<()>) {
        let mut ask = match ahead {
            Ahead::Program(start) => Ask::Start(start),
            Ahead::Running(processes) => Ask::Running(Rest {
                processes,
                ..Rest::default()
            }),
        };
        for _ in 0..ROUNDS {
            if let Ask::Running(rest) = &mut ask {
                rest.executables = EXECUTABLES;
            }
            let talk = Talk::new(self, Place::Unknown, "");
            let mut gone = false;
            let take = |patient: &mut Patient<'_>, mut reply: Reply, file| {
                if let Some(begun) = reply.begun.take() {
                    talk.about.set(begun.place());
                    return Ok(ControlFlow::Continue(()));
                }
                if reply.last {
                    return Ok(ControlFlow::Break(Ok(())));
                }
                if let Ok(found) = reply.found(file, None)? {
                    let made = reply.rows(patient)?;
                    each(found, made).inspect_err(|_| gone = true)?;
                }
                Ok(ControlFlow::Continue(()))
            };
            let asked = talk.begin(self.running.take(), Along::default(), ask.clone());
            let asked = asked.and_then(|running| {
                let (answer, running) = talk.hear(running, take);
                self.running = running;
                answer
            });
            let Ask::Running(rest) = &mut ask else { return };
            if asked.is_ok() || gone {
                return;
            }
            let Place::File { dev, ino } = talk.about.get() else {
                return;
            };
            // A file system that kept silent is asked for nothing more now; a file over which a
            // reader ended is only that.
            let silent = asked == Err(Failed::Silent);
            rest.passed.push(Passed {
                dev,
                ino: if silent { 0 } else { ino },
            });
        }
    }

    fn talk(&self, key: &ModuleKey, path: &str) -> Talk {
        Talk::new(self, Place::of(key), path)
    }

    fn ask<T>(
        &mut self,
        mut talk: Talk,
        along: Along<'_>,
        ask: Ask,
        mut take: Take<Result<T, Failed>>,
    ) -> Asked<T> {
        if self.readers.doubts(talk.about.get()) {
            // Whoever waited for each of its files would have time for nobody else's.
            talk.patience.soon = talk.patience.soon.map(|_| Duration::ZERO);
        }
        let seat = match talk
            .patience
            .soon
            .map(|_| Seat::take(&self.readers, talk.about.get(), talk.large))
        {
            Some(None) => return Asked::Answered(Err(Failed::Busy)),
            Some(seat) => seat,
            None => None,
        };
        let running = self.running.take().and_then(Running::still);
        let running = running.or_else(|| self.spare.take());
        let running = match talk.begin(running, along, ask) {
            Ok(running) => running,
            Err(failed) => return Asked::Answered(Err(failed)),
        };
        let until = talk.patience.soon.map(|soon| Instant::now() + soon);
        match talk.hear_until(running, until, &mut take) {
            Heard::Answer(answer, running) => {
                self.running = running;
                Asked::Answered(answer)
            }
            Heard::Nothing(running) => {
                let late = Late::new(talk, running, take, self.spare.clone(), seat);
                Asked::Late(Box::new(late))
            }
        }
    }
}

fn transpose<T>(answer: Result<io::Result<T>, Failed>) -> io::Result<Result<T, Failed>> {
    match answer {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(error)) => Err(error),
        Err(failed) => Ok(Err(failed)),
    }
}
