//! Unwinding: from call frame information (CFI) to the caller of a frame.
//!
//! What enters are ELF files (or the vDSO's memory), read through [`object::ReadRef`] and treated as
//! hostile. What leaves are [`rows::Table`]s, encoded into the words that the eBPF program looks up,
//! and, for the frames no row can say, stacks that [`slice::Unwinder`] walks from registers and a
//! copy of the stack. This crate never opens a file, never reads a process, and never guesses a
//! caller by frame pointer.
//!
//! | module | what it holds |
//! |---|---|
//! | [`module`] | segments and unwind sections of an ELF file |
//! | [`rows`] | rows of a module: built from CFI, encoded as row space words |
//! | [`mod@slice`] | the user-space unwinder |
//! | [`error`] | why a module has no rows |

#[cfg(not(target_arch = "x86_64"))]
compile_error!("rprof unwinds x86-64 only so far: another architecture needs its own folder here");

mod cfi;
pub mod error;
pub mod module;
pub mod rows;
pub mod slice;
mod wire;
mod x86_64;

pub use error::Error;
pub use rows::Table;
