//! Names from symbols: of libc against `nm`, of stripped programs and their debug files, of PLT
//! stubs; and no name where there is none.

mod native_programs;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use native_programs::{compile, names, names_with, run, section, text};
use rprof_symbolize::module_names::Options;
use rprof_symbolize::{ErrorKind, Line, ModuleNames};

fn offsets(program: &Path) -> Vec<u64> {
    text(program, 1)
        .into_iter()
        .map(|(_, offset)| offset)
        .collect()
}

fn functions(lines: &[Vec<Line>]) -> Vec<Option<&str>> {
    lines
        .iter()
        .map(|l| l.last().map(|l| &*l.function))
        .collect()
}

fn libc() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/libc.so.6"));
    line.unwrap().split_whitespace().last().unwrap().into()
}

/// Start, end, name of the dynamic symbols of kind T, W or i.
fn nm(program: &Path) -> Vec<(u64, u64, String)> {
    run(
        "nm",
        &["-D", "-S", "--defined-only", program.to_str().unwrap()],
    )
    .lines()
    .filter_map(|line| {
        let [start, size, kind, name] = *line.split_whitespace().collect::<Vec<_>>() else {
            return None;
        };
        let hex = |text| u64::from_str_radix(text, 16).unwrap();
        let name = name.split('@').next().unwrap().to_owned();
        matches!(kind, "T" | "W" | "i").then(|| (hex(start), hex(start) + hex(size), name))
    })
    .collect()
}

#[test]
fn libc_has_the_names_that_nm_shows_and_no_others() {
    let libc = libc();
    let symbols = nm(&libc);
    assert!(symbols.len() > 1000);
    let (address, offset, size) = section(&libc, ".text").unwrap();
    let options = Options {
        root: "/proc/self/fd".into(),
        ..Options::default()
    };
    let places: Vec<u64> = (address..address + size).step_by(97).collect();
    let offsets: Vec<u64> = places.iter().map(|a| a - address + offset).collect();
    let found = names_with(&libc, &offsets, options);
    let (mut named, mut unnamed) = (0, 0);
    for (place, found) in places.iter().zip(functions(&found.lines)) {
        let covering: Vec<&str> = symbols
            .iter()
            .filter(|(start, end, _)| (start..end).contains(&place))
            .map(|(.., name)| &**name)
            .collect();
        match found {
            None => assert!(covering.is_empty(), "{place:#x}: {covering:?}"),
            Some(name) => assert!(covering.contains(&name), "{place:#x}: {name}, {covering:?}"),
        }
        *(if found.is_some() {
            &mut named
        } else {
            &mut unnamed
        }) += 1;
    }
    assert!(named > 1000 && unnamed > 100, "{named} {unnamed}");
}

#[test]
fn aliases_go_by_the_name_that_users_call() {
    let libc = libc();
    let symbols: HashMap<String, u64> = nm(&libc).into_iter().map(|(a, _, n)| (n, a)).collect();
    let (address, offset, _) = section(&libc, ".text").unwrap();
    for name in ["write", "read", "malloc", "qsort", "printf"] {
        let place = symbols[name] - address + offset;
        assert_eq!(names(&libc, &[place])[0][0].function, name);
    }
}

#[test]
fn a_stripped_program_has_no_names_but_those_it_exports() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", "cc", &["-O2", "-s"]);
    assert!(
        functions(&names(&program, &offsets(&program)))
            .iter()
            .all(Option::is_none)
    );
    let exporting = compile(
        directory.path(),
        "exporting",
        "cc",
        &["-O2", "-s", "-rdynamic"],
    );
    let lines = names(&exporting, &offsets(&exporting));
    let found = functions(&lines);
    assert!(found.contains(&Some("worker")) && found.contains(&None));
    assert!(!found.contains(&Some("compare")), "a static function");
}

