//! Learning modules: from a file met for the first time to unwind rows in the programs' maps. A
//! thread of its own, that no sample waits for: reading a file may take long.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{Array, HashMap, MapData};
use crossbeam_channel::Sender;
use object::read::ReadCache;
use rprof_ebpf::module::{ModuleId, ModuleInfo, ModuleKey};
use rprof_ebpf::plan::Plan;
use rprof_ebpf::rows::Rule;
use rprof_ebpf::runtimes::{self as walked, MAX_INTERPRETERS, MAX_PLANS};
use rprof_symbolize::libraries::CodeFile;
use rprof_symbolize::module_file::{self, Identity, Sampled};
use rprof_symbolize::runtimes::{self, Detected};
use rprof_unwind::rows::{self, Table};

use super::modules::{Content, Interpreter, Module, Modules};
use super::row_space::RowSpace;
use super::vdso;

/// Words that one module may take: a bad binary must never cost the others.
const MAX_MODULE_WORDS: u32 = 2 << 20;
/// Samples that lead through a file before its rows are made: two for each of its MiB, up to this.
/// Until then they are unwound in user space, one by one. To read all of a compiler for a sample or
/// two would cost more than those; so no more than twice the best is ever spent.
const MAX_UNPAID: u64 = 16;
/// Larger files are read on a thread of their own: a compiler's libraries take a tenth of a second,
/// for which no other module may wait.
const LARGE: u64 = 8 << 20;
/// Rows that were used within this many seconds are not evicted.
const IN_USE: u32 = 30;

/// How often a module's file is looked for.
const TRIES: u32 = 3;
/// Modules whose tries are counted at most.
const MAX_TRIED: usize = 4096;

/// The programs' maps that say what a module is.
pub struct ModuleMaps {
    /// Modules by key.
    pub modules: HashMap<MapData, ModuleKey, ModuleInfo>,
    /// Moves with each change of the modules.
    pub generation: Array<MapData, u64>,
    /// Interpreters by index.
    pub interpreters: Array<MapData, walked::Interpreter>,
    /// Plans by index.
    pub plans: Array<MapData, Plan>,
}

/// The rows of a module.
#[derive(Clone, Copy)]
enum Rows {
    /// Not made yet: how many samples led through it.
    Unread(u64),
    /// Being made.
    InWork,
    /// In row space: what the programs know, and the run of words that they fill.
    Placed(ModuleInfo, Run),
    /// None: the programs know the module, and go by frame pointers.
    None,
    /// Too many, or no place for them: its stacks are unwound in user space for good.
    Homeless,
}

/// A large file whose rows are to be made.
pub type Large = (ModuleId, Arc<Module>);

/// A module's rows, if it has any.
///
/// # Errors
/// For people: it has some, but more than there may be.
pub type Made = Result<Option<Table>, String>;

/// Where rows stand in row space: first word, and how many.
type Run = (u32, u32);

/// Learns modules.
pub struct Learner {
    maps: ModuleMaps,
    space: RowSpace,
    modules: Arc<Modules>,
    plans: Vec<Plan>,
    generation: u64,
    /// The rows of each module, by number − 1.
    rows: Vec<Rows>,
    /// Where interpreters stand in the programs' map.
    interpreters: std::collections::HashMap<ModuleId, u32>,
    /// Where tables of large files are made.
    large: Sender<Large>,
    /// Modules whose files were looked for in vain.
    tries: std::collections::HashMap<ModuleKey, u32>,
}

impl Learner {
    /// A learner that fills these maps and this table. What it sends through `large` is to be made
    /// by [`make_rows`] and to come back through [`Learner::place`].
    pub fn new(
        maps: ModuleMaps,
        space: RowSpace,
        modules: Arc<Modules>,
        large: Sender<Large>,
    ) -> Self {
        Self {
            large,
            maps,
            space,
            modules,
            plans: Vec::new(),
            generation: 0,
            rows: Vec::new(),
            interpreters: std::collections::HashMap::new(),
            tries: std::collections::HashMap::new(),
        }
    }

    /// Learns the vDSO.
    pub fn vdso(&mut self) {
        if let Some(image) = vdso::image() {
            let module = Module {
                key: ModuleKey::VDSO,
                path: "[vdso]".into(),
                content: Ok(Content::Image(image)),
                interpreter: Interpreter::None,
            };
            if let Some(id) = self.add(module) {
                self.learn(id, true);
            }
        }
    }

    /// Learns a file before it is met; or only if it is an interpreter's, whose first sample would be
    /// lost otherwise (other modules' first samples are unwound on in user space).
    pub fn prepare(&mut self, CodeFile { path, file }: CodeFile, interpreters_only: bool) {
        let Ok(identity) = Identity::of(&file) else {
            return;
        };
        // Where the system does not show what the kernel's own structures hold (overlays), the key
        // would never be met.
        if !(identity.has_generation && identity.has_device && identity.has_inode) {
            return;
        }
        let detect = || runtimes::detect(&ReadCache::new(&file), Some(&path));
        let wanted = !interpreters_only || matches!(detect(), Ok(Some(_)));
        if wanted && let Some(id) = self.file(identity.key, &path, file) {
            self.learn(id, true);
        }
    }

