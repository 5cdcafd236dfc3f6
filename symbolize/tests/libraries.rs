//! The code of programs, against what the loader itself says and against hostile files.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use object::read::ReadCache;
use rprof_symbolize::libraries::{
    CodeFile, Environment, MAX_FILES, of_file, of_path, of_processes, running,
};
use rprof_symbolize::{ErrorKind, beneath, runtimes};

fn code(path: impl AsRef<Path>, environment: &Environment) -> Vec<CodeFile> {
    let root = beneath::root("/").unwrap();
    of_path(root, path.as_ref(), environment).unwrap()
}

fn paths(files: &[CodeFile]) -> Vec<PathBuf> {
    files.iter().map(|file| file.path.clone()).collect()
}

/// What the loader says that it maps for a program: links resolved.
fn loader_says(program: &Path, library_path: &str) -> BTreeSet<PathBuf> {
    // Run by itself, the loader takes $ORIGIN from the path it is given; exec takes it from the file.
    let program = fs::canonicalize(program).unwrap();
    let mut command = Command::new("ldd");
    command.arg(&program).env("LD_LIBRARY_PATH", library_path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "ldd {}", program.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let libraries = text
        .lines()
        .filter(|line| !line.contains("linux-vdso"))
        .map(|line| {
            let line = line.split_once("=> ").map_or(line, |(_, path)| path);
            let path = line.trim().split(" (").next().unwrap();
            fs::canonicalize(path).unwrap_or_else(|e| panic!("{line}: {e}"))
        });
    libraries
        .chain([fs::canonicalize(program).unwrap()])
        .collect()
}

fn check(program: &Path, library_path: &str) -> Vec<CodeFile> {
    let environment = Environment {
        library_path: library_path.into(),
        ..Environment::default()
    };
    let files = code(program, &environment);
    assert_eq!(
        files[0].path,
        fs::canonicalize(program).unwrap(),
        "the executable first"
    );
    let found: BTreeSet<_> = paths(&files).into_iter().collect();
    assert_eq!(found.len(), files.len(), "each once");
    assert_eq!(found, loader_says(program, library_path));
    files
}

fn compile(directory: &Path, source: &str, arguments: &[&str]) {
    fs::write(directory.join("source.c"), source).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .current_dir(directory)
        .args(["-w", "source.c"])
        .args(arguments);
    assert!(compiler.status().unwrap().success(), "cc {arguments:?}");
}

fn library(directory: &Path, name: &str, arguments: &[&str]) {
    let mut all = vec![
        "-shared",
        "-fPIC",
        "-nostdlib",
        "-Wl,--no-as-needed",
        "-o",
        name,
    ];
    all.extend(arguments);
    compile(directory, "int in_library(void) { return 1; }", &all);
}

const MAIN: &str = "int main(void) { return 0; }";

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let file = std::env::split_paths(&path)
        .map(|d| d.join(name))
        .find(|f| f.is_file())?;
    // Launchers that are scripts are not what is meant.
    let is_elf = fs::read(&file).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
    is_elf.then_some(file)
}

#[test]
fn installed_programs_as_the_loader_says() {
    check(Path::new("/bin/ls"), "");
    for name in [
        "git", "node", "gdb", "java", "perl", "ruby", "php", "cc", "openssl",
    ] {
        if let Some(program) = on_path(name) {
            check(&program, "");
        }
    }
}

/// Pythons with the interpreter in the executable, and with it in a library.
fn pythons() -> Vec<PathBuf> {
    let mut all = vec![PathBuf::from("/usr/bin/python3")];
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let versions = pyenv.and_then(|root| root.join("versions").read_dir().ok());
    all.extend(
        versions
            .into_iter()
            .flatten()
            .map(|v| v.unwrap().path().join("bin/python3")),
    );
    all.retain(|python| python.is_file());
    all
}

#[test]
fn the_interpreter_is_among_the_files() {
    for python in pythons() {
        let files = check(&python, "");
        let holding: Vec<_> = files
            .iter()
            .filter(|f| {
                let cache = ReadCache::new(&f.file);
                !matches!(runtimes::detect(&cache, Some(&f.path)), Ok(None))
            })
            .collect();
        assert_eq!(
            holding.len(),
            1,
            "{}: {:?}",
            python.display(),
            paths(&files)
        );
    }
}

