//! What the loader does with a program: ld.so's search for each library (glibc 2.36, elf/dl-load.c,
//! `_dl_map_object`), or musl's (ldso/dynlink.c, `load_library`), without loading anything.
//!
//! A program's index in its [`Root`] enters; the indices of all that it maps leave, breadth first as
//! the loader goes. Cycles end because no file is loaded twice.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::dynamic::Dynamic;
use super::root::Root;
use super::search::{GLIBC_DEFAULTS, MUSL_DEFAULTS, absolute, directories, expand};
use super::{Environment, MAX_FILES};

/// Bytes of `/etc/ld.so.preload` that are read.
const MAX_PRELOAD: usize = 4096;
/// Libraries that are preloaded at most.
const MAX_PRELOADED: usize = 64;
/// Places that are considered for one program at most, known ones too.
const MAX_PLACES: u32 = 16 << 10;

/// A program that is being loaded.
struct Load<'a> {
    root: &'a mut Root,
    /// Where relative paths start.
    directory: Option<&'a Path>,
    library_path: Vec<PathBuf>,
    defaults: &'static [&'static str],
    uses_cache: bool,
    loaded: Vec<Loaded>,
    /// Names under which something was loaded.
    names: HashSet<OsString>,
    /// How many places may still be considered.
    places: u32,
}

/// An object of the program.
struct Loaded {
    object: usize,
    dynamic: Rc<Dynamic>,
    /// `$ORIGIN`.
    origin: PathBuf,
    rpath: Vec<PathBuf>,
    runpath: Vec<PathBuf>,
    /// Which other object of the program asked for it.
    by: Option<usize>,
}

/// A program and all that it maps as code, itself first, each once.
pub(super) fn closure(root: &mut Root, program: usize, environment: &Environment) -> Vec<usize> {
    let Some((path, dynamic)) = root.object(program) else {
        return Vec::new();
    };
    let (origin, dynamic) = (parent(path), dynamic.clone());
    let Some(loader) = &dynamic.loader else {
        // Static: nobody would load a library.
        return vec![program];
    };
    let directory = environment.directory.as_deref();
    let is_musl = Path::new(loader)
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"ld-musl-"));
    let mut load = Load {
        root,
        directory,
        library_path: directories(&environment.library_path, b":;", &origin, directory),
        defaults: if is_musl {
            MUSL_DEFAULTS
        } else {
            GLIBC_DEFAULTS
        },
        uses_cache: !is_musl,
        loaded: Vec::new(),
        names: HashSet::new(),
        places: MAX_PLACES,
    };
    load.add(program, dynamic.clone(), origin, None);
    let loader = absolute(Path::new(loader), directory);
    if let Some((object, path)) = loader.and_then(|path| load.library(path)) {
        load.add_library(object, &path, None);
    }
    for name in preloaded(load.root, environment) {
        load.need(&name, 0);
    }
    let mut next = 0;
    while let Some(dynamic) = load.loaded.get(next).map(|l| l.dynamic.clone()) {
        for name in &dynamic.needed {
            load.need(name, next);
        }
        next += 1;
    }
    load.loaded.iter().map(|loaded| loaded.object).collect()
}

/// What `LD_PRELOAD` and `/etc/ld.so.preload` name.
fn preloaded(root: &Root, environment: &Environment) -> Vec<OsString> {
    let mut text = environment.preload.as_bytes().to_vec();
    let file = root.read("/etc/ld.so.preload", MAX_PRELOAD);
    for line in file.unwrap_or_default().split(|&b| b == b'\n') {
        text.push(b' ');
        text.extend_from_slice(line.split(|&b| b == b'#').next().unwrap_or_default());
    }
    text.split(|b| b.is_ascii_whitespace() || *b == b':')
        .filter(|name| !name.is_empty())
        .take(MAX_PRELOADED)
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect()
}

impl Load<'_> {
    /// Loads what object `by` of the program needs.
    fn need(&mut self, name: &OsStr, by: usize) {
        if self.loaded.len() < MAX_FILES
            && !self.names.contains(name)
            && let Some((object, path)) = self.find(name, by)
        {
            self.names.insert(name.to_owned());
            self.add_library(object, &path, Some(by));
        }
    }

    /// Searches for a library.
    fn find(&mut self, name: &OsStr, by: usize) -> Option<(usize, PathBuf)> {
        let asks = self.loaded.get(by)?;
        if name.as_bytes().contains(&b'/') {
            let directory = self.directory;
            return expand(name, &asks.origin)
                .iter()
                .filter_map(|path| absolute(path, directory))
                .find_map(|path| self.library(path));
        }
        let no_defaults = asks.dynamic.no_defaults;
        let mut lists = Vec::new();
        // DT_RPATH is inherited from whoever asked, unless a DT_RUNPATH says where to look.
        let mut above = asks.dynamic.runpath.is_none().then_some(asks);
        while let Some(loaded) = above {
            lists.extend(loaded.rpath.iter().cloned());
            above = loaded.by.and_then(|by| self.loaded.get(by));
        }
        lists.extend(self.library_path.iter().cloned());
        lists.extend(asks.runpath.iter().cloned());
        let in_directory = |load: &mut Self, directory: &Path| load.library(directory.join(name));
        if let Some(found) = lists.iter().find_map(|d| in_directory(self, d)) {
            return Some(found);
        }
        if no_defaults {
            return None;
        }
        if self.uses_cache
            && let Some(path) = self.root.cached(name)
            && let Some(found) = self.library(path)
        {
            return Some(found);
        }
        self.defaults
            .iter()
            .find_map(|d| in_directory(self, Path::new(d)))
    }

    /// The library at a path, and that path.
    fn library(&mut self, path: PathBuf) -> Option<(usize, PathBuf)> {
        self.places = self.places.checked_sub(1)?;
        let object = self.root.library(&path)?;
        Some((object, path))
    }

    fn add_library(&mut self, object: usize, path: &Path, by: Option<usize>) {
        if let Some((_, dynamic)) = self.root.object(object) {
            let dynamic = dynamic.clone();
            self.add(object, dynamic, parent(path), by);
        }
    }

    fn add(&mut self, object: usize, dynamic: Rc<Dynamic>, origin: PathBuf, by: Option<usize>) {
        self.names.extend(dynamic.name.clone());
        if self.loaded.iter().any(|loaded| loaded.object == object) {
            return;
        }
        let list = |list: &Option<OsString>| match list {
            Some(list) => directories(list, b":", &origin, self.directory),
            None => Vec::new(),
        };
        let (rpath, runpath) = (list(&dynamic.rpath), list(&dynamic.runpath));
        self.loaded.push(Loaded {
            object,
            dynamic,
            origin,
            rpath,
            runpath,
            by,
        });
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}