    /// The number of a sample's module; its file is looked for if it is not known.
    pub fn find(&mut self, sampled: &Sampled<'_>) -> Option<ModuleId> {
        if let Some(id) = self.modules.find(&sampled.key) {
            return Some(id);
        }
        let path = module_file::path(sampled.components);
        match module_file::find(sampled) {
            Ok((file, _)) => {
                let path = if sampled.components.is_empty() {
                    path_of(&file)
                } else {
                    path
                };
                self.file(sampled.key, &path, file)
            }
            // The process may just have ended: the next one that maps the file may lead to it.
            Err(_) if sampled.components.is_empty() || self.tries(&sampled.key) < TRIES => None,
            Err(error) => {
                let module = Module {
                    key: sampled.key,
                    path: path.to_string_lossy().into_owned(),
                    content: Err(error.to_string()),
                    interpreter: Interpreter::None,
                };
                let id = self.add(module)?;
                self.learn(id, true);
                Some(id)
            }
        }
    }

    /// How often a module's file was looked for in vain, this time included.
    fn tries(&mut self, key: &ModuleKey) -> u32 {
        if self.tries.len() >= MAX_TRIED {
            self.tries.clear();
        }
        let tries = self.tries.entry(*key).or_default();
        *tries += 1;
        *tries
    }

    /// The number of a file that was opened already.
    pub fn file(&mut self, key: ModuleKey, path: &Path, file: File) -> Option<ModuleId> {
        if let Some(id) = self.modules.find(&key) {
            return Some(id);
        }
        let mut index = None;
        let interpreter = match runtimes::detect(&ReadCache::new(&file), Some(path)) {
            Ok(None) => Interpreter::None,
            Ok(Some(detected)) => {
                let detected = Arc::new(detected);
                index = self.interpreter(&detected);
                index.map_or(Interpreter::NoRoom, |_| Interpreter::Known(detected))
            }
            Err(unknown) => Interpreter::Unknown(unknown.to_string()),
        };
        let id = self.add(Module {
            key,
            path: path.to_string_lossy().into_owned(),
            content: Ok(Content::File(file)),
            interpreter,
        })?;
        // Of an interpreter the programs must know: user space cannot walk its frames.
        if let Some(index) = index {
            self.interpreters.insert(id, index);
            self.learn(id, false);
        }
        Some(id)
    }

    /// Gives a module its number.
    fn add(&mut self, module: Module) -> Option<ModuleId> {
        let id = self.modules.add(module)?;
        self.rows.push(Rows::Unread(0));
        Some(id)
    }

    /// A sample led through a module that the programs do not know: its rows are made when enough
    /// did, or if this one was `cut` for want of them. True if the programs know it now.
    pub fn meet(&mut self, id: ModuleId, cut: bool) -> bool {
        let Some(module) = self.modules.get(id) else {
            return false;
        };
        if let Some(Rows::Unread(met)) = self.rows.get_mut(usize::from(id) - 1) {
            *met += 1;
            if cut || *met > (module.key.size >> 19).min(MAX_UNPAID) {
                self.learn(id, false);
            }
        }
        matches!(
            self.rows.get(usize::from(id) - 1),
            Some(Rows::Placed(..) | Rows::None)
        )
    }

    /// Has a module's rows made, and tells the programs; those of large files later, unless it is to
    /// be `at_once`.
    fn learn(&mut self, id: ModuleId, at_once: bool) {
        let Some(module) = self.modules.get(id) else {
            return;
        };
        let Some(rows) = self.rows.get_mut(usize::from(id) - 1) else {
            return;
        };
        if !matches!(rows, Rows::Unread(_)) {
            return;
        }
        *rows = Rows::InWork;
        if at_once || module.key.size < LARGE || self.large.send((id, module.clone())).is_err() {
            self.place(id, make_rows(&module));
        }
    }

    /// Puts a module's rows into row space, and tells the programs.
    pub fn place(&mut self, id: ModuleId, made: Made) {
        let Some(module) = self.modules.get(id) else {
            return;
        };
        self.modules.use_now(id, self.modules.now());
        let placed = made.and_then(|table| table.map(|table| self.write(&table)).transpose());
        let (rows, mut info) = match placed {
            Ok(Some((info, run))) => (Rows::Placed(info, run), info),
            Ok(None) => (Rows::None, ModuleInfo::default()),
            Err(why) => {
                let note = format!("{}: no unwind rows: {why}", module.path);
                self.modules.note(note);
                (Rows::Homeless, ModuleInfo::default())
            }
        };
        if let Some(slot) = self.rows.get_mut(usize::from(id) - 1) {
            *slot = rows;
        }
        // Said to have no rows, its stacks would be cut.
        if matches!(rows, Rows::Homeless) {
            return;
        }
        if let Interpreter::Known(detected) = &module.interpreter
            && let Some(&index) = self.interpreters.get(&id)
        {
            info.runtime = detected.interpreter.runtime;
            info.interpreter = index;
        }
        info.id = u32::from(id);
        // A full map leaves the module unlearned: its stacks go by slices, and are complete.
        if self.maps.modules.insert(module.key, info, 0).is_ok() {
            self.changed();
        }
    }

