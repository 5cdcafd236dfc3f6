//! A pprof file, decoded: stacks with their names, and what the comments say. Ids that lead nowhere
//! fail the test.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use pprof::protos::{self, Message};

use crate::ledger::Ledger;

/// File name of the mapping that kernel frames belong to.
pub const KERNEL: &str = "[kernel.kallsyms]";

/// A decoded profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Distinct stacks.
    pub stacks: Vec<Stack>,
    /// Comments, a line each.
    pub comments: Vec<String>,
    /// What they say of ticks.
    pub ledger: Ledger,
    /// Sample types, as `type/unit`.
    pub sample_types: Vec<String>,
    /// Nanoseconds between two samples of a CPU.
    pub period: i64,
    /// When the recording began: nanoseconds since 1970.
    pub time: i64,
    /// Nanoseconds that the recording took.
    pub duration: i64,
}

/// A stack and how often it was met.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Leaf first.
    pub frames: Vec<Frame>,
    /// Samples.
    pub count: u64,
    /// Nanoseconds of CPU.
    pub nanos: i64,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The process's name.
    pub comm: String,
    /// The thread's name.
    pub thread: String,
}

/// A function at a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Function.
    pub function: String,
    /// Source file, may be empty.
    pub file: String,
    /// Line, 0 if not known.
    pub line: i64,
    /// The mapping's file; empty for interpreted frames.
    pub module: String,
    /// The mapping's build id; empty if it has none.
    pub build_id: String,
    /// This function was inlined into the next frame: both are lines of one location.
    pub inlined: bool,
}

impl Frame {
    /// `[truncated: …]`, at the root.
    pub fn is_truncation(&self) -> bool {
        self.function.starts_with("[truncated: ")
    }

    /// Of the kernel.
    pub fn is_kernel(&self) -> bool {
        self.module == KERNEL
    }

    /// Of an interpreter: it has a file and a name, but no module.
    pub fn is_interpreted(&self) -> bool {
        self.module.is_empty() && !self.function.starts_with('[')
    }

    /// Has a name that is neither `[unknown]` nor made of an address.
    pub fn is_named(&self) -> bool {
        let by_address = self.function.rsplit_once("+0x").is_some_and(|(_, digits)| {
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())
        });
        !by_address && self.function != "[unknown]"
    }
}

impl Stack {
    /// Whether it has its root.
    pub fn is_complete(&self) -> bool {
        !self.frames.iter().any(Frame::is_truncation)
    }

    /// Frames outside the kernel, leaf first.
    pub fn user(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.frames.iter().filter(|frame| !frame.is_kernel())
    }

    /// Frames of interpreters, leaf first.
    pub fn interpreted(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.frames.iter().filter(|frame| frame.is_interpreted())
    }

    /// Whether a function of this name is in it.
    pub fn has(&self, function: &str) -> bool {
        self.frames.iter().any(|frame| frame.function == function)
    }

    /// The frames from the innermost one of this name to the root.
    pub fn from(&self, function: &str) -> Option<&[Frame]> {
        let at = self
            .frames
            .iter()
            .position(|frame| frame.function == function)?;
        self.frames.get(at..)
    }

    /// One frame a line, leaf first: for messages.
    pub fn text(&self) -> String {
        let lines = self.frames.iter().map(|f| {
            let inlined = if f.inlined { " (inlined)" } else { "" };
            format!(
                "  {}  {}:{}  {}{inlined}\n",
                f.function, f.file, f.line, f.module
            )
        });
        let head = format!(
            "{} × {} (pid {}, tid {})\n",
            self.count, self.comm, self.pid, self.tid
        );
        head + &lines.collect::<String>()
    }
}

impl Profile {
    /// Reads a file.
    ///
    /// # Panics
    /// If it is not a profile that holds together.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self::decode(&bytes)
    }

    /// Decodes a gzipped profile.
    ///
    /// # Panics
    /// If it is not a profile that holds together.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut plain = Vec::new();
        GzDecoder::new(bytes)
            .read_to_end(&mut plain)
            .expect("the profile is gzip");
        let raw = protos::Profile::decode(plain.as_slice()).expect("the profile is pprof");
        let text = |id: i64| raw.string_table[id as usize].clone();
        let modules: HashMap<u64, (String, String)> = raw
            .mapping
            .iter()
            .map(|m| (m.id, (text(m.filename), text(m.build_id))))
            .collect();
        let functions: HashMap<u64, &protos::Function> =
            raw.function.iter().map(|f| (f.id, f)).collect();
        let locations: HashMap<u64, Vec<Frame>> = raw
            .location
            .iter()
            .map(|location| {
                let last = location.line.len().saturating_sub(1);
                let (module, build_id) = match location.mapping_id {
                    0 => Default::default(),
                    id => modules[&id].clone(),
                };
                let frames = location.line.iter().enumerate().map(|(n, line)| {
                    let function = functions[&line.function_id];
                    Frame {
                        function: text(function.name),
                        file: text(function.filename),
                        line: line.line,
                        module: module.clone(),
                        build_id: build_id.clone(),
                        inlined: n < last,
                    }
                });
                (location.id, frames.collect())
            })
            .collect();
        let stacks = raw.sample.iter().map(|sample| {
            let frames = sample
                .location_id
                .iter()
                .flat_map(|id| locations[id].iter().cloned());
            let label = |key: &str| sample.label.iter().find(|label| text(label.key) == key);
            let number = |key| label(key).map_or(0, |label| label.num as u32);
            let name = |key| label(key).map_or(String::new(), |label| text(label.str));
            Stack {
                frames: frames.collect(),
                count: sample.value[0] as u64,
                nanos: sample.value[1],
                pid: number("pid"),
                tid: number("tid"),
                comm: name("comm"),
                thread: name("thread"),
            }
        });
        let comments: Vec<String> = raw.comment.iter().map(|&id| text(id)).collect();
        Self {
            stacks: stacks.collect(),
            ledger: Ledger::parse(&comments),
            comments,
            sample_types: raw
                .sample_type
                .iter()
                .map(|t| format!("{}/{}", text(t.ty), text(t.unit)))
                .collect(),
            period: raw.period,
            time: raw.time_nanos,
            duration: raw.duration_nanos,
        }
    }

    /// Samples of the stacks that `wanted` wants.
    pub fn count(&self, wanted: impl Fn(&Stack) -> bool) -> u64 {
        self.stacks
            .iter()
            .filter(|stack| wanted(stack))
            .map(|stack| stack.count)
            .sum()
    }

    /// Samples.
    pub fn samples(&self) -> u64 {
        self.count(|_| true)
    }

    /// The stacks of a process.
    pub fn of(&self, pid: u32) -> impl Iterator<Item = &Stack> {
        self.stacks.iter().filter(move |stack| stack.pid == pid)
    }

    /// The stacks of all processes of a name.
    pub fn named<'a>(&'a self, comm: &'a str) -> impl Iterator<Item = &'a Stack> {
        self.stacks.iter().filter(move |stack| stack.comm == comm)
    }
}
