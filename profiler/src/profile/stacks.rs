//! Counted stacks. Frame numbers, an owner and a count come in; each distinct stack of each owner
//! goes out once, with its sum. In memory stacks are a tree that grows from the root, so that what
//! two of them share is stored once; when there is no room, all of it becomes a run of the part
//! file, and runs are merged on the way out. It never knows what a number stands for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::Path;

use super::frames::Owner;
use super::intern::Interner;
use super::part::{Parts, Reader, Record, WRITE_BUFFER};

/// A stack is a node: its leaf, above the node of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    /// Number of the caller's node, or [`ROOT`].
    caller: u32,
    frame: u32,
}

const ROOT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sample {
    leaf: u32,
    owner: u32,
}

/// Stacks by owner, each with how many samples it has.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    nodes: Interner<Node>,
    owners: Interner<Owner>,
    samples: Interner<Sample>,
    counts: Vec<u64>,
    parts: Option<Parts>,
    total: u64,
}

/// Takes a stack's frames, leaf first, its owner and its count.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u32], &Owner, u64) -> io::Result<()>;

/// What stopped a stack from being added.
#[derive(Debug)]
pub(super) enum NoRoom {
    /// It alone needs more than there is.
    Memory,
    /// The part file could not be written.
    Spill(io::Error),
}

impl Stacks {
    /// Bytes in use, with those that writing a part will need: room for that is kept free.
    pub(super) fn bytes(&self) -> usize {
        let tables = self.nodes.bytes() + self.owners.bytes() + self.samples.bytes();
        let counts = self.counts.capacity() * size_of::<u64>();
        tables + counts + self.spill_bytes(0, 0) + WRITE_BUFFER
    }

    fn spill_bytes(&self, nodes: usize, samples: usize) -> usize {
        (self.nodes.len() + nodes) * size_of::<u64>()
            + (self.samples.len() + samples) * size_of::<(u64, u32)>()
    }

    /// Samples in all, parts included.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Stacks in memory, and runs in the part file with their bytes.
    pub(super) fn size(&self) -> (usize, usize, u64) {
        let parts = self.parts.as_ref();
        let bytes = parts.map_or(0, Parts::bytes);
        (self.samples.len(), parts.map_or(0, Parts::len), bytes)
    }

    /// Adds `count` samples of a stack (leaf first). If that would take more than `limit` bytes,
    /// what is in memory goes to the part file in `directory` first. On an error nothing is added,
    /// and nothing that was there is lost.
    pub(super) fn add(
        &mut self,
        frames: &[u32],
        owner: Owner,
        count: u64,
        limit: usize,
        directory: &Path,
    ) -> Result<(), NoRoom> {
        let (mut node, mut missing) = self.known(frames);
        if (missing > 0 || !self.has(node, &owner)) && !self.fits(missing, limit) {
            if self.samples.len() == 0 {
                return Err(NoRoom::Memory);
            }
            self.spill(directory).map_err(NoRoom::Spill)?;
            (node, missing) = (ROOT, frames.len());
            if !self.fits(missing, limit) {
                return Err(NoRoom::Memory);
            }
        }
        for &frame in frames.iter().take(missing).rev() {
            node = self.nodes.intern(Node {
                caller: node,
                frame,
            });
        }
        let owner = self.owners.intern(owner);
        let sample = self.samples.intern(Sample { leaf: node, owner });
        match self.counts.get_mut(sample as usize) {
            Some(sum) => *sum = sum.saturating_add(count),
            None => self.counts.push(count),
        }
        self.total = self.total.saturating_add(count);
        Ok(())
    }

    /// The node of the longest part of a stack that is known, from the root on, and how many frames
    /// at its leaf are not.
    fn known(&self, frames: &[u32]) -> (u32, usize) {
        let mut caller = ROOT;
        for (above, &frame) in frames.iter().enumerate().rev() {
            match self.nodes.get(&Node { caller, frame }) {
                Some(node) => caller = node,
                None => return (caller, above + 1),
            }
        }
        (caller, 0)
    }

    fn has(&self, leaf: u32, owner: &Owner) -> bool {
        self.owners
            .get(owner)
            .is_some_and(|owner| self.samples.get(&Sample { leaf, owner }).is_some())
    }

    fn fits(&self, nodes: usize, limit: usize) -> bool {
        let counts = if self.counts.len() == self.counts.capacity() {
            self.counts.len().max(4) * 2 * size_of::<u64>()
        } else {
            0
        };
        let growth = [
            self.bytes(),
            self.nodes.growth(nodes),
            self.owners.growth(1),
            self.samples.growth(1),
            counts,
            self.spill_bytes(nodes, 1) - self.spill_bytes(0, 0),
        ];
        growth.into_iter().fold(0, usize::saturating_add) <= limit
    }

