//! The modules of a run: which file each number stands for. Filled by the learner, read by whoever
//! names frames.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use rprof_ebpf::module::{ModuleId, ModuleKey};
use rprof_ebpf::record::End;
use rprof_symbolize::runtimes::Detected;

use crate::reader::{Failed, Pointed};

/// Notes kept at most.
const MAX_NOTES: usize = 100;
/// Fewer modules than this are kept, whether they are in use or not.
const MANY: usize = 4096;
/// For how many seconds a file that was removed is held, at least: a program that goes on would be met anew.
const REMOVED_KEPT: u32 = 180;

/// A module that was met.
#[derive(Debug)]
pub struct Module {
    /// What it is.
    pub key: ModuleKey,
    /// Its path as the process that was met first sees it; `[vdso]` for the vDSO.
    pub path: String,
    /// Where its bytes are; `Err`: why they could not be had.
    pub content: Result<Content, Failed>,
    /// The interpreter it holds.
    pub interpreter: Interpreter,
}

impl Module {
    /// Whether its file has no name any more: what the kernel knows without asking a file system.
    fn is_removed(&self) -> bool {
        let Ok(Content::File(Pointed { fd, .. })) = &self.content else {
            return false;
        };
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        path.is_ok_and(|path| path.as_os_str().as_bytes().ends_with(b" (deleted)"))
    }
}

/// A module's bytes.
#[derive(Debug)]
pub enum Content {
    /// Points at the file that was sampled, for readers to open.
    File(Pointed),
    /// The vDSO, copied from our own memory: all 64-bit processes have the same.
    Image(Arc<[u8]>),
}

/// Whether a module holds an interpreter.
#[derive(Clone, Debug)]
pub enum Interpreter {
    /// No.
    None,
    /// One that is walked.
    Known(Arc<Detected>),
    /// One that is not, and its version for people.
    Unknown(String),
    /// One that would be, had the programs room for one more.
    NoRoom,
}

/// All modules, by number and by key.
#[derive(Debug)]
pub struct Modules {
    table: RwLock<Table>,
    /// When each module was last in a sample, by number: seconds since `began`.
    used: Box<[AtomicU32]>,
    began: Instant,
    /// Some runtime is not walked: seldom, and asked for each frame.
    any_unwalked: AtomicBool,
    /// For how many seconds a number stands for its file when it is in no sample any more.
    kept_for: AtomicU32,
}

#[derive(Debug, Default)]
struct Table {
    by_key: HashMap<ModuleKey, ModuleId>,
    modules: Vec<Arc<Module>>,
    /// Numbers that stand for nothing any more.
    free: Vec<ModuleId>,
    /// By index in the programs' map of interpreters.
    interpreters: Vec<Arc<Detected>>,
    notes: Vec<String>,
}

impl Default for Modules {
    fn default() -> Self {
        Self {
            table: RwLock::default(),
            used: (0..=ModuleId::MAX).map(|_| AtomicU32::new(0)).collect(),
            began: Instant::now(),
            any_unwalked: AtomicBool::new(false),
            kept_for: AtomicU32::new(u32::MAX),
        }
    }
}

impl Modules {
    /// Notes that a module is in a sample that came at `now`, as [`Modules::now`] tells it.
    pub fn use_now(&self, id: ModuleId, now: u32) {
        if let Some(used) = self.used.get(usize::from(id)) {
            used.store(now, Ordering::Relaxed);
        }
    }

