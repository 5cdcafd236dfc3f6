//! Names for what was sampled, asked for once at the end: each module once, however many processes
//! map it, and only for the places that were sampled. Modules and addresses come in, lines leave.
//!
//! Files of modules are read by a [`Reader`], a process of its own: a file may be one that never
//! answers. It costs only that module's names, and some seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rprof_ebpf::module::ModuleId;
use rprof_symbolize::kernel::{self, KernelLine};
use rprof_symbolize::module_names::ModuleNames;

use crate::profile::{Line, Module, Names};
use crate::reader::{Answer, Failed, NAMING, Places, Reader, Readers};
use crate::sampling::modules::{self, Content, Modules};

/// How long all of it may take. What has no name by then goes without.
const PATIENCE: Duration = Duration::from_secs(120);
/// Places that are asked for at once: more of one module's are asked for in several questions.
const PLACES: usize = 32 << 10;
/// Modules that are named for not having answered.
const SHOWN: usize = 3;

/// Looks up names.
pub struct Lookup {
    modules: Arc<Modules>,
    inlines: bool,
    reader: Reader,
    readers: Arc<Readers>,
    /// From when on nothing is asked any more; set by the first question.
    until: Option<Instant>,
    /// What could not be read, for `-v`.
    left_out: Vec<String>,
    /// Paths of modules that did not answer in time.
    silent: Vec<String>,
}

impl Lookup {
    /// Names for these modules, with inlined callees or without.
    pub fn new(modules: Arc<Modules>, inlines: bool, readers: Arc<Readers>) -> Self {
        Self {
            left_out: modules.notes(),
            modules,
            inlines,
            reader: Reader::new(readers.clone(), NAMING),
            readers,
            until: None,
            silent: Vec::new(),
        }
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
        if let Some(files) = some_of(&cut) {
            said.push(format!(
                "No unwind rows of {files}: reading took too long, stacks are cut where they begin."
            ));
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

    /// Asks a reader about a file, or this process about a copy in memory.
    fn ask(&mut self, module: &modules::Module, places: Places) -> Result<Answer, Failed> {
        match &module.content {
            Ok(Content::File(file)) => {
                let until = *self.until.get_or_insert_with(|| Instant::now() + PATIENCE);
                if Instant::now() >= until {
                    return Err(Failed::Silent);
                }
                self.reader.names(&module.key, file, places).wait()
            }
            Ok(Content::Image(bytes)) => {
                let names = ModuleNames::of_bytes(bytes.clone(), places.options())
                    .map_err(|error| Failed::Said(error.to_string()))?;
                Ok(Answer::of(&names, &places.offsets))
            }
            Err(failed) => Err(failed.clone()),
        }
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
    fn module(&mut self, id: ModuleId, offsets: &[u64]) -> (Module, Vec<Vec<Line>>) {
        let Some(module) = self.modules.get(id) else {
            return Default::default();
        };
        let mut about = Module {
            path: module.path.clone(),
            build_id: String::new(),
            size: match &module.content {
                Ok(Content::Image(bytes)) => bytes.len() as u64,
                _ => module.key.size,
            },
        };
        let mut lines = Vec::with_capacity(offsets.len());
        for offsets in offsets.chunks(PLACES) {
            let places = Places {
                path: module.path.clone(),
                inlines: self.inlines,
                offsets: offsets.to_vec(),
            };
            match self.ask(&module, places) {
                Ok(answer) => {
                    let notes = answer.left_out.iter();
                    let notes = notes.map(|note| format!("{}: {note}", module.path));
                    self.left_out.extend(notes);
                    about.build_id.clone_from(&answer.build_id);
                    lines.extend(answer.lines(offsets.len()));
                }
                Err(failed) => {
                    self.left_out.push(format!("{}: {failed}", module.path));
                    if failed == Failed::Silent {
                        self.silent.push(module.path.clone());
                    }
                    break;
                }
            }
        }
        (about, lines)
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
        function: line.function,
        file: line.module.map_or_else(String::new, |m| format!("[{m}]")),
        ..Line::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Pointed, Stamp};

    #[test]
    fn kernel_modules_stand_for_files() {
        let shown = |module: Option<&str>| {
            let line = kernel_line(KernelLine {
                function: "nft_do_chain".into(),
                module: module.map(Into::into),
            });
            (line.function, line.file)
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

    #[test]
    fn nobody_is_asked_when_time_is_up() {
        let mut lookup = Lookup::new(Arc::default(), true, Arc::default());
        lookup.until = Some(Instant::now());
        let file = tempfile::tempfile().expect("a file");
        let module = modules::Module {
            key: rprof_ebpf::module::ModuleKey::VDSO,
            path: String::new(),
            content: Ok(Content::File(Pointed {
                fd: file.into(),
                stamp: Stamp::default(),
            })),
            interpreter: modules::Interpreter::None,
        };
        let asked = lookup.ask(&module, Places::default());
        assert_eq!(asked, Err(Failed::Silent));
    }
}
