//! Functions, inlined callees, files and lines of real programs, against `addr2line` of binutils.

mod native_programs;

use std::path::Path;

use native_programs::{addr2line, compile, function_ranges, names, names_with, section, text};
use rprof_symbolize::demangle::demangle;
use rprof_symbolize::module_names::Options;
use rprof_symbolize::{ErrorKind, Line};

/// Compares every `step`th byte of a program's text; returns how many had inlined callees.
/// `files`: binutils 2.40 takes the wrong file of DWARF 5 tables in places, so only for DWARF 4.
fn agree(program: &Path, step: usize, files: bool, functions: bool) -> usize {
    let places = text(program, step);
    let (addresses, offsets): (Vec<u64>, Vec<u64>) = places.into_iter().unzip();
    let ours = names(program, &offsets);
    let theirs = addr2line(program, &addresses);
    let functions_of = function_ranges(program, |_| true);
    let (mut with_line, mut inlined) = (0, 0);
    for ((address, ours), theirs) in addresses.iter().zip(&ours).zip(&theirs) {
        // Between functions binutils gives the name and line of the one before.
        if ours.is_empty() {
            let is_covered = functions_of.iter().any(|f| f.contains(address));
            assert!(!is_covered, "{address:#x}: {theirs:?}");
            continue;
        }
        if theirs.iter().all(|place| place.2 == 0) {
            assert!(ours.iter().all(|l| l.line == 0), "{address:#x}: {ours:?}");
            continue;
        }
        let lines = |l: &mut dyn Iterator<Item = u32>| l.collect::<Vec<_>>();
        assert_eq!(
            lines(&mut ours.iter().map(|l| l.line)),
            lines(&mut theirs.iter().map(|l| l.2)),
            "{address:#x}: {ours:#?} {theirs:#?}"
        );
        for (our, their) in ours.iter().zip(theirs) {
            if files {
                assert_eq!(our.file, their.1, "{address:#x}");
            }
            // For the innermost place binutils prefers the symbol around it to a bare name.
            if functions && our.function != "operator()" {
                assert_eq!(our.function, their.0, "{address:#x}");
            }
            assert!(!files || our.first_line <= our.line, "{our:?}");
        }
        with_line += 1;
        inlined += usize::from(ours.len() > 1);
    }
    assert!(with_line > 50, "only {with_line} of {}", ours.len());
    inlined
}

/// Compares with the crate addr2line, which indexes what is streamed here. (binutils 2.40 leaves out
/// most of Rust's inlined callees.)
fn agree_with_crate(program: &Path) {
    let loader = addr2line::Loader::new(program).unwrap();
    let (addresses, offsets): (Vec<u64>, Vec<u64>) = text(program, 61).into_iter().unzip();
    let mut with_line = 0;
    for (address, ours) in addresses.iter().zip(names(program, &offsets)) {
        let mut frames = loader.find_frames(*address).unwrap();
        let mut theirs = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            let name = frame.function.map(|f| f.raw_name().unwrap().into_owned());
            let location = frame.location.as_ref();
            let file = location.and_then(|l| l.file).unwrap_or_default().to_owned();
            let line = location.and_then(|l| l.line).unwrap_or(0);
            theirs.push((demangle(&name.unwrap_or_default()).into_owned(), file, line));
        }
        if ours.iter().any(|line| line.line != 0) {
            let ours: Vec<_> = ours
                .into_iter()
                .map(|l| (l.function, l.file, l.line))
                .collect();
            assert_eq!(ours, theirs, "{address:#x}");
            with_line += 1;
        }
    }
    assert!(with_line > 500, "only {with_line} of {}", addresses.len());
}

#[test]
fn c_in_all_versions_and_compressions() {
    let directory = tempfile::tempdir().unwrap();
    for (name, args, files) in [
        ("dwarf2", &["-gdwarf-2"][..], true),
        ("dwarf3", &["-gdwarf-3"], true),
        ("dwarf4", &["-gdwarf-4"], true),
        ("dwarf5", &["-gdwarf-5"], false),
        ("zlib", &["-gdwarf-4", "-gz=zlib"], true),
        ("gnu", &["-gdwarf-4", "-gz=zlib-gnu"], true),
        (
            "sections",
            &["-gdwarf-4", "-ffunction-sections", "-Wl,--gc-sections"],
            true,
        ),
        ("static", &["-gdwarf-5", "-no-pie"], false),
    ] {
        let args = [&["-O2"], args].concat();
        let program = compile(directory.path(), name, "cc", &args);
        assert!(agree(&program, 1, files, true) > 20, "{name}");
    }
}

