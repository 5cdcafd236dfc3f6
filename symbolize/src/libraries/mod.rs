//! Which files a program maps as code when it starts, before it runs.
//!
//! An executable enters: a path below a root directory, or an open file. The files that the kernel
//! and the loader will map leave, open, the executable first: what a script's `#!` leads to, the
//! loader (`PT_INTERP`), preloaded libraries, and all that `DT_NEEDED` asks for, found where ld.so
//! finds it (ld.so(8)). [`running()`] does the same for every program that runs now. So unwind rows
//! and interpreters are known before the first tick.
//!
//! Nothing here reads a process's memory, its mappings or its environment. What a program loads by
//! `dlopen` is not known before; it is learned at its first sample. Files are opened as
//! [`crate::beneath`] does; that can wait (network file systems): never call this on a thread that
//! others wait for. All files are hostile: number, depth, strings and attempts are bounded, and
//! where a bound is met, what was found so far is the answer.

mod cache;
mod dynamic;
mod loader;
mod root;
mod running;
mod script;
mod search;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::Result;

use loader::closure;
use root::Root;

pub use running::{Running, of_processes, running};

/// Files of one program at most.
pub const MAX_FILES: usize = 512;
/// Paths that are tried for one program at most.
const MAX_TRIES: u32 = 8192;

/// A file that is mapped as code.
#[derive(Debug)]
pub struct CodeFile {
    /// Its path as the process that maps it sees it, links resolved, as in its `maps`.
    pub path: PathBuf,
    /// Open for reading.
    pub file: File,
}

/// What of a program's environment decides which files it loads. The default is what is assumed of
/// programs that run already: nothing.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `PATH`: where `#!/usr/bin/env NAME` looks.
    pub path: OsString,
    /// `LD_LIBRARY_PATH`.
    pub library_path: OsString,
    /// `LD_PRELOAD`.
    pub preload: OsString,
    /// Where relative paths start, as the program sees it; without it, they lead nowhere.
    pub directory: Option<PathBuf>,
}

/// The code of the program at `path` below the directory `root`.
///
/// # Errors
/// The program cannot be opened, is a script without an interpreter, or is no x86-64 ELF file. A
/// library that is missing is left out: the loader will say so itself.
pub fn of_path(root: OwnedFd, path: &Path, environment: &Environment) -> Result<Vec<CodeFile>> {
    let mut root = Root::new(root, MAX_FILES, MAX_TRIES);
    let programs = root.programs_at(path, environment)?;
    Ok(code_of(root, &programs, environment))
}

/// The code of a program that is open already; its libraries are looked for below `root`.
///
/// # Errors
/// See [`of_path`].
pub fn of_file(root: OwnedFd, file: File, environment: &Environment) -> Result<Vec<CodeFile>> {
    let mut root = Root::new(root, MAX_FILES, MAX_TRIES);
    let programs = root.programs_of(file, environment)?;
    Ok(code_of(root, &programs, environment))
}

fn code_of(mut root: Root, programs: &[usize], environment: &Environment) -> Vec<CodeFile> {
    let mut order = Vec::new();
    for &program in programs {
        for object in closure(&mut root, program, environment) {
            if !order.contains(&object) {
                order.push(object);
            }
        }
    }
    let mut files = root.into_files();
    order
        .into_iter()
        .filter_map(|object| files.get_mut(object)?.take())
        .collect()
}
