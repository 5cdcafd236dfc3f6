//! The learner's threads: lessons in, finished samples out. One answers; the other has a reader of its
//! own for what takes long: what runs before the first tick, and large files, so that no module waits
//! for a larger one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rprof_ebpf::ledger::Column;
use rprof_ebpf::module::ModuleKey;
use rprof_symbolize::BuildId;
use rprof_symbolize::module_file::Sampled;

use super::faults::{self, Fault};
use super::learner::{Large, Learner};
use super::lessons::{ANY, Lesson, make_rows};
use super::losses::Book;
use super::neighbours::Neighbours;
use super::ring::{self, Batch, MAX_AT_LEARNER, Unfinished, sample_of};
use super::slices::Slices;
use super::threads::batch_of;
use crate::cli::settings::Target;
use crate::reader::{Ahead, Failed, Reader, Start};

/// How soon it is looked at whether what kept silent may be asked again.
const LOOK: Duration = Duration::from_secs(1);
/// Samples that wait for the lesson that they lack at most, and their words: all, and those that lack the
/// same. So no file takes the room of others' samples.
const PARKED: (usize, usize) = (256, MAX_AT_LEARNER / 4 * 3);
const PARKED_FOR_ONE: (usize, usize) = (24, MAX_AT_LEARNER / 8);
/// How long they wait at the end.
const LAST: Duration = Duration::from_secs(2);

/// What the learner's thread works with.
pub(super) struct School {
    /// Records of modules met for the first time.
    pub(super) modules: Receiver<Vec<u64>>,
    /// Samples to be unwound on.
    pub(super) unfinished: Receiver<Unfinished>,
    pub(super) learner: Learner,
    pub(super) lessons: Receiver<Lesson>,
    /// Samples that wait for lessons, and about what; none do any more at the end.
    pub(super) parked: Vec<(Unfinished, Vec<ModuleKey>)>,
    pub(super) ending: bool,
    pub(super) slices: Slices,
    pub(super) workers: Vec<Sender<Batch>>,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) book: Book,
}

/// What the other thread works with.
pub(super) struct Errands {
    /// Large files.
    pub(super) large: Receiver<Large>,
    pub(super) reader: Reader,
    pub(super) lessons: Sender<Lesson>,
}

impl School {
    /// Learns what is known to run, drops `preparing`, then answers until nobody asks any more.
    pub(super) fn run(mut self, target: &Target, errands: Errands, preparing: Sender<()>) {
        // What is not learned before it is met is learned then.
        let _ = catch_unwind(AssertUnwindSafe(|| self.learner.vdso()));
        let ahead = ahead(target);
        // Without the thread, what is large stays unlearned: its stacks go by slices.
        let _ = std::thread::Builder::new()
            .name("rprof-rows".into())
            .spawn(move || errands.run(ahead, preparing));
        let mut samples = 0;
        let mut looked = Instant::now();
        loop {
            // A module first: once it is known, its samples need no help.
            self.announced();
            if self.learner.is_silent() && looked.elapsed() >= LOOK {
                self.learner.ask_again();
                looked = Instant::now();
            }
            let look = match self.learner.is_silent() {
                true => crossbeam_channel::after(LOOK),
                false => crossbeam_channel::never(),
            };
            crossbeam_channel::select! {
                recv(self.modules) -> record => match record {
                    Ok(record) => self.module(&record),
                    // The reader has ended: what it gave before is still to be done.
                    Err(_) => break,
                },
                recv(self.unfinished) -> unfinished => if let Ok(unfinished) = unfinished {
                    samples += 1;
                    self.sample(unfinished, samples);
                },
                recv(self.lessons) -> lesson => if let Ok(lesson) = lesson {
                    self.take(lesson);
                },
                recv(look) -> _ => {}
            }
        }
        for unfinished in std::mem::replace(&mut self.unfinished, crossbeam_channel::never()) {
            samples += 1;
            self.sample(unfinished, samples);
        }
        let last = Instant::now() + LAST;
        while !self.parked.is_empty()
            && let Ok(lesson) = self.lessons.recv_deadline(last)
        {
            self.take(lesson);
        }
        self.ending = true;
        self.again(|_| true);
        self.learner.modules().note(self.learner.spent());
    }

    /// Takes a lesson, and the samples that may have waited for it.
    fn take(&mut self, mut lesson: Lesson) {
        let about = lesson.about();
        if let Lesson::Frames(key, info) = &mut lesson {
            // The learner needs to know only why there is none.
            match std::mem::replace(info, Err(Failed::Late)) {
                Ok(info) => self.slices.keep(*key, Some(*info)),
                Err(Failed::Said(_)) => self.slices.keep(*key, None),
                Err(failed) => *info = Err(failed),
            }
        }
        let taken = catch_unwind(AssertUnwindSafe(|| self.learner.take(lesson)));
        if let Ok(Some(id)) = taken {
            self.slices.forget(id);
        }
        if let Some(key) = about {
            self.again(|waits| waits.contains(&key) || waits.contains(&ANY));
        }
    }

