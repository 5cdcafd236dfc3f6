//! Profiles that are made up: of a program of two functions, and each test changes what it is about.

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::protos::{Function, Line, Location, Message, Profile, Sample, ValueType};
use rprof_tests::scratch::Scratch;

/// Nanoseconds between two samples.
const PERIOD: i64 = 1_000_000;

/// `main` calls `work`, which costs so many milliseconds; began `n` seconds after a moment.
pub(crate) fn profile(n: i64, millis: i64) -> Profile {
    let texts = ["", "samples", "count", "cpu", "nanoseconds", "main", "work"];
    let of = |ty, unit| ValueType { ty, unit };
    let function = |id: u64| Function {
        id,
        name: id as i64 + 4,
        ..Function::default()
    };
    let location = |id: u64| Location {
        id,
        line: vec![Line {
            function_id: id,
            line: 1,
        }],
        ..Location::default()
    };
    let sample = |location_id: Vec<u64>, millis: i64| Sample {
        location_id,
        value: vec![millis, millis * PERIOD],
        ..Sample::default()
    };
    Profile {
        sample_type: vec![of(1, 2), of(3, 4)],
        period_type: Some(of(3, 4)),
        period: PERIOD,
        string_table: texts.map(String::from).to_vec(),
        function: [1, 2].map(function).to_vec(),
        location: [1, 2].map(location).to_vec(),
        sample: vec![sample(vec![2, 1], millis), sample(vec![1], 10)],
        time_nanos: 1_700_000_000_000_000_000 + n * 1_000_000_000,
        duration_nanos: 900_000_000,
        ..Profile::default()
    }
}

/// Writes one, compressed.
pub(crate) fn written(scratch: &Scratch, name: &str, profile: &Profile) -> PathBuf {
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    let bytes = profile.encode_to_vec();
    compressed.write_all(&bytes).expect("memory");
    let path = scratch.file(name);
    std::fs::write(&path, compressed.finish().expect("memory")).expect("a file");
    path
}

/// Profiles of both sides, interleaved as `A B B A`, of so many milliseconds each and a little more or less.
pub(crate) fn sides(scratch: &Scratch, runs: i64, millis: [i64; 2]) -> [Vec<PathBuf>; 2] {
    let mut files = [Vec::new(), Vec::new()];
    for n in 0..2 * runs {
        let side = usize::from([false, true, true, false][n as usize % 4]);
        let profile = profile(n, millis[side] + n * 7 % 5);
        files[side].push(written(scratch, &format!("made-{n}.pb.gz"), &profile));
    }
    files
}
