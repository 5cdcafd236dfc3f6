//! The nightly compiler that the eBPF object is built with, pinned by date.
//!
//! Stable cannot build `core` for a BPF target. Another nightly gives other bytes, so the date
//! changes only together with the committed object.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{output, run, say};

/// Its LLVM's major version is named in [`super::linker`] once more.
const NIGHTLY: &str = "nightly-2026-05-20";

/// The installed toolchain.
pub(crate) struct Nightly {
    sysroot: PathBuf,
}

impl Nightly {
    /// Finds the toolchain with the components that are needed, or installs it through rustup.
    pub(crate) fn installed() -> Result<Self, String> {
        if let Some(found) = Self::find()? {
            return Ok(found);
        }
        say(&format!(
            "installing {NIGHTLY} with rust-src and llvm-tools (rustup)"
        ));
        let mut rustup = Command::new("rustup");
        rustup.args([
            "toolchain",
            "install",
            NIGHTLY,
            "--no-self-update",
            "--profile",
            "minimal",
        ]);
        run(rustup.args(["--component", "rust-src", "--component", "llvm-tools"]))?;
        Self::find()?.ok_or_else(|| format!("rustup installed {NIGHTLY}, but it is not complete"))
    }

    /// The toolchain, if it is there and complete.
    fn find() -> Result<Option<Self>, String> {
        let toolchains = output(Command::new("rustup").args(["toolchain", "list"]))
            .map_err(|error| format!("{error}; rustup is needed: https://rustup.rs"))?;
        if !toolchains.lines().any(|line| line.starts_with(NIGHTLY)) {
            return Ok(None);
        }
        let sysroot = output(command("rustc").args(["--print", "sysroot"]))?;
        let found = Self {
            sysroot: PathBuf::from(sysroot.trim_end()),
        };
        let complete = found.library_sources().join("library/core").exists()
            && found.tool("llvm-objcopy").exists();
        Ok(complete.then_some(found))
    }

    /// A program of this toolchain, whatever `rust-toolchain.toml` says.
    pub(crate) fn command(&self, program: &str) -> Command {
        command(program)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        NIGHTLY
    }

    /// The folder with the compiler's and LLVM's shared libraries.
    pub(crate) fn libraries(&self) -> PathBuf {
        self.sysroot.join("lib")
    }

    /// The sources of `core`: `library/…` below it.
    pub(crate) fn library_sources(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// One of LLVM's own programs.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        let host = Path::new("x86_64-unknown-linux-gnu/bin");
        self.sysroot.join("lib/rustlib").join(host).join(name)
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", NIGHTLY, program]);
    command
}
