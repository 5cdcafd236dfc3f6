//! Promise: a profile is opened by the tools that people have, which find in it what rprof found.
//!
//! `go tool pprof` must be there, and Go for Parca, which is built. The others are looked for where
//! `RPROF_NODE_MODULES` says, and skipped without it: a folder made by
//! `npm install speedscope @firefox-devtools/profiler-cli` (its `node_modules`), with Node.js 24 on
//! the path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pprof::protos::{self, Message};
use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::python;
use rprof_tests::rprof::{Rprof, Run};
use rprof_tests::scratch::{Scratch, finish, source_file};
use rprof_tests::servers;
use rprof_tests::skipped;
use serde_json::{Value, json};

/// A second of Python in C in the kernel, written to a file of this name.
fn record(scratch: &Scratch, name: &str) -> Run {
    let words = python::system().words(&source_file("short.py"), &["1000"]);
    let run = Rprof::bare(scratch, ["-o", name, "--"]).args(words).run();
    let mut run = run.expect(0);
    run.output = run.output.with_file_name(name);
    run
}

/// A folder that a variable names.
fn tool(variable: &str) -> Result<PathBuf, String> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set"))
}

#[test]
fn go_tool_pprof() {
    let scratch = Scratch::new();
    let run = record(&scratch, "out.pb.gz");
    let profile = run.profile();
    let pprof = |option: &str| {
        // A home of its own: pprof keeps what it fetches there, and nothing is to be fetched.
        let mut go = Command::new("go");
        go.args(["tool", "pprof", "-symbolize=none", option])
            .arg(&run.output);
        finish(go.env("PPROF_TMPDIR", scratch.path()))
    };
    let top = pprof("-top");
    assert!(top.contains("Type: cpu"), "{top}");
    let row = |name: &str| {
        top.lines()
            .any(|line| line.split_whitespace().nth(5) == Some(name))
    };
    assert!(row("burn") && row("outer") && row("<module>"), "{top}");
    // Its total is ours.
    let total = profile.samples() as f64 * profile.period as f64 / 1e9;
    let said = top
        .split("Total samples = ")
        .nth(1)
        .and_then(|rest| rest.split(['s', 'm']).next());
    let said: f64 = said
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| panic!("{top}"));
    let unit = if said > 30.0 { 1e3 } else { 1.0 };
    assert!(
        (said / unit - total).abs() < 0.01 * total + 0.01,
        "{said} of {total} s"
    );

    let traces = pprof("-traces");
    let calls = |trace: &str| {
        let at = |name: &str| {
            trace
                .lines()
                .position(|line| line.trim_end().ends_with(name))
        };
        matches!((at(" burn"), at(" outer"), at(" <module>")), (Some(a), Some(b), Some(c)) if a < b && b < c)
    };
    assert!(traces.split("-----------+").any(calls), "{traces}");
    let raw = pprof("-raw");
    assert!(
        raw.contains("samples/count cpu/nanoseconds[dflt]") || raw.contains("cpu/nanoseconds"),
        "{raw}"
    );
    assert_eq!(profile.sample_types, ["samples/count", "cpu/nanoseconds"]);
}

/// Names of a stack, root first, as speedscope shows them: it leaves inlined callees out.
fn without_inlined(profile: &Profile) -> BTreeMap<Vec<String>, i64> {
    let mut paths: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    for stack in &profile.stacks {
        let shown = stack.frames.iter().rev().filter(|frame| !frame.inlined);
        let names = shown.map(|frame| frame.function.clone()).collect();
        *paths.entry(names).or_default() += stack.nanos;
    }
    paths
}

#[test]
fn speedscope() {
    let package = match tool("RPROF_NODE_MODULES") {
        Ok(folder) => folder.join("speedscope"),
        Err(why) => return skipped("speedscope", &why),
    };
    let scratch = Scratch::new();
    let run = record(&scratch, "out.pb.gz");
    let mut node = Command::new("node");
    node.arg(source_file("speedscope.cjs")).arg(package);
    let opened = json_of(&finish(node.arg(&run.output)));
    let profile = run.profile();
    assert_eq!(opened["unit"], "nanoseconds");
    let nanos: i64 = profile.stacks.iter().map(|stack| stack.nanos).sum();
    assert_eq!(opened["total"], nanos);
    let mut paths: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    for stack in list(&opened["stacks"]) {
        let names = list(&stack["frames"]).iter().map(text).collect();
        *paths.entry(names).or_default() += stack["weight"].as_i64().expect("a weight");
    }
    assert_eq!(paths, without_inlined(&profile));
    let calls = |path: &[String]| {
        let at = |name: &str| path.iter().position(|shown| shown == name);
        matches!((at("<module>"), at("outer"), at("burn")), (Some(a), Some(b), Some(c)) if a < b && b < c)
    };
    assert!(paths.keys().any(|path| calls(path)), "{paths:?}");
}

