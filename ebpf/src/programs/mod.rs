//! The programs. A tick goes this way:
//!
//! [`tick`] decides whether it counts · [`task`] says whose it is · [`native`] walks frame by frame,
//! asking [`mapping`] for the module of a pc, [`module`] for its key, [`rows`] for its rule, [`stack`]
//! for stack words, and handing over to a runtime of [`crate::runtimes`] where its frames begin ·
//! [`naming`] copies what names code objects not met before · [`slice`] sends what user space needs
//! to unwind on · [`output`] sends the sample.

pub mod account;
pub mod config;
pub mod mapping;
pub mod maps;
pub mod memory;
pub mod module;
pub mod naming;
pub mod native;
pub mod output;
pub mod rows;
pub mod self_check;
pub mod slice;
pub mod stack;
pub mod state;
pub mod task;
pub mod tick;
