//! What can go wrong with an output: a sentence, and what to type next.

use std::path::PathBuf;
use std::{fmt, io};

/// Why an output cannot be used.
#[derive(Debug)]
pub struct Error {
    what: String,
    next: Option<String>,
}

impl Error {
    pub(super) fn new(what: String, next: Option<String>) -> Self {
        Self { what, next }
    }

    /// An operation failed: "`what`: why".
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        // The number in `os error 28` tells people nothing.
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        Self {
            what: format!("{what}: {text}"),
            next: None,
        }
    }

    pub(super) fn next(mut self, next: String) -> Self {
        self.next = Some(next);
        self
    }

    /// What happened, to which file: one sentence without a full stop.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to type next, if that is known.
    pub fn next_step(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  try: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// A profile that is not where it should be.
#[derive(Debug)]
pub struct NotWritten {
    /// Why.
    pub error: Error,
    /// Where it was saved instead, whole.
    pub saved: Option<PathBuf>,
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        match &self.saved {
            Some(path) => write!(f, "\n  the profile was saved to {}", path.display()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NotWritten {}
