//! The names of one module, asked for once for all places that were sampled in it.
//!
//! An open file, or a copy in memory (the vDSO), and sampled file offsets enter; lines leave, from
//! debug information where there is some, else from symbols, else from PLT stubs. A place that none
//! of them covers stays without a name. Whatever cannot be read costs only the names it would have
//! given, and is reported beside the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::build_id::BuildId;
use crate::demangle::demangle;
use crate::dwarf::{self, Place};
use crate::elf::symbols::{Collector, Symbol};
use crate::elf::{Elf, mini_debug, plt};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::{Line, debug_files};

/// How names are looked up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Give inlined callees lines of their own; otherwise only the function that they were inlined
    /// into, with the line of the call in it.
    pub inlines: bool,
    /// The directory below which debug files are looked for.
    pub root: PathBuf,
    /// The module's path below `root`: debug links start from its directory.
    pub path: Option<PathBuf>,
    /// Follow debug links; else a debug file is found by its build id only. A module that does not come from
    /// `root` could otherwise name any file in it.
    pub links: bool,
    /// Tell more than was asked: names of places around those, in the same functions. Who asks for a few
    /// places again and again asks for all of a function at once.
    pub around: bool,
    /// Bytes of memory that reading the debug information may take. If it would take more, names
    /// come from symbols only, and [`ModuleLines::left_out`] says so. Beside them this thread keeps 8 MiB of what it
    /// has unpacked for earlier questions.
    pub budget: u64,
}

impl Default for Options {
    /// Inlines, `/`, no path, links, nothing around, 24 MiB.
    fn default() -> Self {
        Self {
            inlines: true,
            root: "/".into(),
            path: None,
            links: true,
            around: false,
            budget: 24 << 20,
        }
    }
}

/// A module that can be asked for names.
#[derive(Debug)]
pub struct ModuleNames {
    elf: Elf,
    build_id: Option<BuildId>,
    options: Options,
}

/// What is known of the places that were asked for.
#[derive(Clone, Debug, Default)]
pub struct ModuleLines {
    /// File offsets around those that were asked for: see [`Options::around`].
    pub around: Vec<u64>,
    /// For each place, in the order asked, and then for each of `around`: its lines, innermost inlined
    /// callee first. Empty: no name is known.
    pub lines: Vec<Vec<Line>>,
    /// For each place how many file offsets before it, and how many after it, are known to have the same
    /// lines: the rest of its function, where only symbols tell names; else of its row, as far as the same
    /// functions were inlined there.
    pub alike: Vec<(u64, u64)>,
    /// Sources of names that could not be used, and why: [`crate::ErrorKind::OverBudget`] where
    /// debug information was too large, [`crate::ErrorKind::OtherFile`] where a debug file belongs
    /// to another build.
    pub left_out: Vec<Error>,
}

impl ModuleNames {
    /// Takes the open file that was mapped.
    ///
    /// # Errors
    /// It is not an ELF file whose headers can be read.
    pub fn open(file: File, options: Options) -> Result<Self> {
        Ok(Self::of(Elf::parse(Image::of_file(file)?)?, options))
    }

    /// Takes a copy of a module in memory, as long as its mapping.
    ///
    /// # Errors
    /// As [`ModuleNames::open`].
    pub fn of_bytes(bytes: impl Into<Arc<[u8]>>, options: Options) -> Result<Self> {
        Ok(Self::of(Elf::parse(Image::of_bytes(bytes))?, options))
    }

    fn of(elf: Elf, options: Options) -> Self {
        Self {
            build_id: BuildId::of(&elf),
            elf,
            options,
        }
    }

    /// The module's build id, if it has one.
    pub fn build_id(&self) -> Option<&BuildId> {
        self.build_id.as_ref()
    }

