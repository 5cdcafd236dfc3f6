//! OpenTelemetry's collector, by what its receiver gave to an exporter.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use rprof_tests::certificate;
use rprof_tests::profile::{Frame, Profile};
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::Scratch;
use rprof_tests::servers::{self, Server};
use serde_json::Value;

use crate::{TYPES, all, hostname, index, list, number, push, record, text};

/// What a collector received, joined over messages.
#[derive(Default)]
pub(super) struct Received {
    /// By service: its attributes.
    services: BTreeMap<String, BTreeMap<String, String>>,
    /// By service: how many samples.
    samples: BTreeMap<String, i64>,
    /// How often each stack of frames was met, leaf first: one value a type.
    stacks: BTreeMap<Vec<String>, Vec<i64>>,
    /// Profiles of each type.
    profiles: Vec<usize>,
}

/// All that is said of a frame.
fn frame(kind: &str, frame: &Frame) -> String {
    let Frame {
        function,
        file,
        line,
        module,
        build_id,
        inlined,
    } = frame;
    format!("{kind} {function} {file}:{line} {module} {build_id} {inlined}")
}

/// What OpenTelemetry calls the type of a frame.
fn kind(frame: &Frame) -> &'static str {
    match frame {
        _ if frame.is_kernel() => "kernel",
        _ if frame.is_interpreted() => "cpython",
        _ if frame.module.is_empty() => "",
        _ => "native",
    }
}

fn stacks_of(profile: &Profile) -> BTreeMap<Vec<String>, Vec<i64>> {
    let mut stacks: BTreeMap<Vec<String>, Vec<i64>> = BTreeMap::new();
    for stack in &profile.stacks {
        let frames = stack.frames.iter().map(|f| frame(kind(f), f)).collect();
        let sums = stacks.entry(frames).or_insert_with(|| vec![0; TYPES.len()]);
        sums[0] += stack.count as i64;
        sums[1] += stack.nanos;
    }
    stacks
}

/// The tables of a message.
struct Dictionary<'a>(&'a Value);

impl Dictionary<'_> {
    const TABLES: [&'static str; 7] = [
        "mappingTable",
        "locationTable",
        "functionTable",
        "linkTable",
        "stringTable",
        "attributeTable",
        "stackTable",
    ];

    fn row(&self, table: &str, at: &Value) -> &Value {
        let rows = list(&self.0[table]);
        rows.get(index(at))
            .unwrap_or_else(|| panic!("{table} has no {at}"))
    }

    fn text(&self, at: &Value) -> String {
        text(self.row("stringTable", at))
    }

    /// A key and a value, each of them here or in the table: the collector moves them there.
    fn pair(&self, attribute: &Value) -> (String, String) {
        let either = |value: &Value, here: &str, there: &str| match &value[here] {
            Value::String(text) => text.clone(),
            _ => self.text(&value[there]),
        };
        let value = either(&attribute["value"], "stringValue", "stringValueStrindex");
        (either(attribute, "key", "keyStrindex"), value)
    }

    fn attribute(&self, of: &Value, key: &str) -> String {
        let indices = list(&of["attributeIndices"]).iter();
        let pairs = indices.map(|at| self.pair(self.row("attributeTable", at)));
        let mut values = pairs
            .filter(|(name, _)| name == key)
            .map(|(_, value)| value);
        values.next().unwrap_or_default()
    }

    /// Its first rows say nothing, and no row is there twice.
    fn check(&self) {
        for table in Self::TABLES {
            let rows = list(&self.0[table]);
            assert!(
                rows.first().is_some_and(says_nothing),
                "{table} begins with {:?}",
                rows.first()
            );
            let distinct: BTreeSet<String> = rows.iter().map(Value::to_string).collect();
            assert_eq!(distinct.len(), rows.len(), "{table} has rows twice");
        }
    }

    fn frames(&self, stack: &Value) -> Vec<String> {
        let stack = self.row("stackTable", stack);
        let mut frames = Vec::new();
        for at in list(&stack["locationIndices"]) {
            let location = self.row("locationTable", at);
            let mapping = self.row("mappingTable", &location["mappingIndex"]);
            let kind = self.attribute(location, "profile.frame.type");
            let lines = list(&location["lines"]);
            for (n, line) in (1..).zip(lines) {
                let function = self.row("functionTable", &line["functionIndex"]);
                let seen = Frame {
                    function: self.text(&function["nameStrindex"]),
                    file: self.text(&function["filenameStrindex"]),
                    line: number(&line["line"]),
                    module: self.text(&mapping["filenameStrindex"]),
                    build_id: self.attribute(mapping, "process.executable.build_id.gnu"),
                    inlined: n < lines.len(),
                };
                frames.push(frame(&kind, &seen));
            }
        }
        frames
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().all(says_nothing),
        Value::Array(rows) => rows.is_empty(),
        Value::String(text) => text.is_empty() || text == "0",
        other => other.is_null() || *other == 0,
    }
}

impl Received {
    pub(super) fn of(server: &Server) -> Self {
        let mut all = Self {
            profiles: vec![0; TYPES.len()],
            ..Self::default()
        };
        for message in server.received() {
            let dictionary = Dictionary(&message["dictionary"]);
            dictionary.check();
            for resource in list(&message["resourceProfiles"]) {
                all.resource(&dictionary, resource);
            }
        }
        all
    }

