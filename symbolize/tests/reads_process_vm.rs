//! What the kernel allows, and which pages of a process may be read: our own pages in each state.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rprof_symbolize::reads::{Flags, Pagemap, Piece, ProcessVm, ReadError, Reads};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

const PAGE: usize = 4096;

/// Held by each test that looks at our own pages: a fork in another shares them all.
static OWN_PAGES: Mutex<()> = Mutex::new(());

fn own_pages() -> MutexGuard<'static, ()> {
    OWN_PAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pagemap() -> OwnedFd {
    File::open("/proc/self/pagemap").unwrap().into()
}

/// Two fresh pages of our own.
fn pages() -> *mut u8 {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let pages = unsafe {
        mmap_anonymous(
            null_mut(),
            2 * PAGE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    pages.unwrap().cast()
}

#[test]
fn the_probe_decides() {
    let _alone = own_pages();
    let flags = Flags::probe();
    println!("{flags:?}");
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    match ProcessVm::open(flags, pidfd, pagemap()) {
        Err(refused) => {
            assert!(!(flags.nowait && flags.pidfd));
            let flag = if flags.nowait { "PIDFD" } else { "NOWAIT" };
            let said = format!("this kernel has no PROCESS_VM_{flag}");
            assert_eq!(refused.to_string(), said);
        }
        // A kernel that has them: read ourselves, around a page that was never touched.
        Ok(mut reads) => {
            let page = pages();
            // SAFETY: our own page.
            unsafe { page.write(7) };
            let (mut one, mut gap, mut two) = ([0], [0; 2], [0]);
            let at = page as u64;
            let mut pieces = [
                Piece::new(at, &mut one),
                Piece::new(at + PAGE as u64 - 1, &mut gap),
                Piece::new(at, &mut two),
            ];
            assert_eq!(reads.read(&mut pieces), Err(ReadError::WouldFault));
            let results = pieces.map(|p| p.result);
            assert_eq!(results, [Ok(()), Err(ReadError::WouldFault), Ok(())]);
            assert_eq!((one, two), ([7], [7]));
        }
    }
}

/// A release of Linux that accepted any bit would make the probe worthless.
#[test]
fn unknown_flags_are_refused() {
    // SAFETY: both vectors are empty.
    let read =
        unsafe { libc::process_vm_readv(0, std::ptr::null(), 0, std::ptr::null(), 0, 1 << 30) };
    assert_eq!(read, -1);
}

#[test]
fn pages_are_told_apart() {
    let _alone = own_pages();
    let map = Pagemap::new(pagemap());
    let page = pages();
    let at = page as u64;
    assert_eq!(
        map.look().readable(at, 1),
        Err(ReadError::WouldFault),
        "never touched"
    );
    // SAFETY: our own page.
    unsafe { page.write(1) };
    assert_eq!(map.look().readable(at, PAGE), Ok(()), "our own");
    assert_eq!(
        map.look().readable(at + 1, PAGE),
        Err(ReadError::WouldFault),
        "into the next"
    );
    assert_eq!(map.look().readable(at, 0), Ok(()));

    // A page of a file that somebody mapped: our own code.
    let code = pages_are_told_apart as fn() as usize as u64;
    assert_eq!(map.look().readable(code, 1), Ok(()));
    // One that is in the cache, but not in our page tables.
    let file = tempfile();
    // SAFETY: a new mapping at an address that the kernel chooses.
    let cached = unsafe {
        mmap(
            null_mut(),
            PAGE,
            ProtFlags::READ,
            MapFlags::PRIVATE,
            &file,
            0,
        )
    };
    assert_eq!(
        map.look().readable(cached.unwrap() as u64, 1),
        Err(ReadError::WouldFault)
    );

    assert_eq!(
        map.look().readable(0xffff_8000_0000_0000, 8),
        Err(ReadError::BadAddress)
    );
    assert_eq!(map.look().readable(u64::MAX, 8), Err(ReadError::BadAddress));
    assert_eq!(
        map.look().readable((1 << 47) - PAGE as u64 - 4, 8),
        Err(ReadError::BadAddress)
    );
    assert_eq!(
        map.look().readable(at, 64 * PAGE),
        Err(ReadError::BadAddress)
    );
    // The last page there can be has others beside it that cannot.
    let last = (1 << 47) - 2 * PAGE as u64;
    assert_eq!(map.look().readable(last, 8), Err(ReadError::WouldFault));
    // What a look has seen it has seen.
    // SAFETY: two pages.
    let second = unsafe { page.add(PAGE) };
    let mut look = map.look();
    assert_eq!(
        look.readable(at + PAGE as u64, 1),
        Err(ReadError::WouldFault)
    );
    // SAFETY: our own page.
    unsafe { second.write(1) };
    assert_eq!(look.readable(at, 1), Ok(()));
    assert_eq!(
        look.readable(at + PAGE as u64, 1),
        Err(ReadError::WouldFault)
    );
    assert_eq!(map.look().readable(at, 2 * PAGE), Ok(()));
}

fn tempfile() -> File {
    let path = std::env::temp_dir().join(format!("rprof-pagemap-{}", std::process::id()));
    std::fs::write(&path, [1; PAGE]).unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

/// After a fork both sides share their pages until one writes: a read would un-share them. When the
/// child is gone its memory is gone.
#[test]
fn shared_pages_and_dead_processes_are_told_apart() {
    let _alone = own_pages();
    let page = pages();
    let at = page as u64;
    // SAFETY: our own page.
    unsafe { page.write(1) };
    // SAFETY: the child does nothing but wait for its end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: no memory is involved.
            unsafe { libc::pause() };
        }
    }
    let of_child = File::open(format!("/proc/{child}/pagemap")).unwrap();
    let of_child = Pagemap::new(of_child.into());
    let shared = of_child.look().readable(at, 1);
    let own = Pagemap::new(pagemap()).look().readable(at, 1);
    // SAFETY: a child of ours that was not waited for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, null_mut(), 0);
    }
    assert_eq!(shared, Err(ReadError::SharedPage));
    assert_eq!(own, Err(ReadError::SharedPage));
    assert_eq!(of_child.look().readable(at, 1), Err(ReadError::Gone));
}
