//! What runs a script: the first line of its file.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of a script that the kernel looks at (`BINPRM_BUF_SIZE`, include/uapi/linux/binfmts.h).
pub(super) const HEAD: usize = 256;
/// How often an interpreter may be a script in turn: as often as the kernel follows (fs/exec.c).
pub(super) const MAX_LEVELS: usize = 4;

/// The interpreter of a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// Its path.
    pub(super) path: OsString,
    /// The program that it starts instead of itself, if it is `env`.
    pub(super) program: Option<OsString>,
}

/// Reads the first bytes of a file; `None` if it is no script.
pub(super) fn interpreter(head: &[u8]) -> Option<Interpreter> {
    let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let mut words = line
        .split(|&b| matches!(b, b' ' | b'\t' | 0))
        .filter(|word| !word.is_empty())
        .map(OsStr::from_bytes);
    let path = words.next()?;
    let is_env = Path::new(path).file_name() == Some(OsStr::new("env"));
    // `env -S NAME=value program arguments`
    let is_program = |word: &&OsStr| !word.as_bytes().starts_with(b"-") && !has(word, b'=');
    let program = words.find(is_program).filter(|_| is_env);
    Some(Interpreter {
        path: path.to_owned(),
        program: program.map(OsStr::to_owned),
    })
}

fn has(word: &OsStr, byte: u8) -> bool {
    word.as_bytes().contains(&byte)
}