#[test]
fn sizes_end_names_and_symbols_without_size_end_at_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("sizes.s");
    let text = "
        .text
        .globl _start, open_end, last
        .type _start, @function
        _start: nop
                nop
        .size _start, 1
        .type open_end, @function
        open_end: nop
                  nop
        .section .other, \"ax\"
        label: nop
               nop
        .section .data
        last: .byte 0\n";
    fs::write(&source, text).unwrap();
    let program = directory.path().join("sizes");
    let args = [
        "-nostdlib",
        "-static",
        "-o",
        program.to_str().unwrap(),
        source.to_str().unwrap(),
    ];
    run("cc", &args);
    let lines = names(&program, &offsets(&program));
    let expected = [Some("_start"), None, Some("open_end"), Some("open_end")];
    assert_eq!(functions(&lines), expected);
    let (_, other, size) = section(&program, ".other").unwrap();
    let lines = names(&program, &[other, other + 1, other + size]);
    assert_eq!(functions(&lines), [Some("label"), Some("label"), None]);
}

#[test]
fn plt_stubs_of_every_layout() {
    let directory = tempfile::tempdir().unwrap();
    for (name, args) in [
        ("lazy", &["-fcf-protection=none", "-Wl,-z,lazy"][..]),
        ("now", &["-fcf-protection=none", "-Wl,-z,now"]),
        (
            "ibt",
            &["-fcf-protection=full", "-Wl,-z,ibtplt", "-Wl,-z,lazy"],
        ),
    ] {
        let program = compile(directory.path(), name, "cc", &[&["-O1"], args].concat());
        let listing = run(
            "objdump",
            &["-d", "--no-show-raw-insn", program.to_str().unwrap()],
        );
        let mut stubs = 0;
        for line in listing.lines().filter(|l| l.ends_with("@plt>:")) {
            let (address, stub) = line.split_once(" <").unwrap();
            let address = u64::from_str_radix(address, 16).unwrap();
            let stub = stub.trim_end_matches(">:");
            let (start, offset, _) = [".plt", ".plt.sec", ".plt.got"]
                .iter()
                .filter_map(|name| section(&program, name))
                .find(|(start, _, size)| (*start..start + size).contains(&address))
                .unwrap();
            let place = address - start + offset;
            let lines = names(&program, &[place, place + 5]);
            assert_eq!(functions(&lines), [Some(stub); 2], "{name}");
            stubs += 1;
        }
        assert!(stubs >= 4, "{name}: {stubs} stubs");
    }
}

/// A program, its debug file split off, and the same program stripped.
fn split(directory: &Path, args: &[&str]) -> (PathBuf, PathBuf, PathBuf) {
    let program = compile(directory, "program", "cc", args);
    let (debug, stripped) = (directory.join("split.debug"), directory.join("stripped"));
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    run(
        "objcopy",
        &["--only-keep-debug", &path(&program), &path(&debug)],
    );
    run(
        "objcopy",
        &["--strip-all", &path(&program), &path(&stripped)],
    );
    (program, debug, stripped)
}

#[test]
fn a_debug_file_by_build_id() {
    let directory = tempfile::tempdir().unwrap();
    let (program, debug, stripped) = split(directory.path(), &["-O2", "-g", "-Wl,--build-id"]);
    let file = fs::File::open(&stripped).unwrap();
    let names_of = ModuleNames::open(file, Options::default()).unwrap();
    let id = names_of.build_id().unwrap().to_string();
    assert!(run("readelf", &["-n", program.to_str().unwrap()]).contains(&id));
    let root = directory.path().join("root");
    let place = root.join("usr/lib/debug/.build-id").join(&id[..2]);
    fs::create_dir_all(&place).unwrap();
    let place = place.join(format!("{}.debug", &id[2..]));
    let options = Options {
        root,
        ..Options::default()
    };
    let offsets = offsets(&program);
    let all = names(&program, &offsets);
    let without = names_with(&stripped, &offsets, options.clone());
    assert!(without.lines.iter().all(Vec::is_empty));
    fs::copy(&debug, &place).unwrap();
    let with = names_with(&stripped, &offsets, options.clone());
    assert!(with.left_out.is_empty());
    assert_eq!(with.lines, all);
    // Another build at the same place is refused.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = split(elsewhere.path(), &["-O1", "-g", "-Wl,--build-id"]).1;
    fs::copy(&other, &place).unwrap();
    let with = names_with(&stripped, &offsets, options);
    assert!(with.lines.iter().all(Vec::is_empty));
    assert_eq!(with.left_out[0].kind(), ErrorKind::OtherFile);
}

