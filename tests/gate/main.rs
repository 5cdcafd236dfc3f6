//! Promise: what two versions of a program cost is compared by runs; what is dearer is found, and named; what is not
//! is not said to be.
//!
//! | module | what it is |
//! |---|---|
//! | [`answer`] | `rprof gate` is run, and what it said is read |
//! | [`changes`] · [`builds`] | programs that change, and those that are only built again |
//! | [`matrix`] | small changes; takes long |
//! | [`others`] | profiles of other profilers |
//! | [`agreed`] · [`baseline`] | `gate.toml`, and a folder of earlier runs |
//! | [`mistakes`] | what cannot be run, read or compared |
//! | [`running`] · [`ended`] | how runs go on and end, and that nothing goes on after them |
//! | [`reporting`] · [`full`] | what is written where something fails, and where disks are full |
//! | [`said`] | all that `rprof gate` says and leaves |
//! | [`profiles`] | profiles that are made up |

mod agreed;
mod answer;
mod baseline;
mod builds;
mod changes;
mod ended;
mod full;
mod matrix;
mod mistakes;
mod others;
mod profiles;
mod reporting;
mod running;
mod said;
