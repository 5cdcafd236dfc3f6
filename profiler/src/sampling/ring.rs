//! The reader: empties the ring once a second, or when the programs or the end of an interval ask for it, and
//! hands records out by process. It never waits for a worker: what does not fit into a queue is lost, and
//! counted. A panic over a record costs that record.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aya::maps::{HashMap as BpfHashMap, MapData, RingBuf};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use rprof_ebpf::identity::ProcessKey;
use rprof_ebpf::ledger::Column;
use rprof_ebpf::record::{
    CodeObject, ModuleSeen, RecordHeader, RecordKind, Sample, sample_flags, take,
};
use rprof_ebpf::runtimes::named_key;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::PipeFlags;

use super::faults::{self, Fault};
use super::losses::Book;
use super::neighbours::Neighbours;

/// How long records may lie in the ring, or gather for a worker: to be woken costs as much as a dozen samples.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Batches that wait for one worker at most.
pub const QUEUE: usize = 64;
/// Words of one batch at most.
const BATCH_WORDS: usize = 16 << 10;

/// Words that wait for the learner at most: 16 MiB.
pub const MAX_AT_LEARNER: usize = 2 << 20;

/// Records for a worker, one after the other: a word that says how many words follow, then those.
pub type Batch = Vec<u64>;

/// A sample that the programs could not walk to its end, and what they sent for that.
#[derive(Default)]
pub struct Unfinished {
    /// The sample's record.
    pub sample: Vec<u64>,
    /// Records of stack slices.
    pub slices: Vec<Vec<u64>>,
    /// The record of mappings.
    pub mappings: Vec<u64>,
    /// Its share of what may wait for the learner.
    share: Option<Share>,
}

impl Unfinished {
    /// The words of its records.
    pub fn words(&self) -> usize {
        let slices: usize = self.slices.iter().map(Vec::len).sum();
        self.sample.len() + slices + self.mappings.len()
    }
}

/// A share of [`MAX_AT_LEARNER`] words, given back when it is dropped.
#[derive(Debug)]
struct Share(Arc<AtomicUsize>, usize);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Where records go.
pub struct Outlets {
    /// Workers; a process's records always go to the same one.
    pub workers: Vec<Sender<Batch>>,
    /// The learner's: records of modules met for the first time ([`ModuleSeen`]).
    pub modules: Sender<Vec<u64>>,
    /// The learner's: samples to be unwound on.
    pub unfinished: Sender<Unfinished>,
    /// Words that wait for it.
    pub at_learner: Arc<AtomicUsize>,
    /// Who sees which mounts.
    pub neighbours: Arc<Neighbours>,
}

/// Asks the reader to hand out what there is; when it is dropped, for the last time.
pub struct Bell(OwnedFd);

/// Where a [`Bell`] is heard.
pub struct Heard(OwnedFd);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rang {
    Now,
    Last,
}

impl Bell {
    /// One, and where it is heard.
    ///
    /// # Errors
    /// Those of making a pipe.
    pub fn new() -> io::Result<(Self, Heard)> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (heard, bell) = rustix::pipe::pipe_with(flags)?;
        Ok((Self(bell), Heard(heard)))
    }

    /// Asks for what there is now.
    pub fn ring(&self) {
        // Full: it rings.
        let _ = rustix::io::write(&self.0, &[0]);
    }
}

impl Heard {
    fn answer(&self) -> Rang {
        match rustix::io::read(&self.0, &mut [0; 64]) {
            Ok(0) => Rang::Last,
            _ => Rang::Now,
        }
    }
}

/// Empties the ring.
pub struct Reader {
    ring: RingBuf<MapData>,
    named: BpfHashMap<MapData, u64, u32>,
    /// Code objects whose names workers miss.
    forgotten: Receiver<u64>,
    outlets: Outlets,
    batches: Vec<Batch>,
    /// By CPU: what came for a sample that has not come yet.
    unfinished: HashMap<u32, Unfinished>,
    book: Book,
    /// Records so far.
    records: u64,
    /// Mount namespace and process of the last sample.
    last_home: (u32, u32),
}

