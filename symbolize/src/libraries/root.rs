//! The programs and libraries below one root directory: each file is opened and read once, however
//! many programs ask for it.
//!
//! Paths enter; numbers of opened files leave, and in the end ([`Root::into_files`]) the files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::beneath;
use crate::error::{Error, ErrorKind, Result};

use super::cache::{self, Cache};
use super::dynamic::{Dynamic, read_head};
use super::search::{absolute, directories};
use super::{CodeFile, Environment, script};

/// A root directory, and what was opened below it.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    /// The directory as our own process sees it.
    name: PathBuf,
    /// Read when first asked for.
    cache: Option<Option<Cache>>,
    objects: Vec<Object>,
    by_path: HashMap<PathBuf, Option<usize>>,
    by_inode: HashMap<(u64, u64), Option<usize>>,
    max_files: usize,
    /// How many more paths may be tried.
    tries: u32,
}

#[derive(Debug)]
struct Object {
    file: CodeFile,
    dynamic: Rc<Dynamic>,
}

impl Root {
    /// Nothing is opened yet.
    pub(super) fn new(directory: OwnedFd, max_files: usize, tries: u32) -> Self {
        Self {
            name: path_of(&directory).unwrap_or_default(),
            directory,
            cache: None,
            objects: Vec::new(),
            by_path: HashMap::new(),
            by_inode: HashMap::new(),
            max_files,
            tries,
        }
    }

    /// The files by number.
    pub(super) fn into_files(self) -> Vec<Option<CodeFile>> {
        self.objects
            .into_iter()
            .map(|object| Some(object.file))
            .collect()
    }

    /// Path and dynamic part of a file.
    pub(super) fn object(&self, number: usize) -> Option<(&Path, &Rc<Dynamic>)> {
        let object = self.objects.get(number)?;
        Some((&object.file.path, &object.dynamic))
    }

    /// See [`Self::programs_of`].
    pub(super) fn programs_at(
        &mut self,
        path: &Path,
        environment: &Environment,
    ) -> Result<Vec<usize>> {
        let file = self.start(path, environment)?;
        self.programs_of(file, environment)
            .map_err(|e| e.context(path.display()))
    }

    /// The programs that are executed for a file: itself, or what runs the script that it is. If
    /// that is `env`, the program that `env` becomes comes first, and `env` after it.
    pub(super) fn programs_of(
        &mut self,
        mut file: File,
        environment: &Environment,
    ) -> Result<Vec<usize>> {
        let mut passed = Vec::new();
        for _ in 0..=script::MAX_LEVELS {
            let head = read_head(&file, script::HEAD)
                .ok_or_else(|| Error::new(ErrorKind::Io, "cannot be read"))?;
            let Some(interpreter) = script::interpreter(&head) else {
                let program = self.add(file).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unsupported,
                        "neither an x86-64 program nor a script",
                    )
                })?;
                passed.insert(0, program);
                return Ok(passed);
            };
            file = self.start(Path::new(&interpreter.path), environment)?;
            if let Some(name) = interpreter.program {
                passed.extend(self.add(file));
                file = self.on_path(&name, environment).ok_or_else(|| {
                    let message = format!("{}: not found in PATH", Path::new(&name).display());
                    Error::new(ErrorKind::NotFound, message)
                })?;
            }
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "a script of a script, too often",
        ))
    }

    fn start(&self, path: &Path, environment: &Environment) -> Result<File> {
        let absolute = absolute(path, environment.directory.as_deref()).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("{}: a relative path", path.display()),
            )
        })?;
        beneath::open(&self.directory, absolute)
    }

    /// The program that `execvp` would start.
    fn on_path(&mut self, name: &OsStr, environment: &Environment) -> Option<File> {
        let start = environment.directory.as_deref();
        let candidates = if name.as_bytes().contains(&b'/') {
            vec![absolute(Path::new(name), start)?]
        } else {
            let directories = directories(&environment.path, b":", Path::new(""), start);
            directories
                .iter()
                .map(|directory| directory.join(name))
                .collect()
        };
        candidates.iter().find_map(|path| {
            self.tries = self.tries.checked_sub(1)?;
            let file = beneath::open(&self.directory, path).ok()?;
            (file.metadata().ok()?.mode() & 0o111 != 0).then_some(file)
        })
    }

    /// The library at a path, if there is one.
    pub(super) fn library(&mut self, path: &Path) -> Option<usize> {
        let object = match self.by_path.get(path) {
            Some(&known) => known,
            None => {
                self.tries = self.tries.checked_sub(1)?;
                let file = beneath::open(&self.directory, path).ok();
                let object = file.and_then(|file| self.add(file));
                self.by_path.insert(path.to_owned(), object);
                object
            }
        };
        object.filter(|&number| {
            self.object(number)
                .is_some_and(|(_, dynamic)| dynamic.is_shared)
        })
    }

    /// Where `/etc/ld.so.cache` says that a library is.
    pub(super) fn cached(&mut self, name: &OsStr) -> Option<PathBuf> {
        if self.cache.is_none() {
            let bytes = self.read("/etc/ld.so.cache", cache::MAX_BYTES);
            self.cache = Some(bytes.and_then(Cache::parse));
        }
        let path = self.cache.as_ref()?.as_ref()?.find(name.as_bytes())?;
        Some(PathBuf::from(OsStr::from_bytes(path)))
    }

    /// The first bytes of a file, `max` at most.
    pub(super) fn read(&self, path: &str, max: usize) -> Option<Vec<u8>> {
        let file = beneath::open(&self.directory, path).ok()?;
        let len = usize::try_from(file.metadata().ok()?.len()).ok()?;
        read_head(&file, len.min(max))
    }

    /// The number of a file; `None` if it is no code, or one too many.
    fn add(&mut self, file: File) -> Option<usize> {
        let status = file.metadata().ok()?;
        let inode = (status.dev(), status.ino());
        if let Some(&known) = self.by_inode.get(&inode) {
            return known;
        }
        if self.objects.len() >= self.max_files {
            return None;
        }
        let number = Dynamic::read(&file).map(|dynamic| {
            let path = self.path_below(&file, status.nlink() == 0);
            let file = CodeFile { path, file };
            self.objects.push(Object {
                file,
                dynamic: Rc::new(dynamic),
            });
            self.objects.len() - 1
        });
        self.by_inode.insert(inode, number);
        number
    }

    /// The path of an open file as whoever has this root sees it.
    fn path_below(&self, file: &File, deleted: bool) -> PathBuf {
        let path = path_of(file).unwrap_or_default();
        let bytes = path.as_os_str().as_bytes();
        let bytes = match bytes.strip_suffix(b" (deleted)") {
            Some(bytes) if deleted => bytes,
            _ => bytes,
        };
        let path = Path::new(OsStr::from_bytes(bytes));
        match path.strip_prefix(&self.name) {
            Ok(below) => Path::new("/").join(below),
            Err(_) => path.to_owned(),
        }
    }
}

/// What an open file or directory is called now.
fn path_of(file: &impl AsRawFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}
