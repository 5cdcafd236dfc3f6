//! The vDSO, from our own memory: the kernel maps the same one into all 64-bit processes.

use std::sync::Arc;

/// Pages that it has at most (arch/x86/entry/vdso).
const MAX_BYTES: u64 = 16 << 10;

/// A copy of our vDSO; `None` if there is none.
pub fn image() -> Option<Arc<[u8]>> {
    // SAFETY: reads the auxiliary vector.
    let start = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let prefix = format!("{start:x}-");
    let end = maps
        .lines()
        .find_map(|line| line.strip_prefix(&prefix)?.split(' ').next())?;
    let len = u64::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    if start == 0 || len > MAX_BYTES {
        return None;
    }
    // SAFETY: mapped and readable for as long as we live, as /proc/self/maps says.
    Some(unsafe { std::slice::from_raw_parts(start as *const u8, len as usize) }.into())
}
