//! Modules found again: the very file that was mapped, whatever became of its path, and no other.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rprof_ebpf::module::ModuleKey;
use rprof_symbolize::build_id::BuildId;
use rprof_symbolize::module_file::{self, Identity, Sampled, Way, path};
use rprof_symbolize::{Error, ErrorKind, beneath};

/// By any way.
fn find(sampled: &Sampled<'_>) -> Result<(File, Way), Error> {
    module_file::find(sampled, |_| true)
}

/// `/a/b/c` as a sample carries it.
fn components(path: &Path) -> Vec<u8> {
    let text = path.to_str().unwrap();
    let names = text.split('/').filter(|n| !n.is_empty()).rev();
    names.flat_map(|n| format!("/{n}").into_bytes()).collect()
}

fn sampled<'a>(key: ModuleKey, components: &'a [u8]) -> Sampled<'a> {
    Sampled {
        key,
        pid: std::process::id(),
        mapping: (0x1000, 0x2000),
        components,
        build_id: None,
        neighbours: &[],
    }
}

fn write(path: &Path, text: &str) -> ModuleKey {
    let mut file = File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    drop(file);
    Identity::of(File::open(path).unwrap()).unwrap().key
}

fn ino(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

/// A file system on which handles work: not each machine's temporary directory is on one.
fn has_handles(key: ModuleKey, components: &[u8]) -> bool {
    matches!(find(&sampled(key, components)), Ok((_, Way::Handle)))
}

#[test]
fn a_path_is_turned_round() {
    assert_eq!(
        path(b"/libc.so.6/x86_64-linux-gnu/lib/usr"),
        Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6")
    );
    assert_eq!(path(b""), Path::new("/"));
}

#[test]
fn identity_is_what_the_kernel_holds() {
    let file = File::open("/proc/self/exe").unwrap();
    let (identity, stat) = (Identity::of(&file).unwrap(), file.metadata().unwrap());
    let (major, minor) = (libc::major(stat.dev()), libc::minor(stat.dev()));
    assert_eq!(identity.key.dev, major << 20 | minor);
    assert_eq!(identity.key.ino, stat.ino());
    assert_eq!(identity.key.size, stat.size());
    assert_eq!(identity.key.ctime_sec, stat.ctime());
    assert_eq!(i64::from(identity.key.ctime_nsec), stat.ctime_nsec());
    assert!(identity.is(&identity.key));
}

#[test]
fn found_by_path_and_after_it_was_unlinked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("module");
    write(&path, "first");
    let open = File::open(&path).unwrap();
    let names = components(&path);
    let key = Identity::of(&open).unwrap().key;
    assert_eq!(ino(&find(&sampled(key, &names)).unwrap().0), ino(&open));
    if !has_handles(key, &names) {
        return;
    }
    fs::remove_file(&path).unwrap();
    // Unlinking changes ctime: the kernel's inode says so too.
    let key = Identity::of(&open).unwrap().key;
    let (found, way) = find(&sampled(key, &names)).unwrap();
    assert_eq!((ino(&found), way), (ino(&open), Way::Handle));
}

#[test]
fn a_file_that_took_the_place_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("module");
    let names = components(&path);
    // Once with another inode, and once, as likely as not, with the same one again.
    for keep in [true, false] {
        let key = write(&path, "first");
        let held = keep.then(|| File::open(&path).unwrap());
        fs::remove_file(&path).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        write(&path, "other");
        if held.is_some() {
            // It is still there, but its ctime moved with the unlinking.
            let error = find(&sampled(key, &names)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OtherFile, "{error}");
        }
        let error = find(&sampled(key, &names)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OtherFile, "{error}");
        let message = error.to_string();
        for tried in ["by handle", "map_files", "process's root", "; path: "] {
            assert!(message.contains(tried), "{message}");
        }
    }
}

#[test]
fn the_generation_tells_reused_inodes_apart() {
    let file = File::open("/proc/self/exe").unwrap();
    let identity = Identity::of(&file).unwrap();
    if identity.has_generation {
        let mut key = identity.key;
        key.generation ^= 1;
        assert!(!identity.is(&key));
    }
    for change in [
        |key: &mut ModuleKey| key.size += 1,
        |key: &mut ModuleKey| key.ctime_nsec ^= 1,
        |key: &mut ModuleKey| key.ctime_sec -= 1,
    ] {
        let mut key = identity.key;
        change(&mut key);
        assert!(!identity.is(&key));
    }
}

#[test]
fn found_through_map_files() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|l| l.contains("/libc.so.6")).unwrap();
    let (range, libc) = (
        line.split(' ').next().unwrap(),
        line.split_whitespace().last().unwrap(),
    );
    let (start, end) = range.split_once('-').unwrap();
    let hex = |text| u64::from_str_radix(text, 16).unwrap();
    let file = File::open(libc).unwrap();
    let mut key = Identity::of(&file).unwrap().key;
    let sampled = |key| Sampled {
        key,
        pid: std::process::id(),
        mapping: (hex(start), hex(end)),
        components: b"/nowhere",
        build_id: None,
        neighbours: &[],
    };
    let (found, way) = find(&sampled(key)).unwrap();
    assert_eq!(ino(&found), ino(&file));
    assert!(matches!(way, Way::Handle | Way::MapFiles));
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Without the way by handle: on no mount of ours.
    key.ino |= 1 << 40;
    let error = find(&sampled(key)).unwrap_err().to_string();
    assert!(error.contains("map_files: is another file"), "{error}");
}

