//! The work behind the `rprof` binary.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | arguments, and the settings resolved from them |
//! | [`sampling`] | events, eBPF programs, reader, workers: from a tick to a merged stack |
//! | [`reader`] | processes that read files of targets, for sampling and for naming |
//! | [`naming`] | names for what was sampled, looked up at the end |
//! | [`profile`] | merged stacks, and the formats they are written in |
//! | [`ledger`] | where each expected tick ended |
//! | [`gate`] | what two versions of a program cost |
//! | [`push`] | profiles to a dashboard |
//! | [`report`] | what people are told: progress, summary, `rprof check` |

pub mod cli;
pub mod gate;
pub mod ledger;
pub mod naming;
pub mod profile;
pub mod push;
pub mod reader;
pub mod report;
pub mod sampling;
