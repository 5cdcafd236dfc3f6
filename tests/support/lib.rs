//! What the end-to-end tests share. Each test file is one promise of rprof, kept or broken on real
//! programs: sources in `targets/` are built by the test, run under the release binary, and say
//! themselves what they did; the profile is compared with that. Nothing here knows how rprof works.
//! What cannot be brought about from outside (a thread that dies, a ring that is full) is asked for by
//! the variable `RPROF_FAULT`: `profiler/src/sampling/faults.rs` says what there is.
//!
//! | module | what it is |
//! |---|---|
//! | [`scratch`] | a folder for one test, and compilers |
//! | [`target`] | programs that run while they are profiled |
//! | [`rprof`] | the binary: built once, started, interrupted, waited for |
//! | [`profile`] · [`ledger`] · [`account`] | what it wrote, and whether it adds up |
//! | [`beside`] | programs that must not suffer from another |
//! | [`statistics`] | how far a sampled figure may be from the true one |
//! | [`servers`] | real servers that profiles are pushed to |
//! | [`silent`] | a file system that stops answering |
//! | [`machine`] | root, the CPUs, and having them to oneself |
//! | [`python`] | the interpreters to test with |
//! | [`tasks`] | threads of other processes |
//! | [`dashboard`] | a server that is pushed to, and does what the test tells it |
//! | [`cost`] | time of eBPF programs, from the kernel |
//! | [`usage`] | CPU time of processes, from the kernel |

pub mod account;
pub mod beside;
pub mod certificate;
pub mod cost;
pub mod dashboard;
pub mod ledger;
pub mod machine;
pub mod profile;
pub mod python;
pub mod rprof;
pub mod scratch;
pub mod servers;
pub mod silent;
pub mod statistics;
pub mod target;
pub mod tasks;
pub mod usage;

/// Says that a test cannot run here, as CI looks for it. Names are listed in `.ci/allowed-skips`.
pub fn skipped(test: &str, why: &str) {
    println!("SKIPPED: {test}: {why}");
}
