//! Promise: what rprof sends is what a real server has: each sample once, under the names that people look
//! for it by. The servers are those of `servers/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use rprof_tests::machine::Cgroup;
use rprof_tests::profile::Profile;
use rprof_tests::python;
use rprof_tests::rprof::{Rprof, Run, binary};
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};
use rprof_tests::servers;
use rprof_tests::target::Target;
use serde_json::Value;

mod collector;
mod parca;
mod pyroscope;

/// What a profile counts, in this order.
const TYPES: [&str; 2] = ["samples/count", "cpu/nanoseconds"];

/// A cgroup as systemd makes one for a service, whose name is the second.
fn unit(name: &str) -> (Cgroup, String) {
    let service = format!("rprof-test-{}-{name}", std::process::id());
    (Cgroup::new(&format!("{service}.service")), service)
}

/// A second of Python in C in the kernel, in a service of that name. The script's name has no ending, as those
/// of commands.
fn record(scratch: &Scratch, name: &str) -> (Run, String) {
    let (unit, service) = unit(name);
    let mut command = Command::new(binary());
    unit.enters(&mut command);
    let script = scratch.file("script");
    std::fs::copy(source_file("short.py"), &script).expect("a file in the test's folder");
    let words = python::system().words(&script, &["1000"]);
    let run = Rprof::within(scratch, command).args(["-o", "out.pb.gz", "--"]);
    (run.args(words).run().expect(0), service)
}

/// `rprof push FILE --to URL`, with a label; what it says.
fn push(scratch: &Scratch, file: &Path, url: &str) -> String {
    let words = ["--to", url, "--label", "team=x"];
    let push = Rprof::bare(scratch, ["push"]).arg(file).args(words);
    let push = push
        .env("RPROF_PUSH_AUTH", "me:secret")
        .args(["--tenant", "t"]);
    push.run().expect(0).stderr
}

/// What came of [`all`].
struct All {
    /// Samples that the server has, as rprof says.
    sent: u64,
    /// The file that it writes besides.
    profile: Profile,
    /// A service that works meanwhile, and its samples in that file.
    service: String,
    samples: u64,
}

/// Seven seconds of all that runs, sent each two, while a service of that name works.
fn all(scratch: &Scratch, name: &str, url: &str) -> All {
    let (unit, service) = unit(name);
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let mut command = Command::new(program);
    unit.enters(&mut command);
    let target = Target::start(command.args(["threads", "60", "1"]));
    let spool = scratch.file("spool").display().to_string();
    let run = Rprof::new(scratch, ["--all", "-F", "99", "-d", "7s", "--push", url])
        .args(["--interval", "2s", "--label", "team=x", "--spool", &spool])
        .run()
        .expect(0);
    let line = run.stderr.lines().last().unwrap_or_default();
    let got = line.split(" has got ").nth(1);
    let sent = got.and_then(|rest| rest.split(' ').next()?.parse().ok());
    let sent: u64 = sent.unwrap_or_else(|| panic!("{}", run.stderr));
    // Nothing is lost, refused or kept for another time.
    assert!(line.ends_with(" KiB were sent)"), "{}", run.stderr);
    println!("{}", run.stderr);
    let profile = run.profile();
    assert_eq!(sent, profile.samples());
    let samples = profile.of(target.pid()).map(|stack| stack.count).sum();
    assert!(samples > 0);
    All {
        sent,
        profile,
        service,
        samples,
    }
}

/// The sum of each value, over the stacks that a function is in, by its name; "" for all stacks.
type Totals = BTreeMap<String, Vec<i64>>;

fn add(totals: &mut Totals, name: &str, values: &[i64]) {
    let sums = totals.entry(name.into()).or_default();
    sums.resize(values.len(), 0);
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

fn totals_of(profile: &Profile) -> Totals {
    let mut totals = Totals::new();
    for stack in &profile.stacks {
        let values = [stack.count as i64, stack.nanos];
        let names = stack.frames.iter().map(|frame| frame.function.as_str());
        let names: BTreeSet<&str> = names.chain([""]).collect();
        for name in names {
            add(&mut totals, name, &values);
        }
    }
    totals
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("its name");
    name.trim().into()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}

/// A number, which JSON of protobuf leaves out if it is 0, and has as text if it may be large.
fn number(value: &Value) -> i64 {
    match value {
        Value::Null => 0,
        Value::String(text) => text.parse().expect("a number"),
        other => other.as_i64().expect("a number"),
    }
}

fn index(value: &Value) -> usize {
    usize::try_from(number(value)).expect("an index")
}

/// What `.ci/run` begins with: the first time it takes minutes.
#[test]
fn servers_are_built() {
    for name in servers::ALL {
        servers::built(name);
    }
}

/// A URL that does not say what the server is.
#[test]
fn what_a_server_is() {
    let scratch = Scratch::new();
    let (run, service) = record(&scratch, "any");
    let profile = run.profile();
    let push = |address: &str, name: &str| {
        let said = push(&scratch, &run.output, &format!("http://{address}"));
        let known = format!("the server is {name} at http://{address}");
        assert!(said.contains(&known), "{said}");
        print!("{said}");
    };
    let parca = parca::Parca(servers::parca(&scratch));
    push(&parca.0.address, "Parca");
    let matchers = format!("service_name=\"{service}\"");
    assert_eq!(parca.totals(0, &matchers), parca::shown(&profile, 0));
    let server = servers::collector(&scratch);
    push(&server.address, "OTLP over HTTP");
    push(&server.grpc, "OTLP over gRPC");
    let samples = 2 * profile.samples();
    assert_eq!(collector::Received::of(&server).sum(0) as u64, samples);
    let server = servers::pyroscope(&scratch);
    push(&server.address, "Pyroscope");
    assert_eq!(pyroscope::joined(&server.received()), totals_of(&profile));
}
