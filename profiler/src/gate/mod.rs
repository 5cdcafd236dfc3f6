//! What two versions of a program cost: profiles of runs go in; passed, regressed or inconclusive comes out, and the
//! functions that explain it.
//!
//! | Module | What it knows |
//! |---|---|
//! | [`costs`] | what one run cost, function by function |
//! | [`runs`] | many of them: sides, blocks, files |
//! | [`once`] | that no run counts twice |
//! | [`config`], [`patterns`] | `gate.toml`: what functions may cost, and what is accepted |
//! | [`names`] | names that stay from build to build |
//! | [`matching`] | which function of one build is which of the other |
//! | [`statistics`] | changes, intervals, verdicts |
//! | [`sanity`] | whether runs can be compared at all |
//! | [`explain`] | which functions explain a change |
//! | [`judging`] | the verdict of a run, and of what the project has agreed on |
//! | [`comparison`] | all of it together |
//! | [`report`] | what people and machines are told |
//! | [`tasks`] | what `rprof gate` is told to do: run, compare, calibrate |

pub mod comparison;
pub mod config;
pub mod costs;
pub mod explain;
pub mod judging;
pub mod matching;
pub mod names;
pub mod once;
pub mod patterns;
pub mod report;
pub mod runs;
pub mod sanity;
pub mod statistics;
pub mod tasks;
