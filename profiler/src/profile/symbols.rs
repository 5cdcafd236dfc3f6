//! The names of a profile's frames. The distinct frames come in once, at the end of a run, and are
//! asked for by modules, in the order of offsets, so that a module's symbols are read once; lines,
//! functions and mappings go out, those in the order in which modules answer. It never gives an address another function's name: what has none
//! is `module+0x1234` or `[unknown]`.

use std::borrow::Cow;
use std::iter::repeat_with;

use rprof_ebpf::module::ModuleId;

use super::frames::{Packed, Source, Tables, Unpacked};
use super::intern::Interner;
use super::{FrameId, Line, Module, Names, text};

/// File name of the mapping that holds kernel frames.
pub const KERNEL: &str = "[kernel.kallsyms]";
/// Lines of one place at most (inlining as deep as that is made up).
const MAX_LINES: usize = 256;
/// Where the first mapping begins. Mappings follow each other without overlap: readers that look at
/// addresses alone then still tell modules apart.
const FIRST_ADDRESS: u64 = 0x1_0000;
const PAGE: u64 = 0x1000;

/// A function: text numbers and first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FunctionName {
    pub(super) name: u32,
    pub(super) file: u32,
    pub(super) first_line: u32,
}

/// A line of a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct SymbolLine {
    pub(super) function: u32,
    pub(super) line: u32,
}

/// A module, or the kernel, in the profile's own address space.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping {
    /// Address of file offset 0.
    pub(super) start: u64,
    /// One past the last address.
    pub(super) limit: u64,
    /// Text numbers.
    pub(super) path: u32,
    pub(super) short: u32,
    pub(super) build_id: u32,
    /// At least one of its frames has a name, a file, a line, an inlined callee.
    pub(super) has_functions: bool,
    pub(super) has_files: bool,
    pub(super) has_lines: bool,
    pub(super) has_inlines: bool,
}

/// A frame with its name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// First of its lines, and how many.
    first: u32,
    lines: u32,
    /// Number of the mapping from 1; 0: none.
    pub(super) mapping: u32,
    /// Address in the mapping; 0 without one.
    pub(super) address: u64,
}

/// Names for all frames and labels of a [`super::Profile`].
#[derive(Debug, Default)]
pub struct Symbols {
    texts: Interner<Box<str>>,
    functions: Interner<FunctionName>,
    lines: Vec<SymbolLine>,
    places: Vec<Place>,
    mappings: Vec<Mapping>,
    /// Text number for each text of a label.
    labels: Vec<u32>,
}

/// One line of a frame, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineRef<'a> {
    /// Function name, never empty, without control characters.
    pub function: &'a str,
    /// Source file, empty if not known.
    pub file: &'a str,
    /// Base name of the module, [`KERNEL`], or empty for frames of no module.
    pub module: &'a str,
    /// Line, 0 if not known.
    pub line: u32,
    /// First line of the function, 0 if not known.
    pub first_line: u32,
}

impl Symbols {
    /// Asks for the names of all frames of the tables.
    pub(super) fn new(tables: &Tables, names: &mut dyn Names) -> Self {
        let mut symbols = Self::default();
        symbols.text("");
        let labels = tables.texts.items().iter().map(|t| symbols.text(t));
        symbols.labels = labels.collect();
        symbols.places = vec![Place::default(); tables.frames.len()];
        let mut order: Vec<(Packed, u32)> =
            tables.frames.items().iter().copied().zip(0..).collect();
        order.sort_unstable();
        let mut of_modules = Vec::new();
        let mut wanted: Vec<(ModuleId, Vec<u64>)> = Vec::new();
        let mut others = Vec::new();
        for frames in order.chunk_by(|(a, _), (b, _)| a.source() == b.source()) {
            match frames.first().map(|(first, _)| first.source()) {
                Some(Source::Module(id)) => {
                    of_modules.push(frames);
                    wanted.push((id, frames.iter().map(|(f, _)| f.offset()).collect()));
                }
                Some(source) => others.push((source, frames)),
                None => {}
            }
        }
        names.modules(&wanted, &mut |n, module, lines| {
            let (Some(frames), Some((_, offsets))) = (of_modules.get(n), wanted.get(n)) else {
                return;
            };
            symbols.begin_module(&module);
            let lines = lines.into_iter().chain(repeat_with(Vec::new));
            for ((&(_, frame), &offset), lines) in frames.iter().zip(offsets).zip(lines) {
                let place = symbols.native(&lines, offset);
                symbols.put(frame, place);
            }
        });
        for (source, frames) in others {
            match source {
                Source::Kernel => {
                    let addresses: Vec<u64> = frames.iter().map(|(f, _)| f.0).collect();
                    symbols.begin_kernel();
                    let lines = names.kernel(&addresses).into_iter();
                    let lines = lines.chain(repeat_with(|| None));
                    for ((&(_, frame), address), line) in frames.iter().zip(addresses).zip(lines) {
                        let place = symbols.kernel(line, address);
                        symbols.put(frame, place);
                    }
                }
                Source::Own | Source::Module(_) => {
                    for &(packed, frame) in frames {
                        let place = symbols.own(packed, tables);
                        symbols.put(frame, place);
                    }
                }
            }
        }
        symbols
    }

    fn put(&mut self, frame: u32, place: Place) {
        if let Some(slot) = self.places.get_mut(frame as usize) {
            *slot = place;
        }
    }

