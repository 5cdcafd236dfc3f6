//! Names for who asks again and again, an interval after the other: what was answered once is not asked for
//! again while it is in use. Frames of the kernel's own text are looked up in a copy of its symbols.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::Instant;

use rprof_ebpf::module::{ModuleId, ModuleKey};
use rprof_symbolize::kernel::{KernelLine, Text};

use super::{Lookup, PATIENCE, kernel_line};
use crate::profile::{Each, Line, Module, Names};

/// Places that are kept at most; those that were in use last.
const PLACES: usize = 64 << 10;
/// Intervals in which a place may be missing and still be kept.
const UNUSED: u32 = 60;

/// Looks up names, and keeps them.
pub struct Kept {
    lookup: Lookup,
    modules: HashMap<ModuleId, KeptModule>,
    text: Option<Text>,
    /// Of modules that are loaded now, by address.
    loaded: HashMap<u64, Option<Line>>,
    /// What `/proc/modules` said when those were looked up.
    state: Option<u64>,
    hasher: RandomState,
    /// Counts intervals.
    round: u32,
    places: usize,
    /// Nobody asks a second time.
    once: bool,
}

#[derive(Default)]
struct KeptModule {
    /// What the number stood for.
    key: Option<ModuleKey>,
    about: Module,
    /// By where offsets begin that have these lines.
    lines: BTreeMap<u64, KeptLines>,
}

struct KeptLines {
    /// Where they end.
    end: u64,
    lines: Vec<Line>,
    /// When they were in use last.
    used: u32,
}

impl KeptModule {
    fn at(&mut self, offset: u64) -> Option<&mut KeptLines> {
        let (_, kept) = self.lines.range_mut(..=offset).next_back()?;
        Some(kept).filter(|kept| offset < kept.end)
    }
}

impl Kept {
    /// Nothing is kept yet.
    pub fn new(lookup: Lookup) -> Self {
        Self {
            lookup,
            modules: HashMap::new(),
            text: None,
            loaded: HashMap::new(),
            state: None,
            hasher: RandomState::new(),
            round: 0,
            places: 0,
            once: false,
        }
    }

    /// For who asks once: nothing is kept.
    pub fn once(lookup: Lookup) -> Self {
        Self {
            once: true,
            ..Self::new(lookup)
        }
    }

    /// For how many seconds frames may wait for their names: see [`Modules::keep_for`].
    ///
    /// [`Modules::keep_for`]: crate::sampling::modules::Modules::keep_for
    pub fn keep_for(&self, seconds: u32) {
        self.lookup.keep_for(seconds);
    }

    /// What could not be read, a line each.
    pub fn left_out(&self) -> &[String] {
        self.lookup.left_out()
    }

    /// Says which files did not answer, and what that cost.
    pub fn silent(&self) -> Vec<String> {
        self.lookup.silent()
    }

    /// An interval has its names: forgets what was in use long ago.
    pub fn end_of_interval(&mut self) {
        self.lookup.forget_what_was_said();
        self.round += 1;
        let unused = match self.places > PLACES {
            true => 1,
            false => UNUSED,
        };
        let oldest = self.round.saturating_sub(unused);
        let mut places = 0;
        self.modules.retain(|_, module| {
            module.lines.retain(|_, kept| kept.used >= oldest);
            places += module.lines.len();
            !module.lines.is_empty()
        });
        self.places = places;
    }

