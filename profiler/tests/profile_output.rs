//! Where a profile goes: what is replaced, what is refused, and what happens when there is no room.

mod profile_support;

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use profile_support::*;
use rprof_profiler::profile::Profile;
use rprof_profiler::profile::output::{Format, NotWritten, Output};

fn some_profile() -> Profile {
    let mut profile = profile(64 << 20);
    let mut chance = Chance(8);
    for _ in 0..500 {
        add(&mut profile, &chance.stack(), &chance.labels(), 1);
    }
    profile
}

fn write(path: &Path) -> Result<(), NotWritten> {
    let profile = some_profile();
    let output = Output::new(path, None);
    output.write(&profile, &symbols(&profile, &ByRule), &about(20))
}

fn refused(path: &Path) -> String {
    let output = Output::new(path, None);
    let before = output
        .check_writable_before_sampling()
        .unwrap_err()
        .to_string();
    // And not at the end either, should it appear while sampling.
    let end = output
        .write_with(&mut |out| out.write_all(b"x"))
        .unwrap_err();
    fs::remove_file(end.saved.expect("saved elsewhere")).unwrap();
    before
}

fn listing(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn formats_by_name_and_by_ending() {
    for (name, format) in [
        ("a.pb.gz", Format::Pprof),
        ("a.folded", Format::Folded),
        ("A.SVG", Format::Svg),
        ("a.json", Format::Firefox),
        ("a", Format::Pprof),
        ("-", Format::Pprof),
    ] {
        assert_eq!(Output::new(Path::new(name), None).format(), format);
    }
    let asked = Output::new(Path::new("a.svg"), Some(Format::Folded));
    assert_eq!(asked.format(), Format::Folded);
}

#[test]
fn each_format_replaces_each_other_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.pb.gz", "b.folded", "c.svg", "d.json"] {
        let path = directory.path().join(name);
        for _ in 0..2 {
            let output = Output::new(&path, None);
            output.check_writable_before_sampling().unwrap();
            write(&path).unwrap();
        }
    }
    assert_eq!(
        listing(directory.path()),
        ["a.pb.gz", "b.folded", "c.svg", "d.json"]
    );
    let file = fs::read(directory.path().join("a.pb.gz")).unwrap();
    let sum: i64 = decode(&file).sample.iter().map(|s| s.value[0]).sum();
    assert_eq!(sum, 500);
    for name in ["b.folded", "c.svg"] {
        fs::copy(
            directory.path().join(name),
            directory.path().join("a.pb.gz"),
        )
        .unwrap();
        write(&directory.path().join("a.pb.gz")).unwrap();
    }
    let mode = fs::metadata(directory.path().join("a.pb.gz"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // An empty file may be replaced: `mktemp` made it for us.
    File::create(directory.path().join("e.svg")).unwrap();
    write(&directory.path().join("e.svg")).unwrap();
}

#[test]
fn what_is_no_profile_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("main.rs"), "fn main() {}\n").unwrap();
    assert_eq!(
        refused(&path("main.rs")),
        format!(
            "{} exists and is not a profile: rprof does not overwrite it\n  \
             try: -o {}",
            path("main.rs").display(),
            path("rprof.pb.gz").display()
        )
    );
    assert_eq!(fs::read(path("main.rs")).unwrap(), b"fn main() {}\n");

    assert!(refused(directory.path()).contains("is a directory"));
    fs::write(path("real.folded"), "sh;a 1\n").unwrap();
    symlink(path("real.folded"), path("link.folded")).unwrap();
    symlink(path("nothing"), path("dangling")).unwrap();
    assert!(refused(&path("link.folded")).contains("is a symbolic link"));
    assert!(refused(&path("dangling")).contains("is a symbolic link"));
    assert_eq!(fs::read(path("real.folded")).unwrap(), b"sh;a 1\n");
    let socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    assert!(refused(&path("socket")).contains("neither a file nor a pipe"));
    drop(socket);
    let missing = refused(&path("no/such/place.pb.gz"));
    assert!(missing.contains("No such file or directory"), "{missing}");
    assert_eq!(
        listing(directory.path()),
        [
            "dangling",
            "link.folded",
            "main.rs",
            "real.folded",
            "socket"
        ]
    );
}

#[test]
fn a_file_that_appears_while_sampling_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.pb.gz");
    let output = Output::new(&path, None);
    let error = output.write_with(&mut |out| {
        fs::write(&path, "somebody's notes\n")?;
        out.write_all(b"profile")
    });
    let saved = error.unwrap_err().saved.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"somebody's notes\n");
    assert_eq!(fs::read(&saved).unwrap(), b"profile");
    fs::remove_file(saved).unwrap();
    assert_eq!(listing(directory.path()), ["out.pb.gz"]);
}

#[test]
fn pipes_and_devices_are_written_directly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe.folded");
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: `name` is a valid C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let reader = std::thread::spawn({
        let path = path.clone();
        move || {
            // Later than the writer.
            std::thread::sleep(std::time::Duration::from_millis(100));
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        }
    });
    let output = Output::new(&path, None);
    output.check_writable_before_sampling().unwrap();
    write(&path).unwrap();
    let text = reader.join().unwrap();
    let sum: u64 = text
        .lines()
        .map(|l| l.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 500);
    write(Path::new("/dev/null")).unwrap();
    assert!(fs::metadata("/dev/null").unwrap().permissions().mode() & 0o170000 == 0o020000);
    let error = write(Path::new("/dev/full")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot write /dev/full: No space left on device\n")
    );
    check_saved(error);
    assert_eq!(listing(directory.path()), ["pipe.folded"]);
}

