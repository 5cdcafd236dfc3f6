//! Promise: files that a target can name are a way to nothing. A link out of a container leads nowhere, a
//! pipe or a device where a file was is not waited for, a file that shrinks or that is immense costs its own
//! names only; whatever stands beside is complete, and the end comes on time.

use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rprof_tests::beside::{Neighbours, group, run};
use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::scratch::{OPTIMIZED, Scratch, finish};
use rprof_tests::target::Target;

/// The function of a file that no profile may name, at the place where the target's own is.
const FOREIGN: &str = "host_secret";

/// Profiles a program beside two others, `strike` being called in the middle.
fn beside(scratch: &Scratch, target: &Target, strike: impl FnOnce()) -> Profile {
    let neighbours = Neighbours::start(scratch);
    let pids = [neighbours.c.pid(), neighbours.python.pid()];
    let group = group("hostile");
    pids.iter()
        .chain([&target.pid()])
        .for_each(|&pid| group.take(pid));
    let folder = group.folder().display().to_string();
    let (profile, used) = run(scratch, &["--all", "--cgroup", &folder], &pids, |_| {
        strike();
    });
    neighbours.check(&profile, &used);
    assert_eq!(profile.count(|stack| stack.has(FOREIGN)), 0);
    profile
}

/// The program of a container, and what only the host has: the same code, its function under another name.
struct Twins {
    /// Stripped, with a link to debug information `burner.debug` that has the checksum of `foreign`'s.
    program: PathBuf,
    /// Whole, with [`FOREIGN`] for `burn`.
    foreign: PathBuf,
}

impl Twins {
    fn build(scratch: &Scratch) -> Self {
        let flags = |name: &'static str| {
            let define = (name != "own").then_some("-Dburn=host_secret");
            // No build id: it would tell one from the other.
            let flags = ["-O2", "-g", "-static", "-Wl,--build-id=none"].into_iter();
            flags.chain(define).collect::<Vec<_>>()
        };
        let program = scratch.cc("burn.c", "burner", &flags("own"));
        let foreign = scratch.cc("burn.c", "burner.debug", &flags("foreign"));
        finish(Command::new("strip").arg(&program));
        let link = format!("--add-gnu-debuglink={}", foreign.display());
        finish(Command::new("objcopy").arg(link).arg(&program));
        Self { program, foreign }
    }
}

/// Runs a program with another root.
fn contained(root: &Path, program: &str) -> Target {
    let mut command = Command::new(program);
    command.args(["threads", "60", "1"]);
    let root = std::ffi::CString::new(root.to_str().expect("plain")).expect("plain");
    // SAFETY: only system calls.
    unsafe {
        command.pre_exec(move || {
            let failed = libc::unshare(libc::CLONE_NEWNS) != 0
                || libc::chroot(root.as_ptr()) != 0
                || libc::chdir(c"/".as_ptr()) != 0;
            match failed {
                true => Err(std::io::Error::last_os_error()),
                false => Ok(()),
            }
        });
    }
    Target::start(&mut command)
}

/// The container's folder for its program; also the name of a folder of the host.
fn container(scratch: &Scratch, twins: &Twins) -> (PathBuf, PathBuf) {
    let root = scratch.file("root");
    // The same path inside and outside.
    let inside = root.join(scratch.path().strip_prefix("/").expect("absolute"));
    fs::create_dir_all(&inside).expect("a folder");
    fs::copy(&twins.program, inside.join("burner")).expect("a copy");
    (root, inside)
}

/// In the folder where the host has it, too: the host's debug file would fit the container's program.
#[test]
fn a_debug_file_of_the_host() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let twins = Twins::build(&scratch);
    let program = twins.program.to_str().expect("plain").to_owned();
    // That it would fit: run on the host it does.
    let target = Target::start(Command::new(&twins.program).args(["threads", "60", "1"]));
    let pid = target.pid().to_string();
    let run = rprof_tests::rprof::Rprof::new(&scratch, ["-d", "500ms", "-p", &pid]).run();
    assert!(run.ok().count(|stack| stack.has(FOREIGN)) > 5);
    drop(target);

    let (root, inside) = container(&scratch, &twins);
    let climb = "../".repeat(20);
    let outside = twins.foreign.strip_prefix("/").expect("absolute");
    let links = [
        None,
        Some(twins.foreign.clone()),
        Some(Path::new(&climb).join(outside)),
    ];
    for link in links {
        let place = inside.join("burner.debug");
        let _ = fs::remove_file(&place);
        if let Some(link) = &link {
            symlink(link, place).expect("a link");
        }
        let target = contained(&root, &program);
        let profile = beside(&scratch, &target, || ());
        let own = |name: &str| name.starts_with("burner+0x");
        let by_address = profile.count(|stack| {
            stack.pid == target.pid() && stack.frames.iter().any(|frame| own(&frame.function))
        });
        println!("{link:?}: {by_address} by address");
        assert!(by_address > 5, "{:?}", profile.ledger);
    }
}

