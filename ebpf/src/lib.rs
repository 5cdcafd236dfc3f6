//! The eBPF programs, and the types they share with user space.
//!
//! Everything that crosses the border (maps, globals, ring buffer records) is `#[repr(C)]`, has a
//! fixed layout on every build, and is declared here once. The programs themselves exist only for
//! the BPF target; `main.rs` names their entry points. The modules, in the order a sample meets
//! them:
//!
//! | module | what it holds |
//! |---|---|
//! | [`select`] | which tasks are wanted, and bounds |
//! | [`kernel`] | where the running kernel keeps its fields, as learned from its BTF |
//! | [`identity`] | who a sample belongs to: process, thread, namespaces |
//! | [`module`] | what a mapped file is, and what the program knows of it |
//! | [`rows`] | unwind rows: how a caller is found from a pc |
//! | [`runtimes`] | interpreters: what their frames look like in memory |
//! | [`plan`] | what must be read to name a code object |
//! | [`frame`] | how a frame is written in a sample |
//! | [`record`] | the records of the ring buffer |
//! | [`ledger`] | the columns that every tick ends in |
#![no_std]
// The BPF target has an atomic add, but no compare-and-swap: `core::sync::atomic` offers neither.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the only way to that instruction")
)]

pub mod frame;
pub mod identity;
pub mod kernel;
pub mod ledger;
pub mod module;
pub mod plan;
pub mod record;
pub mod rows;
pub mod runtimes;
pub mod select;
pub mod self_check;

#[cfg(target_arch = "bpf")]
mod programs;
/// What `main.rs` makes programs of.
#[cfg(target_arch = "bpf")]
pub mod entry {
    pub use crate::programs::process::process_of;
    pub use crate::programs::self_check::look_up;
    pub use crate::programs::tick::tick;
}

/// The compiled programs, as `cargo xtask ebpf` built and committed them.
#[cfg(not(target_arch = "bpf"))]
pub static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../object/rprof.bpf.o"));

/// Bytes that an ELF reader may cast: aligned to 32.
#[cfg(not(target_arch = "bpf"))]
#[repr(C, align(32))]
pub struct Aligned<T: ?Sized>(pub T);

#[cfg(feature = "user")]
mod pod {
    use crate::{identity, kernel, module, plan, runtimes, select, self_check};

    // SAFETY: all `#[repr(C)]`, `Copy`, without padding that is not a named field, and valid for
    // every bit pattern.
    unsafe impl aya::Pod for kernel::KernelLayout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for select::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for module::ModuleKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for module::ModuleInfo {}
    // SAFETY: as above.
    unsafe impl aya::Pod for plan::Plan {}
    // SAFETY: as above.
    unsafe impl aya::Pod for runtimes::Interpreter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for identity::ProcessKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for identity::LostKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for identity::LostTicks {}
    // SAFETY: as above.
    unsafe impl aya::Pod for self_check::Walked {}
}