    fn resource(&mut self, dictionary: &Dictionary<'_>, resource: &Value) {
        let attributes = list(&resource["resource"]["attributes"]).iter();
        let attributes: BTreeMap<String, String> = attributes
            .map(|attribute| dictionary.pair(attribute))
            .collect();
        let service = attributes["service.name"].clone();
        self.services.insert(service.clone(), attributes);
        let before = self.sum(0);
        for scope in list(&resource["scopeProfiles"]) {
            assert_eq!(scope["scope"]["name"], "rprof");
            for profile in list(&scope["profiles"]) {
                self.profile(dictionary, profile);
            }
        }
        *self.samples.entry(service).or_default() += self.sum(0) - before;
    }

    fn profile(&mut self, dictionary: &Dictionary<'_>, profile: &Value) {
        let value_type = |of: &Value| {
            let words = ["typeStrindex", "unitStrindex"].map(|word| dictionary.text(&of[word]));
            words.join("/")
        };
        let counted = value_type(&profile["sampleType"]);
        let n = TYPES
            .iter()
            .position(|known| *known == counted)
            .expect("a known type");
        self.profiles[n] += 1;
        assert_eq!(value_type(&profile["periodType"]), TYPES[1]);
        assert!(number(&profile["period"]) > 0 && number(&profile["durationNano"]) > 0);
        assert!(number(&profile["timeUnixNano"]) > 0);
        for sample in list(&profile["samples"]) {
            let [value] = list(&sample["values"]) else {
                panic!("one value a sample: {sample}");
            };
            let frames = dictionary.frames(&sample["stackIndex"]);
            let sums = self
                .stacks
                .entry(frames)
                .or_insert_with(|| vec![0; TYPES.len()]);
            sums[n] += number(value);
        }
    }

    /// Of all values of a type.
    pub(super) fn sum(&self, n: usize) -> i64 {
        self.stacks.values().map(|values| values[n]).sum()
    }
}

fn a_file(server: &Server, scratch: &Scratch, name: &str, url: &str) {
    let (run, service) = record(scratch, name);
    let said = push(scratch, &run.output, url);
    let received = Received::of(server);
    let profile = run.profile();
    let attributes = &received.services[&service];
    for (name, value) in [("team", "x"), ("host.name", &*hostname())] {
        assert_eq!(attributes[name], value, "{attributes:?}");
    }
    assert_eq!(received.profiles, [1, 1]);
    let ours = stacks_of(&profile);
    assert_eq!(received.stacks, ours);
    for named in [
        "cpython burn ",
        "cpython <module> ",
        "native _PyEval_EvalFrameDefault ",
    ] {
        let mut frames = ours.keys().flatten();
        assert!(
            frames.any(|frame| frame.starts_with(named)),
            "no {named}: {ours:?}"
        );
    }
    let samples = format!("{} samples in 1 series", profile.samples());
    assert!(said.contains(&samples), "{said}");
    let [samples, nanos] = [0, 1].map(|n| received.sum(n));
    println!(
        "{samples} samples, {nanos} ns in {} stacks: {attributes:?}",
        ours.len()
    );
}

#[test]
fn a_file_over_http() {
    let scratch = Scratch::new();
    let server = servers::collector(&scratch);
    let url = format!("otlp+http://{}", server.address);
    a_file(&server, &scratch, "file-http", &url);
}

#[test]
fn a_file_over_grpc() {
    let scratch = Scratch::new();
    let server = servers::collector(&scratch);
    let url = format!("otlp+grpc://{}", server.grpc);
    a_file(&server, &scratch, "file-grpc", &url);
}

fn all_that_runs(server: &Server, scratch: &Scratch, name: &str, url: &str) {
    let run = all(scratch, name, url);
    let received = Received::of(server);
    assert_eq!(received.sum(0) as u64, run.sent);
    let attributes = &received.services[&run.service];
    assert_eq!(attributes["team"], "x", "{attributes:?}");
    assert_eq!(received.samples[&run.service] as u64, run.samples);
    for kind in ["native burn ", "kernel "] {
        let mut frames = received.stacks.keys().flatten();
        assert!(frames.any(|frame| frame.starts_with(kind)), "no {kind}");
    }
    let services = received.services.len();
    println!(
        "{} samples of {services} services in {:?} profiles",
        run.sent, received.profiles
    );
}

#[test]
fn all_that_runs_over_http() {
    let scratch = Scratch::new();
    let server = servers::collector(&scratch);
    let url = format!("otlp+http://{}", server.address);
    all_that_runs(&server, &scratch, "all-http", &url);
}

#[test]
fn all_that_runs_over_grpc() {
    let scratch = Scratch::new();
    let server = servers::collector(&scratch);
    let url = format!("otlp+grpc://{}", server.grpc);
    all_that_runs(&server, &scratch, "all-grpc", &url);
}

#[test]
fn a_file_by_tls() {
    let scratch = Scratch::new();
    let certificate = certificate::for_name(&scratch, "127.0.0.1");
    let server = servers::secure_collector(&scratch, &certificate);
    let (run, _) = record(&scratch, "tls");
    let url = format!("otlp+grpcs://{}", server.grpc);
    let push = |ca: &[&OsStr]| {
        let push = Rprof::bare(&scratch, ["push"]).arg(&run.output);
        push.args(["--to", &url]).args(ca).run()
    };
    let unknown = push(&[]);
    assert_eq!(unknown.code(), 1, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("certificate"), "{}", unknown.stderr);
    assert!(server.received().is_empty());
    push(&["--ca".as_ref(), certificate.authority.as_ref()]).expect(0);
    let samples = run.profile().samples();
    assert_eq!(Received::of(&server).sum(0) as u64, samples);
    // One that speaks no TLS.
    let plain = servers::collector(&scratch);
    let url = format!("otlp+grpcs://{}", plain.grpc);
    let push = Rprof::bare(&scratch, ["push"]).arg(&run.output);
    let push = push.args(["--to", &url]).run();
    assert_eq!(push.code(), 1, "{}", push.stderr);
}