    /// Unwinds on what has waited, for that.
    fn again(&mut self, that: impl Fn(&[ModuleKey]) -> bool) {
        let parked = std::mem::take(&mut self.parked);
        let (again, parked) = parked.into_iter().partition(|(_, waits)| that(waits));
        self.parked = parked;
        for (unfinished, _) in again {
            self.sample(unfinished, 0);
        }
    }

    /// Whether a sample may wait for these. If not, the programs bring no more of those of which too many
    /// wait.
    fn may_wait(&mut self, unfinished: &Unfinished, waits: &[ModuleKey]) -> bool {
        if self.ending || waits.is_empty() {
            return false;
        }
        let fits = |that: &dyn Fn(&[ModuleKey]) -> bool, most: (usize, usize)| {
            let same = self.parked.iter().filter(|(_, waits)| that(waits));
            let (count, words) = same.fold((0, 0), |(count, words), (parked, _)| {
                (count + 1, words + parked.words())
            });
            count < most.0 && words + unfinished.words() <= most.1
        };
        let mut may = fits(&|_| true, PARKED);
        for key in waits {
            if !fits(&|waits| waits.contains(key), PARKED_FOR_ONE) {
                self.learner.hold(key);
                may = false;
            }
        }
        may
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

    /// Unwinds a sample on, the `number`th (0: not for the first time), and books it if it is lost.
    fn sample(&mut self, unfinished: Unfinished, number: u64) {
        let finished = catch_unwind(AssertUnwindSafe(|| {
            faults::strike(Fault::LearnerPanic, number);
            faults::strike(Fault::LearnerStuck, number);
            self.finish(&unfinished)
        }));
        match finished.unwrap_or(Err(Column::WorkerLost)) {
            Ok(Sent::Sent) => {}
            Ok(Sent::Waits(waits)) => self.parked.push((unfinished, waits)),
            Err(column) => {
                if let Some(sample) = sample_of(&unfinished.sample) {
                    self.book.open().add(&sample, column);
                }
            }
        }
    }

    /// Unwinds a sample on and gives it to its worker, or says in which column it is lost.
    fn finish(&mut self, unfinished: &Unfinished) -> Result<Sent, Column> {
        let finished = self.slices.finish(unfinished, &mut self.learner);
        let finished = finished.ok_or(Column::Malformed)?;
        if self.may_wait(unfinished, &finished.waits) {
            return Ok(Sent::Waits(finished.waits));
        }
        if finished.interpreter_unwalked {
            return Err(Column::RuntimeBeingLearned);
        }
        let sample = sample_of(&finished.record).ok_or(Column::Malformed)?;
        let worker = ring::worker_of(&sample.task.process, self.workers.len());
        let worker = self.workers.get(worker).ok_or(Column::WorkerLost)?;
        // Waiting here delays only what is learned.
        let sent = worker.send(batch_of(finished.record));
        sent.map_err(|_| Column::WorkerLost).map(|()| Sent::Sent)
    }
}

/// What can be learned before the first tick. What else runs beside some processes is in no sample of
/// theirs; of children it is not known what they run.
fn ahead(target: &Target) -> Vec<Ahead> {
    match target {
        Target::Command(command) => {
            let file = std::path::absolute(&command.file).ok();
            let program = file.map(|file| Ahead::Program(Start::new(&file)));
            program
                .into_iter()
                .chain([Ahead::Running(Vec::new())])
                .collect()
        }
        Target::Pids {
            pids,
            children: false,
        } => vec![Ahead::Running(pids.clone())],
        Target::Pids { .. } | Target::All { .. } => vec![Ahead::Running(Vec::new())],
    }
}

/// Whether a sample went to its worker.
enum Sent {
    Sent,
    /// Not yet: it waits for lessons about these.
    Waits(Vec<ModuleKey>),
}

impl Errands {
    /// The other thread. What cannot be found before the first tick is learned when it is met.
    fn run(mut self, ahead: Vec<Ahead>, preparing: Sender<()>) {
        for ahead in ahead {
            self.reader.prepare(ahead, |found, rows| {
                let lesson = Lesson::Prepared(Box::new(found), rows);
                let taken = self.lessons.send(lesson);
                taken.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
            });
        }
        let _ = self.lessons.send(Lesson::AllPrepared(preparing));
        for (id, module) in self.large {
            let rows = AssertUnwindSafe(|| make_rows(&module, &mut self.reader).wait());
            let rows = catch_unwind(rows);
            let rows = rows.unwrap_or_else(|_| Err(Failed::Said("cannot be read".into())));
            if self
                .lessons
                .send(Lesson::Rows(module.key, id, rows))
                .is_err()
            {
                return;
            }
        }
    }
}
