//! What the machine does while agents watch it: fixed programs, built from `targets/`.
//!
//! A load is started, named by its processes, and killed when dropped. Each also ends by itself
//! after ten minutes, should nobody be left to kill it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{chain, process};
use crate::workspace::{run, say};

/// Processes of [`Programs::wakers`].
pub(super) const WAKERS: u32 = 300;
/// Processes of [`Programs::services`].
const SERVICES: u32 = 50;
/// Processes a second of [`Programs::storm`].
pub(super) const STORM: u32 = 400;

/// The program that lives shortly, and the interpreter under a name of its own.
pub(super) const SHORT_C: &str = "bench-burn";
pub(super) const SHORT_PYTHON: &str = "bench-python";

/// Target programs, built.
pub(super) struct Programs {
    folder: PathBuf,
    /// An interpreter to profile, if the machine has one.
    pub(super) python: Option<PathBuf>,
}

/// Running processes of a load.
pub(super) struct Load(Vec<Child>);

impl Programs {
    /// Builds all of them in a folder.
    pub(super) fn build(folder: &Path) -> Result<Self, String> {
        say("build the target programs");
        write(folder, "chain.py", &chain::python())?;
        write(folder, "compiled.rs", &chain::rust())?;
        write(folder, "burn.py", include_str!("targets/burn.py"))?;
        compile(folder, "chain", &chain::c())?;
        compile(folder, SHORT_C, include_str!("targets/burn.c"))?;
        compile(folder, "lives", include_str!("targets/lives.c"))?;
        compile(folder, "storm", include_str!("targets/storm.c"))?;
        compile(folder, "wakers", include_str!("targets/wakers.c"))?;
        compile(folder, "silent", include_str!("targets/silent.c"))?;
        // The tests' own deep stack, and their ways to be stuck.
        let deep = include_str!("../../../tests/targets/deep.c");
        compile(folder, "deep", deep)?;
        let stuck = include_str!("../../../tests/targets/stuck.c");
        compile(folder, "stuck", stuck)?;
        let stuck = include_str!("../../../tests/targets/stuck.py");
        write(folder, "stuck.py", stuck)?;
        let mut pythons = ["/usr/bin/python3.11", "/usr/local/bin/python3.11"].into_iter();
        let python = pythons
            .find(|file| Path::new(file).exists())
            .map(PathBuf::from);
        if let Some(python) = &python {
            let link = folder.join(SHORT_PYTHON);
            let _ = fs::remove_file(&link);
            symlink(python, &link).map_err(|e| format!("cannot make {}: {e}", link.display()))?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            python,
        })
    }

    /// The path of a built or generated file.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Two C chains of 40 frames.
    pub(super) fn native(&self) -> Result<Load, String> {
        let chain = || Command::new(self.file("chain"));
        Load::start([chain(), chain()])
    }

    /// Two C chains of 40 frames whose leaves call the kernel all the time.
    pub(super) fn system_calls(&self) -> Result<Load, String> {
        let chain = || {
            let mut command = Command::new(self.file("chain"));
            command.arg("getpid");
            command
        };
        Load::start([chain(), chain()])
    }

    /// Two Python chains of 40 frames.
    pub(super) fn python(&self, python: &Path) -> Result<Load, String> {
        Load::start([self.python_chain(python), self.python_chain(python)])
    }

    /// A C chain and a Python chain; two C chains where there is no Python.
    pub(super) fn busy(&self) -> Result<Load, String> {
        let second = match &self.python {
            Some(python) => self.python_chain(python),
            None => Command::new(self.file("chain")),
        };
        Load::start([Command::new(self.file("chain")), second])
    }

    /// Nothing.
    pub(super) fn none(&self) -> Result<Load, String> {
        Load::start([])
    }

    /// Busy processes with a name of their own each.
    pub(super) fn services(&self) -> Result<Load, String> {
        let mut all = Vec::new();
        for n in 0..SERVICES {
            let link = self.file(&format!("service-{n}"));
            let _ = fs::remove_file(&link);
            symlink(self.file("chain"), &link)
                .map_err(|e| format!("cannot make {}: {e}", link.display()))?;
            all.push(Command::new(link));
        }
        Load::start(all)
    }

    /// [`Self::busy`] beside processes that wake now and then.
    pub(super) fn wakers(&self) -> Result<Load, String> {
        let mut wakers = Command::new(self.file("wakers"));
        wakers.arg(WAKERS.to_string());
        Ok(self.busy()?.with(Load::start([wakers])?))
    }

    /// [`Self::busy`] beside processes that start and end.
    pub(super) fn storm(&self) -> Result<Load, String> {
        let mut storm = Command::new(self.file("storm"));
        storm.arg(STORM.to_string());
        Ok(self.busy()?.with(Load::start([storm])?))
    }

    fn python_chain(&self, python: &Path) -> Command {
        let mut command = Command::new(python);
        command.arg(self.file("chain.py"));
        command
    }
}

impl Load {
    /// Starts programs that say nothing.
    pub(super) fn start(commands: impl IntoIterator<Item = Command>) -> Result<Self, String> {
        let mut load = Self(Vec::new());
        for mut command in commands {
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let child = command
                .spawn()
                .map_err(|e| format!("cannot start {command:?}: {e}"))?;
            load.0.push(child);
        }
        Ok(load)
    }

    /// Both.
    pub(super) fn with(mut self, mut other: Self) -> Self {
        self.0.append(&mut other.0);
        self
    }

    /// All its processes that run now.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.0
            .iter()
            .flat_map(|child| process::tree(child.id()))
            .collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Writes a file; false if it had this text already.
fn write(folder: &Path, name: &str, text: &str) -> Result<bool, String> {
    let file = folder.join(name);
    if fs::read(&file).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(false);
    }
    fs::write(&file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    Ok(true)
}

/// Builds a C program unless it is there, built from this text.
fn compile(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let (source, program) = (format!("{name}.c"), folder.join(name));
    if !write(folder, &source, text)? && program.exists() {
        return Ok(());
    }
    let flags = [
        "-O2",
        "-fomit-frame-pointer",
        "-fno-optimize-sibling-calls",
        "-w",
    ];
    run(Command::new("cc")
        .args(flags)
        .arg("-o")
        .arg(program)
        .arg(folder.join(source)))
}