    /// A frame that says itself what it is called.
    fn own(&mut self, packed: Packed, tables: &Tables) -> Place {
        match packed.unpack() {
            Unpacked::Interpreted { function, line } => {
                let lines = tables.functions.at(function).map(|function| Line {
                    function: (&*function.name).into(),
                    file: (&*function.file).into(),
                    line,
                    first_line: function.first_line,
                });
                self.place(lines.as_slice(), text::UNKNOWN)
            }
            Unpacked::WouldFault => self.place(&[], "[would fault]"),
            Unpacked::Truncated(end) => self.place(&[], &format!("[truncated: {}]", end.reason())),
            Unpacked::Unknown | Unpacked::Native { .. } | Unpacked::Kernel(_) => {
                self.place(&[], text::UNKNOWN)
            }
        }
    }

    /// The lines of a frame, innermost inlined callee first; at least one.
    pub fn lines(&self, frame: FrameId) -> impl DoubleEndedIterator<Item = LineRef<'_>> {
        let place = self.place_of(frame.0);
        let module = self
            .mapping(place.mapping)
            .map_or("", |m| self.text_at(m.short));
        self.lines_of(&place).iter().map(move |line| {
            let function = self.functions.at(line.function);
            LineRef {
                function: self.name_of(line),
                file: function.map_or("", |f| self.text_at(f.file)),
                module,
                line: line.line,
                first_line: function.map_or(0, |f| f.first_line),
            }
        })
    }

    /// The function's name on a line.
    pub(super) fn name_of(&self, line: &SymbolLine) -> &str {
        let function = self.functions.at(line.function);
        function.map_or(text::UNKNOWN, |f| self.text_at(f.name))
    }

    pub(super) fn place_of(&self, frame: u32) -> Place {
        self.places.get(frame as usize).copied().unwrap_or_default()
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(super) fn lines_of(&self, place: &Place) -> &[SymbolLine] {
        let first = place.first as usize;
        let lines = first..first + place.lines as usize;
        self.lines.get(lines).unwrap_or_default()
    }

    pub(super) fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    pub(super) fn mapping(&self, number: u32) -> Option<&Mapping> {
        self.mappings.get((number as usize).checked_sub(1)?)
    }

    pub(super) fn functions(&self) -> &[FunctionName] {
        self.functions.items()
    }

    /// All texts by number; number 0 is "".
    pub(super) fn texts(&self) -> &[Box<str>] {
        self.texts.items()
    }

    pub(super) fn text_at(&self, id: u32) -> &str {
        self.texts.at(id).map_or("", |t| t)
    }

    /// Text number of a label's text.
    pub(super) fn label(&self, id: u32) -> u32 {
        self.labels.get(id as usize).copied().unwrap_or(0)
    }

    fn text(&mut self, value: &str) -> u32 {
        let value = text::printable(value);
        match self.texts.get(value.as_ref()) {
            Some(id) => id,
            None => self.texts.intern(value.into()),
        }
    }

    fn begin_module(&mut self, module: &Module) {
        let start = self
            .mappings
            .last()
            .map_or(FIRST_ADDRESS, |m| m.limit + PAGE);
        let short = module.path.rsplit('/').next().unwrap_or_default();
        let mapping = Mapping {
            start,
            limit: start + pages(module.size.min(1 << 45)),
            path: self.text(&module.path),
            short: self.text(short),
            build_id: self.text(&module.build_id),
            ..Mapping::default()
        };
        self.mappings.push(mapping);
    }

    fn native(&mut self, lines: &[Line], offset: u64) -> Place {
        let short = self.mappings.last().map_or("", |m| self.text_at(m.short));
        let unnamed = match short {
            "" => Cow::Borrowed(text::UNKNOWN),
            short => Cow::Owned(format!("{short}+{offset:#x}")),
        };
        let place = self.place(lines, &unnamed);
        self.in_mapping(place, lines, offset)
    }

    /// Kernel frames are the last in order, and share one mapping: the upper half.
    fn begin_kernel(&mut self) {
        let name = self.text(KERNEL);
        self.mappings.push(Mapping {
            start: 1 << 63,
            limit: u64::MAX,
            path: name,
            short: name,
            ..Mapping::default()
        });
    }

    fn kernel(&mut self, line: Option<Line>, address: u64) -> Place {
        let place = self.place(line.as_slice(), text::UNKNOWN);
        self.in_mapping(place, line.as_slice(), address & !(1 << 63))
    }

    /// Puts a place into the mapping that was begun last.
    fn in_mapping(&mut self, mut place: Place, lines: &[Line], offset: u64) -> Place {
        let number = self.mappings.len() as u32;
        if let Some(mapping) = self.mappings.last_mut() {
            place.mapping = number;
            place.address = mapping.start + offset;
            if mapping.limit <= place.address {
                mapping.limit = mapping.start.saturating_add(pages(offset + 1));
            }
            mapping.has_functions |= lines.iter().any(|l| !l.function.is_empty());
            mapping.has_files |= lines.iter().any(|l| !l.file.is_empty());
            mapping.has_lines |= lines.iter().any(|l| l.line != 0);
            mapping.has_inlines |= lines.len() > 1;
        }
        place
    }

    /// A place with these lines; without any, one line of a function of this name.
    fn place(&mut self, lines: &[Line], unnamed: &str) -> Place {
        let first = self.lines.len() as u32;
        for line in lines.iter().take(MAX_LINES) {
            let function = match line.function.trim() {
                "" => unnamed,
                name => name,
            };
            self.line(function, &line.file, line.line, line.first_line);
        }
        if lines.is_empty() {
            self.line(unnamed, "", 0, 0);
        }
        Place {
            first,
            lines: self.lines.len() as u32 - first,
            ..Place::default()
        }
    }

    fn line(&mut self, name: &str, file: &str, line: u32, first_line: u32) {
        let (name, file) = (self.text(name), self.text(file));
        let function = self.functions.intern(FunctionName {
            name,
            file,
            first_line,
        });
        self.lines.push(SymbolLine { function, line });
    }
}

/// Bytes rounded up to whole pages, at least one.
fn pages(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(PAGE)
}
