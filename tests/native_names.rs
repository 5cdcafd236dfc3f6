//! Promise: native and kernel functions have the names, files and lines that their users know them
//! by, wherever they are written down; what has no name gets nobody else's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rprof_tests::machine;
use rprof_tests::profile::{Frame, KERNEL, Profile, Stack};
use rprof_tests::rprof::{Rprof, binary};
use rprof_tests::scratch::{OPTIMIZED, Scratch, finish, source_file};
use rprof_tests::statistics::count_bound;
use rprof_tests::tasks::of_children;
use rprof_tests::usage::cpu_seconds;

const HERTZ: f64 = 199.0;
/// CPU seconds of each program; some 200 samples.
const SECONDS: &str = "1";
/// A program has used them by then, beside whatever else runs.
const PATIENCE: Duration = Duration::from_secs(30);

fn seconds() -> f64 {
    SECONDS.parse().expect("a number")
}

/// The flags of `names.c`, and the library that it is linked with.
fn names(scratch: &Scratch, more: &[&str]) -> PathBuf {
    scratch.cc(
        "library.c",
        "liblibrary.so",
        &["-O2", "-g", "-shared", "-fPIC"],
    );
    let library = scratch.file("liblibrary.so");
    let library = library.to_str().expect("a plain path");
    let keep = [
        "-fno-optimize-sibling-calls",
        "-Wl,-z,lazy",
        "-fcf-protection=none",
    ];
    scratch.cc(
        "names.c",
        "names",
        &[OPTIMIZED, &keep, &[library], more].concat(),
    )
}

fn record(scratch: &Scratch, program: &Path, args: &[&str]) -> Profile {
    let run = Rprof::new(scratch, ["--"]).arg(program).args(args).run();
    run.ok()
}

/// The line of a source in `targets/` that holds a text.
fn line_of(source: &str, text: &str) -> i64 {
    let whole = std::fs::read_to_string(source_file(source)).expect("a source");
    let at = whole.lines().position(|line| line.contains(text));
    at.expect("a line with that text") as i64 + 1
}

/// Fails unless about as many samples as the program has CPU time are of the stacks that fit, and
/// complete; and of the others there are no more than its start and end explain: some milliseconds for
/// the kernel's `exec` and the dynamic linker, a sample or two at this rate.
fn nearly_all(profile: &Profile, fits: impl Fn(&Stack) -> bool) {
    const OTHERS: u64 = 6;
    let n = profile.count(|stack| stack.is_complete() && fits(stack));
    let expected = HERTZ * seconds();
    let others = profile.samples() - n;
    let shown: String = profile
        .stacks
        .iter()
        .filter(|s| !s.is_complete() || !fits(s))
        .take(OTHERS as usize + 1)
        .map(Stack::text)
        .collect();
    println!("{n} samples fit, {others} do not");
    assert!(
        (n as f64 - expected).abs() <= count_bound(expected) && others <= OTHERS,
        "{n} of {expected} samples; {others} others:\n{shown}{:?}",
        profile.ledger
    );
}

fn functions<'a>(frames: impl Iterator<Item = &'a Frame>) -> Vec<&'a str> {
    frames.map(|frame| frame.function.as_str()).collect()
}

/// User frames, leaf first, to main.
fn to_main(stack: &Stack) -> Vec<&str> {
    let mut names = functions(stack.user());
    if let Some(main) = names.iter().position(|&name| name == "main") {
        names.truncate(main + 1);
    }
    names
}