#[test]
fn ways_that_are_not_agreed_to_are_not_tried() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("module");
    let key = write(&path, "text");
    let names = components(&path);
    for only in [Way::HostPath, Way::ProcessPath] {
        let sampled = Sampled {
            pid: std::process::id(),
            ..sampled(key, &names)
        };
        let mut asked = Vec::new();
        let found = module_file::find(&sampled, |way| {
            asked.push(way);
            way == only
        });
        assert_eq!(found.expect("it is there").1, only);
        // Other processes' roots come last: what lies there may not answer.
        let order = [Way::Handle, Way::MapFiles, Way::HostPath, Way::ProcessPath];
        assert!(order.starts_with(&asked), "{asked:?}");
    }
    let error = module_file::find(&sampled(key, &names), |_| false).unwrap_err();
    assert!(error.to_string().contains("by handle: not now"), "{error}");
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, "outside").unwrap();
    fs::write(root.join("etc/plain"), "inside").unwrap();
    symlink(&secret, root.join("absolute")).unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink("../../../../secret", root.join("etc/far")).unwrap();
    symlink("/etc/plain", root.join("fine")).unwrap();
    let root = beneath::root(&root).unwrap();
    for name in ["absolute", "relative", "etc/far", "../secret", "/../secret"] {
        let error = beneath::open(&root, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
    }
    assert!(beneath::open(&root, "fine").is_ok());
    let proc = beneath::root("/proc").unwrap();
    assert!(beneath::open(&proc, "self/exe").is_err(), "a magic link");
}

#[test]
fn pipes_devices_and_directories_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    let name = CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    symlink("fifo", directory.path().join("link")).unwrap();
    fs::create_dir(directory.path().join("directory")).unwrap();
    let root = beneath::root(directory.path()).unwrap();
    let start = Instant::now();
    for name in ["fifo", "link", "directory"] {
        let error = beneath::open(&root, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}");
    }
    let dev = beneath::root("/dev").unwrap();
    assert!(beneath::open(&dev, "zero").is_err());
    // Also where a sample names it, with the key that it would have.
    let stat = fs::metadata(&fifo).unwrap();
    let key = ModuleKey {
        dev: libc::major(stat.dev()) << 20 | libc::minor(stat.dev()),
        ino: stat.ino(),
        size: stat.size(),
        ctime_sec: stat.ctime(),
        ctime_nsec: stat.ctime_nsec() as u32,
        ..ModuleKey::default()
    };
    assert!(find(&sampled(key, &components(&fifo))).is_err());
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_file_found_is_opened_for_reading_only() {
    let (file, _) = {
        let file = File::open("/proc/self/exe").unwrap();
        let key = Identity::of(&file).unwrap().key;
        let path = fs::read_link("/proc/self/exe").unwrap();
        find(&sampled(key, &components(&path))).unwrap()
    };
    // SAFETY: asks for the flags of an open descriptor.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    assert_eq!(flags & libc::O_ACCMODE, libc::O_RDONLY);
    assert_ne!(flags & libc::O_NONBLOCK, 0);
    assert_eq!(flags & libc::O_PATH, 0);
}

#[test]
fn the_build_id_tells_where_the_key_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let own = fs::read("/proc/self/exe").unwrap();
    let expected = BuildId::of_head(&own[..rprof_ebpf::record::HEAD_BYTES]).expect("a build id");
    let path = directory.path().join("program");
    fs::write(&path, &own).unwrap();
    let mut key = Identity::of(File::open(&path).unwrap()).unwrap().key;
    let at = components(&path);
    // Hard-linked after the sample: another change time.
    fs::hard_link(&path, directory.path().join("link")).unwrap();
    key.ctime_nsec ^= 1;
    let with = |build_id| Sampled {
        build_id,
        ..sampled(key, &at)
    };
    assert!(find(&with(None)).is_err());
    let (file, _) = find(&with(Some(&expected))).expect("the same build");
    assert_eq!(ino(&file), fs::metadata(&path).unwrap().ino());
    // Another build of the same size.
    let other = BuildId::new(&[7; 20]).unwrap();
    assert!(find(&with(Some(&other))).is_err());
    // The key is not outvoted by what a process may have written into its memory.
    let mut key = Identity::of(File::open(&path).unwrap()).unwrap().key;
    let found = find(&Sampled {
        build_id: Some(&other),
        ..sampled(key, &at)
    });
    let found = found.expect("the same file");
    // Nor does it make a file of the same size another inode's, neither where the generation is known nor
    // where it is not.
    drop((file, found));
    let posing = directory.path().join("posing");
    fs::write(&posing, &own).unwrap();
    fs::remove_file(directory.path().join("link")).unwrap();
    fs::rename(&posing, &path).unwrap();
    for generation in [key.generation, 0] {
        key.generation = generation;
        let found = find(&Sampled {
            build_id: Some(&expected),
            ..sampled(key, &at)
        });
        assert!(found.is_err());
    }
}

#[test]
fn a_neighbour_leads_to_the_file_of_a_process_that_is_gone() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A mount that only the neighbour sees.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let script = "mount -t tmpfs none \"$1\" && echo text > \"$1/file\" && echo ready && cat";
    let mut neighbour = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let stdout = neighbour.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let seen = format!("/proc/{}/root{}", neighbour.id(), path.display());
    let file = File::open(seen).unwrap();
    let key = Identity::of(&file).unwrap().key;
    let at = components(&path);
    let gone = Sampled {
        pid: 0,
        ..sampled(key, &at)
    };
    assert!(find(&gone).is_err());
    let others = [u32::MAX, neighbour.id()];
    let (found, way) = find(&Sampled {
        neighbours: &others,
        ..gone
    })
    .unwrap();
    assert_eq!((ino(&found), way), (ino(&file), Way::ProcessPath));
    drop(neighbour.stdin.take());
    neighbour.wait().unwrap();
}
