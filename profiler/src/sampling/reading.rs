//! Names that the sample could not copy, read in user space: on kernels that can do that without waiting
//! for pages, and by a reader process, because such a read may still wait for locks of the target.
//!
//! Workers ask by their [`Inquiry`]; one thread, [`Reading`], hands their questions to the reader and
//! decodes what comes back; workers take the answers when they look at what waits. Neither a worker nor
//! this thread waits for a target: what is not answered soon is waited for beside, and a target that
//! keeps silent costs its own names only.

mod address;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use rprof_ebpf::identity::{Ids, ProcessKey};
use rprof_ebpf::ledger::Column;
use rprof_ebpf::record::Sample;
use rprof_symbolize::reads::{Flags, ReadError};
use rprof_symbolize::runtimes::{Code, Detected};
use rustix::io::Errno;

use self::address::{Addresses, Ended};
use super::faults::{self, Fault};
use super::identity::Identity;
use super::modules::Modules;
use crate::reader::{Asked, Failed, Fields, MAX_OBJECTS, Objects, Reader};

/// Questions that wait to be asked, at most.
pub const QUESTIONS: usize = 256;
/// Objects of one worker that are asked for at a time: in all, and of one process.
const MAX_PENDING: usize = 4096;
const MAX_PENDING_EACH: usize = MAX_PENDING / 4;

/// A code object: its address, and its key.
pub type Object = (u64, u64);

/// Whether names can be read in user space at all.
pub fn is_possible() -> bool {
    let flags = Flags::probe();
    flags.pidfd && flags.nowait || faults::asked(Fault::PagemapOnly).is_some()
}

/// Code objects of one process that are to be named. Each of them gets an answer, whatever becomes of the
/// question.
#[derive(Debug)]
pub struct Question {
    process: ProcessKey,
    /// The process, and the thread of its that was sampled last, as rprof sees them.
    own: Ids,
    /// Its first thread has ended, and its memory is found by another only.
    by_thread: bool,
    interpreter: u32,
    objects: Vec<Object>,
    answers: Sender<Answer>,
}

/// What became of one code object.
#[derive(Debug)]
pub struct Answer {
    /// Whose it is.
    pub process: ProcessKey,
    /// Which.
    pub object: Object,
    /// Its name, or the column that samples are lost in which need it.
    pub code: Result<Code, Column>,
}

impl Question {
    /// Answers for each object.
    pub(super) fn answer(mut self, mut code: impl FnMut(Object) -> Result<Code, Column>) {
        for object in std::mem::take(&mut self.objects) {
            self.say(object, code(object));
        }
    }

    fn say(&self, object: Object, code: Result<Code, Column>) {
        // Whoever asked may have ended.
        let _ = self.answers.send(Answer {
            process: self.process,
            object,
            code,
        });
    }

    /// Answers with what a reader said, or is to be asked again by a thread. `still` looks whether the
    /// process is the one that was sampled: what was read of another does not count.
    fn take(
        mut self,
        answer: Result<Fields, Failed>,
        detected: &Detected,
        still: impl FnOnce(&ProcessKey) -> Result<(), Ended>,
    ) -> Option<Self> {
        let fields = match answer {
            Ok(fields) => fields,
            // Of too many others none answers either.
            Err(Failed::Silent | Failed::Busy) => {
                self.answer(|_| Err(Column::Quarantined));
                return None;
            }
            Err(Failed::Late | Failed::Broken(_) | Failed::Said(_)) => return None,
        };
        let fields: Vec<_> = fields.of(self.objects.len()).collect();
        // Of other reasons it does not matter whose they are.
        let matters = |read: &Result<_, _>| matches!(read, Ok(_) | Err(ReadError::Gone));
        let same = match fields.iter().any(matters).then(|| still(&self.process)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(Ended::FirstThread)) => {
                self.by_thread = true;
                return Some(self);
            }
            Some(Err(Ended::Thread)) => Err(Column::TargetGone),
            Some(Err(Ended::Program)) => Err(Column::Changed),
        };
        let mut fields = fields.into_iter();
        self.answer(|(_, key)| {
            let read = fields.next().unwrap_or(Err(ReadError::NotRead));
            let read = read.map_err(column)?;
            same?;
            let code = detected.decode(read);
            let code = code.map_err(|_| Column::Unnamed)?;
            (code.key == key).then_some(code).ok_or(Column::Changed)
        });
        None
    }
}

impl Drop for Question {
    /// It found no room, or whoever had it died of it.
    fn drop(&mut self) {
        for object in std::mem::take(&mut self.objects) {
            self.say(object, Err(Column::Unnamed));
        }
    }
}

fn column(why: ReadError) -> Column {
    match why {
        ReadError::WouldFault => Column::WouldFault,
        ReadError::SharedPage => Column::SharedPage,
        ReadError::Changed => Column::Changed,
        ReadError::Gone => Column::TargetGone,
        ReadError::NotPermitted => Column::NotPermitted,
        _ => Column::Unnamed,
    }
}

/// What a worker asks, and has been answered.
#[derive(Debug)]
pub struct Inquiry {
    questions: Sender<Question>,
    to_us: Sender<Answer>,
    answers: Receiver<Answer>,
    /// Not asked yet: by process and interpreter.
    wanted: HashMap<(ProcessKey, u32), Question>,
    /// Not answered yet, asked or not.
    pending: HashMap<ProcessKey, HashSet<Object>>,
}

