//! Parca, asked by its own API.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::GzDecoder;
use pprof::protos::{self, Message};
use rprof_tests::profile::Profile;
use rprof_tests::scratch::Scratch;
use rprof_tests::servers::{self, Server};

use crate::{TYPES, Totals, add, all, hostname, list, number, push, record, text, totals_of};

/// What Parca has.
pub(super) struct Parca(pub(super) Server);

impl Parca {
    const TIME: [(&str, &str); 2] = [
        ("start", "2020-01-01T00:00:00Z"),
        ("end", "2100-01-01T00:00:00Z"),
    ];

    const LABELS: [&str; 4] = ["service_name", "cgroup", "host", "team"];

    fn query(n: usize, matchers: &str) -> String {
        let counted = TYPES[n].replace('/', ":");
        format!("process_cpu:{counted}:cpu:nanoseconds:delta{{{matchers}}}")
    }

    /// Each series: its labels, and the sum of the values that its graph shows.
    fn series(&self, n: usize) -> Vec<(BTreeMap<String, String>, i64)> {
        let query = Self::query(n, "");
        let mut parameters = vec![("query", query.as_str())];
        parameters.extend(Self::TIME);
        parameters.extend(Self::LABELS.map(|label| ("sumBy", label)));
        let answer = self.0.get("/api/profiles/query_range", &parameters);
        let series = list(&answer["series"]).iter().map(|series| {
            let labels = list(&series["labelset"]["labels"]).iter();
            let labels = labels.map(|label| (text(&label["name"]), text(&label["value"])));
            let values = list(&series["samples"]).iter();
            let sum = values.map(|sample| number(&sample["value"])).sum();
            (labels.collect(), sum)
        });
        series.collect()
    }

    /// All profiles as one, as its flame graph is made from it.
    pub(super) fn totals(&self, n: usize, matchers: &str) -> Totals {
        let query = Self::query(n, matchers);
        let mut parameters = vec![
            ("mode", "MODE_MERGE"),
            ("reportType", "REPORT_TYPE_PPROF"),
            ("merge.query", query.as_str()),
        ];
        let time = Self::TIME.map(|(name, value)| (format!("merge.{name}"), value));
        parameters.extend(time.iter().map(|(name, value)| (name.as_str(), *value)));
        let answer = self.0.get("/api/profiles/query", &parameters);
        let packed = BASE64.decode(text(&answer["pprof"])).expect("base64");
        let mut plain = Vec::new();
        let mut unpack = GzDecoder::new(packed.as_slice());
        unpack.read_to_end(&mut plain).expect("gzip");
        let raw = protos::Profile::decode(plain.as_slice()).expect("pprof");
        let mut totals = Totals::new();
        for sample in &raw.sample {
            let locations = raw
                .location
                .iter()
                .filter(|l| sample.location_id.contains(&l.id));
            let lines = locations.flat_map(|l| &l.line);
            let names = lines.filter_map(|line| {
                let function = raw.function.iter().find(|f| f.id == line.function_id)?;
                Some(raw.string_table[function.name as usize].as_str())
            });
            let names: BTreeSet<&str> = names.chain([""]).collect();
            for name in names {
                add(&mut totals, name, &sample.value);
            }
        }
        totals
    }
}

/// As Parca shows them: a sample is worth a period (pkg/parcacol/querier.go, `isSamplesCount`).
pub(super) fn shown(profile: &Profile, n: usize) -> Totals {
    let worth = if n == 0 { profile.period } else { 1 };
    let totals = totals_of(profile).into_iter();
    totals
        .map(|(name, values)| (name, vec![values[n] * worth]))
        .collect()
}

#[test]
fn a_file_to_parca() {
    let scratch = Scratch::new();
    let parca = Parca(servers::parca(&scratch));
    let (run, service) = record(&scratch, "file-parca");
    let url = format!("parca+http://{}", parca.0.address);
    let said = push(&scratch, &run.output, &url);
    let profile = run.profile();
    for (n, counted) in TYPES.iter().enumerate() {
        let shown = shown(&profile, n);
        let series = parca.series(n);
        let [(labels, sum)] = &series[..] else {
            panic!("{series:?}");
        };
        for (name, value) in [
            ("service_name", &*service),
            ("team", "x"),
            ("host", &*hostname()),
        ] {
            let label = labels.get(name).map(String::as_str);
            assert_eq!(label, Some(value), "{name}: {labels:?}");
        }
        let path = format!("/{service}.service");
        assert!(labels["cgroup"].ends_with(&path), "{labels:?}");
        assert_eq!(*sum, shown[""][0], "{counted}");
        let matchers = format!("service_name=\"{service}\",team=\"x\"");
        assert_eq!(parca.totals(n, &matchers), shown, "{counted}");
        for name in ["burn", "outer", "<module>", "_PyEval_EvalFrameDefault"] {
            assert!(shown.contains_key(name), "no {name}: {shown:?}");
        }
        println!("{counted} {sum} in {} functions: {labels:?}", shown.len());
    }
    let samples = format!("{} samples in 1 series", profile.samples());
    assert!(said.contains(&samples), "{said}");
}

#[test]
fn all_that_runs_to_parca() {
    let scratch = Scratch::new();
    let parca = Parca(servers::parca(&scratch));
    let url = format!("parca+http://{}", parca.0.address);
    let run = all(&scratch, "all-parca", &url);
    let period = run.profile.period;
    let series = parca.series(0);
    let sum: i64 = series.iter().map(|(_, sum)| sum).sum();
    assert_eq!(sum, run.sent as i64 * period, "{series:?}");
    // Each interval is rounded to nanoseconds by itself.
    assert_eq!(parca.totals(0, "")[""][..], [sum]);
    let matchers = format!("service_name=\"{}\",team=\"x\"", run.service);
    let totals = parca.totals(0, &matchers);
    assert_eq!(totals[""][..], [run.samples as i64 * period]);
    assert!(totals["burn"][0] > 0, "{totals:?}");
    println!("{} series: {sum} ns, {totals:?}", series.len());
}