#[test]
fn inlined_functions_are_lines_of_one_location() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let profile = record(&scratch, &names(&scratch, &[]), &["inline", SECONDS]);
    let expected = [
        ("square", None, true),
        ("sum_of_squares", Some("// line of sum_of_squares"), true),
        ("looping", Some("// line of looping"), false),
        ("main", None, false),
    ];
    // The leaf may be any of them, at any of its lines; its callers are at their calls.
    let whole = |stack: &Stack| {
        let leaf = stack.user().next().map(|frame| frame.function.as_str());
        let from = expected.iter().position(|e| Some(e.0) == leaf);
        let expected = from.map_or(&expected[..0], |from| &expected[from..]);
        let mut frames = stack.user().zip(expected).enumerate();
        !expected.is_empty()
            && frames.all(|(at, (frame, &(function, line, inlined)))| {
                frame.function == function
                    && frame.inlined == inlined
                    && frame.file == source_file("names.c").to_string_lossy()
                    && line.is_none_or(|text| at == 0 || frame.line == line_of("names.c", text))
            })
    };
    nearly_all(&profile, |stack| to_main(stack).len() > 2);
    let n = profile.count(|stack| stack.is_complete() && whole(stack));
    let all = profile.samples();
    let other = profile.stacks.iter().find(|s| !whole(s)).map(Stack::text);
    // The rest is the program's start and end.
    assert!(
        n * 10 >= all * 9,
        "{n} of {all} stacks; another: {}",
        other.unwrap_or_default()
    );

    let run = Rprof::new(&scratch, ["--no-inline", "--"]).arg(scratch.file("names"));
    let profile = run.args(["inline", SECONDS]).run().ok();
    nearly_all(&profile, |stack| {
        to_main(stack).ends_with(&["looping", "main"])
    });
    assert_eq!(profile.count(|s| s.frames.iter().any(|f| f.inlined)), 0);
    assert_eq!(profile.count(|s| s.has("square")), 0);
}

#[test]
fn cxx_is_demangled() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let flags = [OPTIMIZED, &["-fno-optimize-sibling-calls"]].concat();
    let program = scratch.cc("names.cc", "names-cc", &flags);
    let profile = record(&scratch, &program, &[SECONDS]);
    nearly_all(&profile, |stack| {
        let names = to_main(stack);
        let string = ["std::string", "std::__cxx11::basic_string<char"];
        let shelf = |name: &str, method: &str| {
            string
                .iter()
                .any(|string| name.contains(&format!("warehouse::Shelf<{string}")))
                && name.contains(method)
                && !name.contains("_ZN")
        };
        let Some([call, fill, run, "main"]) = names.last_chunk() else {
            return false;
        };
        shelf(call, "operator()(")
            && shelf(fill, "fill<int>(int)")
            && run.starts_with("main::{lambda(int)")
    });
}

#[test]
fn rust_is_demangled_without_hashes() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.rustc("names.rs", "names-rust", &["-Cforce-frame-pointers=no"]);
    let run = Rprof::new(&scratch, ["--"])
        .arg(&program)
        .arg(SECONDS)
        .run()
        .expect(0);
    let profile = run.profile();
    // The viewer that is named first drops nothing of them.
    let mut viewer = Command::new("go");
    viewer
        .args(["tool", "pprof", "-symbolize=none", "-top"])
        .arg(&run.output);
    let shown = finish(&mut viewer);
    assert!(shown.contains("Fill>::fill"), "{shown}");
    nearly_all(&profile, |stack| {
        let names = functions(stack.user());
        let fill =
            |name: &&str| name.contains("names::shelf::Shelf<") && name.contains("Fill>::fill");
        let hash = |name: &&str| {
            name.rsplit_once("::h").is_some_and(|(_, hex)| {
                hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit())
            })
        };
        names.iter().any(fill) && names.contains(&"names::main") && !names.iter().any(hash)
    });
}

/// Takes a program's debug information out of it, into `debug`.
fn strip(program: &Path, debug: &Path) {
    finish(
        Command::new("objcopy")
            .arg("--only-keep-debug")
            .arg(program)
            .arg(debug),
    );
    finish(Command::new("strip").arg("--strip-all").arg(program));
}

fn stripped_has_names(profile: &Profile) {
    let line = line_of("names.c", "// line of looping");
    nearly_all(profile, |stack| {
        stack
            .user()
            .any(|f| f.function == "looping" && f.line == line)
            && stack.has("main")
    });
}

