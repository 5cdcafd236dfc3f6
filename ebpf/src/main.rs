//! Entry points of the eBPF programs.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::macros::perf_event;
use aya_ebpf::programs::{PerfEventContext, RawTracePointContext};
use rprof_ebpf::entry::{look_up, process_of, tick};

/// Runs for each tick of the sampling clock, on the CPU that ticked.
#[perf_event]
fn sample(context: PerfEventContext) -> u32 {
    tick(&context);
    0
}

/// Runs when user space asks for it, at start: what does the walk find at an address of rprof?
/// Without aya's macro, which would drop the result.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tracepoint")]
extern "C" fn self_check(context: *mut c_void) -> i32 {
    look_up(RawTracePointContext::new(context).arg(0))
}

/// Runs when user space asks for it, after it has read a process's memory: who does a pidfd of rprof's
/// stand for?
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tracepoint")]
extern "C" fn process(context: *mut c_void) -> i32 {
    process_of(RawTracePointContext::new(context).arg(0))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Some helpers (`bpf_get_stack`, `bpf_probe_read_user`) are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
