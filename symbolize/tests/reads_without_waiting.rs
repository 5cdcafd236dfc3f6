//! Reading a process without waiting, on a kernel that can: what there is comes back, and nobody waits for
//! the rest.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;

use rprof_symbolize::reads::{Flags, Piece, ProcessVm, ReadError, Reads};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

const PAGE: usize = 4096;

/// Two fresh pages of our own.
fn two_pages() -> *mut u8 {
    let (both, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address that the kernel chooses.
    let pages = unsafe { mmap_anonymous(null_mut(), 2 * PAGE, both, private) };
    pages.unwrap().cast()
}

/// From now on who touches a page that was never touched waits until somebody brings it: nobody does.
/// `_IOWR` numbers and structures of `include/uapi/linux/userfaultfd.h`.
fn nobody_brings(page: *mut u8) -> OwnedFd {
    const API: libc::c_ulong = 0xc018_aa3f;
    const REGISTER: libc::c_ulong = 0xc020_aa00;
    // SAFETY: a new descriptor, ours alone.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the same.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut api = [0xaa, 0, 0u64];
    // The mode is `UFFDIO_REGISTER_MODE_MISSING`.
    let mut register = [page as u64, PAGE as u64, 1, 0];
    // SAFETY: each structure is as large as its number says.
    let done = unsafe {
        [
            libc::ioctl(fd.as_raw_fd(), API, api.as_mut_ptr()),
            libc::ioctl(fd.as_raw_fd(), REGISTER, register.as_mut_ptr()),
        ]
    };
    assert_eq!(done, [0, 0], "{}", std::io::Error::last_os_error());
    fd
}

/// Two pages, of which the second is missing: what there is comes back, at once, and is used.
#[test]
fn a_part_that_can_be_read_is_used() {
    let flags = Flags::probe();
    if !(flags.nowait && flags.pidfd) {
        println!("SKIPPED: a_part_that_can_be_read_is_used: this kernel has no PROCESS_VM_NOWAIT");
        return;
    }
    let both = two_pages();
    // SAFETY: our own page, and the address of the one behind it.
    let second = unsafe {
        both.write_bytes(7, PAGE);
        both.add(PAGE)
    };
    let _missing = nobody_brings(second);
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let mut buffer = vec![0u8; 2 * PAGE];
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: both.cast(),
        iov_len: buffer.len(),
    };
    // The kernel itself: PIDFD and NOWAIT.
    // SAFETY: the buffer is as long as said; the other vector is only looked up.
    let read = unsafe { libc::process_vm_readv(pidfd.as_raw_fd(), &local, 1, &remote, 1, 3) };
    assert_eq!(read, PAGE as isize);
    assert!(buffer[..PAGE].iter().all(|&byte| byte == 7));
    assert!(buffer[PAGE..].iter().all(|&byte| byte == 0));

    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let mut reads = ProcessVm::open(flags, pidfd, pagemap.into()).unwrap();
    let (mut first, mut over, mut missing) = ([0; PAGE], [0; 8], [0; 1]);
    let at = both as u64;
    let mut pieces = [
        Piece::new(at, &mut first),
        Piece::new(at + PAGE as u64 - 4, &mut over),
        Piece::new(at + PAGE as u64, &mut missing),
    ];
    let _ = reads.read(&mut pieces);
    let results = pieces.map(|piece| piece.result);
    let away = Err(ReadError::WouldFault);
    assert_eq!(results, [Ok(()), away, away]);
    assert_eq!(first, [7; PAGE]);
    println!(
        "READ BY FLAGS: a_part_that_can_be_read_is_used: {read} bytes of {}",
        2 * PAGE
    );
}
