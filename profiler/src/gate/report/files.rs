//! Where reports go: files that are replaced, or added to, as a job of CI expects; `-` is standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::profile::output::sudo_caller;

/// What becomes of what a file held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It is replaced.
    Replaced,
    /// It stays, with an empty line after it.
    Kept,
}

/// Whether it is standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Writes a report.
pub(super) fn write(path: &Path, text: &str, before: Before) -> io::Result<()> {
    if is_stdout(path) {
        return stdout(text);
    }
    let mut file = open(path, before)?;
    let is_continued = before == Before::Kept
        && file
            .metadata()
            .is_ok_and(|about| about.is_file() && about.len() > 0);
    // One write: what two jobs add to the same file must not be mixed.
    let begin = if is_continued { "\n" } else { "" };
    file.write_all(format!("{begin}{text}").as_bytes())
}

fn open(path: &Path, before: Before) -> io::Result<File> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => {
            if let Some((user, group)) = sudo_caller() {
                // Where this is refused the report still is worth having.
                let _ = std::os::unix::fs::fchown(&file, Some(user), Some(group));
            }
            Ok(file)
        }
        // Somebody's link in a folder that root works in may lead anywhere.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => OpenOptions::new()
            .write(before == Before::Replaced)
            .truncate(before == Before::Replaced)
            .append(before == Before::Kept)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path),
        Err(error) => Err(error),
    }
}

/// Writes to standard output. A reader that has gone has seen enough.
pub(super) fn stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match (stdout.write_all(text.as_bytes())).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.md");
        let read = || std::fs::read_to_string(&path).unwrap();
        write(&path, "one\n", Before::Kept).unwrap();
        assert_eq!(read(), "one\n");
        write(&path, "two\n", Before::Kept).unwrap();
        assert_eq!(read(), "one\n\ntwo\n");
        // Where root writes, somebody's link must not say where to.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for before in [Before::Kept, Before::Replaced] {
            write(&link, "three\n", before).unwrap_err();
        }
        assert!(read().ends_with("two\n"));
        write(&path, "3\n", Before::Replaced).unwrap();
        assert_eq!(read(), "3\n");
        let missing = folder.path().join("none/summary.md");
        let error = write(&missing, "x", Before::Kept).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
