//! `rprof gate`: what two versions of a program cost, and whether that may be merged.

pub mod compare;
pub mod costs;
pub mod explain;
pub mod matching;
pub mod report;
pub mod statistics;
