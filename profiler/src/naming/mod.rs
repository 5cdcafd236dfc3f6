//! Names for what was sampled, asked for once at the end: each module once, however many processes
//! map it, and only for the places that were sampled. Modules and addresses come in, lines leave.
//!
//! Files of modules are read by a [`Reader`], a process of its own: a file may be one that never
//! answers. It costs only that module's names, and some seconds (`asking`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rprof_ebpf::module::{ModuleId, ModuleKey};
use rprof_symbolize::kernel::{self, KernelLine};

use crate::profile::{Each, Line, Names};
use crate::reader::{NAMING, Named, Reader, Readers};
use crate::sampling::modules::Modules;

mod asking;
mod kept;

pub use kept::Kept;

/// How long all of it may take. What has no name by then goes without.
const PATIENCE: Duration = Duration::from_secs(120);
/// Modules that are named for not having answered.
const SHOWN: usize = 3;

/// Looks up names.
pub struct Lookup {
    modules: Arc<Modules>,
    inlines: bool,
    reader: Reader,
    readers: Arc<Readers>,
    /// What could not be read, for `-v`.
    left_out: Vec<String>,
    /// Paths of modules that did not answer in time.
    silent: Vec<String>,
    /// Of those for which no time was left.
    unasked: Vec<String>,
}

impl Lookup {
    fn keep_for(&self, seconds: u32) {
        self.modules.keep_for(seconds);
    }

    /// Names for these modules, with inlined callees or without.
    pub fn new(modules: Arc<Modules>, inlines: bool, readers: Arc<Readers>) -> Self {
        Self {
            left_out: modules.notes(),
            modules,
            inlines,
            reader: Reader::new(readers.clone(), NAMING),
            readers,
            silent: Vec::new(),
            unasked: Vec::new(),
        }
    }

    /// What a number stands for.
    pub(super) fn key(&self, id: ModuleId) -> Option<ModuleKey> {
        self.modules.get(id).map(|module| module.key)
    }

    /// Of what is asked for an interval at a time nobody reads all that could not be read.
    pub(super) fn forget_what_was_said(&mut self) {
        self.left_out.clear();
        self.silent.clear();
        self.unasked.clear();
    }

    /// What could not be read, a line each.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Says which files did not answer, and what that cost.
    pub fn silent(&self) -> Vec<String> {
        let (mut cut, [gave_up, gave_up_memory]) = self.readers.silent();
        cut.retain(|path| !self.silent.contains(path));
        let mut said = Vec::new();
        if let Some(files) = some_of(&self.silent) {
            said.push(format!(
                "No names of {files}: reading took too long, addresses stand for them."
            ));
        }
        if let Some(files) = some_of(&self.unasked) {
            said.push(format!(
                "No names of {files}: no time was left to read them, addresses stand for them."
            ));
        }
        if let Some(files) = some_of(&cut) {
            said.push(format!(
                "No unwind rows of {files}: reading took too long, stacks are cut where they begin."
            ));
        }
        match self.readers.unstarted() {
            (Some(why), false) => said.push(format!(
                "No file was read, for unwind rows or names: no process could be started for it ({why})."
            )),
            (Some(why), true) => said.push(format!(
                "Some files were not read, for unwind rows or names: no process could be started for them ({why})."
            )),
            (None, _) => {}
        }
        if gave_up {
            said.push(
                "Reading hangs for good: nothing more was read from file systems that kept silent."
                    .into(),
            );
        }
        if gave_up_memory {
            said.push(
                "Reading hangs for good: names were read only of processes that had answered before."
                    .into(),
            );
        }
        said
    }
}

/// The first of some paths, and how many more there are.
fn some_of(paths: &[String]) -> Option<String> {
    let first = paths.get(..paths.len().min(SHOWN))?.join(", ");
    let more = match paths.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    (!first.is_empty()).then(|| format!("{first}{more}"))
}

impl Names for Lookup {
    fn modules(&mut self, wanted: &[(ModuleId, Vec<u64>)], each: &mut Each<'_>) {
        let mut each = |n, module, named: Vec<Named>, _| {
            each(
                n,
                module,
                named.into_iter().map(|named| named.lines).collect(),
            );
        };
        let until = Instant::now() + PATIENCE;
        self.name(wanted, false, until, &mut each);
    }

    fn kernel(&mut self, addresses: &[u64]) -> Vec<Option<Line>> {
        let lines = kernel::names(addresses).unwrap_or_else(|error| {
            self.left_out.push(format!("kernel functions: {error}"));
            Vec::new()
        });
        lines
            .into_iter()
            .map(|found| found.map(kernel_line))
            .collect()
    }
}

/// A kernel function; its module, which has no other place, as the file, in brackets as perf has it.
fn kernel_line(line: KernelLine) -> Line {
    Line {
        function: line.function.into(),
        file: line
            .module
            .map_or_else(Arc::default, |m| format!("[{m}]").into()),
        ..Line::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_modules_stand_for_files() {
        let shown = |module: Option<&str>| {
            let line = kernel_line(KernelLine {
                function: "nft_do_chain".into(),
                module: module.map(Into::into),
            });
            (line.function.to_string(), line.file.to_string())
        };
        let name = || "nft_do_chain".to_owned();
        assert_eq!(shown(Some("nf_tables")), (name(), "[nf_tables]".into()));
        assert_eq!(shown(None), (name(), String::new()));
    }

    #[test]
    fn files_that_were_silent_are_said() {
        let some = |paths: &[&str]| some_of(&Vec::from_iter(paths.iter().map(ToString::to_string)));
        assert_eq!(some(&[]), None);
        assert_eq!(some(&["/a"]).as_deref(), Some("/a"));
        let all = some(&["/a", "/b", "/c", "/d", "/e"]);
        assert_eq!(all.as_deref(), Some("/a, /b, /c and 2 more"));
    }
}