    /// Seconds since the table was made.
    pub fn now(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// For how many seconds a module has been in no sample.
    pub(super) fn unused_for(&self, id: ModuleId) -> u32 {
        let used = self.used.get(usize::from(id));
        let used = used.map_or(0, |used| used.load(Ordering::Relaxed));
        self.now().saturating_sub(used)
    }

    /// From now on a number may come to stand for another file, once it was in no sample for so many seconds:
    /// nobody keeps frames for longer than that.
    pub fn keep_for(&self, seconds: u32) {
        self.kept_for.store(seconds, Ordering::Relaxed);
    }

    /// Numbers that may stand for another file: if there are many, and those of files that were removed, whose
    /// blocks stay on disk as long as we hold them.
    pub(super) fn idle(&self) -> Vec<ModuleId> {
        let kept_for = self.kept_for.load(Ordering::Relaxed);
        let Ok(table) = self.table.read() else {
            return Vec::new();
        };
        let many = table.free.is_empty() && table.modules.len() >= MANY;
        let idle = (1..).zip(&table.modules).filter(|&(id, module)| {
            let unused = self.unused_for(id);
            table.by_key.get(&module.key) == Some(&id)
                && unused >= kept_for
                && (many || unused >= REMOVED_KEPT && module.is_removed())
        });
        idle.map(|(id, _)| id).collect()
    }

    /// A number stands for nothing any more.
    pub(super) fn release(&self, id: ModuleId) {
        if let Ok(mut table) = self.table.write()
            && let Some(module) = table.modules.get_mut(usize::from(id).wrapping_sub(1))
        {
            let key = module.key;
            // Its file is closed when nobody reads it any more.
            *module = Arc::new(Module {
                key,
                path: module.path.clone(),
                content: Err(Failed::Said("its file was let go".into())),
                interpreter: Interpreter::None,
            });
            table.by_key.remove(&key);
            table.free.push(id);
        }
    }

    /// The module with a number.
    pub fn get(&self, id: ModuleId) -> Option<Arc<Module>> {
        let table = self.table.read().ok()?;
        table.modules.get(usize::from(id).checked_sub(1)?).cloned()
    }

    /// The number of a module.
    pub fn find(&self, key: &ModuleKey) -> Option<ModuleId> {
        self.table.read().ok()?.by_key.get(key).copied()
    }

    /// Whether a module holds an interpreter that is walked.
    pub fn is_interpreter(&self, id: ModuleId) -> bool {
        self.get(id)
            .is_some_and(|module| matches!(module.interpreter, Interpreter::Known(_)))
    }

    /// The interpreter with an index in the programs' map.
    pub fn interpreter(&self, index: u32) -> Option<Arc<Detected>> {
        self.table
            .read()
            .ok()?
            .interpreters
            .get(index as usize)
            .cloned()
    }

    /// How a stack ends that leads through this module, if it holds a runtime that is not walked.
    pub fn unwalked(&self, id: ModuleId) -> Option<End> {
        if !self.any_unwalked.load(Ordering::Relaxed) {
            return None;
        }
        match self.get(id)?.interpreter {
            Interpreter::None | Interpreter::Known(_) => None,
            Interpreter::Unknown(_) => Some(End::UnknownRuntime),
            Interpreter::NoRoom => Some(End::RuntimesFull),
        }
    }

    /// Whether the file of a module was looked for, and not found.
    pub fn is_fileless(&self, id: ModuleId) -> bool {
        let module = self.get(id);
        module.is_some_and(|module| matches!(module.content, Err(Failed::Said(_))))
    }

    /// Keeps something to be said at the end, with `-v`.
    pub(super) fn note(&self, note: String) {
        if let Ok(mut table) = self.table.write()
            && table.notes.len() < MAX_NOTES
            && !table.notes.contains(&note)
        {
            table.notes.push(note);
        }
    }

    /// What was noted.
    pub fn notes(&self) -> Vec<String> {
        self.table
            .read()
            .map(|table| table.notes.clone())
            .unwrap_or_default()
    }

    /// Adds a module, and gives its number, or `None` if there are 65,535 already.
    pub(crate) fn add(&self, module: Module) -> Option<ModuleId> {
        let mut table = self.table.write().ok()?;
        let id = match table.free.pop() {
            Some(id) => id,
            None => ModuleId::try_from(table.modules.len() + 1).ok()?,
        };
        self.look_at(&module);
        self.use_now(id, self.now());
        table.by_key.insert(module.key, id);
        let module = Arc::new(module);
        match table.modules.get_mut(usize::from(id) - 1) {
            Some(place) => *place = module,
            None => table.modules.push(module),
        }
        Some(id)
    }

    /// Says more of a module.
    pub(super) fn replace(&self, id: ModuleId, module: Module) {
        if let Ok(mut table) = self.table.write()
            && let Some(known) = table.modules.get_mut(usize::from(id).wrapping_sub(1))
        {
            self.look_at(&module);
            *known = Arc::new(module);
        }
    }

    fn look_at(&self, module: &Module) {
        let unwalked = matches!(
            module.interpreter,
            Interpreter::Unknown(_) | Interpreter::NoRoom
        );
        self.any_unwalked.fetch_or(unwalked, Ordering::Relaxed);
    }

    /// Adds an interpreter under the next index.
    pub(super) fn add_interpreter(&self, detected: Arc<Detected>) -> Option<u32> {
        let mut table = self.table.write().ok()?;
        table.interpreters.push(detected);
        u32::try_from(table.interpreters.len() - 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Stamp;

    fn module(inode: u64) -> Module {
        Module {
            key: ModuleKey {
                ino: inode,
                ..ModuleKey::VDSO
            },
            path: String::new(),
            content: Err(Failed::Late),
            interpreter: Interpreter::None,
        }
    }

    #[test]
    fn a_file_that_was_removed_is_let_go() {
        let modules = Modules::default();
        modules.keep_for(0);
        let files = [1, 2].map(|_| tempfile::NamedTempFile::new().unwrap());
        for (inode, file) in (1..).zip(&files) {
            let fd = file.reopen().unwrap().into();
            let stamp = Stamp::default();
            let content = Ok(Content::File(Pointed { fd, stamp }));
            modules.add(Module {
                content,
                ..module(inode)
            });
        }
        let [kept, removed] = files;
        drop(removed);
        assert!(modules.idle().is_empty(), "not at once");
        let later = Modules {
            began: modules.began - std::time::Duration::from_secs(REMOVED_KEPT.into()),
            ..modules
        };
        assert_eq!(later.idle(), [2]);
        later.release(2);
        assert!(later.idle().is_empty());
        drop(kept);
        assert_eq!(later.idle(), [1]);
    }

    #[test]
    fn numbers_are_used_again_where_nobody_keeps_frames() {
        let modules = Modules::default();
        for inode in 0..MANY as u64 {
            assert_eq!(
                modules.add(module(inode)),
                ModuleId::try_from(inode + 1).ok()
            );
        }
        assert!(modules.idle().is_empty());
        modules.keep_for(0);
        assert_eq!(modules.idle().len(), MANY);
        modules.release(7);
        assert_eq!(modules.find(&module(6).key), None);
        assert!(modules.idle().is_empty(), "one is free");
        assert_eq!(modules.add(module(9999)), Some(7));
        assert_eq!(modules.find(&module(9999).key), Some(7));
        assert_eq!(modules.get(7).map(|module| module.key.ino), Some(9999));
        assert_eq!(
            modules.add(module(10_000)),
            ModuleId::try_from(MANY + 1).ok()
        );
    }
}
