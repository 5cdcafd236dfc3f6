//! The command line. Words come in, [`Settings`] or a [`Failure`] leave.
//!
//! What was typed ([`args::Args`]) and what it means here ([`Settings`]) are two types: the first
//! is the one definition that help, manual page and completions are made from, the second has
//! defaults filled in and has been checked against the machine. Nothing here samples, and nothing
//! here is kept once sampling begins.
//!
//! | module | what it is |
//! |---|---|
//! | [`args`] | every option: its name, its documentation, its test |
//! | [`values`] | how `10s`, `256MiB`, `0-3,5` and `K=V` are read |
//! | [`parse`] | words to arguments, and what is said when they make no sense |
//! | `place` | of which task the words are |
//! | [`gate`] | the command line of `rprof gate` |
//! | [`glob`] | patterns for names of processes |
//! | [`settings`] | arguments to settings |
//! | [`command`] | the command to run: its file, its user, its exit code |
//! | [`failure`] | what people are told when something does not work |
//! | [`retype`] | the command at hand, typed again with one thing changed |
//! | [`documents`] | completions and the manual page |

pub mod args;
pub mod command;
pub mod documents;
pub mod failure;
pub mod gate;
pub mod glob;
pub mod parse;
mod place;
pub mod retype;
pub mod settings;
pub mod values;

pub use failure::Failure;
pub use settings::Settings;
