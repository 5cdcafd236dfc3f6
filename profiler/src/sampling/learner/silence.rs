//! Modules whose files keep silent. Nothing is known of them, so each of their samples would bring a
//! slice of its stack, in vain; and slices that others need are rationed. So the programs are told of
//! them as of modules without rows, until they may be asked again.

use rprof_ebpf::module::{ModuleId, ModuleInfo};
use rprof_symbolize::module_file::{self, Sampled};

use super::{Learner, Rows};
use crate::reader::Found;
use crate::sampling::modules::{Content, Interpreter, Module};

impl Learner {
    /// Some module keeps silent: [`Learner::ask_again`] is to be called now and then.
    pub fn is_silent(&self) -> bool {
        !self.silent.is_empty()
    }

    /// A sampled module's file keeps silent, or is slow: until it is had, only its path is known.
    pub(super) fn without_file(
        &mut self,
        sampled: &Sampled<'_>,
        known: Option<ModuleId>,
    ) -> Option<ModuleId> {
        let id = match known {
            Some(id) => id,
            // The module's announcement has a path.
            None if sampled.components.is_empty() => return None,
            None => {
                let path = module_file::path(sampled.components);
                self.add(Module {
                    key: sampled.key,
                    path: path.to_string_lossy().into_owned(),
                    content: Err("its file did not answer in time".into()),
                    interpreter: Interpreter::None,
                })?
            }
        };
        self.fileless.insert(id);
        self.silence(id);
        Some(id)
    }

    /// Tells the programs that a module has no rows, unless they have them.
    pub(super) fn silence(&mut self, id: ModuleId) {
        let rows = self.rows.get_mut(usize::from(id).wrapping_sub(1));
        match rows {
            Some(rows @ Rows::Unread(_)) => *rows = Rows::None,
            Some(Rows::InWork | Rows::None) => {}
            _ => return,
        }
        if self.silent.insert(id) {
            self.tell(id, ModuleInfo::default());
        }
    }

    /// Those that may be asked again bring slices again: so somebody asks.
    pub fn ask_again(&mut self) {
        let silent = std::mem::take(&mut self.silent);
        for id in silent {
            let Some(module) = self.modules.get(id) else {
                continue;
            };
            if self.asker.leaves_alone(&module.key) {
                self.silent.insert(id);
            } else {
                self.unlearn(id);
            }
        }
    }

    /// The file of a module that had none: it is known at last.
    pub(super) fn give_file(&mut self, id: ModuleId, found: Found, interpreter: Interpreter) {
        self.fileless.remove(&id);
        self.silent.remove(&id);
        self.modules.replace(
            id,
            Module {
                key: found.key,
                path: found.path,
                content: Ok(Content::File(found.file)),
                interpreter,
            },
        );
        self.unlearn(id);
    }

    /// Has the programs forget a module without rows.
    fn unlearn(&mut self, id: ModuleId) {
        if let Some(Rows::None) = self.rows_of(id) {
            let _ = self.forget(&[id]);
        }
    }
}
