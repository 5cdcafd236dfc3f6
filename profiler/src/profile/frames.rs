//! The tables that stacks refer to: frames, interpreted functions, texts of labels. Values come in
//! with each sample, numbers go out. They stay in memory for the whole run, so they have a limit of
//! their own: what would exceed it is refused, never replaced by something else.

use std::collections::HashMap;
use std::sync::Arc;

use rprof_ebpf::module::ModuleId;
use rprof_ebpf::record::End;

use super::intern::Interner;
use super::{Frame, Function, Labels, text};

/// Arcs whose number is remembered by address, so that their text is not hashed again.
const REMEMBERED: usize = 4096;

/// A frame in 8 bytes.
///
/// ```text
/// bit 63       1: a kernel address, whole (kernel addresses have it set on every 64-bit Linux)
/// bits 61–62   0 native: bits 45–60 module, bits 0–44 file offset
///              1 interpreted: bits 32–60 function number, bits 0–31 line
///              2 others: 0 unknown, 1 would fault, 2 + n truncated for reason n
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Packed(pub(super) u64);

const KIND: u32 = 61;
const OFFSET_BITS: u32 = 45;
const FUNCTION_BITS: u32 = 29;

impl Packed {
    const UNKNOWN: Self = Self(2 << KIND);
    const WOULD_FAULT: Self = Self(2 << KIND | 1);

    fn interpreted(function: u32, line: u32) -> Self {
        Self(1 << KIND | u64::from(function) << 32 | u64::from(line))
    }

    /// Who knows its name.
    pub(super) fn source(self) -> Source {
        match self.unpack() {
            Unpacked::Kernel(_) => Source::Kernel,
            Unpacked::Native { module, .. } => Source::Module(module),
            _ => Source::Own,
        }
    }

    /// A native frame's file offset.
    pub(super) fn offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }

    /// What the bits say.
    pub(super) fn unpack(self) -> Unpacked {
        if self.0 >> 63 == 1 {
            return Unpacked::Kernel(self.0);
        }
        match self.0 >> KIND {
            0 => Unpacked::Native {
                module: (self.0 >> OFFSET_BITS) as u16,
                offset: self.offset(),
            },
            1 => Unpacked::Interpreted {
                function: (self.0 >> 32) as u32 & ((1 << FUNCTION_BITS) - 1),
                line: self.0 as u32,
            },
            _ => match self.0 as u32 {
                0 => Unpacked::Unknown,
                1 => Unpacked::WouldFault,
                n => End::ALL
                    .get(n as usize - 2)
                    .map_or(Unpacked::Unknown, |&end| Unpacked::Truncated(end)),
            },
        }
    }
}

/// Who knows a frame's name. In the order of frames those of one source stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The module with this number.
    Module(ModuleId),
    Kernel,
    /// The frame itself.
    Own,
}

/// A frame with its function as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unpacked {
    Kernel(u64),
    Native { module: u16, offset: u64 },
    Interpreted { function: u32, line: u32 },
    Unknown,
    WouldFault,
    Truncated(End),
}

/// Whose a stack is, with texts as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) comm: u32,
    pub(super) thread: u32,
    /// [`Owner::NONE`]: no cgroup.
    pub(super) cgroup: u32,
    pub(super) host_pid: bool,
}

impl Owner {
    pub(super) const NONE: u32 = u32::MAX;
}

/// Frames, functions and label texts.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) frames: Interner<Packed>,
    pub(super) functions: Interner<Arc<Function>>,
    pub(super) texts: Interner<Arc<str>>,
    /// Number by the Arc's address. The Arc is kept, so the address cannot be used again.
    remembered: HashMap<usize, (Arc<Function>, u32)>,
    /// Bytes that functions and texts point to.
    pointed: usize,
    /// Bytes that remembered functions point to, as far as they are not in `functions`.
    remembered_bytes: usize,
}