#[test]
fn firefox_profiler() {
    let package = match tool("RPROF_NODE_MODULES") {
        Ok(folder) => folder.join("@firefox-devtools/profiler-cli/dist/profiler-cli.js"),
        Err(why) => return skipped("firefox_profiler", &why),
    };
    let scratch = Scratch::new();
    let run = record(&scratch, "out.json");
    let command = |args: &[&str]| {
        let mut node = Command::new("node");
        node.arg(&package).args(args).env("HOME", scratch.path());
        node
    };
    let cli = |args: &[&str]| finish(&mut command(args));
    // It gives its own server half a second to start, and says itself to try again.
    machine::wait_for("profiler-cli's server", Duration::from_secs(30), || {
        let file = run.output.to_str().expect("plain");
        let loaded = command(&["load", file]).output().expect("node");
        loaded.status.success().then_some(())
    });
    let threads = json_of(&cli(&["thread", "list", "--json"]));
    let functions = json_of(&cli(&["thread", "functions", "--json", "--limit", "0"]));
    cli(&["stop", "--all"]);
    let threads = list(&threads["threads"]);
    assert_eq!(threads.len(), 1, "{threads:?}");
    assert!(
        text(&threads[0]["processName"]).starts_with("python3"),
        "{threads:?}"
    );
    let names: Vec<String> = list(&functions["functions"])
        .iter()
        .map(|f| text(&f["name"]))
        .collect();
    for name in ["burn", "outer", "<module>", "_PyEval_EvalFrameDefault"] {
        assert!(
            names.iter().any(|shown| shown.ends_with(name)),
            "no {name}: {names:?}"
        );
    }
}

#[test]
fn parca() {
    let scratch = Scratch::new();
    let server = servers::parca(&scratch);
    let address = &server.address;
    let run = record(&scratch, "out.pb.gz");
    let profile = run.profile();
    let series = json!({"series": [{
        "labels": {"labels": [
            {"name": "__name__", "value": "process_cpu"}, {"name": "job", "value": "rprof"},
        ]},
        "samples": [{"raw_profile": base64(&run.output)}],
    }]});
    let body = scratch.write("body.json", &series.to_string());
    finish(
        Command::new("curl")
            .args(["-sSf", "-H", "Content-Type: application/json", "-d"])
            .arg(format!("@{}", body.display()))
            .arg(format!("http://{address}/api/profiles/writeraw")),
    );
    let answer = finish(
        Command::new("curl")
            .args(["-sSfG", &format!("http://{address}/api/profiles/query")])
            .args([
                "-d",
                "mode=MODE_MERGE",
                "-d",
                "reportType=REPORT_TYPE_PPROF",
            ])
            .args([
                "-d",
                "merge.start=2020-01-01T00:00:00Z",
                "-d",
                "merge.end=2100-01-01T00:00:00Z",
            ])
            .args([
                "--data-urlencode",
                "merge.query=process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta{job=\"rprof\"}",
            ]),
    );
    let encoded = scratch.write("answer", &text(&json_of(&answer)["pprof"]));
    let back = Command::new("base64").arg("-d").arg(encoded).output();
    let back = totals(&back.expect("base64").stdout);
    let ours = totals(&std::fs::read(&run.output).expect("the profile"));
    assert_eq!(back, ours);
    assert!(
        ["burn", "outer", "<module>"]
            .iter()
            .all(|&name| ours.contains_key(name))
    );
    let nanos: i64 = profile.stacks.iter().map(|stack| stack.nanos).sum();
    println!("{} functions, {nanos} ns", ours.len());
}

/// Nanoseconds of all stacks in which a function is, by its name; "" for all of them.
fn totals(bytes: &[u8]) -> BTreeMap<String, i64> {
    let mut plain = Vec::new();
    let mut unpack = flate2::read::MultiGzDecoder::new(bytes);
    std::io::Read::read_to_end(&mut unpack, &mut plain).expect("gzip");
    let raw = protos::Profile::decode(plain.as_slice()).expect("pprof");
    let text = |id: i64| raw.string_table[id as usize].clone();
    let names: BTreeMap<u64, String> = raw.function.iter().map(|f| (f.id, text(f.name))).collect();
    let lines: BTreeMap<u64, Vec<u64>> = raw
        .location
        .iter()
        .map(|l| (l.id, l.line.iter().map(|line| line.function_id).collect()))
        .collect();
    let mut totals: BTreeMap<String, i64> = BTreeMap::new();
    for sample in &raw.sample {
        let nanos = *sample.value.last().expect("a value");
        let functions = sample.location_id.iter().flat_map(|id| &lines[id]);
        let mut seen: Vec<&str> = functions.map(|id| names[id].as_str()).collect();
        seen.push("");
        seen.sort_unstable();
        seen.dedup();
        for name in seen {
            *totals.entry(name.to_owned()).or_default() += nanos;
        }
    }
    totals
}

fn base64(file: &Path) -> String {
    finish(Command::new("base64").arg("-w0").arg(file))
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}
