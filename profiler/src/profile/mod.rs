//! Merged stacks. Raw frames come in, equal stacks are counted once, names are looked up at the
//! end: memory grows with distinct stacks and is bounded. What goes out is one of the formats.
//!
//! | module | what it is |
//! |---|---|
//! | `frames` | tables of frames, functions and texts |
//! | `stacks` · `part` | counted stacks in memory, and those that had no room there |
//! | [`symbols`] | names for all frames, asked for once at the end |
//! | [`totals`] | sums for the summary |
//! | [`containers`] | what a cgroup's path says of a container |
//! | [`pprof`] · [`folded`] · [`svg`] · [`firefox`] | the formats |
//! | [`output`] | where a profile is written to, and how that does no harm |

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rprof_ebpf::module::ModuleId;
use rprof_ebpf::record::End;

pub mod containers;
pub mod firefox;
pub mod folded;
mod frames;
pub mod gzip;
mod intern;
pub mod output;
mod part;
pub mod pprof;
mod stacks;
pub mod svg;
pub mod symbols;
mod text;
pub mod totals;

pub use self::pprof::About;
pub use symbols::Symbols;

use frames::{Owner, Packed, Tables, Unpacked};
use stacks::{NoRoom, Stacks};

/// A frame before native names are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// A kernel address (of the instruction, callers already adjusted to the call).
    Kernel(u64),
    /// A place in a module's file (callers already adjusted to the call).
    Native {
        /// The module.
        module: ModuleId,
        /// File offset.
        offset: u64,
    },
    /// A line of an interpreted function.
    Interpreted {
        /// Name and file as the runtime says them.
        function: Arc<Function>,
        /// Line, 0 if not known.
        line: u32,
    },
    /// A place that no module holds; shown as `[unknown]`.
    Unknown(u64),
    /// `[truncated: …]`, at the root side.
    Truncated(End),
    /// `[would fault]`, where `--on-fault mark` keeps such samples.
    WouldFault,
}

/// An interpreted function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Qualified name.
    pub name: String,
    /// File, as the runtime says it.
    pub file: String,
    /// First line, 0 if not known.
    pub first_line: u32,
}

/// Whose a stack is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Process id; in rprof's own namespace, or the host's if `host_pid`.
    pub pid: u32,
    /// Thread id, likewise.
    pub tid: u32,
    /// `pid` and `tid` are those of the initial namespace, because ours does not show the process.
    pub host_pid: bool,
    /// The process's name.
    pub comm: Arc<str>,
    /// The thread's name.
    pub thread: Arc<str>,
    /// Its cgroup's path.
    pub cgroup: Option<Arc<str>>,
}

/// One line of a named frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Line {
    /// Function name, as its users write it.
    pub function: Arc<str>,
    /// Source file, empty if not known.
    pub file: Arc<str>,
    /// Line, 0 if not known.
    pub line: u32,
    /// First line of the function, 0 if not known.
    pub first_line: u32,
}

/// What is known of a module, for the profile's mappings.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Module {
    /// Path as its processes see it; `[vdso]` for the vDSO.
    pub path: String,
    /// Build id in hex, empty if it has none.
    pub build_id: String,
    /// Bytes of the file.
    pub size: u64,
}

/// Takes a module's names: see [`Names::modules`].
pub type Each<'a> = dyn FnMut(usize, Module, Vec<Vec<Line>>) + 'a;

/// Names for native and kernel frames, asked for at the end: each module once, with all places that
/// were sampled in it, so that the lines of few modules at a time are in memory.
pub trait Names {
    /// Modules, and the lines of places in them (file offsets, rising): innermost inlined callee first.
    /// Without lines no name is known; places at the end may be left out. `each` is called once for each
    /// of them with its index, in any order: what takes long shall not keep the others waiting.
    fn modules(&mut self, wanted: &[(ModuleId, Vec<u64>)], each: &mut Each<'_>);
    /// Kernel functions, `None` if not known; addresses at the end may be left out.
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Option<Line>>;
}

/// What a profile may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of memory for stacks and the tables they refer to. Tables may take half of it. Names
    /// come on top, at the end.
    pub max_memory: usize,
    /// Where the part file is made, which has no name; not on a file system that is memory itself.
    pub directory: PathBuf,
}

impl Limits {
    /// For one of so many profiles that share what one may use.
    pub fn share(&self, of: usize) -> Self {
        Self {
            max_memory: self.max_memory / of.max(1),
            directory: self.directory.clone(),
        }
    }
}

/// What became of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stack that found no room is a loss, and losses are counted"]
pub enum Added {
    /// It is in the profile.
    Counted,
    /// It is not: memory is used up, and the part file does not help (see
    /// [`Profile::spill_error`]).
    Full,
}

/// A frame's number in one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct FrameId(u32);

/// A distinct stack of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    /// Its frames, leaf first; names are [`Symbols::lines`].
    pub frames: &'a [FrameId],
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The ids are those of the initial namespace.
    pub host_pid: bool,
    /// The process's name.
    pub comm: &'a str,
    /// The thread's name.
    pub thread: &'a str,
    /// Its cgroup's path.
    pub cgroup: Option<&'a str>,
    /// Samples.
    pub count: u64,
}

