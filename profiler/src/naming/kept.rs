//! Names for who asks again and again, an interval after the other: what was answered once is not asked for
//! again while there is room for it, and functions are asked for as a whole: most of what is new after a
//! minute are other lines of functions that were sampled before. Frames of the kernel's own text are
//! looked up in a copy of its symbols.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use rprof_ebpf::module::{ModuleId, ModuleKey};
use rprof_symbolize::kernel::{KernelLine, Text};

use super::{Lookup, PATIENCE, kernel_line};
use crate::profile::{Each, Line, Module, Names};
use crate::reader::Named;

/// Places that are kept at most, some 250 bytes each.
const PLACES: usize = 48 << 10;
/// So many are left when they were more: those that were in use last.
const LEFT: usize = 36 << 10;
/// Above so many, nothing is kept that nobody asked for.
const PLACES_AROUND: usize = 32 << 10;
/// A module takes as much memory as so many places.
const OF_A_MODULE: usize = 4;

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

    /// Keeps what is known of an offset and those around it, but for what is known of these already: an
    /// older answer must not hide a newer one.
    fn keep(&mut self, offset: u64, named: Named, used: u32) {
        if self.at(offset).is_some() || !named.alike.contains(&offset) {
            return;
        }
        let before = self.lines.range(..=offset).next_back();
        let start = before.map_or(0, |(_, kept)| kept.end);
        let after = self.lines.range(offset..).next();
        let end = after.map_or(u64::MAX, |(&start, _)| start);
        let known = KeptLines {
            end: named.alike.end.min(end),
            lines: named.lines,
            used,
        };
        self.lines.insert(named.alike.start.max(start), known);
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

    /// An interval has its names. Modules that are gone are forgotten, and if more is kept than may be, what was
    /// in use longest ago.
    pub fn end_of_interval(&mut self) {
        self.lookup.forget_what_was_said();
        self.round += 1;
        let lookup = &self.lookup;
        self.modules
            .retain(|id, module| lookup.key(*id) == module.key);
        self.count();
        if self.places > PLACES {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let places = self
            .modules
            .values()
            .flat_map(|module| module.lines.values());
        let mut used: Vec<u32> = places.map(|kept| kept.used).collect();
        let left = LEFT * used.len() / self.places.max(1);
        used.sort_unstable_by_key(|&used| Reverse(used));
        // All of one interval go together, and never the last one's.
        let oldest = used.get(left).map_or(0, |&used| used + 1);
        let oldest = oldest.min(self.round.saturating_sub(1));
        self.modules.retain(|_, module| {
            module.lines.retain(|_, kept| kept.used >= oldest);
            !module.lines.is_empty()
        });
        self.count();
    }

    fn count(&mut self) {
        let modules = self.modules.values();
        self.places = modules.map(|module| module.lines.len() + OF_A_MODULE).sum();
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
            let file = line.as_ref().map(|line| &*line.file);
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
        let around = self.places < PLACES_AROUND;
        let mut take = |n: usize, about: Module, named: Vec<Named>, more: Vec<(u64, Named)>| {
            let Some((id, offsets)) = unknown.get(n) else {
                return;
            };
            // Without an answer it is asked again the next time.
            if named.is_empty() {
                unanswered.insert(*id, about);
                return;
            }
            let kept = modules.entry(*id).or_default();
            kept.key = keys.get(id).copied().flatten();
            kept.about = about;
            let asked = offsets.iter().copied().zip(named);
            // What has no name may get one from its own question.
            let more = more
                .into_iter()
                .filter(|(_, named)| !named.lines.is_empty());
            for (offset, named) in asked.chain(more) {
                kept.keep(offset, named, round);
            }
        };
        self.lookup.name(&unknown, around, until, &mut take);
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
        self.count();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(alike: std::ops::Range<u64>, line: u32) -> Named {
        let line = Line {
            line,
            ..Line::default()
        };
        Named {
            lines: vec![line],
            alike,
        }
    }

    fn line(module: &mut KeptModule, offset: u64) -> Option<u32> {
        module.at(offset)?.lines.first().map(|line| line.line)
    }

    #[test]
    fn what_is_kept_never_hides_what_comes() {
        let mut module = KeptModule::default();
        module.keep(22, named(20..30, 1), 0);
        // Neighbours that were asked for together know little around them.
        module.keep(40, named(40..41, 2), 0);
        module.keep(41, named(41..42, 2), 0);
        module.keep(45, named(40..50, 3), 1);
        module.keep(35, named(10..60, 4), 1);
        // It is known.
        module.keep(25, named(25..26, 5), 1);
        // It does not know itself.
        module.keep(70, named(71..72, 6), 1);
        let lines: Vec<_> = [19, 20, 29, 30, 39, 40, 41, 42, 49, 50, 70]
            .iter()
            .map(|&at| line(&mut module, at))
            .collect();
        let expected = [0, 1, 1, 4, 4, 2, 2, 3, 3, 0, 0];
        let expected = expected.map(|line| (line != 0).then_some(line));
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_was_in_use_longest_ago_is_forgotten() {
        let lookup = Lookup::new(Default::default(), true, Default::default());
        let mut kept = Kept::new(lookup);
        let modules = 100;
        for n in 0_u16..modules {
            let mut module = KeptModule::default();
            for offset in 0..PLACES as u64 / 100 + 1 {
                module.keep(offset, named(offset..offset + 1, 1), n.into());
            }
            kept.modules.insert(n, module);
        }
        kept.round = u32::from(modules) - 1;
        kept.count();
        kept.end_of_interval();
        assert!(
            kept.places <= LEFT && kept.places > LEFT - 2 * PLACES / 100,
            "{}",
            kept.places
        );
        let left: Vec<ModuleId> = kept.modules.keys().copied().collect();
        assert!(left.contains(&99) && !left.contains(&0));

        // All of the last interval are in use.
        for module in kept.modules.values_mut() {
            module
                .lines
                .values_mut()
                .for_each(|kept| kept.used = modules.into());
        }
        let places = PLACES / left.len() + 1;
        for module in kept.modules.values_mut() {
            for offset in 0..places as u64 {
                module.keep(offset, named(offset..offset + 1, 1), modules.into());
            }
        }
        kept.end_of_interval();
        assert_eq!(kept.modules.len(), left.len());
        assert!(kept.places > PLACES);

        // Nobody has this file any more.
        kept.modules.get_mut(&99).expect("kept").key = Some(ModuleKey::VDSO);
        kept.end_of_interval();
        assert!(!kept.modules.contains_key(&99));
    }
}
