//! The Firefox Profiler's format: read back as that program's own tables say.

mod profile_support;

use std::collections::BTreeMap;

use profile_support::*;
use rprof_profiler::profile::{Profile, firefox};
use serde_json::Value;

/// What is compared: process, its id, thread id, functions from the root on.
type Row = (String, u32, u32, Vec<String>);

fn encode_firefox(profile: &Profile) -> Value {
    let mut out = Vec::new();
    firefox::write(profile, &symbols(profile, &ByRule), &about(100), &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn column(table: &Value, name: &str, at: &Value) -> Value {
    table[name][at.as_u64().unwrap() as usize].clone()
}

/// `20108.1` is the second process with this id.
fn id(value: &Value) -> u32 {
    let text = value.to_string();
    let text = text.trim_matches('"').split('.').next().unwrap();
    text.parse().unwrap()
}

fn rows(file: &Value) -> BTreeMap<Row, u64> {
    let mut rows: BTreeMap<Row, u64> = BTreeMap::new();
    for thread in file["threads"].as_array().unwrap() {
        let samples = &thread["samples"];
        let (stacks, weights) = (&samples["stack"], &samples["weight"]);
        assert_eq!(samples["weightType"], "samples");
        for (stack, weight) in stacks
            .as_array()
            .unwrap()
            .iter()
            .zip(weights.as_array().unwrap())
        {
            let (mut names, mut stack) = (Vec::new(), stack.clone());
            while !stack.is_null() {
                let frame = column(&thread["stackTable"], "frame", &stack);
                let function = column(&thread["frameTable"], "func", &frame);
                let name = column(&thread["funcTable"], "name", &function);
                let text = thread["stringArray"][name.as_u64().unwrap() as usize].as_str();
                names.insert(0, text.unwrap().to_owned());
                stack = column(&thread["stackTable"], "prefix", &stack);
            }
            if !names.is_empty() {
                let process = thread["processName"].as_str().unwrap().to_owned();
                let row = (process, id(&thread["pid"]), id(&thread["tid"]), names);
                *rows.entry(row).or_default() += weight.as_u64().unwrap();
            }
        }
    }
    rows
}

#[test]
fn every_stack_is_there_once_with_its_names() {
    let mut chance = Chance(7);
    let mut profile = profile(8 << 20);
    let mut wanted: BTreeMap<Row, u64> = BTreeMap::new();
    for _ in 0..500 {
        let (stack, labels) = (chance.stack(), chance.labels());
        let count = 1 + chance.below(9);
        add(&mut profile, &stack, &labels, count);
        let names = stack.iter().flat_map(expected).rev().collect();
        let row = (labels.comm.to_string(), labels.pid, labels.tid, names);
        *wanted.entry(row).or_default() += count;
    }
    assert_eq!(rows(&encode_firefox(&profile)), wanted);
}

#[test]
fn time_weights_and_categories() {
    let mut profile = profile(1 << 20);
    let stack = [kernel(), native(1, 65), python("C.run", 4)];
    add(&mut profile, &stack, &labels(5, "python3"), 3);
    let file = encode_firefox(&profile);
    let meta = &file["meta"];
    assert_eq!(
        (&meta["interval"], &meta["symbolicated"]),
        (&10.0.into(), &true.into())
    );
    let thread = &file["threads"][0];
    let samples = &thread["samples"];
    // What a thread's first sample used needs a sample before it to count from.
    assert_eq!(samples["weight"], serde_json::json!([0, 3]));
    assert_eq!(samples["threadCPUDelta"], serde_json::json!([0, 30_000]));
    let libraries: Vec<&Value> = file["libs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["name"])
        .collect();
    assert_eq!(libraries, ["app.py", "lib1.so", "[kernel.kallsyms]"]);
    let names: Vec<&Value> = meta["categories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    let frames = thread["frameTable"]["category"].as_array().unwrap();
    let shown: Vec<&Value> = frames
        .iter()
        .map(|n| names[n.as_u64().unwrap() as usize])
        .collect();
    // From the root: the inlined callee follows its caller.
    assert_eq!(shown, ["Interpreted", "Native", "Native", "Kernel"]);
}

#[test]
fn without_samples() {
    let file = encode_firefox(&profile(1 << 20));
    assert_eq!(file["threads"].as_array().unwrap().len(), 0);
}
