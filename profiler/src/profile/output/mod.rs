//! Where a profile goes. A path and perhaps a format come in, before sampling; a profile goes out,
//! at the end: directly to standard output, a pipe or a device, else through a temporary file. It
//! never replaces a file that is no profile, never leaves half a profile under the asked name, and
//! saves elsewhere what cannot be written where it should be.

mod closed;
mod error;
mod existing;
mod file;

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use error::{Error, NotWritten};
pub use file::remove_partial_files;
use file::{Encode, Partial, write_all};

use super::{About, Profile, Symbols, firefox, folded, pprof, svg};

/// How long a named pipe may be without a reader.
const READER_WAIT: Duration = Duration::from_secs(5);

/// A profile tells what others run.
const PRIVATE: u32 = 0o600;

/// How a profile is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// gzipped pprof.
    Pprof,
    /// Folded lines.
    Folded,
    /// A flame graph.
    Svg,
    /// The Firefox Profiler's JSON.
    Firefox,
}

impl Format {
    /// The format asked for, else the one that the path's ending says, else pprof.
    pub fn of(asked: Option<Self>, path: &Path) -> Self {
        let name = path.as_os_str().as_encoded_bytes().to_ascii_lowercase();
        let by_ending = [Self::Folded, Self::Svg, Self::Firefox]
            .into_iter()
            .find(|format| name.ends_with(format.ending().as_bytes()));
        asked.or(by_ending).unwrap_or(Self::Pprof)
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Pprof => ".pb.gz",
            Self::Folded => ".folded",
            Self::Svg => ".svg",
            Self::Firefox => ".json",
        }
    }
}

/// An output that was asked for.
#[derive(Clone, Debug)]
pub struct Output {
    /// `None`: standard output.
    path: Option<PathBuf>,
    format: Format,
    owner: Option<(u32, u32)>,
    /// What a comparison leaves: see [`Output::of_gate`].
    of_gate: bool,
    /// Any file is replaced, not only a profile.
    replaces_all: bool,
}

/// What stands at a path.
enum Found {
    Nothing,
    Replaceable,
    Stream,
}

impl Output {
    /// The output at `path` (`-`: standard output). Under sudo its file will belong to the caller.
    pub fn new(path: &Path, asked: Option<Format>) -> Self {
        Self {
            path: (path != Path::new("-")).then(|| path.to_owned()),
            format: Format::of(asked, path),
            owner: sudo_caller(),
            of_gate: false,
            replaces_all: false,
        }
    }

    /// A file of `rprof gate`, which a job of CI hands on: others may read it as the umask says, and what cannot be
    /// written can be made again, so nothing of it is saved elsewhere.
    pub fn of_gate(mut self) -> Self {
        self.of_gate = true;
        self
    }

    /// Replaces files that are no profiles, too.
    pub fn replaces_all(mut self) -> Self {
        self.replaces_all = true;
        self
    }

