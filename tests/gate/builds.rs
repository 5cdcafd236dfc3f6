//! The same work in another build: functions are found again wherever they are, and whatever they are called.

use std::path::{Path, PathBuf};
use std::process::Command;

use rprof_tests::scratch::{OPTIMIZED, Scratch, finish, source_file};

use crate::answer::{Answer, PASSED};
use crate::changes::{is_true, versions};

/// `gate.c` with these flags, in a folder of its own.
fn built(scratch: &Scratch, name: &str, flags: &[&str]) -> PathBuf {
    std::fs::create_dir(scratch.file(name)).expect("our own");
    scratch.cc("gate.c", &format!("{name}/gate"), flags)
}

/// Two builds with the same phases.
fn same_phases(flags: [&[&str]; 2], phases: &str) -> Answer {
    let scratch = Scratch::new();
    let base = built(&scratch, "base", flags[0]);
    let head = built(&scratch, "head", flags[1]);
    let (answer, truth) = versions(&scratch, [&base, &head], [phases, phases]);
    is_true(&answer, &truth);
    answer.expect(PASSED);
    answer
}

#[test]
fn a_function_is_renamed() {
    let flags: [&[&str]; 2] = [&["-O2", "-g"], &["-O2", "-g", "-DALPHA=alef"]];
    let answer = same_phases(flags, "alpha 800 beta 400");
    answer.has_moved("renamed", "alpha", "alef").blames_nobody();
}

#[test]
fn a_function_is_inlined_and_debug_information_knows() {
    let flags: [&[&str]; 2] = [&["-O2", "-g"], &["-O2", "-g", "-DINLINE"]];
    same_phases(flags, "outer 800 beta 400").blames_nobody();
}

#[test]
fn a_function_is_inlined_and_nothing_knows() {
    let flags: [&[&str]; 2] = [&["-O2"], &["-O2", "-DINLINE"]];
    let answer = same_phases(flags, "outer 800 beta 400");
    answer
        .has_moved("inlined", "alpha", "outer")
        .blames_nobody();
}

#[test]
fn a_function_is_split() {
    let flags: [&[&str]; 2] = [&["-O2"], &["-O2", "-DSPLIT"]];
    let answer = same_phases(flags, "alpha 800 beta 400");
    answer
        .has_moved("split", "alpha", "second_half")
        .blames_nobody();
}

/// A copy of a source with other lines and addresses, in another folder.
fn elsewhere(scratch: &Scratch, source: &str, side: &str, before: &str) -> PathBuf {
    let folder = scratch.file(&format!("{side}/src"));
    std::fs::create_dir_all(&folder).expect("our own");
    let text = std::fs::read_to_string(source_file(source)).expect("a source");
    let file = folder.join(source);
    std::fs::write(&file, format!("{before}{text}")).expect("a file");
    file
}

/// Nothing moved, whatever else is different.
fn is_nothing(answer: &Answer) {
    answer.expect(PASSED).blames_nobody();
    assert!(answer.list("cheaper").is_empty(), "{}", answer.said);
    assert!(answer.moved().is_empty(), "{}", answer.said);
    assert!(!answer.said.contains("work moved"), "{}", answer.said);
}

#[test]
fn the_same_program_built_elsewhere() {
    let scratch = Scratch::new();
    let more = "int more(int);\nint more(int n) { return n % 7 + n / 3; }\n".to_string();
    let more = format!("{}{more}", "\n".repeat(40));
    let [base, head] = [("base", ""), ("head", more.as_str())].map(|(side, before)| {
        let source = elsewhere(&scratch, "gate.c", side, before);
        let name = format!("{side}/gate-{side}");
        scratch.cc_file(&source, &name, OPTIMIZED)
    });
    let phases = "alpha 400 beta 400 tree 200 copies 100";
    let (answer, truth) = versions(&scratch, [&base, &head], [phases, phases]);
    is_nothing(&answer);
    is_true(&answer, &truth);
}

/// `gate.rs` of another crate, as it were: its functions have other hashes.
pub(crate) fn rust(scratch: &Scratch, side: &str, before: &str, flags: &[&str]) -> PathBuf {
    let source = elsewhere(scratch, "gate.rs", side, before);
    let program = scratch.file(&format!("{side}/gate"));
    let mut command = Command::new("rustc");
    command.args(["--edition=2024", "-O", "-g", "--crate-name=gate", "-o"]);
    let metadata = format!("metadata={side}");
    command.arg(&program).arg(&source).args(["-C", &metadata]);
    finish(command.args(flags));
    program
}

/// The same crate twice, with names written in this way.
fn rust_elsewhere(flags: &[&str]) {
    let scratch = Scratch::new();
    let base = rust(&scratch, "base", "", flags);
    let head = rust(&scratch, "head", &"\n".repeat(40), flags);
    assert!(differ(&base, &head), "the same hashes");
    let phases = "alpha 700 beta 700";
    let (answer, truth) = versions(&scratch, [&base, &head], [phases, phases]);
    is_nothing(&answer);
    is_true(&answer, &truth);
}

#[test]
fn the_same_rust_program_built_elsewhere() {
    rust_elsewhere(&[]);
}

#[test]
fn the_same_rust_program_with_names_of_the_newer_kind() {
    rust_elsewhere(&["-C", "symbol-mangling-version=v0"]);
}

/// Whether the symbols of two programs do.
fn differ(base: &Path, head: &Path) -> bool {
    let symbols = |program: &Path| {
        let said = finish(Command::new("nm").arg(program));
        let names = said.lines().filter_map(|line| line.split(' ').next_back());
        let names = names.filter(|name| name.contains("4gate7generic"));
        names.map(String::from).collect::<Vec<_>>()
    };
    let (base, head) = (symbols(base), symbols(head));
    !base.is_empty() && base.iter().all(|name| !head.contains(name))
}
