//! The learner's threads: lessons in, finished samples out. One answers; files that take long to read
//! are read by the other, so that no module waits for a larger one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use rprof_ebpf::ledger::Column;
use rprof_ebpf::module::ModuleId;
use rprof_symbolize::libraries::{self, Environment};
use rprof_symbolize::module_file::Sampled;
use rprof_symbolize::{BuildId, beneath};

use super::faults::{self, Fault};
use super::learner::{Large, Learner, Made, make_rows};
use super::losses::Book;
use super::neighbours::Neighbours;
use super::ring::{self, Batch, Unfinished, sample_of};
use super::slices::Slices;
use super::threads::batch_of;
use crate::cli::settings::Target;

/// Distinct executables that are looked at before the first tick.
const EXECUTABLES: usize = 256;

/// What the learner's thread works with.
pub(super) struct School {
    /// Records of modules met for the first time.
    pub(super) modules: Receiver<Vec<u64>>,
    /// Samples to be unwound on.
    pub(super) unfinished: Receiver<Unfinished>,
    pub(super) learner: Learner,
    /// Large files for the other thread.
    pub(super) large: Receiver<Large>,
    pub(super) slices: Slices,
    pub(super) workers: Vec<Sender<Batch>>,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) book: Book,
}

impl School {
    /// Learns what is known to run, drops `preparing`, then answers until nobody asks any more.
    pub(super) fn run(mut self, target: &Target, preparing: Sender<()>) {
        // What is not learned before it is met is learned then.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.learner.vdso();
            self.prepare(target);
        }));
        drop(preparing);
        let (done, made) = crossbeam_channel::unbounded();
        let large = self.large.clone();
        // Without the thread, what is large stays unlearned: its stacks go by slices.
        let _ = std::thread::Builder::new()
            .name("rprof-rows".into())
            .spawn(move || read_large(&large, &done));
        let mut samples = 0;
        loop {
            // A module first: once it is known, its samples need no help.
            self.announced();
            crossbeam_channel::select! {
                recv(self.modules) -> record => match record {
                    Ok(record) => self.module(&record),
                    // The reader has ended: what it gave before is still to be done.
                    Err(_) => break,
                },
                recv(self.unfinished) -> unfinished => if let Ok(unfinished) = unfinished {
                    samples += 1;
                    self.sample(&unfinished, samples);
                },
                recv(made) -> made => if let Ok((id, rows)) = made {
                    self.learner.place(id, rows);
                    self.slices.forget(id);
                },
            }
        }
        for unfinished in std::mem::replace(&mut self.unfinished, crossbeam_channel::never()) {
            samples += 1;
            self.sample(&unfinished, samples);
        }
        self.learner.modules().note(self.learner.spent());
    }

    /// Learns what is known to run before the first tick. What cannot be found now is learned when it
    /// is met. Sampling may begin meanwhile: what is met goes first.
    fn prepare(&mut self, target: &Target) {
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
            for file in files.unwrap_or_default() {
                self.learner.prepare(file, false);
                self.announced();
            }
        }
        for file in libraries::running(EXECUTABLES).unwrap_or_default().files {
            self.learner.prepare(file, true);
            self.announced();
        }
    }

    /// Learns the modules that were met.
    fn announced(&mut self) {
        while let Ok(record) = self.modules.try_recv() {
            self.module(&record);
        }
    }

    /// Learns a module that was met for the first time. A panic costs no more than that.
    fn module(&mut self, record: &[u64]) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.learn(record)));
    }

    fn learn(&mut self, record: &[u64]) -> Option<()> {
        let (seen, path) = ring::module_seen(record)?;
        let head: Vec<u8> = seen.head.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let id = self.learner.find(&Sampled {
            key: seen.key,
            pid: seen.own_tgid,
            mapping: (seen.start, seen.end),
            components: &path,
            build_id: BuildId::of_head(&head).as_ref(),
            neighbours: &self.neighbours.of(seen.mount_ns),
        })?;
        // Announced again and again, its samples bring no slices.
        self.learner.meet(id, false);
        Some(())
    }

    /// Unwinds a sample on, the `number`th, and books it if it is lost.
    fn sample(&mut self, unfinished: &Unfinished, number: u64) {
        let finished = catch_unwind(AssertUnwindSafe(|| {
            faults::strike(Fault::LearnerPanic, number);
            faults::strike(Fault::LearnerStuck, number);
            self.finish(unfinished)
        }));
        if let Err(column) = finished.unwrap_or(Err(Column::WorkerLost))
            && let Some(sample) = sample_of(&unfinished.sample)
        {
            self.book.open().add(&sample, column);
        }
    }

    /// Unwinds a sample on and gives it to its worker, or says in which column it is lost.
    fn finish(&mut self, unfinished: &Unfinished) -> Result<(), Column> {
        let finished = self.slices.finish(unfinished, &mut self.learner);
        let finished = finished.ok_or(Column::Malformed)?;
        if finished.interpreter_unwalked {
            return Err(Column::RuntimeBeingLearned);
        }
        let sample = sample_of(&finished.record).ok_or(Column::Malformed)?;
        let worker = ring::worker_of(&sample.task.process, self.workers.len());
        let worker = self.workers.get(worker).ok_or(Column::WorkerLost)?;
        // Waiting here delays only what is learned.
        let sent = worker.send(batch_of(finished.record));
        sent.map_err(|_| Column::WorkerLost)
    }
}

/// The other thread: rows of large files.
fn read_large(large: &Receiver<Large>, made: &Sender<(ModuleId, Made)>) {
    for (id, module) in large {
        let rows = catch_unwind(AssertUnwindSafe(|| make_rows(&module)));
        let rows = rows.unwrap_or_else(|_| Err("they could not be read".into()));
        if made.send((id, rows)).is_err() {
            return;
        }
    }
}