#[test]
fn zstd() {
    let directory = tempfile::tempdir().unwrap();
    let plain = compile(directory.path(), "plain", "cc", &["-O2", "-gdwarf-5"]);
    let packed = directory.path().join("zstd");
    let (from, to) = (plain.to_str().unwrap(), packed.to_str().unwrap());
    native_programs::run("objcopy", &["--compress-debug-sections=zstd", from, to]);
    let offsets: Vec<u64> = text(&plain, 1)
        .into_iter()
        .map(|(_, offset)| offset)
        .collect();
    let lines = names(&packed, &offsets);
    assert!(lines.iter().flatten().any(|line| line.line != 0));
    assert_eq!(lines, names(&plain, &offsets));
}

#[test]
fn a_section_that_was_unpacked_before() {
    let directory = tempfile::tempdir().unwrap();
    let pack = |of: &Path, name: &str| {
        let packed = directory.path().join(name);
        let (from, to) = (of.to_str().unwrap(), packed.to_str().unwrap());
        native_programs::run("objcopy", &["--compress-debug-sections=zlib", from, to]);
        packed
    };
    let plain = compile(directory.path(), "plain", "rustc", &["-g"]);
    let packed = pack(&plain, "packed");
    let places = text(&plain, 4096);
    assert!(places.len() > 50);
    // First what stands at the end, then what lies before it, then all of it.
    let few = places.iter().rev().step_by(7).chain(&places);
    for &(_, offset) in few {
        assert_eq!(names(&packed, &[offset]), names(&plain, &[offset]));
    }
    // It is another now, in the same file.
    let (_, offset, size) = section(&packed, ".debug_info").unwrap();
    let mut bytes = std::fs::read(&packed).unwrap();
    bytes[offset as usize + 24..(offset + size) as usize].fill(0xff);
    std::fs::write(&packed, bytes).unwrap();
    let (_, place) = places[places.len() / 2];
    assert!(names(&plain, &[place])[0][0].line > 0);
    let found = names_with(&packed, &[place], Options::default());
    assert!(!found.left_out.is_empty() && found.lines[0][0].line == 0);
}

#[test]
fn cpp_templates_lambdas_and_overloads() {
    let directory = tempfile::tempdir().unwrap();
    let four = compile(directory.path(), "four", "c++", &["-O2", "-gdwarf-4"]);
    assert!(agree(&four, 1, true, true) > 20);
    let five = compile(
        directory.path(),
        "five",
        "c++",
        &["-O1", "-gdwarf-5", "-gz"],
    );
    assert!(agree(&five, 1, false, true) > 20);
    let offsets: Vec<u64> = text(&four, 1)
        .into_iter()
        .map(|(_, offset)| offset)
        .collect();
    let lines = names(&four, &offsets);
    for name in [
        "overload(int)",
        "overload(double)",
        "shapes::Derived::turn(int) const",
        "float shapes::Box<double>::as<float>(float) const",
        "operator()",
    ] {
        assert!(lines.iter().flatten().any(|l| l.function == name), "{name}");
    }
}

#[test]
fn rust_names_and_lines() {
    let directory = tempfile::tempdir().unwrap();
    for (name, version) in [("four", "-Cdwarf-version=4"), ("five", "-Cdwarf-version=5")] {
        let args = ["-O", "-g", "--edition=2021", version];
        let program = compile(directory.path(), name, "rustc", &args);
        agree_with_crate(&program);
        // The program's own functions; `.text` of the standard library is long.
        let own = function_ranges(&program, |name| name.contains("program"));
        let (address, offset, _) = section(&program, ".text").unwrap();
        let offsets: Vec<u64> = own
            .into_iter()
            .flatten()
            .map(|a| a - address + offset)
            .collect();
        let lines = names(&program, &offsets);
        let has = |function: &str| {
            lines
                .iter()
                .flatten()
                .any(|l| l.function.ends_with(function))
        };
        assert!(
            has("marker::outer::<u32>") || has("marker::outer"),
            "{name}"
        );
        assert!(has("marker::inner"), "{name}");
        assert!(
            has("marker::Thing as program::marker::Turn>::turn"),
            "{name}"
        );
    }
}

