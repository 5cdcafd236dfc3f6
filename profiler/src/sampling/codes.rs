//! Code objects by process: what a worker knows the names of, and why it does not know others'.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rprof_ebpf::identity::ProcessKey;
use rprof_ebpf::ledger::Column;
use rprof_symbolize::runtimes::Code;

use super::reading::Object;
use crate::profile::Function;

/// Processes whose names are kept whatever their age, and how long others' are.
const KEPT_PROCESSES: usize = 256;
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Bytes of names and line tables that a worker keeps: a process decides itself how long its are.
const MAX_BYTES: usize = 16 << 20;
/// Bytes of a code object beside them, roughly.
const CODE_BYTES: usize = 256;
/// Failed reads kept for one process at most.
const MAX_FAILED: usize = 4096;

/// A named code object.
pub(super) struct NamedCode {
    pub(super) function: Arc<Function>,
    pub(super) code: Code,
}

/// What is known of one process.
#[derive(Default)]
pub(super) struct Process {
    pub(super) codes: HashMap<Object, NamedCode>,
    /// Bytes of them.
    bytes: usize,
    /// Code objects of which a read failed, and the column of samples that need them.
    failed: HashMap<Object, Column>,
    /// When something was last learned of it, or missed.
    used: Option<Instant>,
}

/// Code objects of all processes of a worker.
#[derive(Default)]
pub(super) struct Codes {
    processes: HashMap<ProcessKey, Process>,
    /// Bytes of all of them.
    bytes: usize,
}

impl Codes {
    /// What is known of a process.
    pub(super) fn get(&self, process: &ProcessKey) -> Option<&Process> {
        self.processes.get(process)
    }

    /// A code object has a name.
    pub(super) fn keep(&mut self, process: ProcessKey, address: u64, code: Code) {
        let lines = code.lines.as_deref().map_or(0, size_of_val);
        let bytes = CODE_BYTES + code.name.len() + code.file.len() + lines;
        let function = Arc::new(Function {
            name: code.name.clone(),
            file: code.file.clone(),
            first_line: code.first_line,
        });
        let known = self.used(process);
        let named = NamedCode { function, code };
        // Known already: counted twice, until it is dropped.
        known.codes.insert((address, named.code.key), named);
        known.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > MAX_BYTES {
            let largest = self.processes.iter().max_by_key(|(_, known)| known.bytes);
            let Some((&largest, _)) = largest.filter(|(_, known)| known.bytes > 0) else {
                break;
            };
            self.forget(&largest);
        }
    }

    /// Forgets the names of a process. Its next samples bring them again.
    fn forget(&mut self, process: &ProcessKey) {
        if let Some(known) = self.processes.get_mut(process) {
            known.codes = HashMap::new();
            self.bytes -= std::mem::take(&mut known.bytes);
        }
    }

    /// A code object could not be read. That a later look could not be taken says nothing of what an
    /// earlier one saw.
    pub(super) fn failed(&mut self, process: ProcessKey, object: Object, why: Column) {
        let known = self.processes.entry(process).or_default();
        if known.failed.len() >= MAX_FAILED {
            known.failed.clear();
        }
        let nothing_seen = matches!(
            why,
            Column::TargetGone | Column::NotPermitted | Column::Unnamed
        );
        match known.failed.entry(object) {
            Entry::Occupied(_) if nothing_seen => {}
            entry => {
                entry.insert_entry(why);
            }
        }
    }

    /// Something of this process was learned, or missed: what is known of it is kept.
    pub(super) fn used(&mut self, process: ProcessKey) -> &mut Process {
        let known = self.processes.entry(process).or_default();
        known.used = Some(Instant::now());
        known
    }

    /// Drops what is known of processes that gave no sample with new names for long: most have ended.
    /// Those that have not are named again.
    pub(super) fn prune(&mut self) {
        if self.processes.len() <= KEPT_PROCESSES {
            return;
        }
        let now = Instant::now();
        self.processes.retain(|_, process| {
            let used = process.used;
            used.is_some_and(|used| now.duration_since(used) < KEPT_FOR)
        });
        self.bytes = self.processes.values().map(|process| process.bytes).sum();
    }

    /// Why the first of these code objects that could not be read was not.
    pub(super) fn why_unnamed(&self, process: &ProcessKey, missing: &[Object]) -> Option<Column> {
        let process = self.processes.get(process)?;
        let mut failed = missing
            .iter()
            .filter_map(|object| process.failed.get(object));
        failed.next().copied()
    }
}