impl Reader {
    /// A reader of `ring`; `named` is the programs' map of code objects whose names they have sent,
    /// `book` says what came and what was lost here.
    pub fn new(
        ring: RingBuf<MapData>,
        named: BpfHashMap<MapData, u64, u32>,
        forgotten: Receiver<u64>,
        outlets: Outlets,
        book: Book,
    ) -> Self {
        let batches = vec![Batch::new(); outlets.workers.len()];
        Self {
            ring,
            named,
            forgotten,
            outlets,
            batches,
            unfinished: HashMap::new(),
            book,
            records: 0,
            last_home: (0, 0),
        }
    }

    /// Reads until nobody holds the [`Bell`] any more, then what is left.
    pub fn run(mut self, bell: Heard) {
        let mut handed_over = Instant::now();
        loop {
            let rang = self.wait(&bell, HAND_OVER.saturating_sub(handed_over.elapsed()));
            for key in self.forgotten.try_iter() {
                let _ = self.named.remove(&key);
            }
            self.drain();
            if rang.is_some() || handed_over.elapsed() >= HAND_OVER {
                self.flush_all();
                handed_over = Instant::now();
            }
            if rang == Some(Rang::Last) {
                return;
            }
        }
    }

    /// Until the ring is to be emptied; this long at most.
    fn wait(&self, bell: &Heard, time: Duration) -> Option<Rang> {
        let mut fds = [
            PollFd::new(&self.ring, PollFlags::IN),
            PollFd::new(&bell.0, PollFlags::IN),
        ];
        match poll(&mut fds, Timespec::try_from(time).ok().as_ref()) {
            Ok(_) if fds[1].revents().is_empty() => None,
            Ok(_) => Some(bell.answer()),
            Err(rustix::io::Errno::INTR) => None,
            // Without memory for it (nothing else is left to go wrong) the ring is still read.
            Err(_) => {
                std::thread::sleep(HAND_OVER / 4);
                None
            }
        }
    }

    /// Hands out what the ring holds.
    fn drain(&mut self) {
        while let Some(record) = self.next() {
            self.records += 1;
            let sample = sample_of(&record);
            match &sample {
                Some(sample) => self.book.open().receive(sample),
                // Of no kind, or a sample that is cut.
                None if matches!(kind_of(&record), None | Some(RecordKind::Sample)) => {
                    self.book.open().strange += 1;
                }
                None => {}
            }
            let handed = catch_unwind(AssertUnwindSafe(|| self.hand_out(record, sample.as_ref())));
            if let (Err(_), Some(sample)) = (handed, sample) {
                self.book.open().add(&sample, Column::WorkerLost);
            }
        }
    }

    /// Hands out one record.
    fn hand_out(&mut self, record: Vec<u64>, sample: Option<&Sample>) {
        faults::strike(Fault::ReaderPanic, self.records);
        let Some((header, _)) = take::<RecordHeader>(&record) else {
            return;
        };
        let cpu = header.cpu;
        match (kind_of(&record), sample) {
            (Some(RecordKind::Sample), Some(sample)) => self.sample(cpu, sample, record),
            (Some(RecordKind::CodeObject), _) => {
                if let Some((object, _)) = take::<CodeObject>(&record) {
                    self.batch(&object.process, &record);
                }
            }
            (Some(RecordKind::ModuleSeen), _) => {
                // Lost: announced again within a second.
                let _ = self.outlets.modules.try_send(record);
            }
            (Some(RecordKind::Slice), _) => {
                self.unfinished.entry(cpu).or_default().slices.push(record);
            }
            (Some(RecordKind::Mappings), _) => {
                self.unfinished.entry(cpu).or_default().mappings = record;
            }
            _ => {}
        }
    }

    /// Hands the workers what has gathered.
    fn flush_all(&mut self) {
        for worker in 0..self.batches.len() {
            self.flush(worker);
        }
    }

