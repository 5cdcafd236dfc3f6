//! Reader, learner, workers, and who has memory read for them: started together, stopped in the order of
//! the flow.
//!
//! None of them takes the run with it. A panic costs the record that it was over; a worker that dies
//! costs what it held, and another takes its place; one that is stuck costs what it holds, and is not
//! waited for longer than it may take: what it has booked so far is in its book (see [`super::losses`]).

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use aya::maps::{HashMap as BpfHashMap, MapData, RingBuf};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::account::Booked;
use super::identity::Identity;
use super::intervals::Intervals;
use super::learner::Learner;
use super::learning::{Errands, School};
use super::lessons::Lesson;
use super::losses::Book;
use super::neighbours::Neighbours;
use super::privileges;
use super::reading::{self, Inquiry, Question, Reading};
use super::ring::{self, Batch, Bell, Outlets, Reader, Unfinished, sample_of};
use super::slices::Slices;
use super::stacks::{Shared, Worker};
use super::targets::samples_a_second;
use crate::cli::settings::Settings;

/// Modules, and samples, that wait for the learner at most.
const LESSONS: usize = 1024;
/// How long each kind of thread may take for what is left when sampling has ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a reader of memory has to end.
const FAREWELL: Duration = Duration::from_millis(300);
/// How long the first tick waits for what is learned before it.
const PREPARATION: Duration = Duration::from_millis(300);
/// How often a worker looks at what waits.
const LOOK: Duration = Duration::from_secs(1);

/// All of them.
pub(super) struct Threads {
    bell: Bell,
    reader: Ending,
    learner: Ending,
    workers: Vec<Ending>,
    /// Has memory read.
    memory: Option<Ending>,
    /// Samples that wait for the learner.
    unfinished: Receiver<Unfinished>,
    /// Where what it finished goes.
    to_workers: Vec<Sender<Batch>>,
    /// Workers are to end although others have not.
    give_up: Arc<AtomicBool>,
    books: Vec<Book>,
    shared: Arc<Shared>,
}

/// Is disconnected when a thread ends, however it ends.
type Ending = Receiver<Infallible>;

/// What a thread keeps as long as it runs.
type Running = Sender<Infallible>;

impl Threads {
    pub(super) fn start(
        ring: RingBuf<MapData>,
        named: BpfHashMap<MapData, u64, u32>,
        forgotten: Receiver<u64>,
        (learner, errands, lessons): (Learner, Errands, Receiver<Lesson>),
        memory: Option<(crate::reader::Reader, Identity)>,
        shared: &Arc<Shared>,
        settings: &Settings,
    ) -> io::Result<Self> {
        let mut senders = Vec::new();
        let mut to_workers = Vec::new();
        let mut workers = Vec::new();
        let mut books = Vec::new();
        let give_up = Arc::new(AtomicBool::new(false));
        let (questions, memory) = match memory {
            Some(memory) => {
                let (questions, asked) = crossbeam_channel::bounded(reading::QUESTIONS);
                let reading = Reading::new(asked, memory, shared.modules.clone());
                let (running, ended) = crossbeam_channel::bounded(0);
                spawn("rprof-memory", running, move || reading.run())?;
                (Some(questions), Some(ended))
            }
            None => (None, None),
        };
        for number in 0..workers_for(samples_a_second(settings)) {
            let (sender, batches) = crossbeam_channel::bounded(ring::QUEUE);
            senders.push(sender);
            // What the learner finished has a queue of its own: it may wait there, and must not fill
            // the one that the reader needs.
            let (sender, finished) = crossbeam_channel::bounded(ring::QUEUE);
            to_workers.push(sender);
            let (running, ended) = crossbeam_channel::bounded(0);
            let book = Book::new(shared.selection.clone());
            books.push(book.clone());
            workers.push(ended);
            let post = Post {
                name: format!("rprof-stacks-{number}"),
                shared: shared.clone(),
                batches,
                finished,
                give_up: give_up.clone(),
                book,
                questions: questions.clone(),
                mortal: number == 0,
                _running: running,
            };
            post.fill()?;
        }

        let (seen, modules) = crossbeam_channel::bounded(LESSONS);
        let (cut, unfinished) = crossbeam_channel::bounded(LESSONS);
        let book = Book::new(shared.selection.clone());
        books.push(book.clone());
        let neighbours = Arc::new(Neighbours::default());
        let school = School {
            modules,
            unfinished: unfinished.clone(),
            learner,
            lessons,
            parked: Vec::new(),
            ending: false,
            slices: Slices::new(shared.modules.clone()),
            workers: to_workers.clone(),
            neighbours: neighbours.clone(),
            book: book.clone(),
        };
        let target = settings.target.clone();
        let (preparing, prepared) = crossbeam_channel::bounded::<()>(0);
        let (running, learned) = crossbeam_channel::bounded(0);
        spawn("rprof-learner", running, move || {
            school.run(&target, errands, preparing);
        })?;
        let _ = prepared.recv_timeout(PREPARATION);

        let (bell, heard) = Bell::new()?;
        let book = Book::new(shared.selection.clone());
        books.push(book.clone());
        let outlets = Outlets {
            workers: senders,
            modules: seen,
            unfinished: cut,
            at_learner: Arc::default(),
            neighbours,
        };
        let reader = Reader::new(ring, named, forgotten, outlets, book);
        let (running, read) = crossbeam_channel::bounded(0);
        spawn("rprof-reader", running, move || reader.run(heard))?;
        Ok(Self {
            bell,
            reader: read,
            learner: learned,
            workers,
            memory,
            unfinished,
            to_workers,
            give_up,
            books,
            shared: shared.clone(),
        })
    }

