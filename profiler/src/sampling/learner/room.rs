//! Room for what the programs know of modules is bounded: their map, and the space of rows. What was
//! not used for long makes place for what is; its stacks are unwound in user space, until it is learned
//! again. An interpreter's cannot be, so it may take the place of what is in use.

use std::io;

use rprof_ebpf::module::{ModuleId, ModuleInfo};
use rprof_unwind::Table;

use super::{Learner, Rows, Run};
use crate::sampling::modules::Interpreter;

/// Rows that were used within this many seconds are not evicted, but for an interpreter's.
const IN_USE: u32 = 30;
/// Of the modules that the programs know, one in so many makes place for new ones at a time.
const MAKE_PLACE: usize = 16;

impl Learner {
    /// Whether rows that are no interpreter's would find no room now.
    pub(super) fn is_full(&self) -> bool {
        self.full_until > self.modules.now()
    }

    /// Puts a module's rows into row space, if they find room there.
    pub(super) fn put(&mut self, id: ModuleId, table: &Table) -> Rows {
        match self.write(id, table) {
            Ok(Some((info, run))) => return Rows::Placed(info, run),
            Ok(None) => {}
            Err(error) => self.modules.note(format!("unwind rows: {error}")),
        }
        let kib = self.space.budget_bytes() >> 10;
        self.modules
            .note(format!("unwind rows: {kib} KiB are not enough"));
        match self.modules.is_interpreter(id) {
            // All others made place for it, in vain; the programs walk its frames without rows, too.
            true => Rows::None,
            false => {
                self.full_until = self.modules.now() + IN_USE;
                Rows::Unread(0)
            }
        }
    }

    fn write(&mut self, id: ModuleId, table: &Table) -> io::Result<Option<(ModuleInfo, Run)>> {
        let Ok(words) = u32::try_from(table.words()) else {
            return Ok(None);
        };
        let mut base = self.space.allocate(words)?;
        if base.is_none() {
            self.evict(id, words)?;
            base = self.space.allocate(words)?;
        }
        Ok(base.map(|base| {
            let image = table.encode(base);
            self.space.write(base, &image.words);
            let used = image.words.len() as u32;
            if used < words {
                self.space.release(base + used, words - used);
            }
            (image.info, (base, used.min(words)))
        }))
    }

    /// Takes rows that were not used for long out of row space, twice as many words as this module
    /// needs: they may not lie side by side.
    fn evict(&mut self, id: ModuleId, words: u32) -> io::Result<()> {
        let in_use = match self.modules.is_interpreter(id) {
            true => 0,
            false => IN_USE,
        };
        let mut freed = 0;
        let mut gone = Vec::new();
        for (unused, id) in self.told() {
            let Some(Rows::Placed(_, (_, len))) = self.rows_of(id) else {
                continue;
            };
            let spare = match self.modules.is_interpreter(id) {
                true => IN_USE,
                false => in_use,
            };
            if unused >= spare && freed < u64::from(words) * 2 {
                freed += u64::from(*len);
                gone.push(id);
            }
        }
        self.forget(&gone)
    }

    /// The modules that the programs know, and for how many seconds each was not used: the longest
    /// first, but interpreters last.
    fn told(&self) -> Vec<(u32, ModuleId)> {
        let told = |rows: &Rows| matches!(rows, Rows::Placed(..) | Rows::None);
        let all = (1..).zip(&self.rows).filter(|(_, rows)| told(rows));
        let mut told: Vec<_> = all
            .map(|(id, _)| (self.modules.unused_for(id), id))
            .collect();
        told.sort_by_cached_key(|&(unused, id)| {
            (self.modules.is_interpreter(id), std::cmp::Reverse(unused))
        });
        told
    }

    /// Has the programs forget modules, and frees the room of their rows.
    pub(super) fn forget(&mut self, gone: &[ModuleId]) -> io::Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut free: Vec<Run> = Vec::new();
        for id in gone {
            match self.rows.get_mut(usize::from(*id).wrapping_sub(1)) {
                Some(Rows::InWork) | None => {}
                Some(rows) => {
                    if let Rows::Placed(_, run) = std::mem::replace(rows, Rows::Unread(0)) {
                        free.push(run);
                    }
                }
            }
            if let Some(module) = self.modules.get(*id) {
                let _ = self.maps.modules.remove(&module.key);
            }
            self.silent.remove(id);
        }
        self.changed();
        // A tick that began before may still look into their rows, and into their places in the map.
        self.space.wait_for_programs()?;
        for (start, len) in free {
            self.space.release(start, len);
        }
        Ok(())
    }

    /// Tells the programs of a module; without room for it, it stays unlearned.
    pub(super) fn tell(&mut self, id: ModuleId, mut info: ModuleInfo) {
        let Some(module) = self.modules.get(id) else {
            return;
        };
        if let Interpreter::Known(detected) = &module.interpreter
            && let Some(&index) = self.interpreters.get(&id)
        {
            info.runtime = detected.interpreter.runtime;
            info.interpreter = index;
        }
        info.id = u32::from(id);
        info.end = self.silent.get(&id).map_or(0, |end| *end as u32);
        let mut told = self.maps.modules.insert(module.key, info, 0);
        if told.is_err() {
            let mut others = self.told();
            others.retain(|(_, other)| *other != id);
            others.truncate(others.len().div_ceil(MAKE_PLACE));
            let gone: Vec<ModuleId> = others.into_iter().map(|(_, id)| id).collect();
            if self.forget(&gone).is_ok() {
                told = self.maps.modules.insert(module.key, info, 0);
            }
        }
        match told {
            Ok(()) => self.changed(),
            Err(error) => {
                self.modules.note(format!("modules: {error}"));
                let _ = self.forget(&[id]);
            }
        }
    }

    /// Has the programs forget what they keep of modules from tick to tick.
    fn changed(&mut self) {
        self.generation += 1;
        let _ = self.maps.generation.set(0, self.generation, 0);
    }
}
