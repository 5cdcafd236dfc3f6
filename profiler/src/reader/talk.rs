//! One question to a reader process: it is asked, its answer is heard, and one that keeps silent over it is
//! killed, and what it was about left alone.

use std::cell::{Cell, OnceCell};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::process::{Patient, Running};
use super::protocol::{Ask, Question, Reply, Stamp};
use super::quarantine::Place;
use super::readers::{Readers, Seat, Wait};
use super::{Failed, LEARNING, NAME, Patience, Pointed, Reader};

/// How often a reader is looked at while it is silent: so often, or five times until it is taken to be.
const LOOK: Duration = Duration::from_millis(200);

/// Makes an answer of a reply and what follows it; is asked again until it says that that was all.
pub(super) type Take<T> =
    Box<dyn FnMut(&mut Patient<'_>, Reply, Option<OwnedFd>) -> io::Result<ControlFlow<T>> + Send>;

/// What goes with a question.
#[derive(Clone, Copy, Default)]
pub(super) struct Along<'a> {
    pub(super) fd: Option<BorrowedFd<'a>>,
    pub(super) stamp: Option<Stamp>,
}

impl<'a> From<&'a Pointed> for Along<'a> {
    fn from(file: &'a Pointed) -> Self {
        Self {
            fd: Some(file.fd.as_fd()),
            stamp: Some(file.stamp),
        }
    }
}

/// What became of a question.
pub enum Asked<T> {
    /// There is an answer.
    Answered(Result<T, Failed>),
    /// There is none yet.
    Late(Box<Late<T>>),
}

impl<T> Asked<T> {
    /// The answer, however long it takes.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn wait(self) -> Result<T, Failed> {
        match self {
            Self::Answered(answer) => answer,
            Self::Late(late) => late.wait(),
        }
    }
}

/// A question that was not answered soon. The [`Reader`] that asked it goes on with another process;
/// somebody else waits, or looks from time to time how it stands.
pub struct Late<T> {
    talk: Talk,
    running: Running,
    take: Take<Result<T, Failed>>,
    spare: Spare,
    _seat: Option<Seat>,
    since: Instant,
    /// When it was last seen at work, and the CPU time that it had used then.
    worked: Option<Instant>,
    used: Option<Duration>,
}

/// How it stands with a late answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Answered,
    /// Its reader is at work, or may be.
    Works,
    /// Its reader waits for something.
    Waits,
    /// It has taken too long.
    Silent,
}

/// Whoever was at work so long ago may be still.
const STILL: Duration = Duration::from_secs(1);
/// Nobody knows yet whether one that is late for so short a time is at work.
const YOUNG: Duration = Duration::from_millis(100);

impl<T> Late<T> {
    pub(super) fn new(
        talk: Talk,
        running: Running,
        take: Take<Result<T, Failed>>,
        spare: Spare,
        seat: Option<Seat>,
    ) -> Self {
        let (used, _) = running.work();
        Self {
            talk,
            running,
            take,
            spare,
            _seat: seat,
            since: Instant::now(),
            worked: None,
            used,
        }
    }

    /// How it stands. Who works has `times` as long as one who works alone.
    pub fn look(&mut self, times: u32) -> Standing {
        if self.running.answers_within(Duration::ZERO) {
            return Standing::Answered;
        }
        let now = Instant::now();
        let (used, runnable) = self.running.work();
        if runnable || used != self.used {
            (self.worked, self.used) = (Some(now), used);
        }
        let patience = self.talk.patience();
        let alive = self.worked.unwrap_or(self.since);
        if self.talk.readers.is_hurried()
            || now >= alive + patience.silence
            || !self.running.in_time(self.since, patience.answer * times)
        {
            return Standing::Silent;
        }
        let works = self.worked.is_some_and(|worked| now < worked + STILL);
        match works || now < self.since + YOUNG {
            true => Standing::Works,
            false => Standing::Waits,
        }
    }

    /// Waits no longer.
    pub fn give_up(self) -> Failed {
        self.talk.silent(self.running)
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn wait(self) -> Result<T, Failed> {
        let Self {
            talk,
            running,
            mut take,
            spare,
            ..
        } = self;
        let (answer, running) = talk.hear(running, &mut take);
        spare.put(running);
        answer
    }

    /// Takes the answer, which is there: it may be for long.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn take(mut self) -> Result<T, Failed> {
        self.running = self.running.used();
        self.wait()
    }
}

/// A process that answered late, for the next question. On a busy machine most answers are, and to start a
/// process costs more than most questions.
#[derive(Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Option<Running>>>);

impl Spare {
    pub(super) fn take(&self) -> Option<Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, running: Option<Running>) {
        if running.is_some() {
            // The one before ends, and that is waited for: not with the lock.
            let before = std::mem::replace(
                &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
                running,
            );
            drop(before);
        }
    }
}

