//! Files made to cost more than they say: any answer will do, if it comes soon and in bounds. (What
//! changed bytes do, `tests/fuzz` tries.)

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Random;
use rprof_ebpf::module::ModuleKey;
use rprof_ebpf::record::{Mapping, Registers};
use rprof_unwind::Table;
use rprof_unwind::rows::lookup;
use rprof_unwind::slice::{Cache, FrameInfo, Stack, Unwinder};

const MAX_WORDS: u32 = 1 << 20;
/// For one file, in a debug build on a busy machine. Without bounds, what costs takes hours here.
const SOON: Duration = Duration::from_secs(10);

/// Everything that reads a file, on one.
fn read(data: &[u8]) {
    let start = Instant::now();
    for table in [
        Table::from_elf(data, MAX_WORDS),
        Table::from_image(data, MAX_WORDS),
    ] {
        let Ok(table) = table else { continue };
        let offsets: Vec<_> = table.iter().map(|(offset, _)| offset).collect();
        assert!(offsets.is_sorted_by(|a, b| a < b));
        let image = table.encode(65_000);
        let announced = table.words().min(MAX_WORDS.into());
        assert!(image.words.len() as u64 <= announced);
        let word = |address: u32| {
            image
                .words
                .get(address.checked_sub(65_000)? as usize)
                .copied()
        };
        for (offset, rule) in table.iter() {
            assert_eq!(lookup(word, &image.info, offset), Some(rule));
        }
    }
    if let Ok(info) = FrameInfo::from_elf(data) {
        let info = Arc::new(info);
        let mapping = Mapping {
            start: 0x40_0000,
            end: 0x40_0000 + data.len() as u64,
            key: ModuleKey {
                ino: 1,
                ..ModuleKey::default()
            },
            ..Mapping::default()
        };
        // A stack full of places in the text.
        let mut random = Random(data.len() as u64);
        let words = (0..4096).flat_map(|at| {
            let inside = if at % 2 == 0 { 0x40_0000 } else { 0x7000_0000 };
            (inside + random.below(0x8000)).to_le_bytes()
        });
        let stack: Vec<u8> = words.collect();
        let pieces = [(0x7000_0000, stack.as_slice())];
        let mut unwinder = Unwinder::new(Cache::new(1 << 20));
        for pc in (0..data.len() as u64).step_by(data.len() / 8 + 1) {
            let registers = Registers {
                pc: 0x40_0000 + pc,
                sp: 0x7000_0100,
                bp: 0x7000_0200,
                leaf: 1,
                ..Registers::default()
            };
            let load = |_: &Mapping| Some(info.clone());
            let walk = unwinder.walk(&registers, &[mapping], Stack(&pieces), 100, load);
            assert!(walk.frames.len() <= 100);
        }
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// One huge common entry that each of many functions would have to run, and functions that are
/// nothing but rows.
#[test]
fn cfi_that_costs_more_than_it_says() {
    let mut eh_frame = Vec::new();
    let mut entry = |id: u32, body: &[u8]| {
        let at = eh_frame.len() as u32;
        let padded = body.len().next_multiple_of(4);
        eh_frame.extend((padded as u32 + 4).to_le_bytes());
        eh_frame.extend(if id == u32::MAX { 0 } else { at + 4 - id }.to_le_bytes());
        eh_frame.extend(body);
        eh_frame.resize(at as usize + 8 + padded, 0);
        at
    };
    // Version 1, no augmentation, factors 1 and -8, return address in 16, CFA = rsp + 8.
    let head = [1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1];
    let huge = entry(
        u32::MAX,
        &[head.as_slice(), &[0x0a, 0x0b].repeat(400_000)].concat(),
    );
    let normal = entry(u32::MAX, &head);
    let function = |start: u64, size: u64, code: &[u8]| {
        [&start.to_le_bytes(), &size.to_le_bytes(), code].concat()
    };
    for n in 0..20_000 {
        entry(huge, &function(0x1000 + n, 1, &[]));
    }
    // DW_CFA_advance_loc 1, DW_CFA_def_cfa_offset: a row for each three bytes.
    let rows: Vec<u8> = (0..300_000u32)
        .flat_map(|n| [0x41, 0x0e, n as u8 & 0x7f])
        .collect();
    for _ in 0..3 {
        entry(normal, &function(0x10000, 0x10_0000, &rows));
    }
    let data = elf(&eh_frame, 0x1000, 0x20_0000);
    let table = Table::from_elf(data.as_slice(), MAX_WORDS).expect("rows");
    assert!(table.iter().len() >= 300_000);
    read(&data);
    // Far apart: pages in between would fill all memory.
    let mut apart = Vec::new();
    let mut put = |bytes: &[u8]| apart.extend(bytes);
    put(&16u32.to_le_bytes());
    put(&0u32.to_le_bytes());
    put(&[head.as_slice(), &[0, 0]].concat());
    let mut at = 20u32;
    for start in [0x1000u64, 0xf0_0000_0000] {
        put(&20u32.to_le_bytes());
        put(&(at + 4).to_le_bytes());
        put(&start.to_le_bytes());
        put(&16u64.to_le_bytes());
        at += 24;
    }
    let data = elf(&apart, 0x1000, 0xff_0000_0000);
    assert!(matches!(
        Table::from_elf(data.as_slice(), MAX_WORDS),
        Err(rprof_unwind::Error::TooLarge(_))
    ));
}

/// An ELF file with one executable segment that is said to stand at its own offset, and
/// `.eh_frame` behind a header that points to it.
fn elf(eh_frame: &[u8], text: u64, size: u64) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    half(&mut file, 3);
    half(&mut file, 62);
    file.extend(1u32.to_le_bytes());
    file.extend([0u64, 64, 0].iter().flat_map(|v| v.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    for value in [64, 56, 3, 0, 0, 0] {
        half(&mut file, value);
    }
    let mut segment = |kind: u32, flags: u32, offset: u64, address: u64, size: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        let values = [offset, address, address, size, size, 1];
        file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    };
    let (header, start) = (64 + 3 * 56, 64 + 3 * 56 + 12);
    segment(1, 5, text, text, size);
    // Data of the file, above all text.
    let base = 1 << 50;
    segment(1, 4, header, base + header, 12 + eh_frame.len() as u64);
    segment(0x6474_e550, 4, header, base + header, 12);
    // Version 1; pointer relative to itself, no table.
    file.extend([1, 0x1b, 0xff, 0xff]);
    file.extend((start - header - 4).to_le_bytes().iter().take(4));
    file.extend([0; 4]);
    file.extend(eh_frame);
    file
}
