//! Pyroscope, by what its API's own handler and messages say of what came.

use rprof_tests::scratch::Scratch;
use rprof_tests::servers;
use serde_json::Value;

use crate::{TYPES, Totals, add, all, hostname, list, number, push, record, text, totals_of};

/// What a Pyroscope received, joined over its profiles.
pub(super) fn joined(received: &[Value]) -> Totals {
    let mut totals = Totals::new();
    let numbers = |values: &Value| list(values).iter().map(number).collect::<Vec<i64>>();
    for one in received {
        assert_eq!(one["types"], Value::from(TYPES.to_vec()));
        add(&mut totals, "", &numbers(&one["totals"]));
        for (name, values) in one["functions"].as_object().expect("functions") {
            add(&mut totals, name, &numbers(values));
        }
    }
    totals
}

#[test]
fn a_file_to_pyroscope() {
    let scratch = Scratch::new();
    let server = servers::pyroscope(&scratch);
    let (run, service) = record(&scratch, "file-pyroscope");
    let url = format!("pyroscope+http://{}", server.address);
    let said = push(&scratch, &run.output, &url);
    let received = server.received();
    let [one] = &received[..] else {
        panic!("{received:?}");
    };
    for (name, value) in [
        ("service_name", &*service),
        ("team", "x"),
        ("host", &*hostname()),
        ("__name__", "process_cpu"),
        ("__delta__", "false"),
    ] {
        assert_eq!(one["labels"][name], value, "{}", one["labels"]);
    }
    assert_eq!(one["headers"]["X-Scope-OrgID"], "t");
    assert_eq!(one["headers"]["Authorization"], "Basic bWU6c2VjcmV0");
    let profile = run.profile();
    assert_eq!(number(&one["period"]), profile.period);
    assert_eq!(number(&one["duration_nanos"]), profile.duration);
    assert_eq!(joined(&received), totals_of(&profile));
    assert!(
        said.contains(&format!("{} samples in 1 series", profile.samples())),
        "{said}"
    );
    // The same again is the same to the server, and another is not.
    push(&scratch, &run.output, &url);
    let (other, _) = record(&scratch, "file-pyroscope");
    push(&scratch, &other.output, &url);
    let ids: Vec<String> = server
        .received()
        .iter()
        .map(|one| text(&one["id"]))
        .collect();
    assert!(
        ids[0] == ids[1] && ids[1] != ids[2] && ids[0].len() == 36,
        "{ids:?}"
    );
    println!("{}: {} {:?}", one["labels"], one["totals"], ids);
}

#[test]
fn all_that_runs_to_pyroscope() {
    let scratch = Scratch::new();
    let server = servers::pyroscope(&scratch);
    let url = format!("pyroscope+http://{}", server.address);
    let run = all(&scratch, "all-pyroscope", &url);
    let received = server.received();
    assert_eq!(joined(&received)[""][0] as u64, run.sent);
    let of_service = received
        .iter()
        .filter(|one| one["labels"]["service_name"] == *run.service);
    let of_service: Vec<Value> = of_service.cloned().collect();
    let totals = joined(&of_service);
    assert_eq!(totals[""][0] as u64, run.samples);
    assert!(totals["burn"][0] > 0, "{totals:?}");
    println!(
        "{} profiles, {} samples, {totals:?}",
        received.len(),
        run.sent
    );
}