/// What a profile takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of memory allocated.
    pub memory: usize,
    /// Stacks in memory.
    pub stacks: usize,
    /// Distinct frames.
    pub frames: usize,
    /// Runs in the part file.
    pub parts: usize,
    /// Bytes of the part file.
    pub part_bytes: u64,
}

/// Counted stacks.
#[derive(Debug)]
pub struct Profile {
    limits: Limits,
    tables: Tables,
    stacks: Stacks,
    /// Frame numbers of the stack that is being added.
    ids: Vec<u32>,
    spill_error: Option<io::Error>,
}

impl Profile {
    /// An empty profile. Touches no file before memory is used up.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            tables: Tables::default(),
            stacks: Stacks::default(),
            ids: Vec::new(),
            spill_error: None,
        }
    }

    /// Adds `count` samples of a stack, leaf first. All of it is added or nothing. A stack without
    /// frames counts as `[unknown]`.
    pub fn add(&mut self, frames: &[Frame], labels: &Labels, count: u64) -> Added {
        if count == 0 {
            return Added::Counted;
        }
        let max = self.limits.max_memory;
        let mut ids = std::mem::take(&mut self.ids);
        let owner = self
            .tables
            .frames(frames, &mut ids, max / 2)
            .and_then(|()| self.tables.owner(labels, max / 2));
        let added = owner.map_or(Err(NoRoom::Memory), |owner| {
            let room = max.saturating_sub(self.tables.bytes());
            self.stacks
                .add(&ids, owner, count, room, &self.limits.directory)
        });
        self.ids = ids;
        match added {
            Ok(()) => Added::Counted,
            Err(NoRoom::Memory) => Added::Full,
            Err(NoRoom::Spill(error)) => {
                self.spill_error.get_or_insert(error);
                Added::Full
            }
        }
    }

    /// Adds all of another profile. Returns how many samples found no room.
    ///
    /// # Errors
    /// Those of reading the other's part file.
    pub fn merge(&mut self, other: &Profile) -> io::Result<u64> {
        let mut full = 0;
        let mut frames = Vec::new();
        other.stacks.visit(&mut |ids, owner, count| {
            frames.clear();
            frames.extend(ids.iter().map(|&id| other.frame(id)));
            if self.add(&frames, &other.labels(owner), count) == Added::Full {
                full += count;
            }
            Ok(())
        })?;
        Ok(full)
    }

    /// Samples in the profile.
    pub fn samples(&self) -> u64 {
        self.stacks.total()
    }

    /// What it takes.
    pub fn size(&self) -> Size {
        let (stacks, parts, part_bytes) = self.stacks.size();
        Size {
            memory: self.tables.bytes() + self.stacks.bytes(),
            stacks,
            frames: self.tables.frames.len(),
            parts,
            part_bytes,
        }
    }

    /// Why the part file could not be written, the first time that happened.
    pub fn spill_error(&self) -> Option<&io::Error> {
        self.spill_error.as_ref()
    }

    /// Hands out each distinct frame once.
    pub fn each_frame(&self, visit: &mut dyn FnMut(&Frame)) {
        for id in 0..self.tables.frames.len() {
            visit(&self.frame(id as u32));
        }
    }

    /// Asks for the names of all frames. What is added later has none.
    pub fn symbols(&self, names: &mut dyn Names) -> Symbols {
        Symbols::new(&self.tables, names)
    }

    /// Hands out each distinct stack of each thread once; as often as asked.
    ///
    /// # Errors
    /// Those of the callback and of reading the part file back.
    pub fn visit(&self, visit: &mut dyn FnMut(Stack<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut frames = Vec::new();
        self.stacks.visit(&mut |ids, owner, count| {
            frames.clear();
            frames.extend(ids.iter().map(|&id| FrameId(id)));
            visit(Stack {
                frames: &frames,
                pid: owner.pid,
                tid: owner.tid,
                host_pid: owner.host_pid,
                comm: self.tables.text_at(owner.comm),
                thread: self.tables.text_at(owner.thread),
                cgroup: (owner.cgroup != Owner::NONE).then(|| self.tables.text_at(owner.cgroup)),
                count,
            })
        })
    }

    /// A frame as it was added.
    fn frame(&self, id: u32) -> Frame {
        let unpacked = self.tables.frames.at(id).copied().map(Packed::unpack);
        match unpacked.unwrap_or(Unpacked::Unknown) {
            Unpacked::Kernel(address) => Frame::Kernel(address),
            Unpacked::Native { module, offset } => Frame::Native { module, offset },
            Unpacked::Interpreted { function, line } => match self.tables.functions.at(function) {
                Some(function) => Frame::Interpreted {
                    function: function.clone(),
                    line,
                },
                None => Frame::Unknown(0),
            },
            Unpacked::Unknown => Frame::Unknown(0),
            Unpacked::WouldFault => Frame::WouldFault,
            Unpacked::Truncated(end) => Frame::Truncated(end),
        }
    }

    fn labels(&self, owner: &Owner) -> Labels {
        let text = |id| self.tables.texts.at(id).cloned();
        Labels {
            pid: owner.pid,
            tid: owner.tid,
            host_pid: owner.host_pid,
            comm: text(owner.comm).unwrap_or_default(),
            thread: text(owner.thread).unwrap_or_default(),
            cgroup: text(owner.cgroup),
        }
    }
}
