//! A worker: raw samples of some processes in, merged stacks and ledger entries out.
//!
//! A sample whose code objects are all named goes straight into the profile. One with an unnamed
//! code object waits for its name: from another CPU's record, from the process's next sample, or by
//! a read in user space; but not longer than [`PATIENCE`].

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rprof_ebpf::frame::{Frame as Raw, Frames};
use rprof_ebpf::identity::{ProcessKey, task_flags};
use rprof_ebpf::ledger::Column;
use rprof_ebpf::record::{CodeObject, End, RecordKind, Sample, sample_flags, take};
use rprof_ebpf::runtimes::named_key;

use super::cgroup::Cgroups;
use super::codes::Codes;
use super::faults::{self, Fault};
use super::intervals::Intervals;
use super::labels::{self, Comms};
use super::live::Live;
use super::losses::Book;
use super::modules::Modules;
use super::reading::{Answer, Inquiry, Object};
use super::ring::{Batch, kind_of, records, sample_of};
use super::select::Selection;
use crate::profile::{Added, Frame, Labels};

/// How long a sample waits for its names.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last answers are waited for.
const LAST: Duration = Duration::from_secs(1);
/// Samples that wait in one worker at most, and words of frames in them (8 MiB).
const MAX_WAITING: usize = 4096;
const MAX_WAITING_WORDS: usize = 1 << 20;
/// One process may have such a part of them.
const SHARES: usize = 4;

/// What all workers share.
pub struct Shared {
    /// Where stacks are merged; `None`: it was taken out, and no account is open any more.
    pub profile: Mutex<Option<Intervals>>,
    /// Interpreters, for decoding names.
    pub modules: Arc<Modules>,
    /// Kernel frames that a sample has at most; `None`: none are wanted.
    pub kernel_frames: Option<u32>,
    /// `--on-fault mark`.
    pub mark_faults: bool,
    /// Figures for the progress line.
    pub live: Live,
    /// Code objects whose names the programs are to send again.
    pub forget: Sender<u64>,
    /// `--comm`.
    pub selection: Selection,
}

struct Waiting {
    since: Instant,
    sample: Sample,
    words: Box<[u64]>,
}

/// A worker's state.
pub struct Worker {
    shared: Arc<Shared>,
    processes: Codes,
    waiting: Vec<Waiting>,
    waiting_words: usize,
    /// How many of each process.
    waiting_of: HashMap<ProcessKey, usize>,
    names: Comms,
    cgroups: Cgroups,
    book: Book,
    /// Asks for names to be read in user space, if anybody may.
    inquiry: Option<Inquiry>,
    frames: Vec<Frame>,
    /// The runtime in `frames` that is not walked.
    unwalked: Option<End>,
    /// What it was given, and how many of its records are done.
    batch: Arc<Batch>,
    done: usize,
    /// Samples seen, while it is to die of one of them.
    mortal: Option<u64>,
}

/// The words of a sample's frames make no sense.
struct Malformed;

impl Worker {
    /// A worker without work, that writes into `book`. `mortal`: faults that were asked for strike it.
    pub fn new(shared: Arc<Shared>, book: Book, inquiry: Option<Inquiry>, mortal: bool) -> Self {
        Self {
            shared,
            processes: Codes::default(),
            waiting: Vec::new(),
            waiting_words: 0,
            waiting_of: HashMap::new(),
            names: Comms::default(),
            cgroups: Cgroups::default(),
            book,
            inquiry,
            frames: Vec::new(),
            unwalked: None,
            batch: Arc::default(),
            done: 0,
            mortal: mortal.then_some(0),
        }
    }

