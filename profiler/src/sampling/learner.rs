//! Learning modules: from a file met for the first time to unwind rows in the programs' maps. A
//! thread of its own, that no sample waits for: a reader process looks for files and reads them, and
//! that may take long.

mod room;
mod silence;

use std::collections::BTreeMap;
use std::sync::Arc;

use aya::maps::{Array, HashMap, MapData};
use crossbeam_channel::Sender;
use rprof_ebpf::module::{ModuleId, ModuleInfo, ModuleKey};
use rprof_ebpf::plan::Plan;
use rprof_ebpf::record::End;
use rprof_ebpf::rows::Rule;
use rprof_ebpf::runtimes::{self as walked, MAX_INTERPRETERS, MAX_PLANS};
use rprof_symbolize::module_file::Sampled;
use rprof_symbolize::runtimes::Detected;
use rprof_unwind::rows;
use rprof_unwind::slice::FrameInfo;

use super::lessons::{Asker, Lesson, Unanswered};
use super::modules::{Content, Interpreter, Module, Modules};
use super::row_space::RowSpace;
use super::vdso;
use crate::reader::{Failed, Found, LARGE, Made};

/// Samples that lead through a file before its rows are made: two for each of its MiB, up to this.
/// Until then they are unwound in user space, one by one. To read all of a compiler for a sample or
/// two would cost more than those; so no more than twice the best is ever spent.
const MAX_UNPAID: u64 = 16;
/// How often a module's file is looked for, and read.
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

/// Seconds between two looks for modules that are not in use any more.
const LET_GO_EVERY: u32 = 60;

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
    /// Too many, or they cannot be made: its stacks are unwound in user space for good.
    Homeless,
}

/// A large file whose rows are to be made.
pub type Large = (ModuleId, Arc<Module>);

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
    /// Until then row space is full: in seconds of [`Modules::now`].
    full_until: u32,
    /// Modules whose files were looked for in vain, or whose rows could not be made.
    tries: std::collections::HashMap<ModuleKey, u32>,
    asker: Asker,
    /// Modules in which walks end for now: nobody can read their files, or it takes long.
    silent: BTreeMap<ModuleId, End>,
    /// Modules whose files are not known, and since when, in seconds of [`Modules::now`].
    fileless: BTreeMap<ModuleId, u32>,
    /// When [`Learner::let_go`] looks again, in seconds of [`Modules::now`].
    let_go_at: u32,
}

