//! A code object by name, whatever its runtime, and why one could not be made out.

use std::fmt;

/// A code object: an interpreted function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Its key, recomputed from what was read: the name is the sample's only if the sample carried
    /// the same.
    pub key: u64,
    /// Name as its users write it, qualified where the runtime qualifies.
    pub name: String,
    /// File as the runtime says it.
    pub file: String,
    /// First line of the function, from 1; 0 if not known.
    pub first_line: u32,
    /// Which line an instruction belongs to; `None` if the table was too long to be read, so that
    /// [`Code::first_line`] is all there is.
    pub lines: Option<Box<[Run]>>,
}

/// Instructions of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// One past the position of the last one; the first follows the run before.
    pub end: u32,
    /// Their line, from 1; `None` if they have none.
    pub line: Option<u32>,
}

impl Code {
    /// The line of an instruction; `position` counts as the runtime's frames do (CPython: code
    /// units of two bytes from the first instruction, which `prev_instr` points to).
    ///
    /// `None`: the instruction has no line, lies beyond the table, or the table was not read.
    pub fn line(&self, position: u32) -> Option<u32> {
        let runs = self.lines.as_deref()?;
        let run = runs.partition_point(|run| run.end <= position);
        runs.get(run)?.line
    }
}

/// Why the bytes that a plan read are no code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// Fewer fields, or shorter ones, than the plan has.
    Short,
    /// The interpreter is another runtime's.
    Runtime,
    /// The object is of another type.
    Type,
    /// A string whose characters are not the plan's: none, or of a width that does not exist.
    Text,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "code object: fields are missing",
            Self::Runtime => "code object: of another runtime",
            Self::Type => "code object: its type is another",
            Self::Text => "code object: a name is not a string",
        })
    }
}

impl std::error::Error for DecodeError {}
