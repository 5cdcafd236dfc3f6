//! Pages of a file of our own mapping, in each state: read from the file only where that is what they hold
//! and nobody has to wait, and as they were afterwards.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr::null_mut;

use rprof_symbolize::reads::{MappedFiles, Pagemap};
use rustix::fs::{Advice, MemfdFlags, fadvise, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};

const PAGE: usize = 4096;
const PAGES: usize = 4;

fn pagemap() -> Pagemap {
    Pagemap::new(File::open("/proc/self/pagemap").unwrap().into())
}

fn files() -> MappedFiles {
    let maps = File::open("/proc/self/maps").unwrap();
    MappedFiles::new(std::process::id(), maps.into())
}

/// Whether the kernel can be asked for one mapping (6.11).
fn is_possible() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().ok());
    let mut next = || numbers.next().flatten().expect("a release");
    (next(), next()) >= (6, 11)
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
    let absent = || pagemap().readable(at, PAGES * PAGE).is_err();
    assert!(absent());
    let wanted = is_possible().then(|| pages()[10..PAGE + 20].to_vec());
    assert_eq!(read(at + 10, PAGE + 10), wanted);
    assert!(absent(), "nothing was brought into our page tables");
    // Behind the end of the mapping.
    assert_eq!(read(at + (PAGES * PAGE) as u64 - 8, 16), None);

    let same = &mut files();
    for n in 0..PAGES {
        let mut byte = [0];
        let read = same.read(&pagemap(), at + (n * PAGE) as u64, &mut byte);
        assert_eq!(read.map(|()| byte), is_possible().then_some([n as u8 + 1]));
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
    assert_eq!(read(at, 1), is_possible().then(|| vec![1]));
}

#[test]
fn what_is_not_in_the_page_cache_is_not_waited_for() {
    let file = on_disk();
    let at = map(&file) as u64;
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    assert_eq!(read(at, 1), None);
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
        let said = files().is_mapped(address);
        assert_eq!(said, is_possible().then_some(is_mapped), "{address:x}");
    };
    known(map(ProtFlags::READ), true);
    known(map(ProtFlags::empty()), false);
    known(8, false);
    known(u64::MAX, false);
}