impl Learner {
    /// A learner that fills these maps and this table. What it sends through `large` is to come back
    /// as a lesson.
    pub fn new(
        maps: ModuleMaps,
        space: RowSpace,
        modules: Arc<Modules>,
        large: Sender<Large>,
        asker: Asker,
    ) -> Self {
        Self {
            large,
            asker,
            maps,
            space,
            modules,
            plans: Vec::new(),
            generation: 0,
            rows: Vec::new(),
            interpreters: std::collections::HashMap::new(),
            full_until: 0,
            tries: std::collections::HashMap::new(),
            silent: BTreeMap::new(),
            fileless: BTreeMap::new(),
            let_go_at: 0,
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

    /// Takes a lesson; gives the module whose rows were in it.
    pub fn take(&mut self, lesson: Lesson) -> Option<ModuleId> {
        if let Some(key) = lesson.about() {
            self.asker.learned(&key);
        }
        match lesson {
            Lesson::Prepared(found, made) => {
                let id = self.file(*found)?;
                if let Some(rows @ Rows::Unread(_)) = self.rows.get_mut(usize::from(id) - 1) {
                    *rows = Rows::InWork;
                    self.place(id, made);
                }
            }
            Lesson::AllPrepared(preparing) => drop(preparing),
            Lesson::Rows(_, id, made) => {
                self.place(id, made);
                return Some(id);
            }
            Lesson::Found(_, Ok(found)) => {
                self.found(*found);
            }
            Lesson::Found(key, Err(Failed::Silent)) | Lesson::Frames(key, Err(Failed::Silent)) => {
                self.silence(self.modules.find(&key)?, End::Unanswered);
            }
            Lesson::Found(key, Err(_)) | Lesson::Frames(key, _) => {
                let id = self.modules.find(&key)?;
                if self.silent.contains_key(&id) {
                    let _ = self.forget(&[id]);
                }
            }
        }
        None
    }

    /// The number of a sample's module; its file is looked for if it is not known.
    pub fn find(&mut self, sampled: &Sampled<'_>) -> Option<ModuleId> {
        let known = self.modules.find(&sampled.key);
        if let Some(id) = known
            && (self.silent.contains_key(&id) || !self.fileless.contains_key(&id))
        {
            return Some(id);
        }
        match self.asker.find(sampled) {
            Ok(found) => self.found(found),
            Err(Failed::Busy | Failed::Broken(_)) => known,
            // Its number is needed for whatever becomes of that.
            Err(failed @ Failed::Late) => self.without_file(sampled, known, failed),
            Err(failed @ Failed::Silent) => {
                let id = self.without_file(sampled, known, failed)?;
                self.silence(id, End::Unanswered);
                Some(id)
            }
            // The process may just have ended: the next one that maps the file may lead to it.
            Err(_) if sampled.components.is_empty() || self.tries(&sampled.key) < TRIES => known,
            Err(failed) => {
                let id = self.without_file(sampled, known, failed)?;
                self.learn(id, true);
                Some(id)
            }
        }
    }

    fn found(&mut self, found: Found) -> Option<ModuleId> {
        let id = self.file(found)?;
        // Of an interpreter the programs must know: user space cannot walk its frames.
        if self.interpreters.contains_key(&id) {
            self.learn(id, false);
        }
        Some(id)
    }

    /// The CFI of a module.
    pub fn frame_info(&mut self, id: ModuleId) -> Option<FrameInfo> {
        let module = self.modules.get(id)?;
        match self.asker.frame_info(&module) {
            Ok(info) => Some(info),
            Err(Failed::Silent) => {
                self.silence(id, End::Unanswered);
                None
            }
            Err(_) => None,
        }
    }

    /// Modules that gave no answer since this was asked last.
    pub fn unanswered(&mut self) -> Vec<Unanswered> {
        self.asker.unanswered()
    }

    /// How often a module failed, this time included.
    fn tries(&mut self, key: &ModuleKey) -> u32 {
        if self.tries.len() >= MAX_TRIED {
            self.tries.clear();
        }
        let tries = self.tries.entry(*key).or_default();
        *tries += 1;
        *tries
    }

    /// The number of a file that was found.
    fn file(&mut self, found: Found) -> Option<ModuleId> {
        let known = self.modules.find(&found.key);
        if let Some(id) = known
            && !self.fileless.contains_key(&id)
        {
            return Some(id);
        }
        self.tries.remove(&found.key);
        let mut index = None;
        let interpreter = match &found.interpreter {
            Ok(None) => Interpreter::None,
            Ok(Some(detected)) => {
                let detected = Arc::new(detected.clone());
                index = self.interpreter(&detected);
                index.map_or(Interpreter::NoRoom, |_| Interpreter::Known(detected))
            }
            Err(unknown) => Interpreter::Unknown(unknown.clone()),
        };
        let id = match known {
            Some(id) => {
                self.give_file(id, found, interpreter);
                id
            }
            None => self.add(Module {
                key: found.key,
                path: found.path,
                content: Ok(Content::File(found.file)),
                interpreter,
            })?,
        };
        if let Some(index) = index {
            self.interpreters.insert(id, index);
        }
        Some(id)
    }

    /// Gives a module its number.
    fn add(&mut self, module: Module) -> Option<ModuleId> {
        self.let_go();
        let Some(id) = self.modules.add(module) else {
            let most = ModuleId::MAX;
            self.modules
                .note(format!("more than {most} files: the others have no names"));
            return None;
        };
        match self.rows.get_mut(usize::from(id) - 1) {
            Some(rows) => *rows = Rows::Unread(0),
            None => self.rows.push(Rows::Unread(0)),
        }
        Some(id)
    }

    /// Forgets what was not used for long, if nobody keeps frames of it: a machine that builds software runs
    /// new programs all day.
    fn let_go(&mut self) {
        let now = self.modules.now();
        if now < self.let_go_at {
            return;
        }
        self.let_go_at = now + LET_GO_EVERY;
        let mut idle = self.modules.idle();
        // What is being made for them comes as a lesson yet.
        idle.retain(|&id| !matches!(self.rows_of(id), Some(Rows::InWork)));
        if self.forget(&idle).is_err() {
            return;
        }
        for id in idle {
            self.interpreters.remove(&id);
            self.fileless.remove(&id);
            self.modules.release(id);
        }
    }

    /// A sample led through a module that the programs do not know: its rows are made when enough
    /// did, or if this one was `cut` for want of them. True if the programs have them now.
    pub fn meet(&mut self, id: ModuleId, cut: bool) -> bool {
        let Some(module) = self.modules.get(id) else {
            return false;
        };
        if let Some(Rows::Unread(met)) = self.rows.get_mut(usize::from(id) - 1) {
            *met += 1;
            let paid = cut || *met > (module.key.size >> 19).min(MAX_UNPAID);
            // User space cannot walk an interpreter's frames.
            let needed = matches!(module.interpreter, Interpreter::Known(_));
            if needed || paid && !self.is_full() {
                self.learn(id, false);
            }
        }
        matches!(self.rows_of(id), Some(Rows::Placed(..)))
    }

    fn rows_of(&self, id: ModuleId) -> Option<&Rows> {
        self.rows.get(usize::from(id).checked_sub(1)?)
    }

    /// Has a module's rows made, and tells the programs; those of large files later, unless it is to
    /// be `at_once`.
    fn learn(&mut self, id: ModuleId, at_once: bool) {
        let Some(module) = self.modules.get(id) else {
            return;
        };
        // Its file is still looked for: nobody makes its rows, and no lesson would come.
        if let Err(Failed::Late) = module.content {
            return;
        }
        let Some(rows) = self.rows.get_mut(usize::from(id) - 1) else {
            return;
        };
        if !matches!(rows, Rows::Unread(_)) {
            return;
        }
        *rows = Rows::InWork;
        let here = at_once || module.key.size < LARGE;
        if here || self.large.send((id, module.clone())).is_err() {
            match self.asker.rows(id, &module) {
                // They come as a lesson.
                Err(Failed::Late) => {}
                made => self.place(id, made),
            }
        }
    }

    /// Puts a module's rows into row space, and tells the programs.
    fn place(&mut self, id: ModuleId, made: Made) {
        let Some(module) = self.modules.get(id) else {
            return;
        };
        self.modules.use_now(id, self.modules.now());
        let interpreter = matches!(module.interpreter, Interpreter::Known(_));
        let told = self.silent.remove(&id).is_some();
        let rows = match made {
            Ok(Some(table)) => self.put(id, &table),
            Ok(None) => Rows::None,
            Err(Failed::Silent) => {
                self.silent.insert(id, End::Unanswered);
                Rows::None
            }
            Err(Failed::Late | Failed::Busy) => Rows::Unread(0),
            Err(Failed::Broken(_)) if self.tries(&module.key) < TRIES => Rows::Unread(0),
            Err(Failed::Broken(why) | Failed::Said(why)) => {
                let note = format!("{}: no unwind rows: {why}", module.path);
                self.modules.note(note);
                // User space cannot walk an interpreter's frames; the programs can without rows.
                match interpreter {
                    true => Rows::None,
                    false => Rows::Homeless,
                }
            }
        };
        if let Some(slot) = self.rows.get_mut(usize::from(id) - 1) {
            *slot = rows;
        }
        match rows {
            Rows::Placed(info, _) => self.tell(id, info),
            Rows::None => self.tell(id, ModuleInfo::default()),
            // Said to have no rows, or not to answer, its stacks would be cut.
            _ if told => {
                let _ = self.forget(&[id]);
                if let Some(slot) = self.rows.get_mut(usize::from(id) - 1) {
                    *slot = rows;
                }
            }
            _ => {}
        }
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
        match self.rows_of(id)? {
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
