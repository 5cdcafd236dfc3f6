//! A file that appears complete or not at all. Bytes go to a temporary file beside the target
//! (made with O_EXCL, which follows no link), and a rename puts it in place. It never leaves a temporary file behind,
//! also when rprof is
//! told to stop at once: see [`remove_partial_files`].

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{Builder, NamedTempFile};

/// Encodes a profile; can be called again.
pub(super) type Encode<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// Temporary files that exist at this moment.
static PARTIAL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes the temporary files of outputs that are being written. For the way out on a second
/// Ctrl-C: the process must end right after.
pub fn remove_partial_files() {
    let partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner);
    for path in partial.iter() {
        // There is nobody left to tell.
        let _ = fs::remove_file(path);
    }
    // Whoever would make one more now waits until the end.
    std::mem::forget(partial);
}

/// A file under a temporary name; dropped, it is gone.
pub(super) struct Partial {
    file: Option<NamedTempFile>,
    path: PathBuf,
}

impl Partial {
    /// A new file in `directory`, with those bits of `mode` that the umask leaves.
    pub(super) fn create(
        directory: &Path,
        prefix: &str,
        suffix: &str,
        mode: u32,
    ) -> io::Result<Self> {
        let mut partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner);
        let file = Builder::new()
            .prefix(prefix)
            .suffix(suffix)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)?;
        let path = file.path().to_owned();
        partial.push(path.clone());
        Ok(Self {
            file: Some(file),
            path,
        })
    }

    /// Writes all of a profile, and gives the file to `owner` (user, group).
    pub(super) fn fill(&mut self, encode: Encode<'_>, owner: Option<(u32, u32)>) -> io::Result<()> {
        let Some(named) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let file = named.as_file_mut();
        write_all(file, encode)?;
        // Some file systems find out that they are full only here; and a rename must not be on
        // disk before what it names.
        file.sync_all()?;
        if let Some((user, group)) = owner {
            // Where this is refused (a share that knows no root) the profile still is worth having.
            let _ = std::os::unix::fs::fchown(&*file, Some(user), Some(group));
        }
        Ok(())
    }

    /// Renames it to `target`, which is replaced only if `replace`.
    pub(super) fn rename(mut self, target: &Path, replace: bool) -> io::Result<()> {
        let Some(file) = self.file.take() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let renamed = match replace {
            true => file.persist(target),
            false => file.persist_noclobber(target),
        };
        // An error brings the file back, and drops it.
        renamed.map(drop).map_err(|e| e.error)
    }

    /// Keeps it under its name.
    pub(super) fn keep(mut self) -> io::Result<PathBuf> {
        match self.file.take() {
            Some(file) => file.keep().map(|(_, path)| path).map_err(|e| e.error),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.file = None;
        let mut partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner);
        partial.retain(|path| *path != self.path);
    }
}

/// Encodes into a file through a buffer.
pub(super) fn write_all(file: &File, encode: Encode<'_>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, file);
    let done = encode(&mut out).and_then(|()| out.flush());
    // After an error the buffer must not be written once more.
    drop(out.into_parts());
    done
}