    /// Gives the file to this user and group instead of sudo's caller.
    pub fn owned_by(mut self, owner: Option<(u32, u32)>) -> Self {
        self.owner = owner;
        self
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The path; `None` for standard output.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether it is a file: what goes to a pipe or a device cannot be opened afterwards.
    pub fn is_file(&self) -> bool {
        let path = self.path.as_deref();
        path.is_some_and(|path| fs::metadata(path).is_ok_and(|found| found.is_file()))
    }

    /// Finds out now what would fail after minutes of sampling. Changes nothing.
    ///
    /// # Errors
    /// Each reason why this output cannot be written, with what to type instead.
    pub fn check_writable_before_sampling(&self) -> Result<(), Error> {
        let Some(path) = &self.path else {
            if closed::stdout_was() {
                return Err(Error::new(
                    "standard output is closed".into(),
                    Some(format!("-o rprof{}", self.format.ending())),
                ));
            }
            if self.format == Format::Pprof && io::stdout().is_terminal() {
                return Err(Error::new(
                    "standard output is a terminal, and a pprof profile is not text".into(),
                    Some("-o rprof.pb.gz".into()),
                ));
            }
            return Ok(());
        };
        match self.look(path)? {
            // Opening it would wait for its reader, or make that reader see an end.
            Found::Stream => Ok(()),
            Found::Nothing | Found::Replaceable => {
                let made = Partial::create(directory(path), ".rprof-", ".part", self.mode());
                made.map(drop).map_err(|e| {
                    Error::io(format!("cannot create {}", path.display()), &e)
                        .next(format!("-o /var/tmp/{}", self.usual_name()))
                })
            }
        }
    }

    /// Writes a profile in the output's format.
    ///
    /// # Errors
    /// As [`Output::write_with`].
    pub fn write(
        &self,
        profile: &Profile,
        symbols: &Symbols,
        about: &About,
    ) -> Result<(), NotWritten> {
        self.write_with(&mut |out| match self.format {
            Format::Pprof => pprof::write(profile, symbols, about, out),
            Format::Folded => folded::write(profile, symbols, out),
            Format::Svg => svg::write(profile, symbols, about, out),
            Format::Firefox => firefox::write(profile, symbols, about, out),
        })
    }

    /// Writes what `encode` gives; it is called again if the first place fails.
    ///
    /// # Errors
    /// Why it is not where it should be, and where it was saved instead, unless it is [`Output::of_gate`]:
    /// `$TMPDIR`, `/var/tmp` or `/tmp`, readable by its owner only.
    pub fn write_with(
        &self,
        encode: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), NotWritten> {
        let Err(error) = self.try_write(encode) else {
            return Ok(());
        };
        if self.of_gate {
            return Err(NotWritten { error, saved: None });
        }
        let places = [
            std::env::var_os("TMPDIR").map(PathBuf::from),
            Some("/var/tmp".into()),
            Some("/tmp".into()),
        ];
        let saved = places
            .into_iter()
            .flatten()
            .filter(|place| place.is_absolute())
            .find_map(|place| self.save(&place, encode).ok());
        Err(NotWritten { error, saved })
    }

    fn save(&self, directory: &Path, encode: Encode<'_>) -> io::Result<PathBuf> {
        let mut partial = Partial::create(directory, "rprof-", self.format.ending(), PRIVATE)?;
        partial.fill(encode, self.owner)?;
        partial.keep()
    }

    fn try_write(&self, encode: Encode<'_>) -> Result<(), Error> {
        let Some(path) = &self.path else {
            let failed = |e: io::Error| Error::io("cannot write to standard output", &e);
            // Not through std's own buffer, which looks for line ends.
            let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
            return write_all(&File::from(stdout), encode).map_err(failed);
        };
        let failed = |e: io::Error| Error::io(format!("cannot write {}", path.display()), &e);
        if let Found::Stream = self.look(path)? {
            let stream = open_stream(path).map_err(failed)?;
            return write_all(&stream, encode).map_err(failed);
        }
        let mut partial =
            Partial::create(directory(path), ".rprof-", ".part", self.mode()).map_err(failed)?;
        partial.fill(encode, self.owner).map_err(failed)?;
        // Once more: somebody may have put a file there while we sampled.
        let replace = match self.look(path)? {
            Found::Replaceable => true,
            Found::Nothing => false,
            Found::Stream => return Err(failed(io::ErrorKind::AlreadyExists.into())),
        };
        partial.rename(path, replace).map_err(failed)
    }

    /// Its bits, of which the umask takes some.
    fn mode(&self) -> u32 {
        match self.of_gate {
            true => 0o666,
            false => PRIVATE,
        }
    }

    /// A name for it elsewhere.
    fn usual_name(&self) -> String {
        match self.replaces_all {
            true => "rprof-gate".into(),
            false => format!("rprof{}", self.format.ending()),
        }
    }

    /// What stands at a path, or why it cannot be an output.
    fn look(&self, path: &Path) -> Result<Found, Error> {
        let shown = path.display();
        let failed = |e: io::Error| Error::io(format!("cannot look at {shown}"), &e);
        let own = match fs::symlink_metadata(path) {
            Ok(found) => found.file_type(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(e) => return Err(failed(e)),
        };
        // `/dev/stdout` and what a shell makes of `>(…)` are links to pipes and devices.
        let kind = match fs::metadata(path) {
            Ok(found) => found.file_type(),
            Err(_) if own.is_symlink() => own,
            Err(e) => return Err(failed(e)),
        };
        if is_stream(kind) {
            return Ok(Found::Stream);
        }
        let refused =
            |what: &str, next: String| Err(Error::new(format!("{shown} {what}"), Some(next)));
        if kind.is_dir() {
            return refused(
                "is a directory",
                format!("-o {}", path.join(self.usual_name()).display()),
            );
        }
        if own.is_symlink() {
            let next = fs::canonicalize(path).unwrap_or_else(|_| self.usual_name().into());
            return refused(
                "is a symbolic link, which rprof does not follow",
                format!("-o {}", next.display()),
            );
        }
        if !kind.is_file() {
            return refused(
                "is neither a file nor a pipe",
                format!("-o {}", self.usual_name()),
            );
        }
        if self.replaces_all {
            return Ok(Found::Replaceable);
        }
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        match opened.and_then(|file| existing::is_replaceable(&file)) {
            Ok(true) => Ok(Found::Replaceable),
            Ok(false) => refused(
                "exists and is not a profile: rprof does not overwrite it",
                free_name(path),
            ),
            Err(e) => Err(failed(e)),
        }
    }
}

/// The directory of a path.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The option that names a file which does not exist yet.
fn free_name(taken: &Path) -> String {
    let mut names = (1..100).map(|n| match n {
        1 => "rprof.pb.gz".to_string(),
        n => format!("rprof-{n}.pb.gz"),
    });
    let free = names.find(|name| !directory(taken).join(name).exists());
    let free = free.map(|name| directory(taken).join(name));
    format!(
        "-o {}",
        free.unwrap_or_else(|| "rprof.pb.gz".into()).display()
    )
}

fn is_stream(kind: FileType) -> bool {
    kind.is_fifo() || kind.is_char_device()
}

/// Opens a pipe or device for writing, whose reader may be late, but not for ever.
fn open_stream(path: &Path) -> io::Result<File> {
    let started = Instant::now();
    loop {
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        match opened {
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) && started.elapsed() < READER_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e),
            Ok(file) => {
                if !is_stream(file.metadata()?.file_type()) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                let flags = rustix::fs::fcntl_getfl(&file)?;
                rustix::fs::fcntl_setfl(&file, flags - rustix::fs::OFlags::NONBLOCK)?;
                return Ok(file);
            }
        }
    }
}

/// Makes a folder, and those that it is in; under sudo those that are new belong to the caller.
///
/// # Errors
/// It is not there, and can not be made.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let is_new = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let new: Vec<&Path> = folder.ancestors().take_while(is_new).collect();
    fs::create_dir_all(folder)?;
    if let Some((user, group)) = sudo_caller() {
        for folder in new {
            // Somebody may have put a link there since. Where it is refused what goes there still is worth having.
            let _ = std::os::unix::fs::lchown(folder, Some(user), Some(group));
        }
    }
    Ok(())
}

/// User and group of who called sudo.
pub(crate) fn sudo_caller() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |name| std::env::var(name).ok()?.parse().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}
