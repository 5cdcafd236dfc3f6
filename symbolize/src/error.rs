//! What can go wrong, as one opaque error: a kind to decide by, and a chain of contexts for people.

use std::fmt;

/// What a caller can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It is not there.
    NotFound,
    /// A file is there, but it is not the one that was sampled.
    OtherFile,
    /// The system does not let us.
    PermissionDenied,
    /// Kernel addresses are hidden (`kernel.kptr_restrict`).
    KernelAddressesHidden,
    /// The bytes are not what their format demands.
    Malformed,
    /// A valid format, or a variant of one, that is not read here.
    Unsupported,
    /// Reading it would take more memory or work than the caller allows.
    OverBudget,
    /// The system reports another failure.
    Io,
}

/// An error: its kind, and what was being done, from the outermost to the cause.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with what happened.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// What a caller can decide by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error, with what was being done put before it.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            std::io::ErrorKind::UnexpectedEof => ErrorKind::Malformed,
            _ => ErrorKind::Io,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl From<gimli::Error> for Error {
    fn from(error: gimli::Error) -> Self {
        Self::malformed(error.to_string())
    }
}