    /// Names for file offsets: best asked for once with all of them, for each question reads the
    /// symbol tables from end to end.
    pub fn names(&self, offsets: &[u64]) -> ModuleLines {
        let mut left_out = Vec::new();
        let found: Vec<Option<u64>> = offsets.iter().map(|&o| self.elf.address_of(o)).collect();
        let mut addresses: Vec<u64> = found.iter().copied().flatten().collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return ModuleLines {
                lines: vec![Vec::new(); offsets.len()],
                alike: vec![(0, 0); offsets.len()],
                ..ModuleLines::default()
            };
        }
        let debug = self.debug_file(&mut left_out);
        let symbols = self.symbols(debug.as_ref(), &addresses, &mut left_out);
        let mut known: HashMap<u64, Known> = HashMap::new();
        let mut around = Vec::new();
        match self.places(debug.as_ref(), &addresses, &symbols) {
            Some(places) => {
                for (address, place) in places.around {
                    let symbol = symbol_around(&symbols, address);
                    // The first unit that knows it is believed, as for those that were asked for.
                    if let (Some(symbol), Some(offset)) = (symbol, self.elf.offset_of(address))
                        && let Entry::Vacant(entry) = known.entry(address)
                    {
                        entry.insert(Known::new(address, symbol, place));
                        around.push((offset, Some(address)));
                    }
                }
                let asked = addresses.iter().zip(symbols.iter().zip(places.asked));
                let asked = asked.map(|(&at, (symbol, place))| (at, Known::new(at, symbol, place)));
                known.extend(asked);
                left_out.extend(places.error.map(|e| e.context("debug information")));
            }
            None => {
                let place = Place {
                    alike: Some(0..u64::MAX),
                    ..Place::default()
                };
                let asked = addresses.iter().zip(&symbols);
                let asked = asked.map(|(&at, symbol)| (at, Known::new(at, symbol, place.clone())));
                known.extend(asked);
            }
        }
        let (around, of_around): (Vec<u64>, Vec<Option<u64>>) = around.into_iter().unzip();
        let all = found.into_iter().chain(of_around);
        let (lines, alike) = all
            .map(|address| {
                let known = address.and_then(|address| known.get(&address));
                known.cloned().map(|known| (known.lines, known.alike))
            })
            .map(Option::unwrap_or_default)
            .unzip();
        ModuleLines {
            around,
            lines,
            alike,
            left_out,
        }
    }

    /// The separate debug file, if the module itself lacks something that one could have.
    fn debug_file(&self, left_out: &mut Vec<Error>) -> Option<Elf> {
        if dwarf::is_in(&self.elf) && self.elf.has_symtab() {
            return None;
        }
        let path = self.options.path.as_deref();
        let Options { root, links, .. } = &self.options;
        debug_files::find(&self.elf, root, path, *links).unwrap_or_else(|error| {
            left_out.push(error.context("debug file"));
            None
        })
    }

    fn symbols(
        &self,
        debug: Option<&Elf>,
        addresses: &[u64],
        left_out: &mut Vec<Error>,
    ) -> Vec<Symbol> {
        let mut collector = Collector::new(addresses);
        let has_all = [Some(&self.elf), debug]
            .iter()
            .flatten()
            .any(|elf| elf.has_symtab());
        let mini = if has_all {
            None
        } else {
            mini_debug::unpack(&self.elf, self.options.budget).unwrap_or_else(|error| {
                left_out.push(error.context("MiniDebugInfo"));
                None
            })
        };
        for elf in [Some(&self.elf), debug, mini.as_ref()]
            .into_iter()
            .flatten()
        {
            if let Err(error) = collector.add(elf) {
                left_out.push(error.context("symbols"));
            }
        }
        let mut symbols = collector.finish(&self.elf);
        // A stub's name is not a symbol's: of its neighbours nothing is known.
        for (symbol, &address) in symbols.iter_mut().zip(addresses) {
            if plt::holds(&self.elf, address) {
                symbol.range = address..address.saturating_add(1);
            }
        }
        match plt::names(&self.elf, addresses) {
            Ok(stubs) => {
                for (index, stub) in stubs {
                    let symbol = symbols
                        .get_mut(index)
                        .filter(|symbol| symbol.name.is_none());
                    if let Some(symbol) = symbol {
                        symbol.name = Some(stub.into());
                    }
                }
            }
            Err(error) => left_out.push(error.context("PLT relocations")),
        }
        symbols
    }

    /// What debug information says; `None`: there is none.
    fn places(
        &self,
        debug: Option<&Elf>,
        addresses: &[u64],
        symbols: &[Symbol],
    ) -> Option<dwarf::Places> {
        let source = [Some(&self.elf), debug]
            .into_iter()
            .flatten()
            .find(|elf| dwarf::is_in(elf))?;
        let options = dwarf::Options {
            inlines: self.options.inlines,
            budget: self.options.budget,
        };
        let mut around: Vec<Range<u64>> = symbols
            .iter()
            .filter(|symbol| self.options.around && symbol.name.is_some())
            .map(|symbol| symbol.range.clone())
            .collect();
        around.dedup();
        Some(dwarf::places(
            source, &self.elf, addresses, &around, options,
        ))
    }
}

/// The symbol among those of other addresses that is this one's, too.
fn symbol_around(symbols: &[Symbol], address: u64) -> Option<&Symbol> {
    let after = symbols.partition_point(|symbol| symbol.range.start <= address);
    let symbol = symbols.get(after.checked_sub(1)?)?;
    symbol.range.contains(&address).then_some(symbol)
}

/// What is known of an address.
#[derive(Clone)]
struct Known {
    lines: Vec<Line>,
    /// How far before it and after it the same is known.
    alike: (u64, u64),
}

impl Known {
    fn new(address: u64, symbol: &Symbol, place: Place) -> Self {
        let by_debug = place.alike.clone().unwrap_or(address..address);
        let range = &symbol.range;
        let (start, end) = (range.start.max(by_debug.start), range.end.min(by_debug.end));
        let before = address.saturating_sub(start);
        let after = end.saturating_sub(address).saturating_sub(1);
        Self {
            lines: merge(symbol.name.as_deref(), place),
            alike: (before, after),
        }
    }
}

/// The lines of one place. The symbol names the outermost function where debug information does not,
/// or where it has only a bare name and the symbol tells scope and parameters.
fn merge(symbol: Option<&str>, place: Place) -> Vec<Line> {
    let Place {
        mut lines,
        by_linkage_name,
        ..
    } = place;
    let name = symbol.map(demangle);
    match (lines.last_mut(), name) {
        (None, None) => {}
        (None, Some(name)) => lines.push(Line {
            function: name.into_owned(),
            ..Line::default()
        }),
        (Some(outermost), Some(name)) => {
            // A mangled symbol tells scope and parameters; among libc's aliases `write` is better
            // known than `__libc_write`.
            let underscores = |name: &str| name.bytes().take_while(|&b| b == b'_').count();
            let tells_more =
                symbol != Some(&*name) || underscores(&name) < underscores(&outermost.function);
            if outermost.function.is_empty() || (!by_linkage_name && tells_more) {
                outermost.function = name.into_owned();
            }
        }
        (Some(_), None) => {}
    }
    lines.retain(|line| !line.function.is_empty());
    lines
}
