//! Parca: `ProfileStoreService/WriteRaw` (proto/parca/profilestore/v1alpha1/profilestore.proto of
//! parca-dev/parca, v0.28) by its REST side.

use serde_json::{Value, json};

use super::{Labels, Limits, base64, labels_of, metric, packed};
use crate::push::client::Request;
use crate::push::destination::Protocol;
use crate::push::series::Series;

/// It names none but those of gRPC, 64 MiB a message there; these keep a request small.
pub(super) const LIMITS: Limits = Limits {
    bytes: 2 << 20,
    samples: 100_000,
    depth: usize::MAX,
    past: None,
    future: None,
};

pub(super) fn request(series: &[&Series], labels: &Labels) -> Request {
    let series: Vec<Value> = series.iter().map(|series| one(series, labels)).collect();
    Request {
        path: "/api/profiles/writeraw",
        content_type: "application/json",
        headers: &[],
        strict: false,
        body: json!({ "series": series }).to_string().into_bytes(),
    }
}

fn one(series: &Series, labels: &Labels) -> Value {
    let mut labels = labels_of(Protocol::Parca, series, labels);
    labels.insert("__name__".into(), metric(&series.profile).into());
    let labels: Vec<Value> = labels
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({
        "labels": {"labels": labels},
        "samples": [{"raw_profile": base64(&packed(&series.profile))}],
    })
}