impl Inquiry {
    /// Asks through `questions`.
    pub fn new(questions: Sender<Question>) -> Self {
        let (to_us, answers) = crossbeam_channel::unbounded();
        Self {
            questions,
            to_us,
            answers,
            wanted: HashMap::new(),
            pending: HashMap::new(),
        }
    }

    /// Wants code objects of the process that a sample interrupted.
    pub fn want(&mut self, sample: &Sample, objects: &[Object]) {
        let process = sample.task.process;
        let mut all: usize = self.pending.values().map(HashSet::len).sum();
        for &object in objects {
            // Without a place for it there is no entry either: an empty one would never be answered.
            if all >= MAX_PENDING {
                return;
            }
            let known = self.pending.entry(process).or_default();
            if known.len() >= MAX_PENDING_EACH || !known.insert(object) {
                continue;
            }
            all += 1;
            let place = (process, sample.interpreter);
            let question = self.wanted.entry(place).or_insert_with(|| Question {
                process,
                own: sample.task.own,
                by_thread: false,
                interpreter: sample.interpreter,
                objects: Vec::new(),
                answers: self.to_us.clone(),
            });
            // The likeliest to live.
            question.own = sample.task.own;
            question.objects.push(object);
            if question.objects.len() >= MAX_OBJECTS
                && let Some(question) = self.wanted.remove(&place)
            {
                self.ask(question);
            }
        }
    }

    /// Asks for all that is wanted.
    pub fn ask_all(&mut self) {
        for question in std::mem::take(&mut self.wanted).into_values() {
            self.ask(question);
        }
    }

    fn ask(&self, question: Question) {
        // One that finds no room says so itself.
        let _ = self.questions.try_send(question);
    }

    /// The next answer; waited for `until` then, if there is something to wait for.
    pub fn next(&mut self, until: Option<Instant>) -> Option<Answer> {
        let answer = match until {
            Some(until) if !self.pending.is_empty() => self.answers.recv_deadline(until).ok(),
            _ => self.answers.try_recv().ok(),
        }?;
        if let Entry::Occupied(mut known) = self.pending.entry(answer.process) {
            known.get_mut().remove(&answer.object);
            if known.get().is_empty() {
                known.remove();
            }
        }
        Some(answer)
    }
}

/// Hands questions to a reader.
pub struct Reading {
    questions: Receiver<Question>,
    reader: Reader,
    modules: Arc<Modules>,
    addresses: Addresses,
    beside: Arc<Beside>,
    again: Receiver<Question>,
}

/// What is waited for beside: processes, and what else is to be asked of them when they have answered, or
/// are taken to be silent.
#[derive(Debug)]
struct Beside {
    processes: Mutex<HashMap<ProcessKey, Vec<Question>>>,
    again: Sender<Question>,
}

impl Beside {
    fn processes(&self) -> MutexGuard<'_, HashMap<ProcessKey, Vec<Question>>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process that is waited for, until this is dropped.
struct Waited(Arc<Beside>, ProcessKey);

impl Waited {
    fn new(beside: &Arc<Beside>, process: ProcessKey) -> Self {
        beside.processes().insert(process, Vec::new());
        Self(beside.clone(), process)
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        let rest = self.0.processes().remove(&self.1);
        for question in rest.unwrap_or_default() {
            let _ = self.0.again.send(question);
        }
    }
}

impl Reading {
    /// Asks this reader, and believes what it read of a process if that is still the same.
    pub fn new(
        questions: Receiver<Question>,
        (reader, identity): (Reader, Identity),
        modules: Arc<Modules>,
    ) -> Self {
        let (to_us, again) = crossbeam_channel::unbounded();
        Self {
            questions,
            reader,
            modules,
            addresses: Addresses::new(identity),
            beside: Arc::new(Beside {
                processes: Mutex::default(),
                again: to_us,
            }),
            again,
        }
    }

    /// Until nobody asks any more.
    pub fn run(mut self) {
        loop {
            let question = crossbeam_channel::select! {
                recv(self.questions) -> question => question,
                recv(self.again) -> question => question,
            };
            let Ok(question) = question else { return };
            // A panic costs that question only.
            let _ = catch_unwind(AssertUnwindSafe(|| self.ask(question)));
        }
    }

    fn ask(&mut self, question: Question) {
        let Some(detected) = self.modules.interpreter(question.interpreter) else {
            return;
        };
        if let Some(rest) = self.beside.processes().get_mut(&question.process) {
            // One of us that waits for it is enough.
            return rest.push(question);
        }
        let (process, own) = (question.process, question.own);
        let address = match self.addresses.of(&process, own, question.by_thread) {
            Ok(address) => address,
            Err(Errno::SRCH) => return question.answer(|_| Err(Column::TargetGone)),
            Err(_) => return,
        };
        let addresses = question.objects.iter().map(|(address, _)| *address);
        let objects = Objects::new(own.tgid, &detected.plan, addresses.collect());
        let objects = objects.by_thread(address.thread());
        let asked = self.reader.memory(&process, address.pidfd(), objects);
        let again = self.beside.again.clone();
        let take = move |question: Question, answer| {
            let rest = question.take(answer, &detected, |process| address.still(process));
            if let Some(question) = rest {
                let _ = again.send(question);
            }
        };
        match asked {
            Asked::Late(late) => {
                let waited = Waited::new(&self.beside, process);
                let wait = move || {
                    take(question, late.wait());
                    drop(waited);
                };
                // Without a thread the question says so itself.
                let thread = std::thread::Builder::new().name("rprof-late".into());
                let _ = thread.spawn(wait);
            }
            Asked::Answered(answer) => take(question, answer),
        }
    }
}

#[cfg(test)]
mod tests;