/// The profile was saved whole, for its owner only; removes it.
fn check_saved(error: NotWritten) {
    let saved = error.saved.expect("saved elsewhere");
    assert_eq!(fs::metadata(&saved).unwrap().mode() & 0o777, 0o600);
    let p = decode(&fs::read(&saved).unwrap());
    assert_eq!(p.sample.iter().map(|s| s.value[0]).sum::<i64>(), 500);
    assert!(error_names(&saved, &error.error.to_string()));
    fs::remove_file(saved).unwrap();
}

fn error_names(saved: &Path, error: &str) -> bool {
    saved.to_str().unwrap().ends_with(".pb.gz") && error.starts_with("cannot write ")
}

#[test]
fn under_sudo_the_file_is_the_callers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.pb.gz");
    let output = Output::new(&path, None).owned_by(Some((12345, 54321)));
    output.write_with(&mut |out| out.write_all(b"x")).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (12345, 54321));
}

/// Gives this thread mounts of its own, and a small file system on `at` there.
fn small_file_system(at: &Path, size: &str) {
    let c = |text: &str| CString::new(text).unwrap();
    let (root, tmpfs, at, options) = (
        c("/"),
        c("tmpfs"),
        c(at.to_str().unwrap()),
        c(&format!("size={size}")),
    );
    // SAFETY: unshare changes this thread's mount namespace only; all strings are valid C strings
    // that outlive the calls.
    unsafe {
        let nothing = std::ptr::null();
        assert_eq!(
            libc::unshare(libc::CLONE_NEWNS),
            0,
            "{}",
            io::Error::last_os_error()
        );
        let private = libc::MS_REC | libc::MS_PRIVATE;
        assert_eq!(
            libc::mount(nothing, root.as_ptr(), nothing, private, nothing.cast()),
            0
        );
        let data = options.as_ptr().cast();
        assert_eq!(
            libc::mount(tmpfs.as_ptr(), at.as_ptr(), tmpfs.as_ptr(), 0, data),
            0
        );
    }
}

#[test]
fn a_full_disk_costs_neither_the_old_profile_nor_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let at: PathBuf = directory.path().to_owned();
    std::thread::spawn(move || {
        small_file_system(&at, "256k");
        let path = at.join("out.pb.gz");
        write(&path).unwrap();
        let before = fs::read(&path).unwrap();
        let mut filler = File::create(at.join("filler")).unwrap();
        while filler.write_all(&[7; 512]).is_ok() {}
        let full = filler.write(b"x").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let error = write(&path).unwrap_err();
        assert!(
            error.to_string().contains("No space left on device"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(listing(&at), ["filler", "out.pb.gz"]);
        check_saved(error);
    })
    .join()
    .unwrap();
}

#[test]
fn a_full_disk_under_the_part_file_loses_nothing_that_was_counted() {
    let directory = tempfile::tempdir().unwrap();
    let at: PathBuf = directory.path().to_owned();
    std::thread::spawn(move || {
        small_file_system(&at, "128k");
        let mut profile = Profile::new(rprof_profiler::profile::Limits {
            max_memory: 700 << 10,
            directory: at,
        });
        let mut chance = Chance(4);
        let stacks: Vec<_> = (0..1500).map(|_| chance.stack()).collect();
        let (mut counted, mut full) = (0, 0);
        for _ in 0..6000 {
            let stack = &stacks[chance.below(1500) as usize];
            match profile.add(stack, &chance.labels(), 1) {
                rprof_profiler::profile::Added::Counted => counted += 1,
                rprof_profiler::profile::Added::Full => full += 1,
            }
        }
        assert!(counted > 500 && full > 500, "{counted} {full}");
        let error = profile.spill_error().expect("the disk is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let p = decode(&encode(&profile, &ByRule, 20));
        assert_eq!(p.sample.iter().map(|s| s.value[0]).sum::<i64>(), counted);
    })
    .join()
    .unwrap();
}

#[test]
fn a_directory_that_is_removed_while_sampling() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.pb.gz");
    let output = Output::new(&path, None);
    output.check_writable_before_sampling().unwrap();
    fs::remove_dir(directory.path()).unwrap();
    check_saved(write(&path).unwrap_err());
}

/// A process of its own (this test again) that is told to stop at once while it writes.
#[test]
fn a_second_interrupt_leaves_no_partial_file() {
    const DIRECTORY: &str = "RPROF_TEST_PARTIAL_DIRECTORY";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let directory = PathBuf::from(directory);
        let output = Output::new(&directory.join("out.pb.gz"), None);
        let written = output.write_with(&mut |out| {
            out.write_all(&[0; 100_000])?;
            assert_eq!(listing(&directory).len(), 1, "a partial file is there");
            rprof_profiler::profile::output::remove_partial_files();
            std::process::exit(42);
        });
        panic!("{written:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_interrupt_leaves_no_partial_file"])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), Some(42));
    assert_eq!(listing(directory.path()), [""; 0]);
}
