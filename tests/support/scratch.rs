//! A folder for one test, gone at its end, and the programs that are built into it.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::machine;

/// What C and C++ programs are built with unless a test is about something else.
pub const OPTIMIZED: &[&str] = &["-O2", "-g"];

/// A test's own folder.
pub struct Scratch(TempDir);

impl Scratch {
    /// A new folder; not below `/tmp`, which may forbid programs or be memory.
    #[expect(clippy::new_without_default, reason = "makes a folder")]
    pub fn new() -> Self {
        machine::require_root();
        let made = tempfile::Builder::new()
            .prefix("rprof-test-")
            .tempdir_in(machine::build_folder());
        let made = made.expect("a folder for the test");
        // Some tests run programs in it as another user.
        std::fs::set_permissions(made.path(), PermissionsExt::from_mode(0o755)).expect("our own");
        Self(made)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).expect("a file in the test's folder");
        path
    }

    /// Builds `targets/SOURCE` (C or C++ by its ending) as the program `name`.
    pub fn cc(&self, source: &str, name: &str, flags: &[&str]) -> PathBuf {
        self.cc_file(&source_file(source), name, flags)
    }

    /// Builds any source file as the program `name`. Flags follow the source, so that `-l` works.
    pub fn cc_file(&self, source: &Path, name: &str, flags: &[&str]) -> PathBuf {
        let compiler = if source.extension() == Some(OsStr::new("cc")) {
            "c++"
        } else {
            "cc"
        };
        let program = self.file(name);
        let mut command = Command::new(compiler);
        command.args(["-Wall", "-Wextra", "-Werror", "-pthread", "-o"]);
        command.arg(&program).arg(source).args(flags);
        finish(&mut command);
        program
    }

    /// Builds `targets/SOURCE` with rustc.
    pub fn rustc(&self, source: &str, name: &str, flags: &[&str]) -> PathBuf {
        let program = self.file(name);
        let mut command = Command::new("rustc");
        command
            .args(["--edition=2024", "-O", "-g", "-o"])
            .arg(&program);
        command.arg(source_file(source)).args(flags);
        finish(&mut command);
        program
    }
}

/// A file in `targets/`.
pub fn source_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("targets")
        .join(name)
}

/// Runs a tool and gives its standard output.
///
/// # Panics
/// With all that it said, if it fails.
pub fn finish(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