    /// Takes a batch. A panic over one record costs that record only.
    pub fn batch(&mut self, batch: Batch) {
        self.batch = Arc::new(batch);
        self.done = 0;
        for record in records(&self.batch.clone()) {
            let sample = sample_of(record);
            if let (Some(_), Some(seen)) = (&sample, &mut self.mortal) {
                *seen += 1;
                faults::strike(Fault::WorkerPanic, *seen);
                faults::strike(Fault::WorkerStuck, *seen);
            }
            let worked = catch_unwind(AssertUnwindSafe(|| self.record(record)));
            if let (Err(_), Some(sample)) = (worked, sample) {
                self.account(&sample, Column::WorkerLost);
            }
            self.done += 1;
        }
        self.batch = Arc::default();
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.ask_all();
        }
    }

    /// Books what it holds as lost with it.
    pub fn abandon(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for waiting in &waiting {
            self.account(&waiting.sample, Column::WorkerLost);
        }
        let batch = std::mem::take(&mut self.batch);
        for sample in records(&batch).skip(self.done).filter_map(sample_of) {
            self.account(&sample, Column::WorkerLost);
        }
    }

    /// Takes one record of the ring.
    fn record(&mut self, record: &[u64]) {
        match kind_of(record) {
            Some(RecordKind::CodeObject) => {
                if let Some((object, fields)) = take::<CodeObject>(record) {
                    self.name(&object, fields);
                }
            }
            Some(RecordKind::Sample) => {
                if let Some((sample, words)) = take::<Sample>(record) {
                    self.sample(&sample, words, None);
                }
            }
            _ => {}
        }
    }

    /// Whether samples wait for names.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tries again what waits; `last`: what still has no name is given up. A panic over one sample
    /// costs that sample only.
    pub fn settle(&mut self, last: bool) {
        self.processes.prune();
        let until = last.then(|| Instant::now() + LAST);
        while let Some(answer) = self.inquiry.as_mut().and_then(|asks| asks.next(until)) {
            self.answered(answer);
        }
        let now = Instant::now();
        self.waiting_words = 0;
        self.waiting_of.clear();
        for waiting in std::mem::take(&mut self.waiting) {
            let late = last || now.duration_since(waiting.since) >= PATIENCE;
            let since = if late { None } else { Some(waiting.since) };
            let settled = catch_unwind(AssertUnwindSafe(|| self.settle_one(&waiting, since)));
            if settled.is_err() {
                self.account(&waiting.sample, Column::WorkerLost);
            }
        }
    }

    fn settle_one(&mut self, waiting: &Waiting, since: Option<Instant>) {
        let Waiting { sample, words, .. } = waiting;
        if let Some(since) = since {
            return self.sample(sample, words, Some(since));
        }
        let Some((kernel, user)) = words_of(sample, words) else {
            return self.account(sample, Column::Malformed);
        };
        // Names may have come with the last records.
        match self.build(sample, kernel, user) {
            Err(Malformed) => self.account(sample, Column::Malformed),
            Ok(missing) if missing.is_empty() => self.finish(sample, self.end_of(sample), user),
            Ok(missing) => self.give_up(sample, user, &missing, Column::Unnamed),
        }
    }

    /// Gives up the sample whose frames are built, but for those that have no name; `else_`: why, unless
    /// more is known.
    fn give_up(&mut self, sample: &Sample, user: &[u64], missing: &[Object], else_: Column) {
        let process = &sample.task.process;
        let why = self.processes.why_unnamed(process, missing);
        let why = why.unwrap_or(else_);
        let fault = matches!(why, Column::WouldFault | Column::SharedPage);
        if self.shared.mark_faults && fault {
            self.finish(sample, End::WouldFault, user);
        } else {
            self.account(sample, why);
        }
    }

    /// A code object's names came, or word that they are not in memory.
    fn name(&mut self, object: &CodeObject, fields: &[u64]) {
        if object.len == 0 {
            let object_key = (object.address, object.key);
            self.processes
                .failed(object.process, object_key, Column::WouldFault);
            return;
        }
        let len = usize::try_from(object.len).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = fields
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .take(len)
            .collect();
        let Some(detected) = self.shared.modules.interpreter(object.interpreter) else {
            return;
        };
        let Ok(code) = detected.decode(&bytes) else {
            return;
        };
        if code.key != object.key {
            return;
        }
        self.processes.keep(object.process, object.address, code);
    }

    /// A sample: into the profile, among those that wait (`since` says from when on), or lost.
    fn sample(&mut self, sample: &Sample, words: &[u64], since: Option<Instant>) {
        let Some((kernel, user)) = words_of(sample, words) else {
            return self.account(sample, Column::Malformed);
        };
        if !self.selected(sample) {
            return self.account(sample, Column::NotSelected);
        }
        if sample.end == End::WouldFault as u32 && !self.shared.mark_faults {
            return self.account(sample, Column::WouldFault);
        }
        let Ok(missing) = self.build(sample, kernel, user) else {
            return self.account(sample, Column::Malformed);
        };
        if since.is_none() {
            match &mut self.inquiry {
                Some(inquiry) => inquiry.want(sample, &missing),
                // Sent before, and lost on the way or given up since: to be sent again.
                None => missing
                    .iter()
                    .for_each(|&object| self.forget(&sample.task.process, object)),
            }
        }
        if !missing.is_empty() {
            if !self.has_room(sample, words) {
                return self.give_up(sample, user, &missing, Column::QueueFull);
            }
            return self.wait(sample, words, since.unwrap_or_else(Instant::now));
        }
        self.finish(sample, self.end_of(sample), user);
    }

    /// Builds the frames of a sample into `self.frames`; the code objects that have no name yet.
    fn build(
        &mut self,
        sample: &Sample,
        kernel: &[u64],
        user: &[u64],
    ) -> Result<Vec<Object>, Malformed> {
        let mut missing = HashSet::new();
        let process = self.processes.get(&sample.task.process);
        self.frames.clear();
        self.unwalked = None;
        let now = self.shared.modules.now();
        for (i, &address) in kernel.iter().enumerate() {
            // All but the leaf are return addresses.
            self.frames
                .push(Frame::Kernel(address - u64::from(i > 0 && address > 0)));
        }
        let mut frames = Frames(user);
        while !frames.0.is_empty() {
            match frames.next().ok_or(Malformed)? {
                Raw::Native { module, offset, .. } => {
                    self.shared.modules.use_now(module, now);
                    let unwalked = self.shared.modules.unwalked(module);
                    self.unwalked = self.unwalked.or(unwalked);
                    self.frames.push(Frame::Native { module, offset });
                }
                Raw::Anonymous { pc } | Raw::Unlearned { pc } => {
                    self.frames.push(Frame::Unknown(pc));
                }
                Raw::Interpreted {
                    position,
                    code,
                    key,
                    ..
                } => match process.and_then(|process| process.codes.get(&(code, key))) {
                    Some(named) => self.frames.push(Frame::Interpreted {
                        function: named.function.clone(),
                        line: named.code.line(position).unwrap_or(named.code.first_line),
                    }),
                    None => {
                        // It is kept only if it is to be marked.
                        self.frames.push(Frame::WouldFault);
                        missing.insert((code, key));
                    }
                },
                Raw::LeftOut | Raw::Marker { .. } => {}
            }
        }
        // The same order in each run: the first that failed says why.
        let mut missing: Vec<Object> = missing.into_iter().collect();
        missing.sort_unstable();
        Ok(missing)
    }

    /// A code object was read in user space, or not.
    fn answered(&mut self, answer: Answer) {
        let Answer {
            process,
            object,
            code,
        } = answer;
        match code {
            Ok(code) => self.processes.keep(process, object.0, code),
            Err(why) => {
                self.processes.failed(process, object, why);
                // The sample's own context may do better.
                self.forget(&process, object);
            }
        }
    }

    /// Has the programs send a code object's names again.
    fn forget(&self, process: &ProcessKey, (address, key): Object) {
        // A full queue: its next sample asks again.
        let _ = self
            .shared
            .forget
            .try_send(named_key(process, address, key));
    }

    /// Whether one more may wait: of a process, which may never be named, no more than a part of all.
    fn has_room(&self, sample: &Sample, words: &[u64]) -> bool {
        let of_process = self.waiting_of.get(&sample.task.process);
        of_process.is_none_or(|&n| n < MAX_WAITING / SHARES)
            && self.waiting.len() < MAX_WAITING
            && self.waiting_words + words.len() <= MAX_WAITING_WORDS
    }

    fn wait(&mut self, sample: &Sample, words: &[u64], since: Instant) {
        self.processes.used(sample.task.process);
        *self.waiting_of.entry(sample.task.process).or_default() += 1;
        self.waiting_words += words.len();
        self.waiting.push(Waiting {
            since,
            sample: *sample,
            words: words.into(),
        });
    }

    /// Puts the sample whose frames are built into the profile.
    fn finish(&mut self, sample: &Sample, end: End, user: &[u64]) {
        let mut by_frame_pointer = sample.flags & sample_flags::BY_FRAME_POINTER != 0;
        let left_out = Frames(user).filter(|raw| *raw == Raw::LeftOut).count() as u64;
        by_frame_pointer |= Frames(user).any(|raw| {
            matches!(
                raw,
                Raw::Native {
                    by_frame_pointer: true,
                    ..
                }
            )
        });
        let column = match end {
            End::Complete if by_frame_pointer => Column::ByFramePointer,
            End::Complete => Column::Resolved,
            _ => Column::Truncated,
        };
        if end == End::WouldFault {
            if !self.frames.contains(&Frame::WouldFault) {
                self.frames.push(Frame::WouldFault);
            }
        } else if end != End::Complete {
            self.frames.push(Frame::Truncated(end));
        }
        let labels = self.labels(sample);
        let shared = self.shared.clone();
        // Adding is all or nothing: a panic in it left the profile whole. Held until the sample is
        // booked: whoever takes the profile out finds it in the books too.
        let mut held = shared
            .profile
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(intervals) = held.as_mut() else {
            return;
        };
        if intervals.of(sample.time).add(&self.frames, &labels, 1) == Added::Full {
            return self.account(sample, Column::MemoryFull);
        }
        let mut book = self.book.open();
        if column == Column::Truncated {
            *book.ledger.truncated.entry(end).or_default() += 1;
        }
        book.ledger.left_out += left_out;
        book.add(sample, column);
        drop(book);
        drop(held);
        shared.live.sample(&labels.comm, sample.time);
    }

    fn labels(&mut self, sample: &Sample) -> Labels {
        let (pid, tid, host_pid) = labels::ids(&sample.task);
        Labels {
            pid,
            tid,
            host_pid,
            comm: self.names.get(&sample.task.comm),
            thread: self.names.get(&sample.task.thread),
            cgroup: self.cgroups.get(sample.task.cgroup),
        }
    }

    fn selected(&mut self, sample: &Sample) -> bool {
        let shared = self.shared.clone();
        let selection = &shared.selection;
        if selection.is_all() {
            return true;
        }
        selection.wants(&self.names.get(&sample.task.comm))
    }

    fn account(&mut self, sample: &Sample, column: Column) {
        if column.is_loss() {
            self.shared.live.loss();
        }
        self.book.open().add(sample, column);
    }

    /// Why the stack that was built last ends: the user side's reason before the others.
    fn end_of(&self, sample: &Sample) -> End {
        let end = End::ALL.get(sample.end as usize).copied();
        let end = end.unwrap_or(End::Complete);
        if end != End::Complete {
            let outermost = self.frames.iter().rev().find_map(|frame| match frame {
                Frame::Native { module, .. } => Some(*module),
                _ => None,
            });
            let fileless = |id| self.shared.modules.is_fileless(id);
            return match end {
                End::NoRow if outermost.is_some_and(fileless) => End::NoFile,
                end => end,
            };
        }
        let in_kernel = sample.task.flags & task_flags::IN_KERNEL != 0;
        let cut = self.shared.kernel_frames.is_some_and(|most| {
            in_kernel && (sample.kernel_frames == 0 || sample.kernel_frames >= most)
        });
        self.unwalked.unwrap_or(if cut { End::Kernel } else { end })
    }
}

/// The words of a sample's kernel and user frames; `None`: it makes no sense.
fn words_of<'w>(sample: &Sample, words: &'w [u64]) -> Option<(&'w [u64], &'w [u64])> {
    End::ALL.get(sample.end as usize)?;
    let (kernel, rest) = words.split_at_checked(sample.kernel_frames as usize)?;
    Some((kernel, rest.get(..sample.user_words as usize)?))
}

#[cfg(test)]
mod tests;