/// The container's program becomes a link to the host's while it runs.
#[test]
fn a_program_that_becomes_a_link_out() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let twins = Twins::build(&scratch);
    let program = twins.program.to_str().expect("plain").to_owned();
    let (root, inside) = container(&scratch, &twins);
    let target = contained(&root, &program);
    let place = inside.join("burner");
    fs::remove_file(&place).expect("it was there");
    symlink(&twins.foreign, &place).expect("a link");
    // The host's file at the same path is another, too.
    fs::copy(&twins.foreign, &twins.program).expect("a copy");
    let profile = beside(&scratch, &target, || ());
    assert!(profile.of(target.pid()).count() > 0);
}

/// A library that burns in `burn_here`, stripped of debug information, which a link looks for.
fn library(scratch: &Scratch) -> PathBuf {
    let source = scratch.write(
        "library.c",
        "volatile int sink;\n__attribute__((noinline)) static void burn_there(void) {\n  \
         for (;;) sink++;\n}\nvoid burn_here(void) { burn_there(); sink++; }\n",
    );
    let flags = ["-shared", "-fPIC", "-O2", "-g", "-Wl,--build-id=none"];
    let library = scratch.cc_file(&source, "library.so", &flags);
    let debug = scratch.file("library.so.debug");
    finish(
        Command::new("objcopy")
            .arg("--only-keep-debug")
            .args([&library, &debug]),
    );
    finish(Command::new("strip").arg("--strip-unneeded").arg(&library));
    let link = format!("--add-gnu-debuglink={}", debug.display());
    finish(Command::new("objcopy").arg(link).arg(&library));
    library
}

fn run_library(scratch: &Scratch, library: &Path) -> Target {
    let flags: Vec<&str> = OPTIMIZED.iter().copied().chain(["-ldl"]).collect();
    let program = scratch.cc("hostile.c", "hostile", &flags);
    Target::start(Command::new(program).arg(library))
}

/// A pipe, a device that never ends, a terminal, in a file's place.
#[test]
fn what_is_no_file() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let library = library(&scratch);
    let debug = scratch.file("library.so.debug");
    for special in [["p", "", ""], ["c", "1", "5"], ["c", "5", "0"]] {
        for place in [&debug, &library] {
            let kept = scratch.file("kept");
            fs::copy(place, &kept).expect("a copy");
            let target = run_library(&scratch, &library);
            fs::remove_file(place).expect("it was there");
            let numbers = special.iter().filter(|word| !word.is_empty());
            finish(Command::new("mknod").arg(place).args(numbers));
            let profile = beside(&scratch, &target, || ());
            let all = profile.count(|stack| stack.pid == target.pid());
            println!("{special:?} for {}: {all} samples", place.display());
            assert!(all > 5, "{:?}", profile.ledger);
            drop(target);
            fs::remove_file(place).expect("the node");
            fs::rename(kept, place).expect("the file again");
        }
    }
}

#[test]
fn a_file_that_shrinks_below_its_code() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let library = library(&scratch);
    let target = run_library(&scratch, &library);
    let profile = beside(&scratch, &target, || {
        let file = File::options().write(true).open(&library);
        file.and_then(|file| file.set_len(100)).expect("a file");
    });
    let all = profile.count(|stack| stack.pid == target.pid());
    println!("{all} samples until it ended");
    assert!(all > 0, "{:?}", profile.ledger);
}

/// While rprof reads it: its own code stays, what stands behind comes and goes.
#[test]
fn a_file_that_shrinks_and_grows() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let library = library(&scratch);
    let debug = scratch.file("library.so.debug");
    let target = run_library(&scratch, &library);
    let over = AtomicBool::new(false);
    let profile = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options()
                .write(true)
                .custom_flags(libc::O_CLOEXEC)
                .open(&debug);
            let file = file.expect("the debug file");
            let whole = file.metadata().expect("a length").len();
            while !over.load(Ordering::Relaxed) {
                let _ = file.set_len(whole / 2);
                let _ = file.set_len(whole);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let profile = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            beside(&scratch, &target, || ())
        }));
        over.store(true, Ordering::Relaxed);
        profile
    });
    let profile = profile.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let all = profile.count(|stack| stack.pid == target.pid());
    assert!(all > 5, "{:?}", profile.ledger);
}

/// A library, and its debug information, of a terabyte that is nowhere.
#[test]
fn a_file_without_end() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let library = library(&scratch);
    for place in ["library.so", "library.so.debug"] {
        let file = File::options().write(true).open(scratch.file(place));
        let grown = file.and_then(|file| file.set_len(1 << 40));
        grown.expect("a sparse file");
        let target = run_library(&scratch, &library);
        let profile = beside(&scratch, &target, || ());
        let all = profile.count(|stack| stack.pid == target.pid());
        println!("{place}: {all} samples");
        assert!(all > 5, "{:?}", profile.ledger);
    }
}
