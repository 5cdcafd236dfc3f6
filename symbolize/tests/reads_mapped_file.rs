//! Pages of a file of our own mapping, in each state: read from the file only where that is what they hold
//! and nobody has to wait, and as they were afterwards.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr::null_mut;

use rprof_symbolize::reads::{MappedFiles, Mappings, Pagemap};
use rustix::fs::{Advice, MemfdFlags, fadvise, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};

const PAGE: usize = 4096;
const PAGES: usize = 4;

fn pagemap() -> Pagemap {
    Pagemap::new(File::open("/proc/self/pagemap").unwrap().into())
}

fn mappings() -> Mappings {
    Mappings::new(File::open("/proc/self/maps").unwrap().into())
}

fn files() -> MappedFiles {
    MappedFiles::new(std::process::id(), mappings())
}

/// Whether there can be an answer: the kernel can be asked for a mapping (6.11) and for what is cached
/// (6.5), and our files are on a device.
fn is_possible(file: &File) -> bool {
    let device = rustix::fs::fstat(file).unwrap().st_dev;
    let said = mappings().is_mapped(is_possible as fn(&File) -> bool as usize as u64);
    // SAFETY: neither of the two structs can be read or written.
    let error = unsafe { libc::syscall(451, -1, 0usize, 0usize, 0) };
    let error = (error == -1).then(std::io::Error::last_os_error);
    let has_cachestat = error.and_then(|error| error.raw_os_error()) != Some(libc::ENOSYS);
    let is_possible = rustix::fs::major(device) != 0 && said == Some(true) && has_cachestat;
    println!(
        "{}",
        if is_possible {
            "possible"
        } else {
            "SKIPPED: reads_mapped_file: nothing can be read from files here"
        }
    );
    is_possible
}

/// A file whose page N is full of N + 1, without a name; not below `/tmp`, which may be memory.
fn on_disk() -> File {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut file = tempfile::tempfile_in(folder).unwrap();
    file.write_all(&pages()).unwrap();
    file.sync_all().unwrap();
    file
}

fn pages() -> Vec<u8> {
    (1..=PAGES as u8).flat_map(|n| [n; PAGE]).collect()
}

/// Maps all of a file, and touches nothing of it.
fn map(file: impl AsFd) -> *mut u8 {
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let mapped = unsafe { mmap(null_mut(), PAGES * PAGE, rights, MapFlags::PRIVATE, file, 0) };
    mapped.unwrap().cast()
}

fn read(at: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0xff; len];
    files().read(&pagemap(), at, &mut bytes).map(|()| bytes)
}

#[test]
fn pages_that_were_not_touched_are_the_files() {
    let file = on_disk();
    let at = map(&file) as u64;
    let absent = || pagemap().look().readable(at, PAGES * PAGE).is_err();
    assert!(absent());
    let is_possible = is_possible(&file);
    let wanted = is_possible.then(|| pages()[10..PAGE + 20].to_vec());
    assert_eq!(read(at + 10, PAGE + 10), wanted);
    assert!(absent(), "nothing was brought into our page tables");
    // Behind the end of the mapping.
    assert_eq!(read(at + (PAGES * PAGE) as u64 - 8, 16), None);

    let same = &mut files();
    for n in 0..PAGES {
        let mut byte = [0];
        let read = same.read(&pagemap(), at + (n * PAGE) as u64, &mut byte);
        assert_eq!(read.map(|()| byte), is_possible.then_some([n as u8 + 1]));
    }
}

#[test]
fn pages_that_were_written_to_are_not() {
    let file = on_disk();
    let page = map(&file);
    // SAFETY: our own pages.
    unsafe { page.add(PAGE).write(9) };
    let at = page as u64;
    assert_eq!(read(at + PAGE as u64, 1), None);
    assert_eq!(read(at + PAGE as u64 - 1, 2), None, "into it");
    assert_eq!(read(at, 1), is_possible(&file).then(|| vec![1]));
    // Given back, they are the file's again.
    // SAFETY: our own pages.
    unsafe { rustix::mm::madvise(page.cast(), PAGES * PAGE, rustix::mm::Advice::LinuxDontNeed) }
        .unwrap();
    assert_eq!(
        read(at + PAGE as u64, 1),
        is_possible(&file).then(|| vec![2])
    );
}

#[test]
fn a_file_that_became_shorter_or_another() {
    let file = on_disk();
    let at = map(&file) as u64;
    let same = &mut files();
    let mut byte = [0];
    let mut first = || same.read(&pagemap(), at, &mut byte).map(|()| byte[0]);
    assert_eq!(first(), is_possible(&file).then_some(1));
    // Another file takes its place.
    let mut other = on_disk();
    std::io::Seek::rewind(&mut other).unwrap();
    other.write_all(&[7; PAGE]).unwrap();
    let rights = ProtFlags::READ;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    // SAFETY: over a mapping of our own that nobody has a reference into.
    unsafe { mmap(at as *mut _, PAGE, rights, flags, &other, 0) }.unwrap();
    assert_eq!(first(), is_possible(&file).then_some(7));
    other.set_len(0).unwrap();
    assert_eq!(first(), None);
}

#[test]
fn what_is_not_in_the_page_cache_is_not_brought() {
    let file = on_disk();
    let at = map(&file) as u64;
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let cached = || {
        let mut pages = [0; PAGES];
        // SAFETY: a mapping of our own, and a byte for each of its pages.
        let failed = unsafe { libc::mincore(at as *mut _, PAGES * PAGE, pages.as_mut_ptr()) };
        assert_eq!(failed, 0);
        pages.iter().filter(|&page| page & 1 != 0).count()
    };
    // Somebody may read the whole disk.
    assert_eq!(cached(), 0, "the file could not be put out of the cache");
    for _ in 0..3 {
        assert_eq!(read(at, 1), None);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(cached(), 0);
}

#[test]
fn memory_of_no_file_is_not_read() {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let anonymous = unsafe { mmap_anonymous(null_mut(), PAGE, ProtFlags::READ, MapFlags::PRIVATE) };
    assert_eq!(read(anonymous.unwrap() as u64, 1), None);
    // A program may bring these by itself.
    let memory: OwnedFd = memfd_create("rprof-test", MemfdFlags::CLOEXEC).unwrap();
    let mut memory = File::from(memory);
    memory.write_all(&pages()).unwrap();
    assert_eq!(read(map(&memory) as u64, 1), None);
    assert_eq!(read(8, 1), None);
    assert_eq!(read(u64::MAX, 1), None);
}

#[test]
fn what_is_away_is_told_from_what_never_was() {
    let map = |rights| {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let mapped = unsafe { mmap_anonymous(null_mut(), PAGE, rights, MapFlags::PRIVATE) };
        mapped.unwrap() as u64
    };
    let known = |address: u64, is_mapped| {
        let said = mappings().is_mapped(address);
        // Kernels before 6.11 say nothing.
        assert!(said.is_none_or(|said| said == is_mapped), "{address:x}");
    };
    known(map(ProtFlags::READ), true);
    known(map(ProtFlags::empty()), false);
    known(8, false);
    known(u64::MAX, false);
}