    /// Has the programs forget what they keep of modules from tick to tick.
    fn changed(&mut self) {
        self.generation += 1;
        let _ = self.maps.generation.set(0, self.generation, 0);
    }

    /// Writes rows into row space.
    fn write(&mut self, table: &Table) -> Result<(ModuleInfo, Run), String> {
        let words = u32::try_from(table.words()).map_err(|error| error.to_string())?;
        let base = self
            .allocate(words)
            .map_err(|error| error.to_string())?
            .ok_or("the budget is used up")?;
        let image = table.encode(base);
        self.space.write(base, &image.words);
        let used = image.words.len() as u32;
        if used < words {
            self.space.release(base + used, words - used);
        }
        Ok((image.info, (base, used.min(words))))
    }

    /// Room for rows; those that were not used for long make place if they must.
    fn allocate(&mut self, words: u32) -> io::Result<Option<u32>> {
        let found = self.space.allocate(words)?;
        if found.is_some() || !self.evict(words)? {
            return Ok(found);
        }
        self.space.allocate(words)
    }

    /// Takes rows that were not used for long out of row space, twice as many words as are needed:
    /// they may not lie side by side. False if there are none.
    fn evict(&mut self, words: u32) -> io::Result<bool> {
        let mut old: Vec<(u32, usize, Run)> = Vec::new();
        for (at, rows) in self.rows.iter().enumerate() {
            if let Rows::Placed(_, run) = *rows {
                let unused = self.modules.unused_for(at as ModuleId + 1);
                if unused > IN_USE {
                    old.push((unused, at, run));
                }
            }
        }
        old.sort_unstable_by(|a, b| b.cmp(a));
        let mut freed = 0;
        let enough = old.iter().take_while(|(_, _, (_, len))| {
            let more = freed < u64::from(words) * 2;
            freed += u64::from(*len);
            more
        });
        let gone: Vec<(usize, Run)> = enough.map(|&(_, at, run)| (at, run)).collect();
        if gone.is_empty() {
            return Ok(false);
        }
        for (at, _) in &gone {
            self.rows[*at] = Rows::Unread(0);
            if let Some(module) = self.modules.get(*at as ModuleId + 1) {
                let _ = self.maps.modules.remove(&module.key);
            }
        }
        self.changed();
        // A tick that began before may still look into them.
        self.space.wait_for_programs()?;
        for (_, (start, len)) in &gone {
            self.space.release(*start, *len);
        }
        Ok(true)
    }

    /// Puts an interpreter and its plan into the programs' maps.
    fn interpreter(&mut self, detected: &Arc<Detected>) -> Option<u32> {
        let plan = match self.plans.iter().position(|plan| *plan == detected.plan) {
            Some(index) => index as u32,
            None => {
                let index = u32::try_from(self.plans.len())
                    .ok()
                    .filter(|&i| i < MAX_PLANS)?;
                self.maps.plans.set(index, detected.plan, 0).ok()?;
                self.plans.push(detected.plan);
                index
            }
        };
        let index = self.modules.add_interpreter(detected.clone())?;
        if index >= MAX_INTERPRETERS {
            return None;
        }
        let mut interpreter = detected.interpreter;
        interpreter.plan = plan;
        self.maps.interpreters.set(index, interpreter, 0).ok()?;
        Some(index)
    }

    /// The row of a module at a file offset, as the programs find it.
    pub fn rule(&self, id: ModuleId, offset: u64) -> Option<Rule> {
        match self.rows.get(usize::from(id).checked_sub(1)?)? {
            Rows::Placed(info, _) => rows::lookup(|address| self.space.word(address), info, offset),
            _ => None,
        }
    }

    /// The table of modules.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// What row space came to, in a sentence for `-v`.
    pub fn spent(&self) -> String {
        let placed = |rows: &&Rows| matches!(rows, Rows::Placed(..));
        format!(
            "unwind rows: {} of at most {} KiB, {} of {} modules",
            self.space.bytes() >> 10,
            self.space.budget_bytes() >> 10,
            self.rows.iter().filter(placed).count(),
            self.rows.len(),
        )
    }
}

/// A module's rows.
pub fn make_rows(module: &Module) -> Made {
    let table = match &module.content {
        Ok(Content::File(file)) => Table::from_elf(&ReadCache::new(file), MAX_MODULE_WORDS),
        Ok(Content::Image(image)) => Table::from_image(image, MAX_MODULE_WORDS),
        Err(_) => return Ok(None),
    };
    match table {
        Ok(table) => Ok(Some(table)),
        Err(error @ rprof_unwind::Error::TooLarge(_)) => Err(error.to_string()),
        Err(_) => Ok(None),
    }
}

/// What an open file is called now.
fn path_of(file: &File) -> PathBuf {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(link).unwrap_or_default()
}
