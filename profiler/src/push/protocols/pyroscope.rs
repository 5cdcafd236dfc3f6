//! Grafana Pyroscope: `push.v1.PusherService/Push` (api/push/v1/push.proto of grafana/pyroscope, v1.19) as
//! JSON, which Connect takes as it takes protobuf.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use pprof::protos::Profile;
use serde_json::{Value, json};

use super::{Labels, Limits, base64, fingerprint, labels_of, metric, packed};
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
        headers: &[],
        strict: false,
        body: json!({ "series": series }).to_string().into_bytes(),
    }
}

/// Each series of a request is pushed by itself, and what failed is said (`PushBatch` in pkg/distributor, v1.19).
pub(super) fn not_taken(why: &str, n: usize) -> Option<BTreeSet<usize>> {
    let parts = why.split("push series with index ").skip(1);
    let indices = parts.map(|part| {
        let digits = part.split(' ').next()?;
        digits.parse().ok().filter(|&index: &usize| index < n)
    });
    let not: BTreeSet<usize> = indices.collect::<Option<_>>()?;
    // How many there are is said first: what is not named was cut off.
    let all = why.split(" errors: ").next().and_then(|before| {
        let count = before.rsplit(' ').next()?;
        count.parse().ok()
    });
    let whole = all.unwrap_or(1usize) == not.len();
    (!not.is_empty() && not.len() < n && whole).then_some(not)
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
    let labels: Vec<String> = labels.iter().map(Value::to_string).collect();
    let [high, low] = fingerprint(&(profile, labels));
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

#[cfg(test)]
mod tests {
    use super::not_taken;

    #[test]
    fn who_was_not_taken() {
        let of = |why| not_taken(why, 4).map(|not| not.into_iter().collect::<Vec<_>>());
        let one = "it answers 400: push series with index 2 and id x failed: too old";
        assert_eq!(of(one), Some(vec![2]));
        let two = "it answers 400: 2 errors: push series with index 0 and id x failed: a; \
                   push series with index 3 and id y failed: b";
        assert_eq!(of(two), Some(vec![0, 3]));
        assert_eq!(of(&two[..70]), None);
        for other in [
            "it answers 429: slowly",
            "push series with index 4 and id x",
            "push series with index x",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(not_taken("push series with index 0 and", 1), None);
    }
}
