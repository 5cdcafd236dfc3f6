//! Each run counts once: files come in, and those that are the same run are named. Two runs that agree as no two do
//! would make chance look smaller than it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::retype::quoted;

/// What a file holds, as good as its bytes to know it by: their number, and a hash.
pub type Content = (u64, u64);

/// What a file holds; `None`: it cannot be read, which its reader will say.
pub fn content(path: &Path) -> Option<Content> {
    let mut open = std::fs::OpenOptions::new();
    // Who opens a FIFO without that waits for somebody to write.
    let open = open.read(true).custom_flags(libc::O_NONBLOCK);
    let mut file = open.open(path).ok().filter(is_file)?;
    let mut hasher = DefaultHasher::new();
    let mut bytes = vec![0; 64 << 10];
    let mut length = 0;
    loop {
        match file.read(&mut bytes).ok()? {
            0 => return Some((length, hasher.finish())),
            read => {
                hasher.write(bytes.get(..read)?);
                length += read as u64;
            }
        }
    }
}

fn is_file(file: &File) -> bool {
    file.metadata().is_ok_and(|about| about.is_file())
}

/// Says no to a file that is named twice, and to copies.
///
/// # Errors
/// Two of these are the same run.
pub fn each(files: &[&Path]) -> Result<(), Failure> {
    let mut paths: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for &file in files {
        let real = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
        if let Some(before) = paths.insert(real, file) {
            return Err(same(before, file, "are the same file"));
        }
    }
    let length = |file: &Path| file.metadata().map_or(0, |about| about.len());
    let mut lengths: BTreeMap<u64, usize> = BTreeMap::new();
    for file in files {
        *lengths.entry(length(file)).or_default() += 1;
    }
    let mut contents: BTreeMap<Content, &Path> = BTreeMap::new();
    for &file in files {
        // An empty file is no copy of another, but no profile.
        let length = length(file);
        if length == 0 || lengths.get(&length) == Some(&1) {
            continue;
        }
        let Some(content) = content(file) else {
            continue;
        };
        if let Some(before) = contents.insert(content, file) {
            return Err(same(before, file, "hold the same run"));
        }
    }
    Ok(())
}

fn same(one: &Path, other: &Path, are: &str) -> Failure {
    let (shown, again) = (one.display(), other.display());
    let failure = match one == other {
        true => Failure::usage(format!("{shown} is named twice: each run counts once")),
        false => Failure::usage(format!("{shown} and {again} {are}: each run counts once")),
    };
    let names = [one, other].map(|path| quoted(&path.to_string_lossy()));
    failure.next(format!("ls -l {}", names.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_links_and_copies() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        write("a", "one");
        write("b", "two");
        write("copy", "one");
        write("empty", "");
        write("nothing", "");
        std::os::unix::fs::symlink(path("a"), path("link")).unwrap();
        for (names, said) in [
            (["a", "b"], None),
            (["empty", "nothing"], None),
            (["missing", "."], None),
            (["a", "a"], Some("is named twice: each run counts once")),
            (["a", "link"], Some("link are the same file: each run")),
            (["a", "copy"], Some("copy hold the same run: each run")),
        ] {
            let files = names.map(path);
            let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
            match (each(&files), said) {
                (Ok(()), None) => {}
                (Err(failure), Some(said)) => {
                    assert!(failure.to_string().contains(said), "{failure}");
                }
                (other, _) => panic!("{names:?}: {other:?}"),
            }
        }
    }
}