#[test]
fn runpath_from_origin_and_no_further() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    fs::create_dir_all(directory.join("bin")).unwrap();
    fs::create_dir_all(directory.join("lib")).unwrap();
    library(&directory, "lib/libinner.so", &[]);
    library(&directory, "lib/libouter.so", &["-Llib", "-linner"]);
    let link = |name: &str, tags: &str| {
        let search = "-Wl,-rpath,$ORIGIN/../none:${ORIGIN}/../lib";
        let mut arguments = vec!["-Wl,--no-as-needed", tags, search, "-o", name, "-Llib"];
        arguments.extend([
            "-louter",
            "-Wl,--allow-shlib-undefined",
            "-Wl,-rpath-link,lib",
        ]);
        compile(&directory, MAIN, &arguments);
        directory.join(name)
    };
    let names = |program: &Path| -> Vec<String> {
        let files = code(program, &Environment::default());
        let name = |f: &CodeFile| f.path.file_name().unwrap().to_str().unwrap().to_owned();
        files
            .iter()
            .map(name)
            .filter(|n| n.contains("inner") || n.contains("outer"))
            .collect()
    };
    // DT_RPATH counts for what a library needs, DT_RUNPATH does not.
    let old = link("bin/old", "-Wl,--disable-new-dtags");
    check(&old, "");
    assert_eq!(names(&old), ["libouter.so", "libinner.so"]);
    let new = link("bin/new", "-Wl,--enable-new-dtags");
    assert_eq!(names(&new), ["libouter.so"]);
    // A library that says itself where to look inherits nothing.
    let search = ["-Llib", "-linner", "-Wl,-rpath,/nowhere"];
    library(&directory, "lib/libouter.so", &search);
    assert_eq!(names(&old), ["libouter.so"]);
    library(&directory, "lib/libouter.so", &["-Llib", "-linner"]);
    let library_path = directory.join("lib");
    check(&new, library_path.to_str().unwrap());
    // Through a link elsewhere: the origin is where the file is.
    symlink(&old, directory.join("link")).unwrap();
    check(&directory.join("link"), "");
}

#[test]
fn the_environment_decides() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    for name in ["first", "second"] {
        fs::create_dir(directory.join(name)).unwrap();
        library(
            &directory,
            &format!("{name}/libm.so.6"),
            &["-Wl,-soname,libm.so.6"],
        );
    }
    library(&directory, "preloaded.so", &[]);
    compile(
        &directory,
        MAIN,
        &["-Wl,--no-as-needed", "-o", "program", "-lm"],
    );
    let program = directory.join("program");
    let own = |environment: &Environment| -> Vec<PathBuf> {
        let files = code(&program, environment);
        files
            .iter()
            .filter_map(|f| Some(f.path.strip_prefix(&directory).ok()?.into()))
            .collect()
    };
    assert_eq!(own(&Environment::default()), [Path::new("program")]);
    let mut environment = Environment {
        library_path: "none:second;first".into(),
        preload: OsString::from(format!("missing.so {}/preloaded.so", directory.display())),
        directory: Some(directory.clone()),
        ..Environment::default()
    };
    let expected = ["program", "preloaded.so", "second/libm.so.6"].map(PathBuf::from);
    assert_eq!(own(&environment), expected);
    environment.library_path = "none::first".into();
    environment.directory = None;
    assert_eq!(
        own(&environment),
        expected[..2],
        "relative directories of an unknown place"
    );
}

#[test]
fn scripts_lead_to_what_runs_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let environment = Environment {
        path: OsString::from(format!("{0}/off:{0}:/usr/bin:/bin", directory.display())),
        directory: Some(directory.clone()),
        ..Environment::default()
    };
    let run = |path: &Path| of_path(beneath::root("/").unwrap(), path, &environment);
    let perl = fs::canonicalize("/usr/bin/perl").unwrap();
    let env = fs::canonicalize("/usr/bin/env").unwrap();
    let plain = write("plain", "#! /usr/bin/perl -w\nprint 1;", 0o755);
    assert_eq!(run(&plain).unwrap()[0].path, perl);
    let by_env = write("by-env", "#!/usr/bin/env perl\n", 0o755);
    let files = paths(&run(&by_env).unwrap());
    assert_eq!(files[0], perl);
    assert_eq!(
        files.iter().filter(|&f| *f == env).count(),
        1,
        "env itself runs, too"
    );
    let split = write("split", "#!/usr/bin/env -S A=b perl -w\n", 0o755);
    assert_eq!(paths(&run(&split).unwrap()), files);
    // Not executable in the first directory, so not what is meant there.
    fs::create_dir(directory.join("off")).unwrap();
    write("off/found", "#!/bin/false\n", 0o644);
    write("found", "#!/usr/bin/env perl\n", 0o755);
    let nested = write("nested", "#!/usr/bin/env found\n", 0o755);
    assert_eq!(paths(&run(&nested).unwrap()), files);
    if Path::new("/usr/bin/python3").exists() {
        let python = write("python", "#!/usr/bin/env python3\n", 0o755);
        let found = run(&python).unwrap();
        assert_eq!(found[0].path, fs::canonicalize("/usr/bin/python3").unwrap());
    }

    let missing = write("missing", "#!/usr/bin/env no-such-program\n", 0o755);
    let error = run(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no-such-program"), "{error}");
    let endless = write(
        "endless",
        &format!("#!{}/endless\n", directory.display()),
        0o755,
    );
    assert_eq!(run(&endless).unwrap_err().kind(), ErrorKind::Unsupported);
    for text in ["", "#!", "#!\n", "text", "#!   \t \n"] {
        let error = run(&write("odd", text, 0o755)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{text:?}");
    }
}

#[test]
fn static_programs_have_no_libraries() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["-static", "-static-pie"] {
        let source = "void _start(void) { for (;;); }";
        compile(
            directory.path(),
            source,
            &["-nostdlib", kind, "-o", "program"],
        );
        let program = directory.path().join("program").canonicalize().unwrap();
        let environment = Environment {
            preload: "libm.so.6".into(),
            ..Environment::default()
        };
        assert_eq!(paths(&code(&program, &environment)), [program]);
    }
}

