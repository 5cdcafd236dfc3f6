//! Files that lie on purpose, and one that is cut: names end soon, in bounded memory. (What changed
//! bytes do, `tests/fuzz` tries.)

mod native_programs;

use std::fs;
use std::time::{Duration, Instant};

use native_programs::{compile, names_with, section, text};
use rprof_symbolize::module_names::Options;
use rprof_symbolize::{ErrorKind, ModuleNames};

fn ask(bytes: Vec<u8>, offsets: &[u64]) {
    let start = Instant::now();
    if let Ok(names) = ModuleNames::of_bytes(bytes, Options::default()) {
        assert_eq!(names.names(offsets).lines.len(), offsets.len());
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_file_that_is_cut_while_it_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let program = compile(directory.path(), "program", "cc", &["-O2", "-g"]);
    let offsets: Vec<u64> = text(&program, 7).into_iter().map(|(_, o)| o).collect();
    // As its owner may: an error, not a signal.
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
