//! Reads of kernel and user memory. None of them faults, sleeps or takes a lock.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::helpers::generated as helpers;

/// A 64-bit word of kernel memory; 0 if it cannot be read.
#[inline(always)]
pub(crate) fn kernel_u64(address: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: 8 bytes into 8 bytes; the helper refuses bad addresses.
    unsafe {
        helpers::bpf_probe_read_kernel((&raw mut value).cast(), 8, address as *const c_void);
    }
    value
}

/// A 32-bit word of kernel memory; 0 if it cannot be read.
#[inline(always)]
pub(crate) fn kernel_u32(address: u64) -> u32 {
    let mut value = 0u32;
    // SAFETY: 4 bytes into 4 bytes; the helper refuses bad addresses.
    unsafe {
        helpers::bpf_probe_read_kernel((&raw mut value).cast(), 4, address as *const c_void);
    }
    value
}

/// Copies kernel memory; true if all of it could be read.
///
/// # Safety
/// `into` points to `len` writable bytes.
#[inline(always)]
pub(crate) unsafe fn kernel(into: *mut c_void, len: u32, address: u64) -> bool {
    // SAFETY: the caller's.
    unsafe { helpers::bpf_probe_read_kernel(into, len, address as *const c_void) == 0 }
}

/// Copies memory of the current process; true if all of it was in memory.
///
/// # Safety
/// `into` points to `len` writable bytes.
#[inline(always)]
pub(crate) unsafe fn user(into: *mut c_void, len: u32, address: u64) -> bool {
    // SAFETY: the caller's.
    unsafe { helpers::bpf_probe_read_user(into, len, address as *const c_void) == 0 }
}

/// A 64-bit word of the current process.
#[inline(always)]
pub(crate) fn user_u64(address: u64) -> Option<u64> {
    let mut value = 0u64;
    // SAFETY: 8 bytes into 8 bytes.
    unsafe { user((&raw mut value).cast(), 8, address) }.then_some(value)
}

/// A word at a constant or masked offset of a buffer. Volatile, so that the compiler keeps the
/// access as the verifier was shown it.
///
/// # Safety
/// `base + offset + size_of::<T>()` lies within the buffer.
#[inline(always)]
pub(crate) unsafe fn at<T: Copy>(base: *const u8, offset: u64) -> T {
    // SAFETY: the caller's.
    unsafe { core::ptr::read_volatile(base.add(offset as usize).cast()) }
}

/// An index with a mask that stays: where a compare before it makes the mask superfluous the compiler
/// would drop it, but verifiers before Linux 6.8 forget the bound of a number that was spilled
/// before it was compared.
#[inline(always)]
pub(crate) fn masked(number: u64, mask: u64) -> usize {
    (black_box(number) & mask) as usize
}

/// Monotonic time, nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { helpers::bpf_ktime_get_ns() }
}
