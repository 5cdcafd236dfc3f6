//! Completions and the manual page, made from the one definition in [`args`](super::args). A shell's
//! name comes in, bytes for standard output leave.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Args;

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "rprof", &mut script);
    script
}

/// The manual page, as roff.
///
/// # Errors
/// Only what writing to memory can give.
pub fn man() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut page)?;
    Ok(page)
}
