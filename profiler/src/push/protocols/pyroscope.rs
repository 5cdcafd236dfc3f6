//! Grafana Pyroscope: `push.v1.PusherService/Push` (api/push/v1/push.proto of grafana/pyroscope, v1.19) as
//! JSON, which Connect takes as it takes protobuf.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use pprof::protos::Profile;
use serde_json::{Value, json};

use super::{Labels, Limits, base64, labels_of, metric, packed};
use crate::push::client::Request;
use crate::push::destination::Protocol;
use crate::push::series::Series;

/// pkg/validation/limits.go, v1.19. A deeper stack would be cut at the leaf's side there. A profile may have 4 MiB, but
/// one larger than the burst of the rate limit, 2 MiB, would be put off for ever.
pub(super) const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    samples: 16_000,
    depth: 1000,
    past: Some(Duration::from_secs(3600)),
    future: Some(Duration::from_secs(600)),
};

pub(super) fn request(series: &[&Series], labels: &Labels) -> Request {
    let series: Vec<Value> = series.iter().map(|series| one(series, labels)).collect();
    Request {
        path: "/push.v1.PusherService/Push",
        content_type: "application/json",
        header: None,
        strict: false,
        body: json!({ "series": series }).to_string().into_bytes(),
    }
}

fn one(series: &Series, labels: &Labels) -> Value {
    let mut labels = labels_of(Protocol::Pyroscope, series, labels);
    labels.insert("__name__".into(), metric(&series.profile).into());
    labels.insert("__delta__".into(), "false".into());
    let profile = packed(&with_types_it_takes(&series.profile));
    let labels: Vec<Value> = labels
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    json!({"labels": labels, "samples": [{"rawProfile": base64(&profile), "ID": id(&profile, &labels)}]})
}

/// A type with `-` in its name is refused (pkg/validation/validate.go, v1.19).
fn with_types_it_takes(profile: &Profile) -> Cow<'_, Profile> {
    let mut profile = Cow::Borrowed(profile);
    for n in 0..profile.sample_type.len() {
        let name = profile.sample_type.get(n).and_then(|of| {
            let text = profile.string_table.get(usize::try_from(of.ty).ok()?)?;
            text.contains('-').then(|| text.replace('-', "_"))
        });
        if let Some(name) = name {
            let profile = profile.to_mut();
            profile.string_table.push(name);
            profile.sample_type[n].ty = profile.string_table.len() as i64 - 1;
        }
    }
    profile
}

/// A UUID (version 8) of what it is: the same when it is sent again.
fn id(profile: &[u8], labels: &[Value]) -> String {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, profile).hash(&mut hasher);
        for label in labels {
            label.to_string().hash(&mut hasher);
        }
        hasher.finish()
    };
    let (high, low) = (half(0), half(1));
    let (high, low) = (high & !0xf000 | 0x8000, low >> 2 | 1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}
