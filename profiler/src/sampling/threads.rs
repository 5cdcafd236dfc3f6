//! Reader, learner and workers: started together, stopped in the order of the flow.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::maps::{HashMap as BpfHashMap, MapData, RingBuf};
use crossbeam_channel::{Receiver, Sender};
use rprof_ebpf::ledger::Column;
use rprof_symbolize::beneath;
use rprof_symbolize::libraries::{self, Environment};

use super::learner::Learner;
use super::losses::Losses;
use super::ring::{self, Batch, Lesson, Outlets, Reader};
use super::slices::Slices;
use super::stacks::{Shared, Worker};
use super::targets::samples_a_second;
use crate::cli::settings::{Settings, Target};
use crate::ledger::Ledger;

/// Questions that wait for the learner at most.
const LESSONS: usize = 1024;
/// How long the learner may take for what is left when sampling has ended.
const LEARNER_PATIENCE: Duration = Duration::from_secs(20);
/// How long the first tick waits for what is learned before it.
const PREPARATION: Duration = Duration::from_millis(300);
/// Distinct executables that are looked at before the first tick.
const EXECUTABLES: usize = 256;
/// How often a worker looks at what waits.
const LOOK: Duration = Duration::from_secs(1);

/// Reader, learner and workers.
pub(super) struct Threads {
    stop: OwnedFd,
    reader: JoinHandle<io::Result<(Ledger, u64)>>,
    /// The learner's account, when it has ended.
    learner: Receiver<Ledger>,
    /// Samples that the learner has not given back.
    unfinished: Arc<AtomicU64>,
    /// Workers are to end although the learner has not.
    give_up: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Ledger>>,
}

impl Threads {
    pub(super) fn start(
        ring: RingBuf<MapData>,
        named: BpfHashMap<MapData, u64, u32>,
        forgotten: Receiver<u64>,
        mut learner: Learner,
        shared: &Arc<Shared>,
        settings: &Settings,
    ) -> io::Result<Self> {
        let count = workers(samples_a_second(settings));
        let mut senders = Vec::new();
        let mut to_workers = Vec::new();
        let mut workers = Vec::new();
        let give_up = Arc::new(AtomicBool::new(false));
        for number in 0..count {
            let (sender, batches) = crossbeam_channel::bounded(ring::QUEUE);
            senders.push(sender);
            // What the learner finished has a queue of its own: it may wait there, and must not fill
            // the one that the reader needs.
            let (sender, finished) = crossbeam_channel::bounded(ring::QUEUE);
            to_workers.push(sender);
            let shared = shared.clone();
            let give_up = give_up.clone();
            let thread = std::thread::Builder::new().name(format!("rprof-stacks-{number}"));
            workers.push(thread.spawn(move || work(shared, &batches, &finished, &give_up))?);
        }
        let (lessons, questions) = crossbeam_channel::bounded(LESSONS);
        let slices = Slices::new(shared.modules.clone());
        let unfinished = Arc::new(AtomicU64::new(0));
        let (account, learned) = crossbeam_channel::bounded(1);
        let count = unfinished.clone();
        let target = settings.target.clone();
        let (preparing, prepared) = crossbeam_channel::bounded::<()>(0);
        std::thread::Builder::new()
            .name("rprof-learner".into())
            .spawn(move || {
                learner.vdso();
                prepare(&mut learner, &target);
                drop(preparing);
                // Nobody listens if it took too long.
                let _ = account.send(learn(learner, slices, &questions, &to_workers, &count));
            })?;
        let _ = prepared.recv_timeout(PREPARATION);
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let reader = Reader::new(
            ring,
            named,
            forgotten,
            Outlets {
                workers: senders,
                learner: lessons,
                unfinished: unfinished.clone(),
            },
        );
        let reader = std::thread::Builder::new()
            .name("rprof-reader".into())
            .spawn(move || reader.run(stopped))?;
        Ok(Self {
            stop,
            reader,
            learner: learned,
            unfinished,
            give_up,
            workers,
        })
    }

    /// Stops in the order of the flow: nothing that is under way is lost.
    pub(super) fn stop(self) -> io::Result<(Ledger, u64)> {
        drop(self.stop);
        let (mut ledger, received) = self
            .reader
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reader died")))?;
        match self.learner.recv_timeout(LEARNER_PATIENCE) {
            Ok(part) => ledger.merge(&part),
            // A file that never answers costs what was to be learned from it, not our end.
            Err(_) => {
                let stuck = self.unfinished.load(Ordering::Relaxed);
                ledger.machine.add(Column::Quarantined, stuck);
                self.give_up.store(true, Ordering::Relaxed);
            }
        }
        for worker in self.workers {
            if let Ok(part) = worker.join() {
                ledger.merge(&part);
            }
        }
        Ok((ledger, received))
    }
}

