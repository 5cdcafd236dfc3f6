//! One question to a reader process: it is asked, its answer is heard, and one that keeps silent over it is
//! killed, and what it was about left alone.

use std::cell::Cell;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::process::{Patient, Running};
use super::protocol::{Ask, Question, Reply, Stamp};
use super::quarantine::Place;
use super::readers::{Readers, Seat};
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
    Late(Late<T>),
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
/// somebody else waits.
pub struct Late<T> {
    pub(super) talk: Talk,
    pub(super) running: Running,
    pub(super) take: Take<Result<T, Failed>>,
    pub(super) spare: Spare,
    pub(super) _seat: Option<Seat>,
}

impl<T> Late<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn wait(self) -> Result<T, Failed> {
        let (answer, running) = self.talk.hear(self.running, self.take);
        self.spare.put(running);
        answer
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

/// A question, and how long its answer may take.
pub(super) struct Talk {
    readers: Arc<Readers>,
    pub(super) patience: Patience,
    pub(super) about: Cell<Place>,
    path: String,
}

impl Talk {
    /// A talk with a reader; the path is empty where it is about no file.
    pub(super) fn new(reader: &Reader, about: Place, path: &str) -> Self {
        Self {
            readers: reader.readers.clone(),
            patience: reader.patience,
            about: Cell::new(about),
            path: path.to_owned(),
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
        let refused = self.readers.refuses(self.about.get(), &self.path);
        if refused && !(self.patience.last && self.readers.last_chance(self.about.get())) {
            return Err(Failed::Silent);
        }
        let cannot = |error| Failed::Broken(format!("cannot ask {NAME}: {error}"));
        let mut running = match running {
            Some(running) => running,
            None => {
                let look = LOOK.min(self.patience.silence / 5);
                Running::start(&self.readers, look).map_err(cannot)?
            }
        };
        let question = Question {
            ask: Some(ask),
            stamp: along.stamp,
        };
        match running.send(&question, along.fd) {
            Ok(()) => Ok(running),
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
        mut take: impl FnMut(
            &mut Patient<'_>,
            Reply,
            Option<OwnedFd>,
        ) -> io::Result<ControlFlow<Result<T, Failed>>>,
    ) -> (Result<T, Failed>, Option<Running>) {
        let mut patience = self.patience;
        if self.readers.leaves_alone(self.about.get()) {
            patience.silence = patience.silence.min(LEARNING.silence);
        }
        let mut patient = running.patient(patience);
        let wait = self.readers.wait_for(&self.path);
        let answer = loop {
            let reply = patient.receive();
            if let Ok((reply, _)) = &reply
                && reply.elsewhere
            {
                // Said once, before what may not end.
                self.about.set(self.about.get().elsewhere());
                continue;
            }
            match reply.and_then(|(reply, file)| take(&mut patient, reply, file)) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(answer)) => break Ok(answer),
                Err(error) => break Err(error),
            }
        };
        drop(wait);
        match answer {
            Ok(answer) => {
                self.readers.answered(self.about.get());
                (answer, Some(running.used()))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                (Err(self.silent(running)), None)
            }
            Err(error) => {
                running.kill(self.about.get());
                let why = format!("{NAME} ended over it: {error}");
                (Err(Failed::Broken(why)), None)
            }
        }
    }

    fn silent(&self, running: Running) -> Failed {
        running.kill(self.about.get());
        self.readers.keeps_silent(self.about.get(), &self.path);
        Failed::Silent
    }
}
