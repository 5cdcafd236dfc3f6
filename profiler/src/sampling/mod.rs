//! From a tick to a merged stack.
//!
//! [`events`] tick; the programs (see `rprof_ebpf::programs`), loaded by [`programs`] for the kernel
//! that [`kernel_layout`] describes, write samples into a ring; [`ring`] empties it and hands
//! records out: to the [`stacks`] workers, each of which has some of the processes and merges their
//! stacks into the profile of one of the [`intervals`], and to the [`learner`], which turns a [`modules`] file met for the
//! first time into rows in [`row_space`] and finishes by [`slices`] what the programs could not
//! walk. Names of interpreted functions that the programs could not copy are asked for by [`reading`], and
//! count if [`identity`] finds the process to be still the one that was sampled. None of them opens a
//! file of a target or reads its memory: [`crate::reader`] does, and at the end looks up names for
//! [`crate::naming`]. [`session`] holds it all
//! together: `setup` loads the programs, `targets` says what is wanted, `threads` run reader, learner
//! and workers, `ending` takes signals when sampling is over, `account` closes their books.

mod account;
pub mod btf;
pub mod cgroup;
pub mod child;
mod codes;
pub mod conditions;
mod counter;
pub mod door;
pub mod ending;
pub mod events;
pub mod faults;
pub mod identity;
pub mod intervals;
pub mod kernel_layout;
pub mod labels;
pub mod learner;
mod learning;
mod lessons;
pub mod limits;
pub mod live;
pub mod losses;
pub mod memory;
pub mod modules;
pub mod neighbours;
mod online;
pub mod privileges;
pub mod programs;
pub mod reading;
pub mod ring;
pub mod row_space;
pub mod select;
pub mod self_check;
pub mod session;
mod setup;
pub mod signals;
pub mod slices;
pub mod stacks;
pub mod standing;
mod targets;
mod test_run;
mod threads;
pub mod vdso;

pub use session::{Ran, Recording, record};
