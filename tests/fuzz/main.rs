//! Whatever bytes a target, its files or a reader may give us: no panic, no hang, no memory beyond a
//! bound.
//!
//! A target here is one test: real inputs are changed in many ways, each is handed to the code that
//! takes such bytes, and must cost less than [`limits`] allows. What fails is made smaller and kept
//! in `inputs/`, and is tried first from then on. A run of all takes about a minute;
//! `cargo xtask fuzz` runs longer, guided by what of our code an input reaches.
//!
//! | module | what it is |
//! |---|---|
//! | [`engine`] | the loop: which input comes next, what becomes of one that fails |
//! | [`limits`] | what an input may cost, and how that is measured |
//! | [`mutate`] | how inputs are changed |
//! | [`reached`] | what of the code an input reaches, in a build that counts it |
//! | [`seeds`] | programs to begin with |
//! | [`unwind`] · [`names`] · [`libraries`] · [`runtimes`] · [`records`] · [`readers`] · [`words`] · [`push`] · [`gate`] | the targets, by where their bytes come from |

mod engine;
mod gate;
mod libraries;
mod limits;
mod mutate;
mod names;
mod push;
mod reached;
mod readers;
mod records;
mod runtimes;
mod seeds;
mod unwind;
mod words;