#[test]
fn a_debug_file_by_link() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["-O2", "-g", "-Wl,--build-id=none"];
    let (program, debug, stripped) = split(directory.path(), &args);
    let link = format!("--add-gnu-debuglink={}", debug.to_str().unwrap());
    run("objcopy", &[&link, stripped.to_str().unwrap()]);
    let root = directory.path().join("root");
    let offsets = offsets(&program);
    let all = names(&program, &offsets);
    let options = Options {
        root: root.clone(),
        path: Some("/opt/app/stripped".into()),
        ..Options::default()
    };
    for place in ["opt/app", "opt/app/.debug", "usr/lib/debug/opt/app"] {
        let place = root.join(place);
        fs::create_dir_all(&place).unwrap();
        let place = place.join("split.debug");
        fs::copy(&debug, &place).unwrap();
        assert_eq!(names_with(&stripped, &offsets, options.clone()).lines, all);
        // One bit more and the checksum is another.
        let mut bytes = fs::read(&debug).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&place, bytes).unwrap();
        let refused = names_with(&stripped, &offsets, options.clone());
        assert!(refused.lines.iter().all(Vec::is_empty));
        assert_eq!(refused.left_out[0].kind(), ErrorKind::OtherFile);
        fs::remove_file(&place).unwrap();
    }
    // A link that leads out of the root finds nothing.
    std::os::unix::fs::symlink(&debug, root.join("opt/app/split.debug")).unwrap();
    let out = names_with(&stripped, &offsets, options);
    assert!(out.lines.iter().all(Vec::is_empty));
}

#[test]
fn mini_debug_info() {
    let directory = tempfile::tempdir().unwrap();
    let (program, debug, stripped) = split(directory.path(), &["-O2"]);
    run("xz", &["-k", debug.to_str().unwrap()]);
    let section = format!(
        "--add-section=.gnu_debugdata={}.xz",
        debug.to_str().unwrap()
    );
    run("objcopy", &[&section, stripped.to_str().unwrap()]);
    let offsets = offsets(&program);
    let lines = names(&stripped, &offsets);
    assert!(
        functions(&lines).contains(&Some("compare")),
        "a static function"
    );
    assert_eq!(lines, names(&program, &offsets));
    let small = Options {
        budget: 4096,
        ..Options::default()
    };
    let over = names_with(&stripped, &offsets, small);
    assert_eq!(over.left_out[0].kind(), ErrorKind::OverBudget);
}

#[test]
fn the_vdso_from_memory() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else {
        return;
    };
    let (start, rest) = line.split_once('-').unwrap();
    let end = rest.split_once(' ').unwrap().0;
    let hex = |text| usize::from_str_radix(text, 16).unwrap();
    let (start, end) = (hex(start), hex(end));
    // SAFETY: the vDSO is mapped readable in each process, from start to end, for good.
    let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, end - start) };
    let vdso = ModuleNames::of_bytes(bytes, Options::default()).unwrap();
    assert!(vdso.build_id().is_some());
    let places: Vec<u64> = (0..bytes.len() as u64).collect();
    let lines = vdso.names(&places).lines;
    let found = functions(&lines);
    for name in ["clock_gettime", "gettimeofday", "getcpu"] {
        assert!(found.contains(&Some(name)), "{name}");
    }
    assert!(found.contains(&None));
}
