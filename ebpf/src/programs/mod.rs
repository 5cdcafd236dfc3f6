//! The programs. A tick goes this way:
//!
//! [`tick`] decides whether it counts · [`task`] says whose it is · [`native`] walks frame by frame,
//! asking [`mapping`] for the module of a pc, [`module`] for its key, [`rows`] for its rule, [`stack`]
//! for stack words, and handing over to a runtime of [`crate::runtimes`] where its frames begin ·
//! [`naming`] copies what names code objects not met before · [`slice`] sends what user space needs
//! to unwind on · [`output`] sends the sample.

pub(crate) mod account;
pub(crate) mod config;
pub(crate) mod mapping;
pub(crate) mod maps;
pub(crate) mod memory;
pub(crate) mod module;
pub(crate) mod naming;
pub(crate) mod native;
pub(crate) mod output;
pub(crate) mod process;
pub(crate) mod rows;
pub(crate) mod self_check;
pub(crate) mod slice;
pub(crate) mod stack;
pub(crate) mod state;
pub(crate) mod task;
pub(crate) mod tick;
