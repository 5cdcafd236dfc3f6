//! Where rows come from: files without section headers, the vDSO's memory, files without CFI.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::read::elf::ElfFile64;
use object::read::{Object, ObjectSymbol};
use rprof_ebpf::rows::{Rule, RuleKind};
use rprof_unwind::slice::FrameInfo;
use rprof_unwind::{Error, Table};

fn this() -> Vec<u8> {
    std::fs::read(std::env::current_exe().expect("the test itself")).expect("readable")
}

fn rows(table: &Table) -> Vec<(u64, Rule)> {
    table.iter().collect()
}

/// The rule of a function's first instruction: only the return address is on the stack.
fn is_entry(rule: Rule) -> bool {
    let Rule {
        kind,
        register,
        offset,
        ra,
        rbp,
        rbx,
        ..
    } = rule;
    kind == RuleKind::Register as u8 && (register, offset, ra, rbp, rbx) == (7, 8, -1, 0, 0)
}

#[test]
fn section_headers_are_not_needed() {
    let mut data = this();
    let table = Table::from_elf(data.as_slice(), 1 << 22).expect("rows");
    // e_shoff; e_shentsize, e_shnum, e_shstrndx
    data[0x28..0x30].fill(0);
    data[0x3a..0x40].fill(0);
    let without = Table::from_elf(data.as_slice(), 1 << 22).expect("rows");
    assert!(rows(&table).len() > 1000);
    // Only `.init` and `.fini`, which CFI does not cover, are found by them.
    for (offset, rule) in rows(&without) {
        if rule.kind != RuleKind::None as u8 {
            assert_eq!(table.lookup(offset), rule, "at {offset:#x}");
        }
    }
    let differ = rows(&table).len().abs_diff(rows(&without).len());
    assert!(differ <= 6, "{differ} rows");
}

/// A function that no optimisation removes.
#[inline(never)]
fn named_for_its_symbol(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

#[test]
fn symbols_have_entry_rows() {
    assert_eq!(named_for_its_symbol(1), 2);
    let data = this();
    let table = Table::from_elf(data.as_slice(), 1 << 22).expect("rows");
    let file = ElfFile64::<object::LittleEndian>::parse(data.as_slice()).expect("ELF");
    let own: Vec<_> = file
        .symbols()
        .filter(|s| s.is_definition() && s.kind() == object::SymbolKind::Text && s.size() > 0)
        .filter(|s| {
            s.name()
                .is_ok_and(|name| name.contains("named_for_its_symbol"))
        })
        .collect();
    assert!(!own.is_empty());
    for symbol in own {
        let segments = table.segments();
        let offset = segments.offset_of(symbol.address()).expect("in the text");
        assert_eq!(segments.address_of(offset), Some(symbol.address()));
        assert_eq!(
            offset as i64 + segments.text_delta(),
            symbol.address() as i64
        );
        assert!(is_entry(table.lookup(offset)), "{:?}", table.lookup(offset));
    }
}

#[test]
fn the_vdso_has_rows() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    let Some((start, end)) = line.and_then(|line| line.split(' ').next()?.split_once('-')) else {
        println!("this machine has no vDSO");
        return;
    };
    let hex = |word| u64::from_str_radix(word, 16).expect("hex");
    let mut image = vec![0; (hex(end) - hex(start)) as usize];
    let memory = File::open("/proc/self/mem").expect("own memory");
    memory
        .read_exact_at(&mut image, hex(start))
        .expect("the vDSO");

    let table = Table::from_image(&image, 1 << 20).expect("rows");
    assert!(FrameInfo::from_image(&image).is_ok());
    let file = ElfFile64::<object::LittleEndian>::parse(image.as_slice()).expect("ELF");
    let base = file.relative_address_base();
    let mut functions = 0;
    for symbol in file
        .dynamic_symbols()
        .filter(|s| s.size() > 0 && s.is_definition())
    {
        if symbol.kind() == object::SymbolKind::Text {
            let rule = table.lookup(symbol.address() - base);
            assert!(is_entry(rule), "{:?}: {rule:?}", symbol.name());
            functions += 1;
        }
    }
    assert!(functions >= 3, "{functions} functions");
}

#[test]
fn what_has_no_rows_says_why() {
    let of = |data: &[u8]| Table::from_elf(data, 1 << 20).map(|table| rows(&table).len());
    let data = this();
    assert_eq!(of(b""), Err(Error::NotElf));
    assert_eq!(
        of(b"#!/bin/sh\n# not a program, however long this line may be read"),
        Err(Error::NotElf)
    );
    let mut other = data.clone();
    other[0x12] = 183;
    assert_eq!(of(&other), Err(Error::OtherMachine));
    let mut class = data.clone();
    class[4] = 1;
    assert_eq!(of(&class), Err(Error::NotElf));
    // The headers alone: the text is said to be in the file, its CFI is not there.
    assert_eq!(of(&data[..4096]), Err(Error::Unreadable(".eh_frame_hdr")));
    assert_eq!(of(&data[..80]), Err(Error::Unreadable("program headers")));
}
