//! What is looked up in row space equals what the table says, wherever the table stands.

mod common;

use std::fs::File;

use common::binaries;
use object::read::{Object, ObjectSegment, ReadCache};
use rprof_ebpf::module::PAGE_BITS;
use rprof_ebpf::rows::{CHUNK_WORDS, RuleKind};
use rprof_unwind::rows::lookup;
use rprof_unwind::{Error, Table};

/// Bases: aligned, odd, just before a chunk's border, far away.
const BASES: [u32; 5] = [
    0,
    1,
    CHUNK_WORDS - 3,
    2 * CHUNK_WORDS - 700,
    91 * CHUNK_WORDS + 65_000,
];

/// Rows come back from their bytes as they were, in the order of their offsets.
fn check_bytes(table: &Table) {
    let rows: Vec<_> = table.iter().collect();
    assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
    let mut bytes = Vec::new();
    table.write_to(&mut bytes).expect("a vector");
    bytes.push(1);
    let mut from = bytes.as_slice();
    let back = Table::read_from(&mut from, table.words() as u32).expect("a table");
    assert_eq!(from, [1], "no byte more");
    assert!(back.iter().eq(rows) && back.words() == table.words());
    let less = Table::read_from(&mut bytes.as_slice(), table.words() as u32 - 1);
    assert!(less.is_err(), "more words than allowed");
}

fn check(table: &Table, base: u32) {
    let image = table.encode(base);
    assert!(
        image.words.len() as u64 <= table.words(),
        "more words than announced"
    );
    let word = |address: u32| {
        image
            .words
            .get(address.checked_sub(base)? as usize)
            .copied()
    };
    let in_one_chunk = |from: u32, words: u32| from % CHUNK_WORDS + words <= CHUNK_WORDS;

    assert_eq!(image.info.rules % 4, 0);
    for page in 0..image.info.pages {
        let block = word(image.info.index + page).expect("index");
        let count = word(block).expect("block");
        assert!((1..=1024).contains(&count), "{count} rows in a block");
        assert!(
            in_one_chunk(block, 1 + count),
            "a block crosses a chunk's border"
        );
        let start = u64::from(image.info.first_page + page) << PAGE_BITS;
        for offset in [start, start + 1, start + (1 << PAGE_BITS) - 1] {
            assert_eq!(
                lookup(word, &image.info, offset),
                Some(table.lookup(offset))
            );
        }
    }
    let first = u64::from(image.info.first_page) << PAGE_BITS;
    for (offset, rule) in table.iter() {
        assert_eq!(lookup(word, &image.info, offset), Some(rule));
        if offset > first {
            let before = lookup(word, &image.info, offset - 1);
            assert_eq!(before, Some(table.lookup(offset - 1)));
        }
    }
    let end = first + (u64::from(image.info.pages) << PAGE_BITS);
    assert_eq!(lookup(word, &image.info, end), None);
    assert_eq!(table.lookup(end).kind, RuleKind::None as u8);
    if let Some(before) = first.checked_sub(1) {
        assert_eq!(lookup(word, &image.info, before), None);
        assert_eq!(table.lookup(before).kind, RuleKind::None as u8);
    }
}

#[test]
fn images_say_what_tables_say() {
    let mut checked = 0;
    for path in binaries() {
        // The largest take seconds in a debug build and add nothing.
        if path.metadata().map_or(0, |m| m.len()) > 110 << 20 {
            continue;
        }
        let cache = ReadCache::new(File::open(&path).expect("a file"));
        let table = Table::from_elf(&cache, 1 << 24).expect("rows");
        check_bytes(&table);
        // All bases for small tables, one for large ones, another each time.
        let large = table.iter().len() > 50_000;
        let bases = BASES.iter().enumerate();
        for (_, base) in bases.filter(|(at, _)| !large || *at == checked % BASES.len()) {
            check(&table, *base);
        }
        checked += 1;
    }
    assert!(checked >= 4, "only {checked} binaries");
}

#[test]
fn a_budget_that_is_too_small_is_an_error() {
    let this = std::fs::read(std::env::current_exe().expect("the test itself")).expect("readable");
    let words = Table::from_elf(this.as_slice(), u32::MAX)
        .expect("rows")
        .words();
    let fits = Table::from_elf(this.as_slice(), words as u32);
    assert!(fits.is_ok());
    for less in [words - 1, words / 2, 100, 0] {
        let found = Table::from_elf(this.as_slice(), less as u32).map(|_| ());
        assert!(
            matches!(found, Err(Error::TooLarge(_))),
            "{less} words: {found:?}"
        );
    }
}

#[test]
fn an_entry_point_where_no_program_begins() {
    let mut this =
        std::fs::read(std::env::current_exe().expect("the test itself")).expect("readable");
    let table = Table::from_elf(this.as_slice(), u32::MAX).expect("rows");
    let gap = table
        .iter()
        .find(|(_, rule)| rule.kind == RuleKind::None as u8);
    let (gap, _) = gap.expect("code without CFI");
    let file = object::File::parse(this.as_slice()).expect("an ELF file");
    let address = file.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        let skipped = gap.checked_sub(offset).filter(|skipped| *skipped < size)?;
        Some(segment.address() + skipped)
    });
    // Between two instructions, as likely as not; e_entry.
    let entry = address.expect("in a segment") + 1;
    this[0x18..0x20].copy_from_slice(&entry.to_le_bytes());
    let table = Table::from_elf(this.as_slice(), u32::MAX).expect("rows");
    check_bytes(&table);
    assert_eq!(table.lookup(gap + 1).kind, RuleKind::None as u8);
}
