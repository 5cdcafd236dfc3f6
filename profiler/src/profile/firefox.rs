//! The Firefox Profiler's processed format, written by fxprof-processed-profile. A profile and its
//! symbols come in; the file holds a track for each thread. It is built in memory.
//!
//! What the format asks for and merged stacks do not have is a time for each sample: a thread's
//! stacks stand one after the other, as long as they are worth, so that the order on the time axis
//! says nothing. What the crate cannot write is lines of source files, and inlined callees as such:
//! they are frames like others.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use fxprof_processed_profile::debugid::DebugId;
use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, LibraryHandle,
    LibraryInfo, Profile as Fxprof, SamplingInterval, Symbol, SymbolTable, ThreadHandle, Timestamp,
    WeightType,
};

use super::intern::Interner;
use super::pprof::worth;
use super::symbols::{KERNEL, Place, SymbolLine};
use super::{About, Profile, Symbols};

/// The product's name, as the file has it; says that rprof wrote it.
pub const MARK: &str = r#""product":"rprof","#;

/// Writes a profile.
///
/// # Errors
/// Those of `out` and of part files.
pub fn write(
    profile: &Profile,
    symbols: &Symbols,
    about: &About,
    out: &mut dyn Write,
) -> io::Result<()> {
    let interval = SamplingInterval::from_nanos(worth(1, about.frequency).unsigned_abs());
    let mut file = Fxprof::new("rprof", about.start.into(), interval);
    file.set_os_name("Linux");
    // Names are final: nobody is to look them up again.
    file.set_symbolicated(true);
    let mut frames = Frames::new(&mut file, symbols);
    let mut threads = Threads::default();
    let mut stack = Vec::new();
    profile.visit(&mut |found| {
        let (thread, before) = threads.get(&mut file, &found);
        stack.clear();
        for frame in found.frames.iter().rev() {
            let place = symbols.place_of(frame.0);
            for line in symbols.lines_of(&place).iter().rev() {
                stack.push(frames.get(&mut file, symbols, &place, line));
            }
        }
        let stack = file.intern_stack_frames(thread, stack.iter().cloned());
        let after = before.saturating_add(found.count);
        *threads.counted(thread) = after;
        let at = |samples| worth(samples, about.frequency).unsigned_abs();
        let weight = i32::try_from(found.count).unwrap_or(i32::MAX);
        let cpu = CpuDelta::from_nanos(at(after) - at(before));
        let time = Timestamp::from_nanos_since_reference(at(after));
        file.add_sample(thread, time, stack, cpu, weight);
        Ok(())
    })?;
    serde_json::to_writer(&mut *out, &file).map_err(io::Error::from)?;
    out.flush()
}

/// Where a function lies: number of its mapping, or text number of its source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Library {
    Mapping(u32),
    Source(u32),
}

/// Functions by library. The crate takes names of a library's functions from a table of symbols by
/// address: each function gets its number in the library for an address.
struct Frames {
    libraries: HashMap<Library, (LibraryHandle, Interner<u32>, CategoryHandle)>,
    other: CategoryHandle,
}