/// What was heard of an answer.
pub(super) enum Heard<T> {
    /// The answer, and the process if it can be asked again.
    Answer(Result<T, Failed>, Option<Running>),
    /// Nothing yet.
    Nothing(Running),
}

/// A question, and how long its answer may take.
pub(super) struct Talk {
    readers: Arc<Readers>,
    pub(super) patience: Patience,
    pub(super) about: Cell<Place>,
    /// It is about a large file, and takes memory to answer.
    pub(super) large: bool,
    path: String,
    /// It is waited for from when it was asked.
    wait: OnceCell<Wait>,
}

impl Talk {
    /// A talk with a reader; the path is empty where it is about no file.
    pub(super) fn new(reader: &Reader, about: Place, path: &str) -> Self {
        Self {
            readers: reader.readers.clone(),
            patience: reader.patience,
            about: Cell::new(about),
            large: false,
            path: path.to_owned(),
            wait: OnceCell::new(),
        }
    }

    /// Asks the process that runs, or another.
    pub(super) fn begin(
        &self,
        running: Option<Running>,
        along: Along<'_>,
        ask: Ask,
    ) -> Result<Running, Failed> {
        if self.readers.is_hurried() {
            return Err(Failed::Silent);
        }
        let running = running.and_then(Running::still);
        let last = self.patience.last;
        let refused = self.readers.refuses(self.about.get(), &self.path, last);
        if refused && !(last && self.readers.last_chance(self.about.get())) {
            return Err(Failed::Silent);
        }
        let cannot = |error| Failed::Broken(format!("cannot ask {NAME}: {error}"));
        let mut running = match running {
            Some(running) => running,
            None => {
                let look = LOOK.min(self.patience.silence / 5);
                Running::start(&self.readers, look, self.patience.idle).map_err(cannot)?
            }
        };
        let question = Question {
            ask: Some(ask),
            stamp: along.stamp,
        };
        match running.send(&question, along.fd) {
            Ok(()) => {
                let _ = self.wait.set(self.readers.wait_for(&self.path));
                Ok(running)
            }
            Err(error) => {
                running.kill(self.about.get());
                Err(cannot(error))
            }
        }
    }

    /// Hears the answer. The process is given back if it can be asked again.
    pub(super) fn hear<T>(
        &self,
        running: Running,
        take: impl FnMut(
            &mut Patient<'_>,
            Reply,
            Option<OwnedFd>,
        ) -> io::Result<ControlFlow<Result<T, Failed>>>,
    ) -> (Result<T, Failed>, Option<Running>) {
        match self.hear_until(running, None, take) {
            Heard::Answer(answer, running) => (answer, running),
            // There is no time by which it must have begun.
            Heard::Nothing(running) => (Err(self.silent(running)), None),
        }
    }

    /// Hears the answer, if it begins by then.
    pub(super) fn hear_until<T>(
        &self,
        running: Running,
        until: Option<Instant>,
        mut take: impl FnMut(
            &mut Patient<'_>,
            Reply,
            Option<OwnedFd>,
        ) -> io::Result<ControlFlow<Result<T, Failed>>>,
    ) -> Heard<T> {
        let begins = |running: &Running| {
            until.is_none_or(|until| {
                running.answers_within(until.saturating_duration_since(Instant::now()))
            })
        };
        if !begins(&running) {
            return Heard::Nothing(running);
        }
        let mut patient = running.patient(self.patience());
        let answer = loop {
            let reply = patient.receive();
            if let Ok((reply, _)) = &reply
                && reply.elsewhere
            {
                // Said once, before what may not end: it is no answer.
                self.about.set(self.about.get().elsewhere());
                if !begins(&running) {
                    return Heard::Nothing(running);
                }
                continue;
            }
            match reply.and_then(|(reply, file)| take(&mut patient, reply, file)) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(answer)) => break Ok(answer),
                Err(error) => break Err(error),
            }
        };
        match answer {
            Ok(answer) => {
                self.readers.answered(self.about.get());
                Heard::Answer(answer, Some(running.used()))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Heard::Answer(Err(self.silent(running)), None)
            }
            Err(error) => {
                running.kill(self.about.get());
                let why = format!("{NAME} ended over it: {error}");
                Heard::Answer(Err(Failed::Broken(why)), None)
            }
        }
    }

    /// How long the answer may take, as things stand.
    fn patience(&self) -> Patience {
        let mut patience = self.patience;
        if self.readers.leaves_alone(self.about.get()) {
            patience.silence = patience.silence.min(LEARNING.silence);
        }
        patience
    }

    fn silent(&self, running: Running) -> Failed {
        running.kill(self.about.get());
        self.readers.keeps_silent(self.about.get(), &self.path);
        Failed::Silent
    }
}
