//! Which reports were asked for, and where they go: no two to the same file, and each to one that can be written. That
//! is known before any command is run.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::files::{self, Before};
use crate::cli::Failure;
use crate::cli::gate::Reports;
use crate::cli::retype::{Retype, quoted};
use crate::profile::output::Error;

/// A report, but for annotations, which have no file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination<'a> {
    /// How it was asked for.
    pub(super) option: &'static str,
    pub(super) path: &'a Path,
    pub(super) before: Before,
    /// What its file may be called.
    usual: &'static str,
}

impl<'a> Destination<'a> {
    /// All that were asked for.
    pub(super) fn all(of: &'a Reports) -> Vec<Self> {
        use Before::{FlameGraph, Kept, Replaced};
        let all = [
            ("--markdown", &of.markdown, Kept, "gate.md"),
            ("--json", &of.json, Replaced, "gate.json"),
            ("--junit", &of.junit, Replaced, "gate.xml"),
            (
                "--gitlab",
                &of.gitlab,
                Replaced,
                "gl-code-quality-report.json",
            ),
            ("--flamegraph", &of.flamegraph, FlameGraph, "gate.svg"),
        ];
        let all = all.into_iter().filter_map(|(option, path, before, usual)| {
            let path = path.as_deref()?;
            Some(Self {
                option,
                path,
                before,
                usual,
            })
        });
        all.collect()
    }

    /// What cannot be written: what happened, and what to type next.
    pub(super) fn failure(&self, error: &Error) -> Failure {
        let folder = self.path.parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        let folder = quoted(&folder.unwrap_or(Path::new(".")).to_string_lossy());
        let what = error.what();
        // The C library's words: the error is one no more.
        let next = match error.next_step().and_then(|step| step.strip_prefix("-o ")) {
            _ if files::is_stdout(self.path) => self.again("/var/tmp/rprof-gate"),
            _ if what.ends_with("No such file or directory") => format!("mkdir -p {folder}"),
            _ if what.ends_with("No space left on device") => format!("df -h {folder}"),
            Some(file) => self.again(file),
            None => format!("ls -ld {folder} {}", quoted(&self.path.to_string_lossy())),
        };
        Failure::new(what).next(next)
    }

    /// The command that was typed, with another file.
    fn again(&self, file: &str) -> String {
        let words: Vec<OsString> = std::env::args_os().collect();
        Retype::new(&words).with(["", self.option], Some(file))
    }
}

/// Whether all that was asked for can be written.
///
/// # Errors
/// Two go to the same file (exit code 2); one cannot be written.
pub fn check(of: &Reports) -> Result<(), Failure> {
    let all = Destination::all(of);
    let mut taken: Vec<(&str, File)> = Vec::new();
    if of.github {
        taken.push(("--github", File::at(Path::new("-"))));
    }
    for destination in &all {
        let file = File::at(destination.path);
        if let Some((option, _)) = taken.iter().find(|(_, of)| file.is(of)) {
            let to = match files::is_stdout(destination.path) || *option == "--github" {
                true => "standard output".into(),
                false => destination.path.display().to_string(),
            };
            let usual = match destination.path.ends_with(destination.usual) {
                true => format!("rprof-{}", destination.usual),
                false => destination.usual.into(),
            };
            return Err(Failure::usage(format!(
                "{option} and {} both go to {to}: each needs a file of its own",
                destination.option
            ))
            .next(destination.again(&usual)));
        }
        taken.push((destination.option, file));
    }
    for destination in &all {
        files::check(destination.path, destination.before)
            .map_err(|error| destination.failure(&error))?;
    }
    Ok(())
}

/// A file, whatever it is called.
#[derive(Debug, PartialEq, Eq)]
enum File {
    /// One that is there: its device and number. `-` is what standard output goes to.
    There { device: u64, number: u64 },
    /// One that is not there yet, by its folder's own name.
    New(PathBuf),
    /// `/dev/null`, which is big enough for all, unless it is written `-`.
    Nowhere,
}

impl File {
    fn at(path: &Path) -> Self {
        let there = match files::is_stdout(path) {
            true => {
                let stdout = rustix::fs::fstat(std::io::stdout().as_fd());
                return stdout.map_or_else(
                    |_| Self::New(path.into()),
                    |about| Self::There {
                        device: about.st_dev,
                        number: about.st_ino,
                    },
                );
            }
            false => fs::metadata(path),
        };
        match there {
            Ok(about)
                if about.file_type().is_char_device()
                    && (
                        rustix::fs::major(about.rdev()),
                        rustix::fs::minor(about.rdev()),
                    ) == NULL =>
            {
                Self::Nowhere
            }
            Ok(about) => Self::There {
                device: about.dev(),
                number: about.ino(),
            },
            Err(_) => {
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                let folder = fs::canonicalize(folder.unwrap_or(Path::new(".")));
                let name = path.file_name().unwrap_or_default();
                Self::New(folder.map_or_else(|_| path.into(), |folder| folder.join(name)))
            }
        }
    }

    fn is(&self, other: &Self) -> bool {
        *self != Self::Nowhere && self == other
    }
}

/// `Documentation/admin-guide/devices.txt` of Linux: 1:3.
const NULL: (u32, u32) = (1, 3);
