//! Unwinding on in user space: what a sample of the programs lacks towards its root, from the slice
//! of the stack and the mappings that came with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use rprof_ebpf::frame::{Frame as Raw, Frames, Tag, native};
use rprof_ebpf::module::{ModuleId, ModuleKey};
use rprof_ebpf::record::{
    End, MAX_HOLE, Mapping, Mappings, SLICE_BYTES, Sample, Slice, sample_flags, take,
};
use rprof_ebpf::rows::Rule;
use rprof_symbolize::module_file::Sampled;
use rprof_unwind::slice::{Cache, FrameInfo, Sources, Stack, Unwinder};

use super::learner::Learner;
use super::modules::Modules;
use super::ring::Unfinished;

/// Bytes of CFI that are kept for the next slice: a compiler's two large libraries, until the
/// programs have their rows.
const CACHE_BYTES: usize = 32 << 20;
/// Frames that a sample has at most.
const MAX_FRAMES: usize = 1024;

/// Finishes samples.
pub struct Slices {
    unwinder: Unwinder,
    modules: Arc<Modules>,
}

/// A sample that was unwound on.
pub struct Finished {
    /// Its record, complete as far as it could be made.
    pub record: Vec<u64>,
    /// Its frames are those of an interpreter that was not known when it was taken.
    pub interpreter_unwalked: bool,
    /// Modules whose files are waited for: with their answers, it may come to more.
    pub waits: Vec<ModuleKey>,
}

impl Slices {
    /// Nothing is cached yet.
    pub fn new(modules: Arc<Modules>) -> Self {
        Self {
            unwinder: Unwinder::new(Cache::new(CACHE_BYTES)),
            modules,
        }
    }

    /// Unwinds a sample on; learns the modules that its stack leads through.
    pub fn finish(&mut self, unfinished: &Unfinished, learner: &mut Learner) -> Option<Finished> {
        let (mut sample, words) = take::<Sample>(&unfinished.sample)?;
        let (kernel, user) = words.split_at_checked(sample.kernel_frames as usize)?;
        let user = user.get(..sample.user_words as usize)?;
        let listed = listed(&unfinished.mappings);
        let mappings = listed.mappings.as_slice();
        let pieces: Vec<(u64, Vec<u8>)> = unfinished
            .slices
            .iter()
            .filter_map(|slice| piece(slice))
            .collect();
        let mut pieces: Vec<(u64, &[u8])> =
            pieces.iter().map(|(at, b)| (*at, b.as_slice())).collect();
        if let Some((last, bytes)) = pieces.last()
            && listed.slice_end == End::WouldFault
        {
            // A hole ended the copy, and the stack goes on: up to here it is known that pages are missing.
            pieces.push((
                last + bytes.len() as u64 + MAX_HOLE * SLICE_BYTES as u64,
                &[],
            ));
        }
        let pid = sample.task.own.tgid;
        // What others met says nothing of this one.
        let _ = learner.unanswered();
        // Modules that this sample leads through.
        let mut met: BTreeSet<ModuleId> = BTreeSet::new();
        let walk = self.unwinder.walk(
            &sample.registers,
            mappings,
            Stack(&pieces),
            MAX_FRAMES,
            Learned { learner, pid },
        );
        let mut out: Vec<u64> = Vec::with_capacity(user.len() + walk.frames.len());
        let mut interpreter = false;
        // The file that the outermost frame is in was not found.
        let mut lost = false;
        // Native frames come first, then the runtime's by marker.
        let mut rest = Frames(user);
        let mut groups: Vec<(u64, Vec<u64>)> = Vec::new();
        loop {
            let before = rest.0;
            let Some(frame) = rest.next() else { break };
            let words = &before[..before.len() - rest.0.len()];
            match frame {
                Raw::Unlearned { pc } => {
                    let found = mappings.iter().find(|m| m.start <= pc && pc < m.end);
                    let id = found.and_then(|mapping| find(learner, pid, mapping));
                    met.extend(id);
                    lost = found.is_some_and(is_file) && !self.has_file(id);
                    match (found, id) {
                        (Some(mapping), Some(id)) => {
                            interpreter |= self.modules.is_interpreter(id);
                            out.push(native(Tag::Native, id, pc - mapping.start + mapping.offset));
                        }
                        _ => out.extend(words),
                    }
                }
                Raw::Marker { address } => groups.push((address, Vec::new())),
                _ => groups
                    .last_mut()
                    .map_or(&mut out, |group| &mut group.1)
                    .extend(words),
            }
        }
        // The last native word is the frame that the walk went on from.
        let mut groups = groups.into_iter().peekable();
        let mut sp = sample.registers.sp;
        let mut last = out.pop();
        let mut based = false;
        for frame in &walk.frames {
            let mut holds = false;
            while let Some((_, words)) = groups.next_if(|g| g.0 >= sp && g.0 < frame.sp) {
                out.extend(words);
                holds = true;
            }
            out.extend(last);
            // The first function of a stack of its own: see `rprof_ebpf::runtimes::walk::leave`.
            based = holds && groups.peek().is_none() && last.is_some_and(|w| self.is_outside(w));
            if based {
                last = None;
                break;
            }
            sp = frame.sp;
            let mapping = mappings.get(frame.mapping)?;
            let id = find(learner, pid, mapping);
            lost = is_file(mapping) && !self.has_file(id);
            last = Some(match id {
                Some(id) => {
                    met.insert(id);
                    interpreter |= self.modules.is_interpreter(id);
                    native(Tag::Native, id, frame.offset - u64::from(!frame.exact))
                }
                None => {
                    let pc = frame.offset - mapping.offset + mapping.start;
                    rprof_ebpf::frame::address(Tag::Anonymous, pc)
                }
            });
        }
        // In the outermost frame, or beyond where native frames could be followed.
        out.extend(groups.flat_map(|group| group.1));
        out.extend(last);
        let unanswered = learner.unanswered();
        for module in &unanswered {
            // Next time there may be an answer.
            self.unwinder.cache().forget(&module.key);
        }
        let late = unanswered.iter().filter(|module| module.late);
        let waits: Vec<ModuleKey> = late.map(|module| module.key).collect();
        // One that waits comes again.
        for id in met.into_iter().filter(|_| waits.is_empty()) {
            // A stack longer than a slice can only be walked by rows.
            if learner.meet(id, walk.end == End::Slice) {
                self.forget(id);
            }
        }
        // A runtime's frames that were cut stay cut, however far native frames went.
        let uncut = [End::Unlearned, End::Unsupported].map(|end| end as u32);
        if uncut.contains(&sample.end) {
            sample.end = match walk.end {
                _ if based => End::Complete,
                End::NoMapping if listed.end != End::Complete => listed.end,
                End::Slice if listed.slice_end != End::WouldFault => listed.slice_end,
                End::NoRow if unanswered.iter().any(|module| module.silent) => End::Unanswered,
                End::NoRow if !unanswered.is_empty() => End::Unlearned,
                End::NoRow if lost => End::NoFile,
                end => end,
            } as u32;
        }
        sample.user_words = out.len() as u32;
        let mut record = words_of(&sample, &unfinished.sample);
        record.extend_from_slice(kernel);
        record.extend_from_slice(&out);
        let known = sample.flags & sample_flags::RUNTIME_KNOWN != 0;
        Some(Finished {
            record,
            interpreter_unwalked: interpreter && !known,
            waits,
        })
    }

