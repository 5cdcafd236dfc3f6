//! Learning modules: from a file met for the first time to unwind rows in the programs' maps. A
//! thread of its own, that no sample waits for: reading a file may take long.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{Array, HashMap, MapData};
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

/// Learns modules.
pub struct Learner {
    maps: ModuleMaps,
    space: RowSpace,
    modules: Arc<Modules>,
    plans: Vec<Plan>,
    generation: u64,
    /// Where the rows of each module stand, by number − 1.
    infos: Vec<ModuleInfo>,
    /// Modules whose files were looked for in vain.
    tries: std::collections::HashMap<ModuleKey, u32>,
}

impl Learner {
    /// A learner that fills these maps and this table.
    pub fn new(maps: ModuleMaps, space: RowSpace, modules: Arc<Modules>) -> Self {
        Self {
            maps,
            space,
            modules,
            plans: Vec::new(),
            generation: 0,
            infos: Vec::new(),
            tries: std::collections::HashMap::new(),
        }
    }

    /// Learns the vDSO.
    pub fn vdso(&mut self) {
        if let Some(image) = vdso::image() {
            let table = Table::from_image(&image, MAX_MODULE_WORDS).ok();
            let module = Module {
                key: ModuleKey::VDSO,
                path: "[vdso]".into(),
                content: Ok(Content::Image(image)),
                interpreter: Interpreter::None,
            };
            self.add(module, table);
        }
    }

    /// Learns files before they are met: all of them, or only interpreters, whose first sample would
    /// be lost otherwise (other modules' first samples are unwound on in user space).
    pub fn prepare(&mut self, files: Vec<CodeFile>, interpreters_only: bool) {
        for CodeFile { path, file } in files {
            let Ok(identity) = Identity::of(&file) else {
                continue;
            };
            // Where the system does not show what the kernel's own structures hold (overlays), the
            // key would never be met.
            if !(identity.has_generation && identity.has_device && identity.has_inode) {
                continue;
            }
            let wanted = !interpreters_only
                || matches!(
                    runtimes::detect(&ReadCache::new(&file), Some(&path)),
                    Ok(Some(_))
                );
            if wanted {
                self.file(identity.key, &path, file);
            }
        }
    }

    /// Learns the module of a sample, if it is not known.
    pub fn learn(&mut self, sampled: &Sampled<'_>) -> Option<ModuleId> {
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
                self.add(module, None)
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

    /// Learns a file that was opened already.
    pub fn file(&mut self, key: ModuleKey, path: &Path, file: File) -> Option<ModuleId> {
        if let Some(id) = self.modules.find(&key) {
            return Some(id);
        }
        let (table, interpreter) = {
            let cache = ReadCache::new(&file);
            let table = Table::from_elf(&cache, MAX_MODULE_WORDS).ok();
            let interpreter = match runtimes::detect(&cache, Some(path)) {
                Ok(None) => Interpreter::None,
                Ok(Some(detected)) => Interpreter::Known(Arc::new(detected)),
                Err(unknown) => Interpreter::Unknown(unknown.to_string()),
            };
            (table, interpreter)
        };
        let path = path.to_string_lossy().into_owned();
        self.add(
            Module {
                key,
                path,
                content: Ok(Content::File(file)),
                interpreter,
            },
            table,
        )
    }

    /// Gives a module its number, writes its rows, and tells the programs. Without a table they know
    /// the module, but no row of it.
    fn add(&mut self, mut module: Module, table: Option<Table>) -> Option<ModuleId> {
        let key = module.key;
        let placed = match table.map(|table| self.rows(&table)) {
            None => Some(ModuleInfo::default()),
            Some(Ok(placed)) => placed,
            Some(Err(error)) => {
                let note = format!("{}: no room for unwind rows: {error}", module.path);
                self.modules.note(note);
                None
            }
        };
        // Rows that found no place: the module stays unlearned to the programs, and its stacks go by
        // slices. Said to have none, they would be cut.
        let Some(mut info) = placed else {
            self.infos.push(ModuleInfo::default());
            return self.modules.add(module);
        };
        if let Interpreter::Known(detected) = module.interpreter.clone() {
            match self.interpreter(&detected) {
                Some(index) => {
                    info.runtime = detected.interpreter.runtime;
                    info.interpreter = index;
                }
                None => module.interpreter = Interpreter::NoRoom,
            }
        }
        let id = self.modules.add(module)?;
        info.id = u32::from(id);
        self.infos.push(info);
        // A full map leaves the module unlearned: its stacks go by slices, and are complete.
        self.maps.modules.insert(key, info, 0).ok()?;
        self.generation += 1;
        self.maps.generation.set(0, self.generation, 0).ok()?;
        Some(id)
    }

    /// Writes rows into row space; `None` if they do not fit.
    fn rows(&mut self, table: &Table) -> io::Result<Option<ModuleInfo>> {
        let Ok(words) = u32::try_from(table.words()) else {
            return Ok(None);
        };
        let Some(base) = self.space.allocate(words)? else {
            return Ok(None);
        };
        let image = table.encode(base);
        self.space.write(base, &image.words);
        let used = image.words.len() as u32;
        if used < words {
            self.space.release(base + used, words - used);
        }
        Ok(Some(image.info))
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
        let info = self.infos.get(usize::from(id).checked_sub(1)?)?;
        rows::lookup(|address| self.space.word(address), info, offset)
    }

    /// The table of modules.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// Bytes of row space in use.
    pub fn row_bytes(&self) -> u64 {
        self.space.bytes()
    }
}

/// What an open file is called now.
fn path_of(file: &File) -> PathBuf {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(link).unwrap_or_default()
}