/// How many workers such a rate needs: one is woken less often than two.
fn workers(samples_a_second: u64) -> usize {
    const EACH: u64 = 2000;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = usize::try_from(samples_a_second.div_ceil(EACH)).unwrap_or(usize::MAX);
    wanted.clamp(1, cpus.min(4))
}

/// A worker's thread.
fn work(
    shared: Arc<Shared>,
    batches: &Receiver<Batch>,
    finished: &Receiver<Batch>,
    give_up: &AtomicBool,
) -> Ledger {
    let mut worker = Worker::new(shared);
    let mut patience = Instant::now();
    // A queue that has ended is left out: it would be ready for ever.
    let never = crossbeam_channel::never();
    let (mut batches, mut finished) = (Some(batches), Some(finished));
    while batches.is_some() || (finished.is_some() && !give_up.load(Ordering::Relaxed)) {
        crossbeam_channel::select! {
            recv(batches.unwrap_or(&never)) -> batch => match batch {
                Ok(batch) => worker.batch(&batch),
                Err(_) => batches = None,
            },
            recv(finished.unwrap_or(&never)) -> batch => match batch {
                Ok(batch) => worker.batch(&batch),
                Err(_) => finished = None,
            },
            default(LOOK) => {}
        }
        if patience.elapsed() >= LOOK / 4 {
            worker.settle(false);
            patience = Instant::now();
        }
    }
    worker.into_ledger()
}

/// The learner's thread.
fn learn(
    mut learner: Learner,
    mut slices: Slices,
    questions: &Receiver<Lesson>,
    workers: &[Sender<Batch>],
    unfinished: &AtomicU64,
) -> Ledger {
    let mut losses = Losses::default();
    for lesson in questions {
        let taught = catch_unwind(AssertUnwindSafe(|| {
            take(
                lesson,
                &mut learner,
                &mut slices,
                workers,
                unfinished,
                &mut losses,
            );
        }));
        // What it held is booked as lost when the account is closed.
        drop(taught);
    }
    losses.into_ledger()
}

/// Takes one lesson.
fn take(
    lesson: Lesson,
    learner: &mut Learner,
    slices: &mut Slices,
    workers: &[Sender<Batch>],
    unfinished: &AtomicU64,
    losses: &mut Losses,
) {
    match lesson {
        Lesson::Module(record) => {
            if let Some((seen, path)) = ring::module_seen(&record) {
                learner.learn(&rprof_symbolize::module_file::Sampled {
                    key: seen.key,
                    pid: seen.own_tgid,
                    mapping: (seen.start, seen.end),
                    components: &path,
                });
            }
        }
        Lesson::Unwind(sample) => {
            unfinished.fetch_sub(1, Ordering::Relaxed);
            let finished = slices.finish(&sample, learner);
            match finished {
                Some(finished) if finished.interpreter_unwalked => {
                    losses.add_record(&finished.record, Column::RuntimeBeingLearned);
                }
                Some(finished) => {
                    let record = finished.record;
                    let Some(sample) = losses.sample(&record) else {
                        return;
                    };
                    let worker = ring::worker_of(&sample.task.process, workers.len());
                    let mut batch = vec![record.len() as u64];
                    batch.extend(record);
                    // Waiting here delays only what is learned.
                    if workers[worker].send(batch).is_err() {
                        losses.add(&sample, Column::WorkerLost);
                    }
                }
                None => losses.add_record(&sample.sample, Column::Malformed),
            }
        }
    }
}

/// Learns what is known to run before the first tick. What cannot be found now is learned when it
/// is met.
fn prepare(learner: &mut Learner, target: &Target) {
    if let Target::Command(command) = target {
        let environment = Environment {
            path: std::env::var_os("PATH").unwrap_or_default(),
            library_path: std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default(),
            preload: std::env::var_os("LD_PRELOAD").unwrap_or_default(),
            directory: std::env::current_dir().ok(),
        };
        let files = beneath::root("/").and_then(|root| {
            let file = std::path::absolute(&command.file)?;
            libraries::of_path(root, &file, &environment)
        });
        learner.prepare(files.unwrap_or_default(), false);
    }
    let running = libraries::running(EXECUTABLES).unwrap_or_default();
    learner.prepare(running.files, true);
}