#[test]
fn an_open_file_that_was_unlinked() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    compile(&directory, MAIN, &["-o", "program"]);
    let program = directory.join("program");
    let file = File::open(&program).unwrap();
    fs::remove_file(&program).unwrap();
    let files = of_file(beneath::root("/").unwrap(), file, &Environment::default()).unwrap();
    assert_eq!(files[0].path, program);
    assert_eq!(files.len(), 3, "with loader and libc: {:?}", paths(&files));
}

#[test]
fn libraries_that_need_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    library(&directory, "libone.so", &[]);
    library(
        &directory,
        "libtwo.so",
        &["-L.", "-lone", "-Wl,-rpath,$ORIGIN"],
    );
    library(
        &directory,
        "libone.so",
        &["-L.", "-ltwo", "-lone", "-Wl,-rpath,$ORIGIN"],
    );
    // And one of them by another name.
    symlink("libtwo.so", directory.join("libalias.so")).unwrap();
    let link = [
        "-Wl,--no-as-needed",
        "-Wl,-rpath,$ORIGIN",
        "-L.",
        "-lone",
        "-lalias",
        "-o",
        "program",
    ];
    compile(&directory, MAIN, &link);
    let files = check(&directory.join("program"), "");
    assert!(files.iter().any(|file| file.path.ends_with("libtwo.so")));
}

/// A root directory with a program that needs `libneeded.so`, and nothing else.
fn a_root() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    for folder in ["lib64", "etc", "opt", "usr/lib"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    library(&root, "opt/libneeded.so", &[]);
    let link = [
        "-Wl,--no-as-needed",
        "-nostdlib",
        "-o",
        "program",
        "-Lopt",
        "-lneeded",
    ];
    compile(&root, "void _start(void) {}", &link);
    library(&root, "lib64/ld-linux-x86-64.so.2", &[]);
    (directory, root)
}

