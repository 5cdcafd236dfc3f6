//! A program of ours, run once because we ask for it: an argument enters, its result leaves. What else it
//! says is in a map.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_PROG_TEST_RUN` (include/uapi/linux/bpf.h).
const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// The `test` member of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    sizes: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_sizes: [u32; 2],
    context: [u64; 2],
    flags: u32,
    cpu: u32,
    batch: u32,
    _pad: u32,
}

/// Runs a raw tracepoint program once, in our context, and returns what it returns.
///
/// # Errors
/// The kernel's (5.10 or later).
pub(super) fn run(program: BorrowedFd<'_>, argument: u64) -> io::Result<u32> {
    let mut attributes = TestRun {
        program: program.as_raw_fd() as u32,
        context_sizes: [size_of_val(&argument) as u32, 0],
        context: [(&raw const argument).expose_provenance() as u64, 0],
        ..TestRun::default()
    };
    // SAFETY: the kernel reads and writes within the size given, and reads the argument.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut attributes,
            size_of::<TestRun>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(attributes.result)
}
