//! Code objects by process: what a worker knows the names of, and why it does not know others'.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rprof_ebpf::identity::ProcessKey;
use rprof_ebpf::ledger::Column;
use rprof_symbolize::reads::ReadError;
use rprof_symbolize::runtimes::Code;

use crate::profile::Function;

/// Processes whose names are kept whatever their age, and how long others' are.
const KEPT_PROCESSES: usize = 256;
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Code objects kept for one process at most.
const MAX_CODES: usize = 64 << 10;

/// A code object: its address, and its key.
pub(super) type Object = (u64, u64);

/// A named code object.
pub(super) struct NamedCode {
    pub(super) function: Arc<Function>,
    pub(super) code: Code,
}

/// What is known of one process.
#[derive(Default)]
pub(super) struct Process {
    pub(super) codes: HashMap<Object, NamedCode>,
    /// Code objects of which a read failed: why.
    failed: HashMap<Object, ReadError>,
    /// When something was last learned of it, or missed.
    used: Option<Instant>,
}

/// Code objects of all processes of a worker.
#[derive(Default)]
pub(super) struct Codes(HashMap<ProcessKey, Process>);

impl Codes {
    /// What is known of a process.
    pub(super) fn get(&self, process: &ProcessKey) -> Option<&Process> {
        self.0.get(process)
    }

    /// A code object has a name.
    pub(super) fn keep(&mut self, process: ProcessKey, address: u64, code: Code) {
        let known = self.used(process);
        if known.codes.len() >= MAX_CODES {
            known.codes.clear();
        }
        let function = Arc::new(Function {
            name: code.name.clone(),
            file: code.file.clone(),
            first_line: code.first_line,
        });
        known
            .codes
            .insert((address, code.key), NamedCode { function, code });
    }

    /// A code object could not be read.
    pub(super) fn failed(&mut self, process: ProcessKey, object: Object, why: ReadError) {
        let known = self.0.entry(process).or_default();
        if known.failed.len() >= MAX_CODES {
            known.failed.clear();
        }
        known.failed.insert(object, why);
    }

    /// Something of this process was learned, or missed: what is known of it is kept.
    pub(super) fn used(&mut self, process: ProcessKey) -> &mut Process {
        let known = self.0.entry(process).or_default();
        known.used = Some(Instant::now());
        known
    }

    /// Drops what is known of processes that gave no sample with new names for long: most have ended.
    /// Those that have not are named again.
    pub(super) fn prune(&mut self) {
        if self.0.len() <= KEPT_PROCESSES {
            return;
        }
        let now = Instant::now();
        self.0.retain(|_, process| {
            process
                .used
                .is_some_and(|used| now.duration_since(used) < KEPT_FOR)
        });
    }

    /// Under which reason a sample is lost whose names never came.
    pub(super) fn why_unnamed(&self, process: &ProcessKey, missing: &[Object]) -> Column {
        let process = self.0.get(process);
        let failed = missing
            .iter()
            .find_map(|object| process?.failed.get(object));
        match failed {
            Some(ReadError::WouldFault) => Column::WouldFault,
            Some(ReadError::SharedPage) => Column::SharedPage,
            Some(ReadError::Changed) => Column::Changed,
            Some(ReadError::Gone) => Column::TargetGone,
            _ => Column::Unnamed,
        }
    }
}
