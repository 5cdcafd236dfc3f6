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
//! | `places` | nothing: which file of the repository a profile means |
//! | `destinations`, `files` | where reports go, and how |

mod annotations;
mod destinations;
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

use self::destinations::Destination;
use self::places::Places;
use self::told::Told;
use super::comparison::Comparison;
use super::runs::Runs;
use crate::cli::Failure;
use crate::cli::failure::reason;
use crate::cli::gate::{Inconclusive, Reports};

pub use destinations::check;
pub(in crate::gate) use words::harmless;

#[cfg(test)]
mod tests;

/// What is said of the first runs of a baseline.
const FIRST: &str = "Nothing to compare with yet: the next runs are compared with these";

/// Writes what was asked for, all that can be written.
///
/// # Errors
/// Files that cannot be written.
pub fn write(
    of: &Comparison,
    runs: &Runs,
    inconclusive: Option<Inconclusive>,
    wanted: &Reports,
) -> Result<(), Failure> {
    let places = Places::here();
    let told = Told::new(of, inconclusive);
    let github = || annotations::github(of, &told, &places);
    each(wanted, github, |option| {
        Some(match option {
            "--markdown" => Ok(markdown::text(of, &told, &places).into_bytes()),
            "--json" => Ok(json::text(of, runs, &told, &places).into_bytes()),
            "--junit" => junit::text(of, &told, &text::plain(of, &told, &places)),
            "--gitlab" => Ok(annotations::gitlab(of, &told, &places).into_bytes()),
            _ => flame::text(of, runs, &told),
        })
    })
}

/// Writes that there is nothing to report, and why, wherever a report was asked for: a job's page that shows the
/// one of yesterday, or none, tells nobody. There is no flame graph of it.
///
/// # Errors
/// Files that cannot be written.
pub fn write_failure(why: &Failure, wanted: &Reports) -> Result<(), Failure> {
    let github = || annotations::github_failure(why);
    each(wanted, github, |option| match option {
        "--markdown" => Some(Ok(markdown::failure(why).into_bytes())),
        "--json" => Some(Ok(json::failure(why).into_bytes())),
        "--junit" => Some(junit::failure(why)),
        "--gitlab" => Some(Ok(annotations::gitlab_nothing().into_bytes())),
        _ => None,
    })
}

/// Writes that there is nothing to compare with yet, as [`write_failure`] does.
///
/// # Errors
/// Files that cannot be written.
pub fn write_first(wanted: &Reports) -> Result<(), Failure> {
    let github = || annotations::github_first(FIRST);
    each(wanted, github, |option| match option {
        "--markdown" => {
            let text = format!("### rprof gate: nothing was compared\n\n**{FIRST}**\n");
            Some(Ok(text.into_bytes()))
        }
        "--json" => Some(Ok(json::first(FIRST).into_bytes())),
        "--junit" => Some(junit::first(FIRST)),
        "--gitlab" => Some(Ok(annotations::gitlab_nothing().into_bytes())),
        _ => None,
    })
}

/// Writes the text of each report that was asked for, if it has one.
fn each(
    wanted: &Reports,
    github: impl FnOnce() -> String,
    text: impl Fn(&str) -> Option<Result<Vec<u8>, Failure>>,
) -> Result<(), Failure> {
    let mut failed = Failed::default();
    if wanted.github {
        failed.annotations(&github());
    }
    for destination in Destination::all(wanted) {
        match text(destination.option) {
            Some(Ok(text)) => failed.write(&destination, &text),
            Some(Err(failure)) => failed.add(&failure),
            None => {}
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
    fn write(&mut self, destination: &Destination<'_>, text: &[u8]) {
        if let Err(error) = files::write(destination.path, text, destination.before) {
            self.add(&destination.failure(&error));
        }
    }

    fn annotations(&mut self, lines: &str) {
        if let Err(error) = files::stdout(lines.as_bytes()) {
            let why = reason(&error);
            self.what
                .push(format!("cannot write to standard output: {why}"));
        }
    }

    fn add(&mut self, failure: &Failure) {
        self.what.push(failure.what());
        for next in failure.next_commands() {
            if !self.next.contains(next) {
                self.next.push(next.clone());
            }
        }
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
