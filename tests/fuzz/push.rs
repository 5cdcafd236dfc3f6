//! Files that `rprof push` is given, and what servers answer.

use std::io::Write;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::protos::{
    Function, Label, Line, Location, Mapping, Message, Profile, Sample, ValueType,
};
use rprof_profiler::push::client::Answer;
use rprof_profiler::push::destination::Protocol;
use rprof_profiler::push::pprof_file;
use rprof_profiler::push::protocols::{self, Labels, Piece};

use crate::engine::fuzz;
use crate::mutate::Seed;

pub(crate) fn profile() -> Profile {
    let texts = [
        "",
        "samples",
        "count",
        "cpu",
        "nanoseconds",
        "main",
        "main.c",
        "/bin/a",
        "0123",
        "comm",
        "a",
        "cgroup",
        "/system.slice/a.service",
        "pid",
        "[kernel.kallsyms]",
        "container_id",
    ];
    let text = |key, str| Label {
        key,
        str,
        ..Label::default()
    };
    let sample = |location_id: Vec<u64>| Sample {
        location_id,
        value: vec![2, 100_000_000],
        label: vec![
            text(9, 10),
            text(11, 12),
            Label {
                key: 13,
                num: 7,
                ..Label::default()
            },
        ],
    };
    let location = |id, mapping_id| Location {
        id,
        mapping_id,
        address: 0x1000,
        line: vec![Line {
            function_id: 1,
            line: 3,
        }],
        is_folded: false,
    };
    let mapping = |id, filename| Mapping {
        id,
        filename,
        build_id: 8,
        ..Mapping::default()
    };
    Profile {
        sample_type: vec![ValueType { ty: 1, unit: 2 }, ValueType { ty: 3, unit: 4 }],
        sample: vec![sample(vec![1, 2]), sample(vec![2]), sample(vec![1])],
        mapping: vec![mapping(1, 7), mapping(2, 14)],
        location: vec![location(1, 2), location(2, 1)],
        function: vec![Function {
            id: 1,
            name: 5,
            filename: 6,
            ..Function::default()
        }],
        string_table: texts.map(String::from).to_vec(),
        time_nanos: 1_800_000_000_000_000_000,
        duration_nanos: 10_000_000_000,
        period_type: Some(ValueType { ty: 3, unit: 4 }),
        period: 50_000_000,
        comment: vec![5],
        ..Profile::default()
    }
}

#[test]
fn files() {
    let plain = profile().encode_to_vec();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&plain).expect("memory");
    let packed = packed.finish().expect("memory");
    let seeds = [Seed::stream(plain), Seed::stream(packed)];
    let labels = Labels::from([("team".to_string(), "x".to_string())]);
    fuzz("push::files", &seeds, |bytes| {
        let Ok(profile) = pprof_file::read(bytes) else {
            return;
        };
        for protocol in Protocol::ALL {
            let prepared = protocols::prepare(protocol, &profile, &labels, SystemTime::now());
            let mut left = prepared.pieces.as_slice();
            while !left.is_empty() {
                let n = protocols::fit(left);
                assert!((1..=left.len()).contains(&n));
                let (now, later) = left.split_at(n);
                let now: Vec<&Piece> = now.iter().collect();
                assert!(!protocols::request(protocol, &now, &labels).body.is_empty());
                left = later;
            }
        }
    });
}

#[test]
fn answers() {
    let answers = [
        "{}",
        "",
        "\x0a\x07\x08\x05\x12\x03why",
        "<html>",
        "{\"message\":\"why\"}",
        "2 errors: push series with index 0 and id x failed; push series with index 7 and",
    ];
    fuzz("push::answers", &answers.map(Seed::stream), |bytes| {
        for protocol in Protocol::ALL {
            let _ = protocols::understood(protocol, Answer::Taken(bytes.to_vec()));
            let why = String::from_utf8_lossy(bytes);
            if let Some(not) = protocols::not_taken(protocol, &why, 9) {
                assert!((1..9).contains(&not.len()) && not.iter().all(|&n| n < 9));
            }
        }
    });
}