    /// Names of addresses in modules of the kernel, as long as the same ones are loaded. BPF programs come and
    /// go without a trace there: they are looked up each time.
    fn loaded(&mut self, addresses: &[u64]) -> Vec<Option<Line>> {
        let state = std::fs::read("/proc/modules").ok();
        let state = state.map(|text| self.hasher.hash_one(text));
        if state != self.state || self.loaded.len() > PLACES {
            self.loaded.clear();
            self.state = state;
        }
        if addresses.iter().any(|at| !self.loaded.contains_key(at)) {
            let unknown: Vec<u64> = addresses
                .iter()
                .copied()
                .filter(|at| !self.loaded.contains_key(at))
                .collect();
            let lines = self.lookup.kernel(&unknown);
            self.loaded.extend(unknown.into_iter().zip(lines));
        }
        let lines = addresses
            .iter()
            .map(|at| self.loaded.get(at).cloned().flatten());
        let lines = lines.collect();
        self.loaded.retain(|_, line| {
            let file = line.as_ref().map(|line| line.file.as_str());
            file.is_some_and(|file| file != "[bpf]")
        });
        lines
    }
}

impl Names for Kept {
    fn modules(&mut self, wanted: &[(ModuleId, Vec<u64>)], each: &mut Each<'_>) {
        if self.once {
            return self.lookup.modules(wanted, each);
        }
        let mut unknown: Vec<(ModuleId, Vec<u64>)> = Vec::new();
        let mut keys = HashMap::new();
        for (id, offsets) in wanted {
            // A number may have come to stand for another file.
            let key = self.lookup.key(*id);
            if self.modules.get(id).is_some_and(|kept| kept.key != key) {
                self.modules.remove(id);
            }
            keys.insert(*id, key);
            let mut kept = self.modules.get_mut(id);
            let mut missing = offsets.clone();
            missing.retain(|&offset| kept.as_mut().is_none_or(|kept| kept.at(offset).is_none()));
            if !missing.is_empty() {
                unknown.push((*id, missing));
            }
        }
        let (modules, round) = (&mut self.modules, self.round);
        let mut unanswered = HashMap::new();
        let until = Instant::now() + PATIENCE;
        let mut take = |n: usize, about: Module, lines: Vec<Vec<Line>>, alike: Vec<Range<u64>>| {
            let Some((id, _)) = unknown.get(n) else {
                return;
            };
            // Without an answer it is asked again the next time.
            if lines.is_empty() {
                unanswered.insert(*id, about);
                return;
            }
            let kept = modules.entry(*id).or_default();
            kept.key = keys.get(id).copied().flatten();
            kept.about = about;
            for (lines, alike) in lines.into_iter().zip(alike) {
                let known = KeptLines {
                    end: alike.end,
                    lines,
                    used: round,
                };
                kept.lines.insert(alike.start, known);
            }
        };
        self.lookup.name(&unknown, until, &mut take);
        for (n, (id, offsets)) in wanted.iter().enumerate() {
            let Some(kept) = self.modules.get_mut(id) else {
                each(n, unanswered.remove(id).unwrap_or_default(), Vec::new());
                continue;
            };
            let lines = offsets.iter().map(|&offset| match kept.at(offset) {
                Some(kept) => {
                    kept.used = round;
                    kept.lines.clone()
                }
                None => Vec::new(),
            });
            let lines = lines.collect();
            each(n, kept.about.clone(), lines);
        }
        self.places = self.modules.values().map(|module| module.lines.len()).sum();
    }

    fn kernel(&mut self, addresses: &[u64]) -> Vec<Option<Line>> {
        if self.once {
            return self.lookup.kernel(addresses);
        }
        if self.text.is_none() {
            self.text = Text::read().ok();
        }
        let Some(text) = &self.text else {
            return self.lookup.kernel(addresses);
        };
        let beyond: Vec<u64> = addresses
            .iter()
            .copied()
            .filter(|&address| !text.contains(address))
            .collect();
        let mut names: Vec<Option<Line>> = addresses
            .iter()
            .map(|&address| {
                let function = text.name(address)?.to_string();
                Some(kernel_line(KernelLine {
                    function,
                    module: None,
                }))
            })
            .collect();
        let mut loaded = self.loaded(&beyond).into_iter();
        for (name, address) in names.iter_mut().zip(addresses) {
            if beyond.binary_search(address).is_ok() {
                *name = loaded.next().flatten();
            }
        }
        names
    }
}
