//! What people and machines are told: a comparison comes in, text or a file leaves. Names in profiles come from
//! strangers: none leaves in a way that a terminal, Markdown, XML or the log of a CI system would obey.
//!
//! | Module | What it writes |
//! |---|---|
//! | [`text`] | the answer on standard error |
//! | `markdown` | the same for comments and summaries of jobs |
//! | [`json`] | all of it; its shape |
//! | `junit` | a test report |
//! | `annotations` | functions beside their text, on GitHub and GitLab |
//! | `flame` | a flame graph |
//! | `told`, `sentences`, `words` | nothing: what all of them say, and how |
//! | `more` | nothing: how many more runs would tell |
//! | `places` | nothing: which file of the repository a profile means |
//! | `files` | where reports go |

mod annotations;
mod files;
mod flame;
pub mod json;
mod junit;
mod markdown;
mod places;
mod sentences;
pub mod text;
mod told;
mod words;

pub(in crate::gate) use words::harmless;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use self::files::Before;
use self::places::Places;
use self::told::Told;
use super::comparison::Comparison;
use super::runs::Runs;
use crate::cli::Failure;
use crate::cli::failure::reason;
use crate::cli::gate::Reports;
use crate::cli::retype::{Retype, quoted};
use crate::profile::output::{Format, Output};

/// Writes what was asked for, all that can be written.
///
/// # Errors
/// Files that cannot be written.
pub fn write(of: &Comparison, runs: &Runs, wanted: &Reports) -> Result<(), Failure> {
    let places = Places::here();
    let told = Told::new(of);
    let mut failed = Failed::default();
    if let Some(path) = &wanted.markdown {
        let text = markdown::text(of, &told, &places);
        let written = files::write(path, &text, Before::Kept);
        failed.file("--markdown", path, written);
    }
    if let Some(path) = &wanted.json {
        let text = json::text(of, runs, &told, &places);
        let written = files::write(path, &text, Before::Replaced);
        failed.file("--json", path, written);
    }
    if let Some(path) = &wanted.junit {
        let written = junit::text(of, &text::plain(of, &places))
            .and_then(|text| files::write(path, &text, Before::Replaced));
        failed.file("--junit", path, written);
    }
    if wanted.github {
        let lines = annotations::github(of, &told, &places);
        failed.file("--github", Path::new("-"), files::stdout(&lines));
    }
    if let Some(path) = &wanted.gitlab {
        let text = annotations::gitlab(of, &told, &places);
        let written = files::write(path, &text, Before::Replaced);
        failed.file("--gitlab", path, written);
    }
    if let Some(path) = &wanted.flamegraph {
        match flame::Stacks::read(runs) {
            Ok(stacks) => {
                let written = Output::new(path, Some(Format::Svg))
                    .write_with(&mut |out| flame::write(of, &stacks, out));
                if let Err(error) = written {
                    failed.flamegraph(path, &error);
                }
            }
            Err(failure) => failed.unread(&failure),
        }
    }
    failed.failure()
}

/// What could not be written: sentences, and what to type next.
#[derive(Default)]
struct Failed {
    what: Vec<String>,
    next: Vec<String>,
}

impl Failed {
    fn file(&mut self, option: &str, path: &Path, written: io::Result<()>) {
        let Err(error) = written else {
            return;
        };
        if files::is_stdout(path) {
            self.what.push(format!(
                "cannot write to standard output: {}",
                reason(&error)
            ));
            self.next.push(again(option, "/var/tmp/rprof-gate"));
            return;
        }
        self.what.push(format!(
            "cannot write {}: {}",
            path.display(),
            reason(&error)
        ));
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let shown = quoted(&folder.to_string_lossy());
        self.next.push(match error.kind() {
            io::ErrorKind::NotFound => format!("mkdir -p {shown}"),
            io::ErrorKind::StorageFull => format!("df -h {shown}"),
            io::ErrorKind::IsADirectory => {
                again(option, &path.join("rprof-gate").to_string_lossy())
            }
            _ => format!("ls -ld {shown} {}", quoted(&path.to_string_lossy())),
        });
    }

    fn flamegraph(&mut self, path: &Path, error: &crate::profile::output::NotWritten) {
        let what = error.error.what();
        match &error.saved {
            Some(saved) => {
                self.what
                    .push(format!("{what}; the flame graph is in {}", saved.display()));
                let saved = quoted(&saved.to_string_lossy());
                self.next.push(format!("ls -l {saved}"));
            }
            None => {
                self.what.push(what.to_string());
                self.next
                    .push(format!("ls -ld {}", quoted(&path.to_string_lossy())));
            }
        }
    }

    /// A profile that is gone before its stacks were read.
    fn unread(&mut self, failure: &Failure) {
        let text = failure.to_string();
        let what = text.lines().next().unwrap_or_default();
        let what = what.trim_start_matches("rprof: ");
        self.what.push(format!("no flame graph: {what}"));
        self.next.extend(failure.next_commands().iter().cloned());
    }

    fn failure(self) -> Result<(), Failure> {
        if self.what.is_empty() {
            return Ok(());
        }
        let failure = Failure::new(self.what.join("; "));
        let next = self.next.into_iter();
        Err(next.fold(failure, |failure, next| failure.next(next)))
    }
}

/// The command that was typed, with another file.
fn again(option: &str, file: &str) -> String {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    Retype::new(&words).with(["", option], Some(file))
}
