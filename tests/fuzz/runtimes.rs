//! Interpreters: their files, read plans on memory that says anything, and what plans read.

use std::path::Path;

use rprof_ebpf::plan::{MAX_FIELD, MAX_STEPS, Plan};
use rprof_ebpf::record::{Shared, put, take};
use rprof_ebpf::runtimes::Interpreter;
use rprof_symbolize::reads::{Piece, ReadError, Reads, execute};
use rprof_symbolize::runtimes::{Detected, detect};

use crate::engine::fuzz;
use crate::mutate::Seed;
use crate::seeds::program;

fn python() -> Detected {
    let found = detect(program("python").seed.bytes.as_slice(), None);
    found.expect("a known version").expect("an interpreter")
}

#[test]
fn files() {
    let seeds = ["python", "c"].map(|name| program(name).seed.clone());
    python();
    fuzz("runtimes::files", &seeds, |bytes| {
        for path in [None, Some(Path::new("/usr/bin/python3.8"))] {
            if let Err(unknown) = detect(bytes, path) {
                assert!(unknown.to_string().len() < 2 * bytes.len() + 200);
            }
        }
    });
}

/// The fields that the plan of CPython 3.11 reads: of a code object whose names have `width` bytes
/// a character.
fn fields(width: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut field = |width: u8, content: &[u8]| {
        bytes.extend((content.len() as u32).to_le_bytes());
        bytes.extend([width, 0, 0, 0]);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    };
    let code_type = python_type();
    field(1, &code_type.to_le_bytes());
    // From `co_firstlineno` to `co_linetable`.
    let head = (0..9u64).flat_map(|n| (n + 7).to_le_bytes());
    field(1, &head.collect::<Vec<_>>());
    // The hash of its name.
    field(1, &0x1234_5678_9abc_def0u64.to_le_bytes());
    for text in ["Work.count", "/srv/demo/work.py"] {
        let wide = text.bytes().flat_map(|byte| {
            let mut character = vec![0; width.into()];
            character[0] = byte;
            character
        });
        field(width, &wide.collect::<Vec<_>>());
    }
    let table = [
        0x80, 0, 0xd8, 4, 5, 0xf0, 2, 3, 0xe8, 0x41, 1, 0xf8, 0x83, 0x10, 0x20,
    ];
    field(1, &table);
    bytes
}

/// Where its file says that code objects' type stands.
fn python_type() -> u64 {
    use rprof_ebpf::runtimes::python::{PythonInterpreter, symbols};
    let python = python();
    let layout: &PythonInterpreter = python.interpreter.layout().expect("CPython's");
    layout.symbols[symbols::CODE_TYPE]
}

fn use_all(detected: &Detected, fields: &[u8]) -> bool {
    let Ok(code) = detected.decode(fields) else {
        return false;
    };
    assert!(code.name.len() <= 4 * fields.len() && code.file.len() <= 4 * fields.len());
    let runs = code.lines.as_deref().unwrap_or_default();
    assert!(runs.len() <= fields.len());
    assert!(runs.is_sorted_by(|a, b| a.end < b.end));
    for position in (0..100).chain([u32::MAX]) {
        code.line(position);
    }
    true
}

#[test]
fn code_objects() {
    let detected = python();
    let seeds = [1, 2, 4].map(|width| Seed::stream(fields(width)));
    for seed in &seeds {
        assert!(use_all(&detected, &seed.bytes));
        for len in 0..seed.bytes.len() {
            assert!(!use_all(&detected, &seed.bytes[..len]), "{len} bytes of it");
        }
    }
    fuzz("runtimes::code_objects", &seeds, |bytes| {
        use_all(&detected, bytes);
    });
}

/// Memory in which every address has bytes: the input's, one after the other.
struct Memory<'i> {
    bytes: &'i [u8],
    reads: usize,
}

impl Reads for Memory<'_> {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError> {
        self.reads += 1;
        assert!(self.reads <= 4 * MAX_STEPS, "a plan without an end");
        assert!(pieces.len() <= MAX_STEPS + 1);
        for piece in pieces {
            assert!(piece.buffer.len() <= MAX_FIELD as usize);
            for word in piece.buffer.chunks_mut(8) {
                let Some((next, rest)) = self.bytes.split_first_chunk::<8>() else {
                    piece.result = Err(ReadError::WouldFault);
                    return Err(ReadError::WouldFault);
                };
                word.copy_from_slice(&next[..word.len()]);
                self.bytes = rest;
            }
            piece.result = Ok(());
        }
        Ok(())
    }
}

fn bytes_of<T: Shared>(value: &T) -> Vec<u8> {
    let mut words = vec![0; size_of::<T>().div_ceil(8)];
    put(value, &mut words);
    words.into_iter().flat_map(u64::to_ne_bytes).collect()
}

/// What a reader says of an interpreter, and what its memory then holds: plan, layout, memory.
#[test]
fn plans() {
    let Detected {
        interpreter, plan, ..
    } = python();
    let fields = fields(1);
    let head = |words: [u64; 4]| words.into_iter().flat_map(u64::to_le_bytes);
    // A count of references, a type, pointers; then lengths and states of strings; then all again.
    let mut memory: Vec<u8> = head([1, python_type(), 0, 0]).collect();
    memory.extend(fields.iter().copied().cycle().take(400));
    for _ in 0..40 {
        memory.extend(head([17, 0x64, 0x64, 5]));
    }
    let input = [bytes_of(&plan), bytes_of(&interpreter), memory].concat();
    fuzz("runtimes::plans", &[Seed::stream(input)], |bytes| {
        let words = bytes.as_chunks().0.iter();
        let words: Vec<u64> = words.copied().map(u64::from_ne_bytes).collect();
        let Some((plan, rest)) = take::<Plan>(&words) else {
            return;
        };
        let Some((interpreter, rest)) = take::<Interpreter>(rest) else {
            return;
        };
        let memory = &bytes[(words.len() - rest.len()) * 8..];
        for base in [0, 4096, u64::MAX - 7] {
            let mut reads = Memory {
                bytes: memory,
                reads: 0,
            };
            let read = execute(&plan, &mut reads, base);
            let detected = Detected {
                version: String::new(),
                interpreter,
                plan,
            };
            use_all(&detected, read.as_deref().unwrap_or(memory));
        }
    });
}
