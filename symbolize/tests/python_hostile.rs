//! Bytes that lie: files, code objects and memory that are almost what they should be. Nothing may
//! panic, run on, or take more memory than its input allows.

mod python_target;

use python_target::{Target, interpreters};
use rprof_symbolize::reads::{Piece, ReadError, Reads, execute};
use rprof_symbolize::runtimes::{Detected, detect};

/// xorshift64: the same bytes in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One to four bytes other than they were, and now and then a shorter end.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = self.next() as u8;
            }
        }
        if self.below(8) == 0 {
            bytes.truncate(self.below(bytes.len()));
        }
    }
}

/// Decodes, and asks for lines everywhere.
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
fn damaged_code_objects_give_errors() {
    let interpreter = interpreters("3.11").into_iter().next();
    let mut target = Target::start(&interpreter.unwrap(), &[], "frames.py");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut decoded = 0;
    let frames: Vec<_> = target
        .said
        .iter()
        .filter_map(|l| l.strip_prefix("frame 0x"))
        .collect();
    for frame in &frames {
        let code = u64::from_str_radix(frame.split(' ').next().unwrap(), 16).unwrap();
        let fields = execute(&target.detected.plan, &mut target.memory, code).unwrap();
        for len in 0..fields.len() {
            assert!(
                !use_all(&target.detected, &fields[..len]),
                "{len} of {}",
                fields.len()
            );
        }
        for _ in 0..2_000 {
            let mut fields = fields.clone();
            random.damage(&mut fields);
            decoded += usize::from(use_all(&target.detected, &fields));
        }
    }
    println!(
        "{decoded} of {} damaged objects still decode",
        frames.len() * 2_000
    );
    assert!(decoded > 0);
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..random.below(300))
            .map(|_| random.next() as u8)
            .collect();
        use_all(&target.detected, &noise);
    }
}

/// Memory in which each word is anything: small lengths, plausible states, wild pointers.
struct Noise(Random);

impl Reads for Noise {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError> {
        assert!(pieces.len() <= 64);
        for piece in pieces {
            piece.result = Ok(());
            for word in piece.buffer.chunks_mut(8) {
                let value = match self.0.below(4) {
                    0 => self.0.next(),
                    1 => self.0.next() >> 48,
                    2 => self.0.next() & 0xff,
                    _ => 0x64,
                };
                word.copy_from_slice(&value.to_le_bytes()[..word.len()]);
            }
        }
        Ok(())
    }
}

#[test]
fn memory_that_is_noise_ends() {
    let interpreter = interpreters("3.11").into_iter().next().unwrap();
    let target = Target::start(&interpreter, &[], "frames.py");
    let mut noise = Noise(Random(88));
    let plan = target.detected.plan;
    for _ in 0..5_000 {
        if let Ok(fields) = execute(&plan, &mut noise, 4096) {
            use_all(&target.detected, &fields);
        }
    }
}

#[test]
fn damaged_files_give_errors() {
    let mut random = Random(7);
    for interpreter in interpreters("3.11") {
        let target = Target::start(&interpreter, &[], "frames.py");
        let mut bytes = std::fs::read(&target.file).unwrap();
        let whole = bytes.len();
        assert!(detect(&*bytes, None).unwrap().is_some());
        let headers = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
        let mut found = 0;
        for n in 0..1_000 {
            // The file's header, its segments, or its sections.
            let start = if n % 2 == 0 { headers } else { 16 };
            let end = whole.min(start + 1024);
            let saved = bytes[start..end].to_vec();
            for _ in 0..3 {
                let at = start + random.below(end - start);
                bytes[at] = random.next() as u8;
            }
            found += usize::from(matches!(detect(&*bytes, None), Ok(Some(_))));
            bytes[start..end].copy_from_slice(&saved);
        }
        for n in 0..200 {
            let _ = detect(&bytes[..whole / 200 * n], None);
        }
        println!(
            "{}: {found} of 1000 damaged files still detected",
            target.file.display()
        );
        assert!(detect(&*bytes, None).unwrap().is_some());
    }
}