    /// Samples in the order of their keys.
    fn sorted(&self) -> Vec<(u64, u32)> {
        let mut hashes: Vec<u64> = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.items() {
            // A caller's number is smaller than that of its callees.
            let caller = hashes.get(node.caller as usize).copied().unwrap_or(0);
            hashes.push(mix(caller, node.frame));
        }
        let mut order: Vec<(u64, u32)> = (0u32..)
            .zip(self.samples.items())
            .map(|(number, sample)| {
                let stack = hashes.get(sample.leaf as usize).copied().unwrap_or(0);
                let key = self.owners.at(sample.owner).map_or(stack, |owner| {
                    let texts = [owner.comm, owner.thread, owner.cgroup];
                    let ids = [owner.pid, owner.tid, owner.host_pid.into()];
                    texts.into_iter().chain(ids).fold(stack, mix)
                });
                (key, number)
            })
            .collect();
        order.sort_unstable();
        order
    }

    /// Reads a sample that is in memory; `false` if there is no such number.
    fn read(&self, key: u64, number: u32, record: &mut Record) -> bool {
        let Some(sample) = self.samples.at(number) else {
            return false;
        };
        let (Some(&owner), Some(&count)) = (
            self.owners.at(sample.owner),
            self.counts.get(number as usize),
        ) else {
            return false;
        };
        record.key = key;
        record.owner = owner;
        record.count = count;
        record.frames.clear();
        let mut node = sample.leaf;
        while let Some(&Node { caller, frame }) = self.nodes.at(node) {
            record.frames.push(frame);
            node = caller;
        }
        true
    }

    fn spill(&mut self, directory: &Path) -> io::Result<()> {
        let mut parts = match self.parts.take() {
            Some(parts) => parts,
            None => Parts::create(directory)?,
        };
        let order = self.sorted();
        let written = parts.append(|run| {
            let mut record = empty();
            for &(key, number) in &order {
                if self.read(key, number, &mut record) {
                    run.record(&record)?;
                }
            }
            Ok(())
        });
        self.parts = Some(parts);
        written?;
        self.nodes = Interner::default();
        self.owners = Interner::default();
        self.samples = Interner::default();
        self.counts = Vec::new();
        Ok(())
    }

    /// Hands out each distinct stack of each owner once; as often as asked. Frames are leaf first.
    ///
    /// # Errors
    /// Those of the callback and of reading the part file.
    pub(super) fn visit(&self, visit: Visit<'_>) -> io::Result<()> {
        let Some(parts) = &self.parts else {
            let mut record = empty();
            for number in 0..self.samples.len() as u32 {
                if self.read(0, number, &mut record) {
                    visit(&record.frames, &record.owner, record.count)?;
                }
            }
            return Ok(());
        };
        let mut sources: Vec<(Source<'_>, Record)> = parts
            .readers()
            .map(|reader| (Source::Part(reader), empty()))
            .collect();
        sources.push((Source::Memory(self, self.sorted().into_iter()), empty()));
        let mut heads = BinaryHeap::new();
        for (number, (source, record)) in sources.iter_mut().enumerate() {
            if source.next(record)? {
                heads.push(Reverse((record.key, number)));
            }
        }
        // Records of one key: nearly always the same stack. Where hashes collide, several.
        let mut group: Vec<Record> = Vec::new();
        while let Some(Reverse((key, number))) = heads.pop() {
            let Some((source, record)) = sources.get_mut(number) else {
                continue;
            };
            if group.first().is_some_and(|first| first.key != key) {
                hand_out(&mut group, visit)?;
            }
            let same = |r: &&mut Record| r.owner == record.owner && r.frames == record.frames;
            match group.iter_mut().find(same) {
                Some(known) => known.count = known.count.saturating_add(record.count),
                None => group.push(record.clone()),
            }
            if source.next(record)? {
                heads.push(Reverse((record.key, number)));
            }
        }
        hand_out(&mut group, visit)
    }
}

fn hand_out(group: &mut Vec<Record>, visit: Visit<'_>) -> io::Result<()> {
    for record in group.drain(..) {
        visit(&record.frames, &record.owner, record.count)?;
    }
    Ok(())
}

/// Where sorted records come from.
enum Source<'a> {
    Part(Reader<'a>),
    Memory(&'a Stacks, std::vec::IntoIter<(u64, u32)>),
}

impl Source<'_> {
    fn next(&mut self, record: &mut Record) -> io::Result<bool> {
        match self {
            Self::Part(reader) => reader.next(record),
            Self::Memory(stacks, order) => Ok(order
                .next()
                .is_some_and(|(key, number)| stacks.read(key, number, record))),
        }
    }
}

fn empty() -> Record {
    Record {
        key: 0,
        owner: Owner {
            pid: 0,
            tid: 0,
            comm: 0,
            thread: 0,
            cgroup: Owner::NONE,
            host_pid: false,
        },
        count: 0,
        frames: Vec::new(),
    }
}

/// A fixed hash: keys of different runs must agree. Collisions cost a comparison, nothing else.
fn mix(hash: u64, value: u32) -> u64 {
    let x = (hash ^ u64::from(value)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