impl Tables {
    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.frames.bytes()
            + self.functions.bytes()
            + self.texts.bytes()
            + self.pointed
            + self.remembered_bytes
            + self.remembered.capacity() * size_of::<(usize, Arc<Function>, u32)>()
    }

    /// Numbers of frames, in their order, into `ids`. `None`: a new one has no room below `limit`.
    pub(super) fn frames(
        &mut self,
        frames: &[Frame],
        ids: &mut Vec<u32>,
        limit: usize,
    ) -> Option<()> {
        ids.clear();
        for frame in frames {
            let packed = self.pack(frame, limit)?;
            ids.push(self.frame(packed, limit)?);
        }
        if ids.is_empty() {
            // Time that nobody can place is shown, not hidden.
            ids.push(self.frame(Packed::UNKNOWN, limit)?);
        }
        Some(())
    }

    /// Labels with texts as numbers; `None`: no room.
    pub(super) fn owner(&mut self, labels: &Labels, limit: usize) -> Option<Owner> {
        Some(Owner {
            pid: labels.pid,
            tid: labels.tid,
            comm: self.text(&labels.comm, limit)?,
            thread: self.text(&labels.thread, limit)?,
            cgroup: match &labels.cgroup {
                Some(cgroup) => self.text(cgroup, limit)?,
                None => Owner::NONE,
            },
            host_pid: labels.host_pid,
        })
    }

    /// A text by number; empty for a number that is not one.
    pub(super) fn text_at(&self, id: u32) -> &str {
        self.texts.at(id).map_or("", |t| t)
    }

    fn room(&self, bytes: usize, limit: usize) -> Option<()> {
        (self.bytes().saturating_add(bytes) <= limit).then_some(())
    }

    fn frame(&mut self, packed: Packed, limit: usize) -> Option<u32> {
        if let Some(id) = self.frames.get(&packed) {
            return Some(id);
        }
        self.room(self.frames.growth(1), limit)?;
        Some(self.frames.intern(packed))
    }

    fn pack(&mut self, frame: &Frame, limit: usize) -> Option<Packed> {
        Some(match *frame {
            Frame::Kernel(address) if address >> 63 == 1 => Packed(address),
            Frame::Native { module, offset } if offset >> OFFSET_BITS == 0 => {
                Packed(u64::from(module) << OFFSET_BITS | offset)
            }
            Frame::Interpreted { ref function, line } => {
                Packed::interpreted(self.function(function, limit)?, line)
            }
            Frame::WouldFault => Packed::WOULD_FAULT,
            Frame::Truncated(end) => Packed(2 << KIND | (2 + end as u64)),
            // Places that cannot be (no file has such offsets, no kernel such addresses), and
            // places of no module: their address says nothing after the run.
            Frame::Kernel(_) | Frame::Native { .. } | Frame::Unknown(_) => Packed::UNKNOWN,
        })
    }

    fn function(&mut self, function: &Arc<Function>, limit: usize) -> Option<u32> {
        let address = Arc::as_ptr(function) as usize;
        if let Some(&(_, id)) = self.remembered.get(&address) {
            return Some(id);
        }
        let known = self.functions.get(function.as_ref());
        let size = size_of::<Function>() + function.name.len() + function.file.len();
        let id = match known {
            Some(id) => id,
            None => {
                let grown = self.functions.growth(1).saturating_add(size);
                self.room(grown, limit)?;
                if self.functions.len() >> FUNCTION_BITS != 0 {
                    return None;
                }
                self.pointed += size;
                self.functions.intern(function.clone())
            }
        };
        if self.remembered.len() >= REMEMBERED {
            self.remembered.clear();
            self.remembered_bytes = 0;
        }
        // Only worth its memory if the caller keeps the Arc, too.
        if Arc::strong_count(function) > 1 && self.room(size + 64, limit).is_some() {
            if known.is_some() {
                self.remembered_bytes += size;
            }
            self.remembered.insert(address, (function.clone(), id));
        }
        Some(id)
    }

    fn text(&mut self, value: &Arc<str>, limit: usize) -> Option<u32> {
        if let Some(id) = self.texts.get(value.as_ref()) {
            return Some(id);
        }
        let capped = text::cap(value);
        if capped.len() < value.len() {
            return self.text(&Arc::from(capped), limit);
        }
        let size = value.len() + 2 * size_of::<usize>();
        self.room(self.texts.growth(1).saturating_add(size), limit)?;
        self.pointed += size;
        Some(self.texts.intern(value.clone()))
    }
}
