//! Why a module has no rows.

use std::fmt;

/// What is wrong with a module's file. Which file it is, the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not a 64-bit little-endian ELF file.
    NotElf,
    /// An ELF file for another machine than x86-64.
    OtherMachine,
    /// This part of the file could not be read, or points outside of the file.
    Unreadable(&'static str),
    /// No segment is both executable and in the file.
    NoText,
    /// The rows would take more words than they may: this many (capped where counting ended).
    TooLarge(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "not a 64-bit little-endian ELF file"),
            Self::OtherMachine => write!(f, "an ELF file for another machine than x86-64"),
            Self::Unreadable(part) => write!(f, "its {part} cannot be read"),
            Self::NoText => write!(f, "it has no executable segment"),
            Self::TooLarge(words) => {
                write!(f, "its unwind rows need {words} words, more than allowed")
            }
        }
    }
}

impl std::error::Error for Error {}