fn code_below(root: &Path) -> Vec<PathBuf> {
    let root = beneath::root(root).unwrap();
    paths(&of_path(root, Path::new("/program"), &Environment::default()).unwrap())
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let (outside, root) = a_root();
    let without = ["/program", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
    assert_eq!(code_below(&root), without);
    let secret = outside.path().join("libsecret.so");
    fs::rename(root.join("opt/libneeded.so"), &secret).unwrap();
    let link = root.join("usr/lib/libneeded.so");
    for target in [secret.to_str().unwrap(), "../../../libsecret.so"] {
        symlink(target, &link).unwrap();
        assert_eq!(code_below(&root), without);
        fs::remove_file(&link).unwrap();
    }
    // What looks absolute starts at the root, and so does what is found.
    fs::rename(&secret, root.join("opt/libother.so")).unwrap();
    symlink("/opt/libother.so", &link).unwrap();
    assert_eq!(code_below(&root)[2..], [Path::new("/opt/libother.so")]);
}

#[test]
fn pipes_in_the_way_are_not_opened() {
    let (_outside, root) = a_root();
    let start = Instant::now();
    for name in ["lib64/libneeded.so", "etc/ld.so.cache", "etc/ld.so.preload"] {
        let name = CString::new(root.join(name).to_str().unwrap()).unwrap();
        // SAFETY: the name is a C string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o644) }, 0);
    }
    fs::rename(
        root.join("opt/libneeded.so"),
        root.join("usr/lib/libneeded.so"),
    )
    .unwrap();
    assert_eq!(code_below(&root)[2..], [Path::new("/usr/lib/libneeded.so")]);
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A cache of libraries (flags, name, path, hwcap) in the order given, and its offset of extensions.
fn cache(entries: &[(u32, &str, &str, u64)], extension: u32) -> Vec<u8> {
    let mut strings = Vec::new();
    let mut table = Vec::new();
    let first = 48 + 24 * entries.len() as u32;
    for (flags, name, path, hwcap) in entries {
        let mut add = |text: &str| {
            let at = first + strings.len() as u32;
            strings.extend(text.bytes().chain([0]));
            at
        };
        for word in [*flags, add(name), add(path), 0] {
            table.extend(word.to_le_bytes());
        }
        table.extend(hwcap.to_le_bytes());
    }
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    for word in [
        entries.len() as u32,
        strings.len() as u32,
        2,
        extension,
        0,
        0,
        0,
    ] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(table);
    bytes.extend(strings);
    bytes
}

const X86_64: u32 = 0x0303;

#[test]
fn the_cache_is_searched_as_ldconfig_sorts_it() {
    let (_outside, root) = a_root();
    let entries = [
        (X86_64, "libz.so.10", "/nowhere", 0),
        (X86_64, "libz.so.9", "/nowhere", 0),
        (0x0003, "libneeded.so", "/lib64/ld-linux-x86-64.so.2", 0),
        (X86_64, "libneeded.so", "/nowhere", 1 << 62),
        (X86_64, "libneeded.so", "/opt/libneeded.so", 0),
        (X86_64, "liba.so", "/nowhere", 0),
    ];
    let plain = cache(&entries, 0);
    let file = root.join("etc/ld.so.cache");
    fs::write(&file, &plain).unwrap();
    assert_eq!(code_below(&root)[2..], [Path::new("/opt/libneeded.so")]);
    // Behind the older format, as until glibc 2.31.
    let mut both = b"ld.so-1.7.0\0".to_vec();
    both.extend(1u32.to_le_bytes());
    both.extend([0; 12]);
    both.resize(both.len().next_multiple_of(8), 0);
    both.extend(&plain);
    fs::write(&file, &both).unwrap();
    assert_eq!(code_below(&root)[2..], [Path::new("/opt/libneeded.so")]);
}

#[test]
fn a_better_instruction_set_level_comes_first() {
    let (_outside, root) = a_root();
    fs::copy(root.join("opt/libneeded.so"), root.join("opt/better.so")).unwrap();
    let entries = [
        (X86_64, "libneeded.so", "/opt/better.so", 1 << 62),
        (X86_64, "libneeded.so", "/opt/libneeded.so", 0),
    ];
    let end = cache(&entries, 0).len() as u32;
    for (level, wanted) in [
        ("x86-64-v2", "/opt/better.so"),
        ("x86-64-v9", "/opt/libneeded.so"),
    ] {
        let mut bytes = cache(&entries, end);
        // Extension header, one section, its one word, the level's name.
        for word in [0xeaa4_2174, 1, 1, 0, end + 24, 4, end + 28] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(level.bytes().chain([0]));
        fs::write(root.join("etc/ld.so.cache"), bytes).unwrap();
        assert_eq!(code_below(&root)[2..], [Path::new(wanted)], "{level}");
    }
}

#[test]
fn hostile_caches_hide_libraries_at_most() {
    let (_outside, root) = a_root();
    let entries = [(X86_64, "libneeded.so", "/opt/libneeded.so", 0)];
    let good = cache(&entries, 0);
    let start = Instant::now();
    let mut found = 0;
    let mut look = |bytes: &[u8]| {
        fs::write(root.join("etc/ld.so.cache"), bytes).unwrap();
        let files = code_below(&root);
        assert!((2..=3).contains(&files.len()), "{files:?}");
        found += files.len() - 2;
    };
    for len in 0..good.len() {
        look(&good[..len]);
    }
    // Each word of header and entry, and where it leads.
    for at in (0..72).step_by(4) {
        for value in [
            0,
            1,
            47,
            good.len() as u32 - 1,
            good.len() as u32,
            1 << 31,
            u32::MAX,
        ] {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            look(&bytes);
        }
    }
    let mut old = b"ld.so-1.7.0\0".to_vec();
    old.extend(u32::MAX.to_le_bytes());
    look(&old);
    assert!(found > 0, "some changes are harmless");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn hostile_programs_end_in_time() {
    let (_outside, root) = a_root();
    let good = fs::read(root.join("program")).unwrap();
    let root_directory = || beneath::root(&root).unwrap();
    let start = Instant::now();
    for len in (0..good.len()).step_by(97) {
        fs::write(root.join("odd"), &good[..len]).unwrap();
        let _ = of_path(root_directory(), Path::new("/odd"), &Environment::default());
    }
    // Headers, program headers, and the dynamic segment.
    let dynamic = good
        .windows(8)
        .position(|w| w == 5u64.to_le_bytes())
        .unwrap()
        & !7;
    for at in (0..64 + 56 * 8).chain(dynamic.saturating_sub(64)..dynamic + 256) {
        let mut bytes = good.clone();
        for value in [0, 0x7f, 0xff] {
            bytes[at] = value;
            fs::write(root.join("odd"), &bytes).unwrap();
            let _ = of_path(root_directory(), Path::new("/odd"), &Environment::default());
        }
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_thousand_libraries_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    library(&directory, "libseed.so", &[]);
    let names: Vec<String> = (0..MAX_FILES + 20).map(|i| format!("{i}.so")).collect();
    for name in &names {
        fs::copy(directory.join("libseed.so"), directory.join(name)).unwrap();
    }
    let preload = names[..40].join(":");
    let chain: Vec<String> = names[40..]
        .iter()
        .map(|name| format!("-l:{name}"))
        .collect();
    for (i, part) in chain.chunks(200).enumerate() {
        let name = format!("{i}.so");
        let mut all = vec!["-L.", "-Wl,-rpath,$ORIGIN"];
        all.extend(part.iter().map(String::as_str));
        library(&directory, &name, &all);
    }
    compile(&directory, MAIN, &["-o", "program"]);
    let environment = Environment {
        preload: preload.into(),
        library_path: directory.clone().into(),
        ..Environment::default()
    };
    assert_eq!(
        code(directory.join("program"), &environment).len(),
        MAX_FILES
    );
}

#[test]
fn what_runs_now_is_found_once() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    library(&directory, "libown.so", &[]);
    let source = "int main(void) { pause(); return 0; }";
    let link = [
        "-Wl,--no-as-needed",
        "-Wl,-rpath,$ORIGIN",
        "-L.",
        "-lown",
        "-o",
        "program",
    ];
    compile(&directory, source, &link);
    let mut children = [0; 3].map(|_| Command::new(directory.join("program")).spawn().unwrap());
    let start = Instant::now();
    let all = running(256, |_, _| true).unwrap();
    let took = start.elapsed();
    let first = running(1, |_, _| true).unwrap();
    let pids = children.each_ref().map(|child| child.id());
    let ours = of_processes(pids, 256, |_, _| true).unwrap();
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    println!(
        "{} executables, {} files, {took:?}",
        all.executables,
        all.files.len()
    );
    let inode = |file: &CodeFile| {
        let status = file.file.metadata().unwrap();
        (status.dev(), status.ino())
    };
    let inodes: BTreeSet<_> = all.files.iter().map(inode).collect();
    assert_eq!(inodes.len(), all.files.len(), "each once");
    let of = |path: &Path| all.files.iter().filter(|file| file.path == path).count();
    assert_eq!(of(&directory.join("program")), 1);
    assert_eq!(of(&directory.join("libown.so")), 1);
    assert_eq!(of(&std::env::current_exe().unwrap()), 1);
    assert!(!all.cut && first.cut);
    assert_eq!(first.executables, 1);
    assert_eq!(ours.executables, 1);
    assert_eq!(ours.files[0].path, directory.join("program"));
    let others = |file: &&CodeFile| file.path == std::env::current_exe().unwrap();
    assert_eq!(ours.files.iter().filter(others).count(), 0);
}

#[test]
fn another_root_is_looked_up_below_itself() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    // `pause`, again and again.
    let source =
        "void _start(void) { for (;;) __asm__(\"syscall\" :: \"a\"(34) : \"rcx\", \"r11\"); }";
    let arguments = ["-nostdlib", "-static", "-o", "in-its-root"];
    compile(&directory, source, &arguments);
    let inode = fs::metadata(directory.join("in-its-root")).unwrap().ino();
    let mut child = Command::new("chroot");
    let mut child = child.arg(&directory).arg("/in-its-root").spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let found = loop {
        let all = running(256, |_, _| true).unwrap();
        let found = all
            .files
            .into_iter()
            .find(|f| f.file.metadata().unwrap().ino() == inode);
        if found.is_some() || Instant::now() > deadline {
            break found;
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(found.unwrap().path, Path::new("/in-its-root"));
}