/// Asks for some places, and looks at each of the bytes that are said to be like them.
#[test]
fn what_is_alike_around_a_place() {
    let directory = tempfile::tempdir().unwrap();
    for (name, compiler, args) in [
        ("c4", "cc", &["-O2", "-gdwarf-4"][..]),
        ("c5", "cc", &["-O3", "-gdwarf-5", "-ffunction-sections"]),
        ("c-symbols", "cc", &["-O2"]),
        ("cpp", "c++", &["-O2", "-gdwarf-5"]),
        ("rust", "rustc", &["-O", "-g", "--edition=2021"]),
    ] {
        let program = compile(directory.path(), name, compiler, args);
        let mut places: Vec<u64> = text(&program, 1).into_iter().map(|(_, at)| at).collect();
        // `.text` of the standard library is long.
        places.truncate(20_000);
        let first = places[0];
        let options = Options {
            budget: 1 << 30,
            ..Options::default()
        };
        let each = names_with(&program, &places, options).lines;
        let some: Vec<u64> = places.iter().copied().step_by(23).collect();
        let found = names_with(&program, &some, Options::default());
        let mut more = 0;
        for ((&at, lines), (before, after)) in some.iter().zip(&found.lines).zip(found.alike) {
            let index = (at - first) as usize;
            assert_eq!(lines, &each[index], "{name} {at:#x}");
            let begin = index.saturating_sub(before as usize);
            let end = index.saturating_add(after as usize).min(each.len() - 1);
            for (n, like) in each[begin..=end].iter().enumerate() {
                assert_eq!(lines, like, "{name} {at:#x}, {:#x}", begin + n);
            }
            more += usize::from(!lines.is_empty() && end > begin);
        }
        assert!(more * 2 > some.len(), "{name}: {more} of {}", some.len());

        // One question in a function, and what is told around it.
        let mut told = 0;
        for &at in some.iter().step_by(7) {
            let options = Options {
                around: true,
                ..Options::default()
            };
            let found = names_with(&program, &[at], options);
            assert_eq!(found.lines.len(), 1 + found.around.len(), "{name} {at:#x}");
            assert_eq!(
                found.lines[0],
                each[(at - first) as usize],
                "{name} {at:#x}"
            );
            let around = found.around.iter().zip(&found.lines[1..]);
            for ((&other, lines), (before, after)) in around.zip(&found.alike[1..]) {
                assert_ne!(other, at);
                let Some(index) = other.checked_sub(first).map(|index| index as usize) else {
                    continue;
                };
                let begin = index.saturating_sub(*before as usize);
                for index in begin..=index + *after as usize {
                    if let Some(expected) = each.get(index) {
                        assert_eq!(lines, expected, "{name} {at:#x}: {other:#x}, {index}");
                        told += 1;
                    }
                }
            }
        }
        let has_lines = each.iter().flatten().any(|line| line.line != 0);
        assert!(told > 100 || !has_lines, "{name}: {told}");
        println!(
            "{name}: {told} bytes around {} questions",
            some.len().div_ceil(7)
        );
    }
}

/// Compilers list which unit holds which addresses, and not all do; linkers and tools can make the list wrong.
#[test]
fn lists_of_addresses_are_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["-O", "-g", "--edition=2021"];
    let listed = compile(directory.path(), "listed", "rustc", &args);
    let (_, _, size) = section(&listed, ".debug_aranges").unwrap();
    let places: Vec<u64> = text(&listed, 61).into_iter().map(|(_, at)| at).collect();
    let expected = names(&listed, &places);
    let with_line = |lines: &Vec<Line>| lines.iter().any(|line| line.line != 0);
    assert!(expected.iter().filter(|lines| with_line(lines)).count() > 500);

    let objcopy = |name: &str, change: &[&str]| {
        let to = directory.path().join(name);
        let files = [listed.to_str().unwrap(), to.to_str().unwrap()];
        native_programs::run("objcopy", &[change, &files].concat());
        to
    };
    let other = directory.path().join("list");
    let replace = format!(".debug_aranges={}", other.display());
    let changed = |name: &str, list: &[u8]| {
        std::fs::write(&other, list).unwrap();
        objcopy(name, &["--update-section", &replace])
    };
    let plain = std::fs::read(&listed).unwrap();
    let (_, offset, _) = section(&listed, ".debug_aranges").unwrap();
    let list = plain[offset as usize..][..size as usize].to_vec();
    // Each unit's addresses are said to be in the one after it.
    let starts = headers(&list);
    let mut shifted = list.clone();
    for (at, next) in starts.iter().zip(starts.iter().skip(1)) {
        shifted[at + 6..at + 10].copy_from_slice(&list[next + 6..next + 10]);
    }
    let mut nowhere = list.clone();
    for at in &starts {
        nowhere[at + 6..at + 10].copy_from_slice(&3_u32.to_le_bytes());
    }
    for program in [
        objcopy("unlisted", &["--remove-section=.debug_aranges"]),
        changed("half", &list[..size as usize / 2]),
        changed("shifted", &shifted),
        changed("nowhere", &nowhere),
        changed(
            "noise",
            &list.iter().map(|byte| byte ^ 0x5a).collect::<Vec<_>>(),
        ),
    ] {
        let found = names(&program, &places);
        for ((at, expected), found) in places.iter().zip(&expected).zip(found) {
            assert_eq!(expected, &found, "{} {at:#x}", program.display());
        }
    }
}