    /// What each of them has counted so far.
    pub(super) fn books(&self) -> &[Book] {
        &self.books
    }

    /// Samples that were taken so far are wanted soon.
    pub(super) fn hurry(&self) {
        self.bell.ring();
    }

    /// Stops in the order of the flow, so that nothing that is under way is lost, and closes the
    /// books.
    ///
    /// # Errors
    /// A thread that is stuck has the profile.
    pub(super) fn stop(self) -> io::Result<(Intervals, Booked)> {
        drop(self.bell);
        let mut stuck = !ends(&self.reader, Instant::now() + PATIENCE);
        // A file that never answers costs what was to be learned from it, not our end.
        if !ends(&self.learner, Instant::now() + PATIENCE) {
            stuck = true;
            pass_on(&self.unfinished, &self.to_workers);
        }
        drop(self.to_workers);
        self.give_up.store(stuck, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        for worker in &self.workers {
            stuck |= !ends(worker, deadline);
        }
        // Nobody asks any more. What it holds is nobody's loss.
        if let Some(memory) = &self.memory {
            ends(memory, Instant::now() + FAREWELL);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut held = match self.shared.profile.try_lock() {
                Ok(held) => held,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
                Err(TryLockError::WouldBlock) => break,
            };
            // Whoever is stuck now finds neither profile nor account open when it comes back. The books
            // are read while the profile is held: what is in one of them is in the other.
            let Some(profile) = held.take() else { break };
            let booked = Booked::read(&self.books, stuck);
            return Ok((profile, booked));
        }
        Err(io::Error::other("writing its part file does not end"))
    }
}

/// Gives the workers what waits for a learner that is stuck: stacks that end where the programs cut
/// them, and say so. What it has in hand is lost, and what it has put aside until a file answers.
fn pass_on(unfinished: &Receiver<Unfinished>, workers: &[Sender<Batch>]) {
    for Unfinished { sample: record, .. } in unfinished.try_iter() {
        let Some(sample) = sample_of(&record) else {
            continue;
        };
        let worker = ring::worker_of(&sample.task.process, workers.len());
        // A worker that has no room for it in a second is stuck too.
        if let Some(worker) = workers.get(worker)
            && worker.send_timeout(batch_of(record), LOOK).is_err()
        {
            return;
        }
    }
}

/// A batch of one record.
pub(super) fn batch_of(record: Vec<u64>) -> Batch {
    let mut batch = vec![record.len() as u64];
    batch.extend(record);
    batch
}

/// Whether a thread ends until then.
fn ends(ending: &Ending, deadline: Instant) -> bool {
    ending.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected)
}

fn spawn(name: &str, running: Running, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        privileges::sample_only();
        work();
        drop(running);
    };
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(work).map(drop)
}

/// How many workers such a rate needs: one is woken less often than two.
fn workers_for(samples_a_second: u64) -> usize {
    const EACH: u64 = 2000;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = usize::try_from(samples_a_second.div_ceil(EACH)).unwrap_or(usize::MAX);
    wanted.clamp(1, cpus.min(4))
}

/// A worker's place: it stays when the worker dies.
struct Post {
    name: String,
    shared: Arc<Shared>,
    batches: Receiver<Batch>,
    finished: Receiver<Batch>,
    give_up: Arc<AtomicBool>,
    book: Book,
    /// Who has names read in user space.
    questions: Option<Sender<Question>>,
    /// Faults that were asked for strike the next worker.
    mortal: bool,
    _running: Running,
}

impl Post {
    /// Starts a worker's thread. If it dies, what it held is booked, and its successor goes on with the
    /// queues.
    fn fill(mut self) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(self.name.clone());
        let work = move || {
            privileges::sample_only();
            let inquiry = self.questions.clone().map(Inquiry::new);
            let (shared, book) = (self.shared.clone(), self.book.clone());
            let mut worker = Worker::new(shared, book, inquiry, self.mortal);
            if catch_unwind(AssertUnwindSafe(|| self.serve(&mut worker))).is_err() {
                worker.abandon();
                drop(worker);
                self.mortal = false;
                // Without a thread for it the queues end: the reader books what they would have got.
                let _ = self.fill();
            }
        };
        thread.spawn(work).map(drop)
    }

    fn serve(&self, worker: &mut Worker) {
        let mut patience = Instant::now();
        // A queue that has ended is left out: it would be ready for ever.
        let never = crossbeam_channel::never();
        let (mut batches, mut finished) = (Some(&self.batches), Some(&self.finished));
        while batches.is_some() || finished.is_some() {
            crossbeam_channel::select! {
                recv(batches.unwrap_or(&never)) -> batch => match batch {
                    Ok(batch) => worker.batch(batch),
                    Err(_) => batches = None,
                },
                recv(finished.unwrap_or(&never)) -> batch => match batch {
                    Ok(batch) => worker.batch(batch),
                    Err(_) => finished = None,
                },
                // An answer wakes nobody.
                default(if worker.waits() { LOOK / 4 } else { LOOK }) => if self.give_up.load(Ordering::Relaxed) {
                    break;
                },
            }
            if patience.elapsed() >= LOOK / 4 {
                worker.settle(false);
                patience = Instant::now();
            }
        }
        worker.settle(true);
    }
}