impl Frames {
    fn new(file: &mut Fxprof, symbols: &Symbols) -> Self {
        let native = file.add_category("Native", CategoryColor::Yellow);
        let kernel = file.add_category("Kernel", CategoryColor::Orange);
        let interpreted = file.add_category("Interpreted", CategoryColor::Green);
        let mut functions: BTreeMap<Library, Interner<u32>> = BTreeMap::new();
        for place in symbols.places() {
            for line in symbols.lines_of(place) {
                if let Some((library, name)) = function(symbols, place, line) {
                    functions.entry(library).or_default().intern(name);
                }
            }
        }
        let libraries = functions.into_iter().map(|(library, names)| {
            let (path, category) = match library {
                Library::Source(path) => (symbols.text_at(path), interpreted),
                Library::Mapping(number) => {
                    let path = symbols.mapping(number).map_or(0, |mapping| mapping.path);
                    match symbols.text_at(path) {
                        KERNEL => (KERNEL, kernel),
                        path => (path, native),
                    }
                }
            };
            let symbol = |(address, &name): (u32, &u32)| Symbol {
                address,
                size: Some(1),
                name: symbols.text_at(name).to_owned(),
            };
            let table = SymbolTable::new((0..).zip(names.items()).map(symbol).collect());
            let name = path.rsplit('/').next().unwrap_or_default();
            let handle = file.add_lib(LibraryInfo {
                name: name.to_owned(),
                debug_name: name.to_owned(),
                path: path.to_owned(),
                debug_path: path.to_owned(),
                // No build id: addresses are not the file's.
                debug_id: DebugId::nil(),
                code_id: None,
                arch: None,
                symbol_table: Some(Arc::new(table)),
            });
            (library, (handle, names, category))
        });
        Self {
            libraries: libraries.collect(),
            other: CategoryHandle::OTHER,
        }
    }

    fn get(
        &mut self,
        file: &mut Fxprof,
        symbols: &Symbols,
        place: &Place,
        line: &SymbolLine,
    ) -> FrameInfo {
        let found = function(symbols, place, line).and_then(|(library, name)| {
            let (handle, names, category) = self.libraries.get(&library)?;
            let number = names.get(&name)?;
            let frame = Frame::RelativeAddressFromInstructionPointer(*handle, number);
            Some((frame, *category))
        });
        let (frame, category) = found.unwrap_or_else(|| {
            let name = symbols.name_of(line);
            (Frame::Label(file.intern_string(name)), self.other)
        });
        FrameInfo {
            frame,
            category_pair: category.into(),
            flags: FrameFlags::empty(),
        }
    }
}

/// The library of a function and the text number of its name; `None` for what lies nowhere, like
/// `[unknown]`.
fn function(symbols: &Symbols, place: &Place, line: &SymbolLine) -> Option<(Library, u32)> {
    let function = symbols.functions().get(line.function as usize)?;
    let library = match (place.mapping, function.file) {
        (0, 0) => return None,
        (0, source) => Library::Source(source),
        (mapping, _) if symbols.mapping(mapping)?.path == 0 => return None,
        (mapping, _) => Library::Mapping(mapping),
    };
    Some((library, function.name))
}

/// A process: its id, whether that is the host's, and its name: a program that another one was
/// replaced by counts apart.
type ProcessId = (u32, bool, String);

/// Tracks, and the samples that each has so far.
#[derive(Default)]
struct Threads {
    processes: HashMap<ProcessId, fxprof_processed_profile::ProcessHandle>,
    threads: HashMap<(ProcessId, u32), ThreadHandle>,
    counted: HashMap<ThreadHandle, u64>,
}

impl Threads {
    /// The track of a stack, and its samples so far.
    fn get(&mut self, file: &mut Fxprof, stack: &super::Stack<'_>) -> (ThreadHandle, u64) {
        let start = Timestamp::from_nanos_since_reference(0);
        let id = (stack.pid, stack.host_pid, stack.comm.to_owned());
        let process = *self
            .processes
            .entry(id.clone())
            .or_insert_with(|| file.add_process(stack.comm, stack.pid, start));
        let thread = *self.threads.entry((id, stack.tid)).or_insert_with(|| {
            let thread = file.add_thread(process, stack.tid, start, stack.tid == stack.pid);
            file.set_thread_name(thread, stack.thread);
            file.set_thread_samples_weight_type(thread, WeightType::Samples);
            // CPU time is what was used since the sample before: the first one needs one, too.
            file.add_sample(thread, start, None, CpuDelta::ZERO, 0);
            thread
        });
        (thread, *self.counted(thread))
    }

    fn counted(&mut self, thread: ThreadHandle) -> &mut u64 {
        self.counted.entry(thread).or_default()
    }
}