    /// The next record, as words.
    fn next(&mut self) -> Option<Vec<u64>> {
        let item = self.ring.next()?;
        let words = item
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_ne_bytes(*word));
        Some(words.collect())
    }

    /// A sample: to its worker, or first to the learner.
    fn sample(&mut self, cpu: u32, sample: &Sample, mut record: Vec<u64>) {
        let home = (sample.task.mount_ns, sample.task.own.tgid);
        if home != self.last_home && home.0 != 0 && home.1 != 0 {
            self.last_home = home;
            self.outlets.neighbours.saw(home.0, home.1);
        }
        let unfinished = self.unfinished.remove(&cpu);
        if sample.flags & sample_flags::HAS_SLICE != 0
            && let Some(mut unfinished) = unfinished
        {
            let sequence = sample.header.sequence;
            unfinished
                .slices
                .retain(|slice| sequence_of(slice) == Some(sequence));
            unfinished.sample = record;
            match self.teach(unfinished) {
                None => return,
                // It stays as the programs cut it, and says so.
                Some(back) => record = back.sample,
            }
        }
        self.batch(&sample.task.process, &record);
    }

    /// Gives the learner a sample to finish; returns it if there is no room.
    fn teach(&self, mut unfinished: Unfinished) -> Option<Unfinished> {
        let words = unfinished.words();
        let waiting = self.outlets.at_learner.fetch_add(words, Ordering::Relaxed);
        unfinished.share = Some(Share(self.outlets.at_learner.clone(), words));
        if waiting + words > MAX_AT_LEARNER {
            return Some(unfinished);
        }
        match self.outlets.unfinished.try_send(unfinished) {
            Ok(()) => None,
            Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => Some(back),
        }
    }

    /// Puts a record into the batch of a process's worker.
    fn batch(&mut self, process: &ProcessKey, record: &[u64]) {
        let worker = worker_of(process, self.batches.len());
        let Some(batch) = self.batches.get_mut(worker) else {
            return;
        };
        batch.push(record.len() as u64);
        batch.extend_from_slice(record);
        if batch.len() > BATCH_WORDS {
            self.flush(worker);
        }
    }

    /// Sends a worker its batch, or counts what is in it as lost.
    fn flush(&mut self, worker: usize) {
        let batch = std::mem::take(&mut self.batches[worker]);
        if batch.is_empty() {
            return;
        }
        let (batch, column) = match self.outlets.workers[worker].try_send(batch) {
            Ok(()) => return,
            Err(TrySendError::Full(batch)) => (batch, Column::QueueFull),
            Err(TrySendError::Disconnected(batch)) => (batch, Column::WorkerLost),
        };
        for record in records(&batch) {
            if let Some(sample) = sample_of(record) {
                self.book.open().add(&sample, column);
            } else if let Some((object, _)) = take::<CodeObject>(record) {
                // The next sample that meets it copies its names again.
                let key = named_key(&object.process, object.address, object.key);
                let _ = self.named.remove(&key);
            }
        }
    }
}

/// The worker of a process.
pub fn worker_of(process: &ProcessKey, workers: usize) -> usize {
    let mixed = (process.start ^ u64::from(process.tgid)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % workers.max(1)
}

/// The records of a batch.
pub fn records(batch: &[u64]) -> impl Iterator<Item = &[u64]> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        let (&len, after) = rest.split_first()?;
        let (record, after) = after.split_at_checked(usize::try_from(len).ok()?)?;
        rest = after;
        Some(record)
    })
}

/// What a record is; `None`: nothing that the programs send.
pub fn kind_of(record: &[u64]) -> Option<RecordKind> {
    let (header, _) = take::<RecordHeader>(record)?;
    RecordKind::ALL
        .into_iter()
        .find(|&kind| kind as u32 == header.kind)
}

/// The sample of a record, if it is one.
pub fn sample_of(record: &[u64]) -> Option<Sample> {
    kind_of(record).filter(|&kind| kind == RecordKind::Sample)?;
    take::<Sample>(record).map(|(sample, _)| sample)
}

fn sequence_of(record: &[u64]) -> Option<u64> {
    take::<RecordHeader>(record).map(|(header, _)| header.sequence)
}

/// The parts of a [`ModuleSeen`] record.
pub fn module_seen(record: &[u64]) -> Option<(ModuleSeen, Vec<u8>)> {
    let (seen, rest) = take::<ModuleSeen>(record)?;
    let path: Vec<u8> = rest
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take(seen.path_len as usize)
        .collect();
    Some((seen, path))
}
