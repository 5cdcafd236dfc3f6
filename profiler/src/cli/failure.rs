//! What people are told when something does not work: what happened, to which file or process, and
//! the next command to type; and the exit code that goes with it. What enters is the cause, what
//! leaves is two or three lines of text. It never prints anything itself.

use std::fmt;
use std::io;
use std::path::Path;

use super::retype::{Retype, quoted};
use crate::profile::output;

/// Exit codes, as the manual page lists them.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Something failed, or this machine cannot be profiled.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// `rprof gate`: dearer than it may be.
    pub const REGRESSED: u8 = 3;
    /// `rprof gate`: not known.
    pub const INCONCLUSIVE: u8 = 4;
    /// The command was found, and could not be run.
    pub const CANNOT_RUN: u8 = 126;
    /// The command was not found.
    pub const NOT_FOUND: u8 = 127;
}

/// An error for people. [`fmt::Display`] gives all its lines, without a final newline:
///
/// ```text
/// rprof: no process has the pid 4242
///   try: pgrep -a NAME
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    what: String,
    /// Lines of whoever failed.
    said: Vec<String>,
    next: Vec<String>,
    code: u8,
}

impl Failure {
    /// Something did not work; exit code 1. `what` is one sentence without a full stop.
    pub fn new(what: impl Into<String>) -> Self {
        Failure {
            what: what.into(),
            said: Vec::new(),
            next: Vec::new(),
            code: exit::FAILED,
        }
    }

    /// The command line makes no sense; exit code 2.
    pub fn usage(what: impl Into<String>) -> Self {
        Failure::new(what).code(exit::USAGE)
    }

    /// An operation on a file failed: "cannot `action` `path`: why".
    pub fn file(action: &str, path: &Path, error: &io::Error) -> Self {
        Failure::new(format!(
            "cannot {action} {}: {}",
            path.display(),
            reason(error)
        ))
    }

    /// An output that cannot be used; `again` is the command at hand.
    pub fn output(error: &output::Error, again: &Retype) -> Self {
        let failure = Failure::new(error.what());
        // What the C library calls EFBIG.
        if failure.what.contains("File too large") {
            return failure.next(format!("ulimit -f unlimited; {}", again.line()));
        }
        // The step is the option that would do.
        match error.next_step().and_then(|step| step.strip_prefix("-o ")) {
            Some(file) => failure.next(again.with(["-o", "--output"], Some(file))),
            None => failure.next(again.with(["-o", "--output"], Some("/var/tmp/rprof.pb.gz"))),
        }
    }

    /// A profile that is not where it should be: if it was saved elsewhere, that is what counts now.
    pub fn not_written(error: &output::NotWritten, again: &Retype) -> Self {
        match &error.saved {
            Some(path) => {
                let path = path.to_string_lossy();
                let what = format!("{}; the profile is in {path}", error.error.what());
                Failure::new(what).next(format!("ls -l {}", quoted(&path)))
            }
            None => Failure::output(&error.error, again),
        }
    }

    /// The same, with what helps if rprof may not open enough files.
    #[must_use]
    pub fn or_more_files(mut self, again: &Retype) -> Self {
        // What the C library calls EMFILE, wherever in a chain of errors it stands.
        if self.what.contains("Too many open files") {
            self.next = vec![format!("ulimit -n 1024; {}", again.line())];
        }
        self
    }

    /// Adds a command that can be typed next.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next.push(command.into());
        self
    }

    /// Adds what the command that failed has said: harmless lines, shown before all else.
    #[must_use]
    pub fn said(mut self, lines: Vec<String>) -> Self {
        self.said = lines;
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The code to exit with.
    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// What happened, without a full stop.
    pub fn what(&self) -> String {
        visible(&self.what)
    }

    /// What the command that failed has said.
    pub fn said_lines(&self) -> &[String] {
        &self.said
    }

    /// The commands that can be typed next.
    pub fn next_commands(&self) -> &[String] {
        &self.next
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.said {
            writeln!(f, "  {line}")?;
        }
        write!(f, "rprof: {}", visible(&self.what))?;
        if !self.said.is_empty() {
            f.write_str("; what it said is above")?;
        }
        for next in &self.next {
            write!(f, "\n  try: {}", visible(next))?;
        }
        Ok(())
    }
}

/// Control characters, which names of files may hold, as what they are: a terminal would obey them.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

impl std::error::Error for Failure {}

/// The system's words for an error, without the number that Rust adds.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_string(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_happened_and_what_to_type() {
        let failure = Failure::usage("no process has the pid 7").next("pgrep -a NAME");
        assert_eq!(
            failure.to_string(),
            "rprof: no process has the pid 7\n  try: pgrep -a NAME"
        );
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn names_the_file_without_error_numbers() {
        let error = io::Error::from_raw_os_error(libc::EACCES);
        let failure = Failure::file("write", Path::new("/x/y.pb.gz"), &error);
        assert_eq!(
            failure.to_string(),
            "rprof: cannot write /x/y.pb.gz: Permission denied"
        );
        assert_eq!(failure.exit_code(), 1);
    }
}
