//! CPython 3.11 in the shapes it comes in: one executable that holds it all, stripped (Debian's),
//! and a small executable beside a `libpython3.11.so`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::{Scratch, finish};

/// An interpreter to test with.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// What runs scripts.
    pub program: PathBuf,
    /// The interpreter's frames are in a shared library beside it.
    pub shared: bool,
}

impl Interpreter {
    /// Runs a script. Python's own UTF-8 mode: the locale of the tests does not matter.
    pub fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("PYTHONUTF8", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg("-u")
            .arg(script);
        command
    }

    /// The words of the command, for rprof to run.
    pub fn words(&self, script: &Path, args: &[&str]) -> Vec<String> {
        let mut words = vec![self.program.display().to_string(), "-u".into()];
        words.push(script.display().to_string());
        words.extend(args.iter().map(|arg| (*arg).to_string()));
        words
    }

    /// Flags to compile an extension module with.
    pub fn extension_flags(&self) -> Vec<String> {
        let say = "import sysconfig; print('-I' + sysconfig.get_paths()['include'])";
        let said = finish(Command::new(&self.program).args(["-c", say]));
        let mut flags = vec![said.trim().to_string()];
        flags.extend(["-shared", "-fPIC", "-O2", "-g"].map(String::from));
        flags
    }
}

/// The interpreter that distributions install; static in Debian.
///
/// # Panics
/// If there is none.
pub fn system() -> Interpreter {
    let program = PathBuf::from("/usr/bin/python3.11");
    assert!(
        program.exists(),
        "Python 3.11 is missing: sudo apt install python3.11"
    );
    let shared = needs_libpython(&program);
    Interpreter { program, shared }
}

/// Fails the test with a sentence unless the distribution's interpreter has greenlets.
///
/// # Panics
/// If it has none.
pub fn require_greenlet() {
    let said = Command::new(system().program)
        .args(["-c", "import greenlet"])
        .output();
    assert!(
        said.is_ok_and(|output| output.status.success()),
        "greenlets are missing: sudo apt install python3-greenlet"
    );
}

/// One whose interpreter is in `libpython3.11.so`: pyenv's or another on `PATH`, or a program of our
/// own that embeds Debian's library.
pub fn with_library(scratch: &Scratch) -> Interpreter {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
    let versions = pyenv.and_then(|root| root.join("versions").read_dir().ok());
    folders.extend(
        versions
            .into_iter()
            .flatten()
            .flatten()
            .map(|v| v.path().join("bin")),
    );
    let found = folders
        .iter()
        .map(|folder| folder.join("python3.11"))
        .find(|program| program.exists() && needs_libpython(program));
    let program = found.unwrap_or_else(|| {
        let flags = ["-I/usr/include/python3.11", "-lpython3.11"];
        scratch.cc("embedded_python.c", "python3.11", &flags)
    });
    Interpreter {
        program,
        shared: true,
    }
}

/// Whether an executable needs libpython3.11 (a shell script does not).
fn needs_libpython(program: &Path) -> bool {
    let output = Command::new("readelf").arg("-d").arg(program).output();
    output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("libpython3.11.so"))
}
