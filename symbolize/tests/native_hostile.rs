//! Files that lie: whatever bytes are changed, names end soon, in bounded memory, without a panic.

mod native_programs;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use native_programs::{compile, names_with, run, section, text};
use rprof_symbolize::module_names::Options;
use rprof_symbolize::{ErrorKind, ModuleNames};

/// xorshift: the same damage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

fn ask(bytes: Vec<u8>, offsets: &[u64]) {
    let start = Instant::now();
    if let Ok(names) = ModuleNames::of_bytes(bytes, Options::default()) {
        assert_eq!(names.names(offsets).lines.len(), offsets.len());
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Damages `what` (start and length) of a program in many ways.
fn damage(program: &Path, what: &[(usize, usize)], rounds: usize) {
    let good = fs::read(program).unwrap();
    let offsets: Vec<u64> = text(program, 7).into_iter().map(|(_, o)| o).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        let mut bytes = good.clone();
        let (start, len) = what[round % what.len()];
        for _ in 0..=random.below(4) {
            let at = start + random.below(len);
            bytes[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ 1 << random.below(8),
                _ => random.below(256) as u8,
            };
        }
        ask(bytes, &offsets);
    }
}

fn parts(program: &Path, names: &[&str]) -> Vec<(usize, usize)> {
    let sections = names.iter().filter_map(|name| section(program, name));
    sections
        .map(|(_, offset, size)| (offset as usize, size as usize))
        .collect()
}

const DEBUG: [&str; 7] = [
    ".debug_info",
    ".debug_abbrev",
    ".debug_line",
    ".debug_str",
    ".debug_rnglists",
    ".debug_ranges",
    ".debug_line_str",
];

#[test]
fn damaged_headers_symbols_and_relocations() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", "cc", &["-O2", "-g"]);
    let len = fs::metadata(&program).unwrap().len() as usize;
    let tables = len - 64 * 40;
    let mut what = vec![(0, 64), (64, 56 * 13), (tables, 64 * 40)];
    what.extend(parts(
        &program,
        &[".symtab", ".strtab", ".dynsym", ".rela.plt", ".rela.dyn"],
    ));
    damage(&program, &what, 300);
}

#[test]
fn damaged_debug_information() {
    let directory = tempfile::tempdir().unwrap();
    for (name, version) in [("four", "-gdwarf-4"), ("five", "-gdwarf-5")] {
        let program = compile(directory.path(), name, "c++", &["-O2", version]);
        damage(&program, &parts(&program, &DEBUG), 250);
    }
}

#[test]
fn damaged_compressed_sections() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", "cc", &["-O2", "-g", "-gz"]);
    damage(&program, &parts(&program, &DEBUG), 100);
}

#[test]
fn damaged_mini_debug_info() {
    let directory = tempfile::tempdir().unwrap();
    compile(directory.path(), "program", "cc", &["-O2"]);
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    run(
        "objcopy",
        &["--only-keep-debug", &path("program"), &path("mini")],
    );
    run("xz", &[&path("mini")]);
    let section = format!("--add-section=.gnu_debugdata={}", path("mini.xz"));
    run(
        "objcopy",
        &["--strip-all", &section, &path("program"), &path("stripped")],
    );
    let stripped = directory.path().join("stripped");
    damage(&stripped, &parts(&stripped, &[".gnu_debugdata"]), 200);
}

#[test]
fn files_that_end_early() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", "cc", &["-O2", "-g"]);
    let good = fs::read(&program).unwrap();
    let offsets: Vec<u64> = text(&program, 7).into_iter().map(|(_, o)| o).collect();
    for len in (0..good.len()).step_by(good.len() / 150) {
        ask(good[..len].to_vec(), &offsets);
    }
    // Cut after it was opened, as its owner may: an error, not a signal.
    let file = fs::File::open(&program).unwrap();
    let names = ModuleNames::open(file, Options::default()).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&program)
        .unwrap()
        .set_len(4096)
        .unwrap();
    let found = names.names(&offsets);
    assert!(found.lines.iter().all(Vec::is_empty));
    assert!(!found.left_out.is_empty());
}

#[test]
fn a_section_that_claims_to_unpack_to_more_than_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", "cc", &["-O2", "-g", "-gz"]);
    let mut bytes = fs::read(&program).unwrap();
    let (_, offset, _) = section(&program, ".debug_info").unwrap();
    let size = offset as usize + 8;
    bytes[size..size + 8].copy_from_slice(&(1_u64 << 50).to_le_bytes());
    fs::write(&program, bytes).unwrap();
    let offsets: Vec<u64> = text(&program, 1).into_iter().map(|(_, o)| o).collect();
    let found = names_with(&program, &offsets, Options::default());
    assert_eq!(found.left_out[0].kind(), ErrorKind::OverBudget);
    assert!(found.lines.iter().flatten().any(|l| l.function == "worker"));
}

#[test]
fn symbols_that_all_cover_everything() {
    // A table of 200,000 symbols, each of which covers all of 2,000 sampled addresses.
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", "cc", &["-O0"]);
    let mut bytes = fs::read(&program).unwrap();
    let (address, offset, size) = section(&program, ".text").unwrap();
    let (_, symbols, old) = section(&program, ".symtab").unwrap();
    let worker = native_programs::function_ranges(&program, |name| name == "worker")[0].start;
    let entry = (0..old as usize / 24)
        .map(|i| &bytes[symbols as usize + i * 24..][..24])
        .find(|e| e[4] & 15 == 2 && e[8..16] == worker.to_le_bytes())
        .unwrap();
    let mut entry = entry.to_vec();
    entry[8..16].copy_from_slice(&address.to_le_bytes());
    entry[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let table = bytes.len() as u64;
    for _ in 0..200_000 {
        bytes.extend_from_slice(&entry);
    }
    // Its section header: type 2 (SHT_SYMTAB).
    let headers = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let header = (headers..)
        .step_by(64)
        .find(|&h| bytes[h + 4] == 2)
        .unwrap();
    bytes[header + 24..header + 32].copy_from_slice(&table.to_le_bytes());
    bytes[header + 32..header + 40].copy_from_slice(&(200_000_u64 * 24).to_le_bytes());
    let offsets: Vec<u64> = (offset..offset + size).cycle().take(2000).collect();
    ask(bytes, &offsets);
}
