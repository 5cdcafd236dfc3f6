//! Modules whose files keep silent, or were not found. Nothing is known of them, so each of their samples
//! would bring a slice of its stack, in vain; and slices that others need are rationed. So the programs
//! are told of them, until they may be asked again.

use rprof_ebpf::module::{ModuleId, ModuleInfo, ModuleKey};
use rprof_ebpf::record::End;
use rprof_symbolize::module_file::{self, Sampled};

use super::{Learner, Rows};
use crate::reader::{Failed, Found};
use crate::sampling::modules::{Content, Interpreter, Module};

/// Seconds after which a file that was not found is looked for again: another process may lead to it.
const LOOK_AGAIN: u32 = 30;

impl Learner {
    /// Some module keeps silent or was not found: [`Learner::ask_again`] is to be called now and then.
    pub fn is_silent(&self) -> bool {
        !self.silent.is_empty() || !self.fileless.is_empty()
    }

    /// A sampled module without its file: only its path is known.
    pub(super) fn without_file(
        &mut self,
        sampled: &Sampled<'_>,
        known: Option<ModuleId>,
        failed: Failed,
    ) -> Option<ModuleId> {
        let id = match known {
            Some(id) => {
                // Why it has none may be another reason by now.
                let differs =
                    |module: &Module| matches!(&module.content, Err(before) if *before != failed);
                if let Some(module) = self.modules.get(id).filter(|module| differs(module)) {
                    let module = Module {
                        key: module.key,
                        path: module.path.clone(),
                        content: Err(failed),
                        interpreter: Interpreter::None,
                    };
                    self.modules.replace(id, module);
                }
                id
            }
            // The module's announcement has a path.
            None if sampled.components.is_empty() => return None,
            None => {
                let path = module_file::path(sampled.components);
                self.add(Module {
                    key: sampled.key,
                    path: path.to_string_lossy().into_owned(),
                    content: Err(failed),
                    interpreter: Interpreter::None,
                })?
            }
        };
        self.fileless.insert(id, self.modules.now());
        Some(id)
    }

    /// So many samples wait for this module that the programs are to bring no more, until there is an
    /// answer.
    pub fn hold(&mut self, key: &ModuleKey) {
        if let Some(id) = self.modules.find(key) {
            self.silence(id, End::Held);
        }
    }

    /// Tells the programs that walks end in a module, unless they have its rows.
    pub(super) fn silence(&mut self, id: ModuleId, end: End) {
        let rows = self.rows.get_mut(usize::from(id).wrapping_sub(1));
        match rows {
            Some(rows @ Rows::Unread(_)) => *rows = Rows::None,
            Some(Rows::InWork | Rows::None) => {}
            _ => return,
        }
        if self.silent.insert(id, end) != Some(end) {
            self.tell(id, ModuleInfo::default());
        }
    }

    /// Those that may be asked again bring slices again: so somebody asks. Not those of which nobody would
    /// ask anything yet: slice, question and refusal would come anew each second.
    pub fn ask_again(&mut self) {
        let now = self.modules.now();
        let late = |since: u32| now.saturating_sub(since) >= LOOK_AGAIN;
        let again = |id: &ModuleId| match self.modules.get(*id) {
            Some(module) => !self.asker.leaves_alone(&module),
            None => false,
        };
        let silent = self.silent.keys().filter(|id| again(id));
        let lost = self.fileless.iter().filter(|(_, since)| late(**since));
        let lost = lost.map(|(id, _)| id).filter(|id| again(id));
        let mut gone: Vec<ModuleId> = silent.chain(lost).copied().collect();
        gone.retain(|id| matches!(self.rows_of(*id), Some(Rows::None)));
        let _ = self.forget(&gone);
    }

    /// The file of a module that had none: it is known at last.
    pub(super) fn give_file(&mut self, id: ModuleId, found: Found, interpreter: Interpreter) {
        self.fileless.remove(&id);
        self.modules.replace(
            id,
            Module {
                key: found.key,
                path: found.path,
                content: Ok(Content::File(found.file)),
                interpreter,
            },
        );
        if let Some(Rows::None) = self.rows_of(id) {
            let _ = self.forget(&[id]);
        }
    }
}
