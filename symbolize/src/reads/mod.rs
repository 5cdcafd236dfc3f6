//! Reading one process's memory, and carrying out read plans with it.
//!
//! Pieces (address and buffer) enter a [`Reads`], the same pieces leave, each filled or with the
//! reason why not. [`execute`] carries out a plan with any `Reads` and gives the bytes that the
//! eBPF program would have written at the sample. No implementation here waits for a target's
//! pages, makes any of them resident, or un-shares them; a plain `process_vm_readv` does all three
//! and is not among them.

mod execute;
mod mapped_file;
mod mappings;
mod pagemap;
mod process_vm;

use std::fmt;

pub use execute::execute;
pub use mapped_file::MappedFiles;
pub use mappings::Mappings;
pub use pagemap::{Look, Pagemap};
pub use process_vm::{Flags, ProcessVm, Unsupported, has_ended};

/// Bytes wanted from a process.
#[derive(Debug)]
pub struct Piece<'b> {
    /// Where they stand in the process.
    pub address: u64,
    /// Where they go.
    pub buffer: &'b mut [u8],
    /// `Ok` once the whole buffer is filled; its bytes mean nothing otherwise.
    pub result: Result<(), ReadError>,
}

impl<'b> Piece<'b> {
    /// A piece that was not asked for yet.
    pub fn new(address: u64, buffer: &'b mut [u8]) -> Self {
        Self {
            address,
            buffer,
            result: Err(ReadError::NotRead),
        }
    }
}

/// Reads the memory of one process.
pub trait Reads {
    /// Fills the pieces in order, as far as it can, and sets each one's result; a piece that cannot
    /// be read does not keep those after it from being read.
    ///
    /// # Errors
    /// The first piece's that has one.
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError>;
}

/// Why bytes of a process could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadError {
    /// A page is not in the process's page tables: reading it would wait, or change the process.
    /// Addresses that are not mapped at all look the same where [`Mappings`] do not tell.
    WouldFault,
    /// A page that is shared copy-on-write: reading it would un-share it.
    SharedPage,
    /// No user address, or no object where a plan says that one stands.
    BadAddress,
    /// What was read first and last differs: the object was replaced in between.
    Changed,
    /// The process, or its memory before an `exec`, is gone.
    Gone,
    /// We may not read this process.
    NotPermitted,
    /// The plan itself is wrong: a defect of ours.
    BadPlan,
    /// Nobody tried.
    NotRead,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldFault => "would fault",
            Self::SharedPage => "shared page",
            Self::BadAddress => "bad address",
            Self::Changed => "changed",
            Self::Gone => "target gone",
            Self::NotPermitted => "not permitted",
            Self::BadPlan => "bad read plan",
            Self::NotRead => "not read",
        })
    }
}

impl std::error::Error for ReadError {}