#[test]
fn a_stripped_program_has_the_names_of_its_debug_link() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = names(&scratch, &["-Wl,--build-id=none"]);
    let debug = scratch.file("names.debug");
    strip(&program, &debug);
    let link = format!("--add-gnu-debuglink={}", debug.display());
    finish(Command::new("objcopy").arg(link).arg(&program));
    stripped_has_names(&record(&scratch, &program, &["inline", SECONDS]));

    // Below `.debug`, the other place that debuggers look in; and without it, there are no names.
    let folder = scratch.file(".debug");
    std::fs::create_dir(&folder).expect("a folder in ours");
    std::fs::rename(&debug, folder.join("names.debug")).expect("our own file");
    stripped_has_names(&record(&scratch, &program, &["inline", SECONDS]));
    std::fs::remove_file(folder.join("names.debug")).expect("our own file");
    let profile = record(&scratch, &program, &["inline", SECONDS]);
    nearly_all(&profile, |stack| {
        stack.user().any(|f| f.function.starts_with("names+0x")) && !stack.has("looping")
    });
}

#[test]
fn a_stripped_program_has_the_names_of_its_build_id() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = names(&scratch, &["-Wl,--build-id=sha1"]);
    let debug = scratch.file("by-build-id");
    strip(&program, &debug);
    let notes = finish(Command::new("readelf").arg("-n").arg(&program));
    let id = notes
        .split("Build ID: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("a build id");
    let (first, rest) = id.split_at(2);
    // In a mount namespace of its own, so that nothing is left behind in the system's folder.
    let script = format!(
        "set -e; mount -t tmpfs none /usr/lib/debug; mkdir -p /usr/lib/debug/.build-id/{first}; \
         cp {} /usr/lib/debug/.build-id/{first}/{rest}.debug; exec \"$@\"",
        debug.display()
    );
    std::fs::create_dir_all("/usr/lib/debug").expect("the folder of debug files");
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(binary());
    let run = Rprof::within(&scratch, unshare);
    let output = run.output().to_path_buf();
    let run = run
        .arg("-o")
        .arg(output)
        .arg("--")
        .arg(&program)
        .args(["inline", SECONDS])
        .run();
    stripped_has_names(&run.ok());
}

#[test]
fn stubs_of_the_linkage_table() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let profile = record(&scratch, &names(&scratch, &[]), &["stub", SECONDS]);
    nearly_all(&profile, |stack| {
        to_main(stack).ends_with(&["calling_stubs", "main"])
    });
    let stubs = profile.count(|stack| {
        stack
            .user()
            .next()
            .is_some_and(|f| f.function == "library_nothing@plt" && f.module.ends_with("/names"))
    });
    assert!(stubs > 5, "{stubs} samples in the stub");
    let callees = profile.count(|stack| stack.has("library_nothing"));
    assert!(callees > 5, "{callees} samples in the library");
}

#[test]
fn the_vdso() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let profile = record(&scratch, &names(&scratch, &[]), &["clock", SECONDS]);
    nearly_all(&profile, |stack| {
        to_main(stack).ends_with(&["asking_for_time", "main"])
    });
    let inside = profile.count(|stack| stack.user().any(|f| f.module == "[vdso]"));
    let named = profile.count(|stack| {
        let mut frames = stack.user().skip_while(|f| f.module != "[vdso]");
        frames
            .next()
            .is_some_and(|f| f.function.contains("clock_gettime"))
    });
    let all = profile.samples();
    assert!(
        inside * 2 > all && named * 10 >= inside * 9,
        "{inside} in the vDSO, {named} named, of {all}"
    );
}

#[test]
fn a_plugin_that_is_loaded_later() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = names(&scratch, &[]);
    let plugin = scratch.cc("library.c", "plugin.so", &["-O2", "-g", "-shared", "-fPIC"]);
    let profile = record(
        &scratch,
        &program,
        &["plugin", SECONDS, plugin.to_str().expect("plain")],
    );
    nearly_all(&profile, |stack| {
        let names = to_main(stack);
        names.ends_with(&["plugin_work", "main"])
            && stack.user().any(|f| f.module.ends_with("/plugin.so"))
    });
}

