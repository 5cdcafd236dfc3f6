//! How reports are written: files that are replaced when they are complete, or added to, as a job of CI expects; `-` is
//! standard output. Whether that can work is looked at before, without changing anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::profile::output::{Error, Format, Output, sudo_caller};

/// What becomes of what a file held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It is replaced.
    Replaced,
    /// It is replaced if it is a flame graph of ours: elsewhere, those are not made again and again.
    FlameGraph,
    /// It stays, with an empty line after it.
    Kept,
}

/// Whether it is standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn output(path: &Path, before: Before) -> Output {
    match before {
        Before::FlameGraph => Output::new(path, Some(Format::Svg)).of_gate(),
        // Its own format is not asked for: any text goes there.
        _ => Output::new(path, Some(Format::Folded))
            .of_gate()
            .replaces_all(),
    }
}

/// Finds out what would fail after all commands were run.
///
/// # Errors
/// Why it cannot be written.
pub(super) fn check(path: &Path, before: Before) -> Result<(), Error> {
    let is_there = fs::symlink_metadata(path).is_ok_and(|about| about.is_file());
    if before == Before::Kept && is_there {
        // Its folder need not be writable.
        return existing(path)
            .map(drop)
            .map_err(|error| cannot_write(path, &error));
    }
    output(path, before).check_writable_before_sampling()
}

/// Writes a report.
///
/// # Errors
/// It is not there then, or as it was before.
pub(super) fn write(path: &Path, text: &[u8], before: Before) -> Result<(), Error> {
    if is_stdout(path) {
        return stdout(text).map_err(|error| Error::io("cannot write to standard output", &error));
    }
    let is_stream = || fs::metadata(path).is_ok_and(|about| !about.is_file());
    if before == Before::Kept && !is_stream() {
        return add(path, text).map_err(|error| cannot_write(path, &error));
    }
    let written = output(path, before).write_with(&mut |out| out.write_all(text));
    written.map_err(|not| not.error)
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::io(format!("cannot write {}", path.display()), error)
}

/// Adds to the end of a file.
fn add(path: &Path, text: &[u8]) -> io::Result<()> {
    let (mut file, is_new) = match OpenOptions::new().append(true).create_new(true).open(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (existing(path)?, false),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if let (true, Some((user, group))) = (is_new, sudo_caller()) {
        // Where this is refused the report still is worth having.
        let _ = std::os::unix::fs::fchown(&file, Some(user), Some(group));
    }
    // One write: what two jobs add to the same file must not be mixed.
    let begin: &[u8] = if length > 0 { b"\n" } else { b"" };
    let written = file.write_all(&[begin, text].concat());
    if written.is_err() {
        // Half of it helps nobody; what was there does.
        let _ = match is_new {
            true => fs::remove_file(path),
            false => file.set_len(length),
        };
    }
    written
}

/// Opens a file to add to it. Somebody's link in a folder that root works in may lead anywhere.
fn existing(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Writes to standard output. A reader that has gone has seen enough.
pub(super) fn stdout(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
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
        let read = || fs::read_to_string(&path).unwrap();
        write(&path, b"one\n", Before::Kept).unwrap();
        assert_eq!(read(), "one\n");
        write(&path, b"two\n", Before::Kept).unwrap();
        assert_eq!(read(), "one\n\ntwo\n");
        // Where root writes, somebody's link must not say where to.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for before in [Before::Kept, Before::Replaced, Before::FlameGraph] {
            check(&link, before).unwrap_err();
            write(&link, b"three\n", before).unwrap_err();
        }
        assert!(read().ends_with("two\n"));
        // A flame graph replaces no other file.
        write(&path, b"3\n", Before::FlameGraph).unwrap_err();
        write(&path, b"3\n", Before::Replaced).unwrap();
        assert_eq!(read(), "3\n");
        let missing = folder.path().join("none/summary.md");
        let error = write(&missing, b"x", Before::Kept).unwrap_err();
        assert!(error.what().contains("No such file"), "{error}");
    }

    #[test]
    fn a_look_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        for before in [Before::Kept, Before::Replaced, Before::FlameGraph] {
            check(&path, before).unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
            check(folder.path(), before).unwrap_err();
            check(&folder.path().join("none/report"), before).unwrap_err();
        }
        fs::write(&path, "as it was").unwrap();
        check(&path, Before::Kept).unwrap();
        check(&path, Before::Replaced).unwrap();
        check(&path, Before::FlameGraph).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "as it was");
    }
}