    /// Whether the file of a module was found.
    fn has_file(&self, id: Option<ModuleId>) -> bool {
        let module = id.and_then(|id| self.modules.get(id));
        module.is_some_and(|module| module.content.is_ok())
    }

    /// Whether a frame is in a file that holds no interpreter.
    fn is_outside(&self, word: u64) -> bool {
        match Frames(&[word]).next() {
            Some(Raw::Native { module, .. }) => !self.modules.is_interpreter(module),
            _ => false,
        }
    }

    /// Keeps the CFI of a module, or that it has none.
    pub fn keep(&mut self, key: ModuleKey, info: Option<FrameInfo>) {
        self.unwinder.cache().insert(key, info.map(Arc::new));
    }

    /// Forgets the CFI of a module: the programs have its rows.
    pub fn forget(&mut self, id: ModuleId) {
        if let Some(module) = self.modules.get(id) {
            self.unwinder.cache().forget(&module.key);
        }
    }
}

/// What the learner knows of a process's modules.
struct Learned<'a> {
    learner: &'a mut Learner,
    pid: u32,
}

impl Sources for Learned<'_> {
    fn rule(&mut self, mapping: &Mapping, offset: u64) -> Option<Rule> {
        let id = find(self.learner, self.pid, mapping)?;
        self.learner.rule(id, offset)
    }

    fn frame_info(&mut self, mapping: &Mapping) -> Option<Arc<FrameInfo>> {
        let id = find(self.learner, self.pid, mapping)?;
        self.learner.frame_info(id).map(Arc::new)
    }
}

/// Whether a mapping is that of a file, or the vDSO.
fn is_file(mapping: &Mapping) -> bool {
    mapping.key != ModuleKey::VDSO || mapping.vdso != 0
}

/// The module of a mapping.
fn find(learner: &mut Learner, pid: u32, mapping: &Mapping) -> Option<ModuleId> {
    if !is_file(mapping) {
        return None;
    }
    learner.find(&Sampled {
        key: mapping.key,
        pid,
        mapping: (mapping.start, mapping.end),
        components: &[],
        build_id: None,
        neighbours: &[],
    })
}

/// What came with a sample's slices.
struct Listed {
    mappings: Vec<Mapping>,
    /// Why there are no more mappings.
    end: End,
    /// Why there are no more slices.
    slice_end: End,
}

fn listed(record: &[u64]) -> Listed {
    let Some((header, mut rest)) = take::<Mappings>(record) else {
        return Listed {
            mappings: Vec::new(),
            end: End::Mappings,
            slice_end: End::Slice,
        };
    };
    let mut mappings = Vec::new();
    for _ in 0..header.count {
        let Some((mapping, after)) = take::<Mapping>(rest) else {
            break;
        };
        mappings.push(mapping);
        rest = after;
    }
    let end = |number: u16, other| End::ALL.get(usize::from(number)).copied().unwrap_or(other);
    Listed {
        mappings,
        end: end(header.list_end, End::Mappings),
        slice_end: end(header.slice_end, End::Slice),
    }
}

/// Address and bytes of a slice's record.
fn piece(record: &[u64]) -> Option<(u64, Vec<u8>)> {
    let (slice, rest) = take::<Slice>(record)?;
    let len = usize::try_from(slice.len).ok()?;
    Some((
        slice.address,
        rest.iter()
            .flat_map(|word| word.to_ne_bytes())
            .take(len)
            .collect(),
    ))
}

/// The words of a sample's head: those of its record, with what was changed in `sample`.
fn words_of(sample: &Sample, record: &[u64]) -> Vec<u64> {
    let len = size_of::<Sample>() / 8;
    let mut words = record[..len.min(record.len())].to_vec();
    rprof_ebpf::record::put(sample, &mut words);
    words
}