#[test]
fn a_file_that_is_overwritten_gives_no_names() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = names(&scratch, &[]);
    let plugin = scratch.cc("library.c", "plugin.so", &["-O2", "-g", "-shared", "-fPIC"]);
    let mut rprof = Rprof::new(&scratch, ["--"])
        .arg(program)
        .args(["plugin", SECONDS]);
    rprof = rprof.arg(&plugin);
    let mut running = rprof.start();
    running.wait_until_sampling();
    // Most samples are of before; however long that takes beside others.
    let pid = machine::wait_for("the program runs", machine::patience(PATIENCE), || {
        let mut children = of_children(running.pid()).into_iter();
        let program = children.find(|task| task.name == "names")?;
        (cpu_seconds(program.tid) > 0.6 * seconds()).then_some(program.tid)
    });
    // The same inode, and the same code, which runs on; but other names.
    let mut bytes = std::fs::read(&plugin).expect("it was built");
    let places: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(b"plugin_"))
        .collect();
    assert!(places.len() > 3, "{places:?}");
    for at in places {
        bytes[at..at + 7].copy_from_slice(b"other__");
    }
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&plugin)
        .expect("writable");
    let before = cpu_seconds(pid);
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("written");
    let run = running.finish();
    let profile = run.profile();
    // Only what was sampled after that may have them: it is another file then, by its change time. (The
    // programs need not see that: they keep what they know of a process's mappings from tick to tick.)
    let other = |stack: &Stack| {
        stack
            .frames
            .iter()
            .any(|f| f.function.starts_with("other__"))
    };
    let (other, after) = (profile.count(other), HERTZ * (seconds() - before));
    println!("{other} samples with the new names, {after:.0} after they were written");
    assert!(
        other as f64 <= after + count_bound(after),
        "{other}, {after}"
    );
    // The stacks are whole: their rows are those of the file that was sampled.
    nearly_all(&profile, |stack| {
        to_main(stack).last() == Some(&"main")
            && stack.user().any(|f| f.module.ends_with("/plugin.so"))
    });
}

#[test]
fn a_library_without_cfi_goes_by_frame_pointer() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = names(&scratch, &[]);
    let without_cfi = [
        "-O2",
        "-shared",
        "-fPIC",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
        "-fno-omit-frame-pointer",
    ];
    let plugin = scratch.cc("library.c", "plugin.so", &without_cfi);
    let sections = finish(Command::new("readelf").args(["-SW"]).arg(&plugin));
    assert!(!sections.contains(".debug_frame"), "it has CFI after all");
    let profile = record(
        &scratch,
        &program,
        &["callback", SECONDS, plugin.to_str().expect("plain")],
    );
    nearly_all(&profile, |stack| {
        to_main(stack).ends_with(&["burning", "plugin_inner", "plugin_call", "main"])
    });
    let column = profile.ledger.get("resolved by frame pointer") as f64;
    assert!(
        (column - HERTZ).abs() <= count_bound(HERTZ),
        "{:?}",
        profile.ledger
    );
}

#[test]
fn the_kernel_and_who_called_it() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = names(&scratch, &[]);
    let profile = record(&scratch, &program, &["kernel", SECONDS]);
    nearly_all(&profile, |stack| {
        to_main(stack).ends_with(&["reading", "main"])
    });
    let in_kernel = |stack: &Stack| {
        let kernel = stack.frames.iter().take_while(|f| f.is_kernel());
        let (mut n, mut reads) = (0, false);
        for frame in kernel {
            n += 1;
            reads |= frame.function == "vfs_read" || frame.function == "ksys_read";
        }
        // All kernel frames stand before all others, and are named.
        n > 3 && reads && stack.frames.iter().filter(|f| f.is_kernel()).count() == n
    };
    let n = profile.count(in_kernel);
    let all = profile.samples();
    assert!(n * 10 >= all * 8, "{n} of {all} stacks are of a read");
    let unnamed = profile
        .stacks
        .iter()
        .flat_map(|s| &s.frames)
        .find(|f| f.module == KERNEL && !f.is_named());
    assert_eq!(unnamed, None);

    let run = Rprof::new(&scratch, ["--no-kernel", "--"])
        .arg(program)
        .args(["kernel", SECONDS])
        .run();
    let profile = run.ok();
    nearly_all(&profile, |stack| {
        to_main(stack).ends_with(&["reading", "main"])
    });
    assert_eq!(
        profile.count(|stack| stack.frames.iter().any(Frame::is_kernel)),
        0
    );
}
