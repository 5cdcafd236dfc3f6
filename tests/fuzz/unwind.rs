//! Unwind rows and CFI: of a file of a target, and as a reader sends them.

use std::sync::Arc;

use rprof_ebpf::module::ModuleKey;
use rprof_ebpf::record::{Mapping, Registers};
use rprof_unwind::Table;
use rprof_unwind::rows::lookup;
use rprof_unwind::slice::{Cache, FrameInfo, FrameSections, Stack, Unwinder};

use crate::engine::fuzz;
use crate::mutate::{Random, Seed};
use crate::seeds::{program, programs};

const MAX_WORDS: u32 = 1 << 20;
const MAX_CFI: u64 = 64 << 20;
/// Where the file is mapped, and where the stack is.
const BASE: u64 = 0x40_0000;
const STACK: u64 = 0x7000_0000;
/// Where in row space a table stands, not aligned to anything.
const ROWS: u32 = 65_001;

#[test]
fn files() {
    let seeds = ["c", "cpp", "debug_frame", "compressed"];
    let seeds = seeds.map(|name| program(name).seed.clone());
    fuzz("unwind::files", &seeds, |bytes| {
        for table in [
            Table::from_elf(bytes, MAX_WORDS),
            Table::from_image(bytes, MAX_WORDS),
        ]
        .into_iter()
        .flatten()
        {
            let offsets: Vec<_> = table.iter().map(|(offset, _)| offset).collect();
            assert!(offsets.is_sorted_by(|a, b| a < b));
            agrees(&table);
            let mut wire = Vec::new();
            table.write_to(&mut wire).expect("memory takes all");
            let read = Table::read_from(&mut wire.as_slice(), MAX_WORDS).expect("a table");
            assert!(read.iter().eq(table.iter()) && read.segments() == table.segments());
        }
        let Ok(sections) = FrameSections::from_elf(bytes, MAX_CFI) else {
            return;
        };
        let mut wire = Vec::new();
        sections.write_to(&mut wire).expect("memory takes all");
        let sent = FrameInfo::read_from(&mut wire.as_slice(), MAX_CFI).expect("what was sent");
        let own = FrameInfo::from_elf(bytes).expect("sections were read before");
        let stack = stack(bytes.len() as u64);
        assert!(walks(own, &stack) == walks(sent, &stack));
    });
}

#[test]
fn tables_as_sent() {
    let seeds = ["c", "debug_frame"].map(|name| {
        let table = Table::from_elf(program(name).seed.bytes.as_slice(), MAX_WORDS);
        let mut wire = Vec::new();
        let written = table.expect("rows").write_to(&mut wire);
        written.expect("memory takes all");
        Seed::stream(wire)
    });
    fuzz("unwind::tables_as_sent", &seeds, |mut bytes| {
        if let Ok(table) = Table::read_from(&mut bytes, MAX_WORDS) {
            agrees(&table);
        }
    });
}

#[test]
fn cfi_as_sent() {
    let seeds = ["c", "debug_frame"].map(|name| {
        let bytes = program(name).seed.bytes.as_slice();
        let mut wire = Vec::new();
        let sections = FrameSections::from_elf(bytes, MAX_CFI).expect("CFI");
        sections.write_to(&mut wire).expect("memory takes all");
        Seed::stream(wire)
    });
    let stack = stack(1);
    fuzz("unwind::cfi_as_sent", &seeds, |mut bytes| {
        if let Ok(info) = FrameInfo::read_from(&mut bytes, MAX_CFI) {
            walks(info, &stack);
        }
    });
}

/// A walk through a file, from anywhere, with any stack and registers.
#[test]
fn stacks() {
    let load = |name| FrameInfo::from_elf(program(name).seed.bytes.as_slice()).expect("CFI");
    let infos = ["c", "cpp", "debug_frame"].map(load).map(Arc::new);
    let seeds: Vec<Seed> = programs()
        .iter()
        .take(2)
        .map(|program| {
            let text = &program.text;
            let words = (0..256).map(|n| match n % 3 {
                0 => STACK + n * 8,
                1 => BASE + text.start + n * 5 % (text.end - text.start),
                _ => n,
            });
            Seed::stream(words.flat_map(u64::to_le_bytes).collect::<Vec<_>>())
        })
        .collect();
    fuzz("unwind::stacks", &seeds, |bytes| {
        let words: Vec<u64> = bytes
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(u64::from_le_bytes)
            .collect();
        let Some((head, rest)) = words.split_first_chunk::<24>() else {
            return;
        };
        let mapping = |at: usize, ino| Mapping {
            start: head[at],
            end: head[at].wrapping_add(head[at + 1] & 0xf_ffff),
            offset: head[at + 2],
            key: ModuleKey {
                ino,
                ..ModuleKey::default()
            },
            ..Mapping::default()
        };
        let mappings = [mapping(0, 1), mapping(3, 2), mapped(1 << 20)];
        let registers = Registers {
            pc: head[6],
            sp: head[7],
            bp: head[8],
            bx: head[9],
            r8: *head[10..].first_chunk().expect("8 of 14"),
            leaf: head[18] & 1,
            lost: head[19] & 3,
            ..Registers::default()
        };
        // Two pieces with a hole between them, wherever they are said to be.
        let bytes: Vec<u8> = rest.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (low, high) = bytes.split_at(bytes.len() / 2);
        let second = head[20]
            .saturating_add(low.len() as u64)
            .saturating_add(head[21] & 0xff);
        let pieces = [(head[20], low), (second, high)];
        let walk = Unwinder::new(Cache::new(1 << 16)).walk(
            &registers,
            &mappings,
            Stack(&pieces),
            200,
            |mapping: &Mapping| infos.get(mapping.key.ino as usize % 4).cloned(),
        );
        assert!(walk.frames.len() <= 200);
    });
}

/// The words of a table give each of its rules where it begins.
fn agrees(table: &Table) {
    let image = table.encode(ROWS);
    assert!(image.words.len() as u64 <= table.words());
    let word = |at: u32| image.words.get(at.checked_sub(ROWS)? as usize).copied();
    for (offset, rule) in table.iter() {
        assert_eq!(lookup(word, &image.info, offset), Some(rule));
    }
}

fn mapped(size: u64) -> Mapping {
    Mapping {
        start: BASE,
        end: BASE + size,
        key: ModuleKey {
            ino: 3,
            ..ModuleKey::default()
        },
        ..Mapping::default()
    }
}

/// A stack full of places in the text, and of places in itself.
fn stack(number: u64) -> Vec<u8> {
    let mut random = Random(number);
    let words = (0..2048).flat_map(|at| {
        let inside = if at % 2 == 0 { BASE } else { STACK };
        (inside + random.below(0x4000) as u64).to_le_bytes()
    });
    words.collect()
}

/// What walks from many places of a module find.
fn walks(info: FrameInfo, stack: &[u8]) -> Vec<rprof_unwind::slice::Walk> {
    let info = Arc::new(info);
    let pieces = [(STACK, stack)];
    let mut unwinder = Unwinder::new(Cache::new(1 << 20));
    let from = |pc| {
        let registers = Registers {
            pc: BASE + pc,
            sp: STACK + 0x100,
            bp: STACK + 0x200,
            leaf: 1,
            ..Registers::default()
        };
        let load = |_: &Mapping| Some(info.clone());
        unwinder.walk(&registers, &[mapped(0x4000)], Stack(&pieces), 100, load)
    };
    (0x1000..0x1800).step_by(37).map(from).collect()
}