/// Where the parts of `.debug_aranges` begin, one for each unit: a length, a version, the unit's offset at 6.
fn headers(list: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(length) = list.get(at..at + 4) {
        starts.push(at);
        at += 4 + u32::from_le_bytes(length.try_into().unwrap()) as usize;
    }
    assert!(starts.len() > 5, "{starts:?}");
    starts
}

/// Of functions without debug information between others that have it, one answer serves for all of it.
#[test]
fn what_is_alike_where_only_symbols_tell() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.c");
    let text = "volatile int n; int other(int x) { for (; x; x--) n += x * x; return n; }";
    std::fs::write(&other, text).unwrap();
    let object = directory.path().join("other.o");
    let (other, object) = (other.to_str().unwrap(), object.to_str().unwrap());
    native_programs::run("cc", &["-O2", "-c", other, "-o", object]);
    let args = ["-O2", "-g", object];
    let program = compile(directory.path(), "program", "cc", &args);
    let (address, offset, _) = section(&program, ".text").unwrap();
    let function = function_ranges(&program, |name| name == "other").remove(0);
    let places: Vec<u64> = function.map(|at| at - address + offset).collect();
    let (first, last) = (places[0], places[places.len() - 1]);
    let found = names_with(&program, &places, Options::default());
    for ((&at, lines), alike) in places.iter().zip(&found.lines).zip(found.alike) {
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].function, "other");
        // With its neighbours asked for, too, each is told of up to these.
        assert_eq!(alike, (0, 0), "{at:#x}");
    }
    let middle = places[places.len() / 2];
    let found = names_with(&program, &[middle], Options::default());
    assert_eq!(found.alike, [(middle - first, last - middle)]);
}

#[test]
fn a_compressed_section_that_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["-O2", "-g", "-gz=zlib"];
    let program = compile(directory.path(), "program", "cc", &args);
    let (_, offset, size) = section(&program, ".debug_info").unwrap();
    let mut bytes = std::fs::read(&program).unwrap();
    let places: Vec<u64> = text(&program, 1).into_iter().map(|(_, at)| at).collect();
    bytes[(offset + size / 2) as usize..(offset + size) as usize].fill(0xff);
    let cut = directory.path().join("cut");
    std::fs::write(&cut, bytes).unwrap();
    let found = names_with(&cut, &places, Options::default());
    let said = found.left_out.iter().map(ToString::to_string);
    let said = said.collect::<Vec<_>>().join("; ");
    assert!(said.contains("cannot be unpacked"), "{said}");
    // Symbols still tell.
    let has = |name: &str| found.lines.iter().flatten().any(|l| l.function == name);
    assert!(has("worker") && has("main"));
}

#[test]
fn without_inlines_the_outer_function_with_the_line_of_the_call() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", "cc", &["-O2", "-gdwarf-4"]);
    let offsets: Vec<u64> = text(&program, 1)
        .into_iter()
        .map(|(_, offset)| offset)
        .collect();
    let all = names(&program, &offsets);
    let options = Options {
        inlines: false,
        ..Options::default()
    };
    let outer = names_with(&program, &offsets, options).lines;
    for (all, outer) in all.iter().zip(outer) {
        assert_eq!(all.last(), outer.first());
        assert!(outer.len() <= 1);
    }
}

#[test]
fn over_its_budget_debug_information_is_left_out_and_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(
        directory.path(),
        "program",
        "cc",
        &["-O2", "-g", "-gz=zlib"],
    );
    let offsets: Vec<u64> = text(&program, 1)
        .into_iter()
        .map(|(_, offset)| offset)
        .collect();
    let options = Options {
        budget: 2 << 20,
        ..Options::default()
    };
    let names = names_with(&program, &offsets, options);
    assert_eq!(names.left_out.len(), 1);
    assert_eq!(names.left_out[0].kind(), ErrorKind::OverBudget);
    let of = |function: &str| {
        names
            .lines
            .iter()
            .flatten()
            .filter(|l| l.function == function)
            .count()
    };
    assert!(of("worker") > 0 && of("deepest") == 0);
    assert!(names.lines.iter().flatten().all(|l| l.line == 0));
}
