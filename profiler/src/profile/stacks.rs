//! Counted stacks. Frame numbers, an owner and a count come in; each distinct stack of each owner
//! goes out once, with its sum. In memory stacks are a tree that grows from the root, so that what
//! two of them share is stored once; when there is no room, all of it becomes a run of the part
//! file, and runs are merged on the way out. It never knows what a number stands for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use hashbrown::HashTable;

use super::frames::Owner;
use super::intern::{Interner, step, table_growth, vec_growth};
use super::part::{Parts, Record, RunReader, WRITE_BUFFER};

/// A stack is a node: its leaf, above the node of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    /// Number of the caller's node, or [`ROOT`].
    caller: u32,
    frame: u32,
}

const ROOT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Sample {
    leaf: u32,
    owner: u32,
    count: u64,
}

/// Where a sample is found by its content.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Half of the content's hash: the rest of the lookup is comparing.
    hash: u32,
    sample: u32,
}

/// Stacks by owner, each with how many samples it has.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    nodes: Interner<Node>,
    owners: Interner<Owner>,
    samples: Vec<Sample>,
    /// Known stacks are found by all of their frames at once: walking the tree down from the root
    /// would miss the cache at each step of a large one (51 µs for 50 frames, measured).
    slots: HashTable<Slot>,
    /// Makes hashes that no target can foresee.
    seed: RandomState,
    parts: Option<Parts>,
    total: u64,
    /// After a part that could not be written: stacks to refuse before the next attempt, and how
    /// many the attempt after that waits for. Each one sorts all there is.
    refuse: u64,
    pause: u64,
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
        let samples = self.samples.capacity() * size_of::<Sample>() + self.slots.allocation_size();
        self.nodes.bytes() + self.owners.bytes() + samples + self.spill_bytes(0, 0) + WRITE_BUFFER
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
        let hash = self.hash(frames, &owner);
        if let Some(sample) = self.find(hash, frames, &owner) {
            sample.count = sample.count.saturating_add(count);
            self.total = self.total.saturating_add(count);
            return Ok(());
        }
        let (mut node, mut missing) = self.known(frames);
        if !self.fits(missing, limit) {
            if self.samples.is_empty() {
                return Err(NoRoom::Memory);
            }
            if self.refuse > 0 {
                self.refuse -= 1;
                return Err(NoRoom::Memory);
            }
            if let Err(error) = self.spill(directory) {
                self.pause = (self.pause * 2).clamp(64, 1 << 16);
                self.refuse = self.pause;
                return Err(NoRoom::Spill(error));
            }
            self.pause = 0;
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
        let number = self.samples.len() as u32;
        if self.samples.len() == self.samples.capacity() {
            self.samples.reserve_exact(step(self.samples.capacity()));
        }
        self.samples.push(Sample {
            leaf: node,
            owner: self.owners.intern(owner),
            count,
        });
        let slot = Slot {
            hash,
            sample: number,
        };
        self.slots
            .insert_unique(spread(hash), slot, |slot| spread(slot.hash));
        self.total = self.total.saturating_add(count);
        Ok(())
    }

    fn hash(&self, frames: &[u32], owner: &Owner) -> u32 {
        let seed = self.seed.hash_one(owner);
        frames.iter().copied().fold(seed, mix) as u32
    }

    /// The sample with just these frames and this owner.
    fn find(&mut self, hash: u32, frames: &[u32], owner: &Owner) -> Option<&mut Sample> {
        let slot = self.slots.find(spread(hash), |slot| {
            slot.hash == hash
                && self
                    .samples
                    .get(slot.sample as usize)
                    .is_some_and(|sample| {
                        self.owners.at(sample.owner) == Some(owner) && self.is(sample.leaf, frames)
                    })
        })?;
        self.samples.get_mut(slot.sample as usize)
    }

    /// Whether the stack of a leaf is this one. The nodes that only one stack has lie beside each
    /// other.
    fn is(&self, leaf: u32, frames: &[u32]) -> bool {
        let mut node = leaf;
        for &frame in frames {
            match self.nodes.at(node) {
                Some(found) if found.frame == frame => node = found.caller,
                _ => return false,
            }
        }
        node == ROOT
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

    fn fits(&self, nodes: usize, limit: usize) -> bool {
        if self.samples.len() >= u32::MAX as usize {
            return false;
        }
        let samples = vec_growth(&self.samples, 1);
        let slots = table_growth(&self.slots, self.samples.len() + 1);
        let growth = [
            self.bytes(),
            self.nodes.growth(nodes),
            self.owners.growth(1),
            samples,
            slots,
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
            .zip(&self.samples)
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
        let Some(sample) = self.samples.get(number as usize) else {
            return false;
        };
        let Some(&owner) = self.owners.at(sample.owner) else {
            return false;
        };
        record.key = key;
        record.owner = owner;
        record.count = sample.count;
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
        self.samples = Vec::new();
        self.slots = HashTable::new();
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
    Part(RunReader<'a>),
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

/// hashbrown looks at the low bits and at the top 7.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
