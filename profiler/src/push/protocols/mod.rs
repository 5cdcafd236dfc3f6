//! What each server is sent, and what its answers mean. Series come in; requests leave, each within what
//! that server takes: what it would refuse is never sent, and counted instead.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::protos::{Message, Profile};

use super::client::{Answer, Client, Request};
use super::destination::Protocol;
use super::series::{self, Series};
use crate::cli::Failure;

mod otlp;
mod parca;
mod pyroscope;

/// Bytes of a body, about: what is added to it may make it somewhat larger.
const BODY: usize = 1 << 20;

/// Labels of a series that are not ours at most, and bytes of a value (pkg/validation/limits.go of Pyroscope has 30
/// and 2,048, with ours and its own).
const MOST_LABELS: usize = 20;
const MOST_OF_A_VALUE: usize = 2048;

/// What a server takes.
struct Limits {
    /// Bytes of one profile, unpacked.
    bytes: usize,
    /// Stacks of one profile.
    samples: usize,
    /// Frames of a stack.
    depth: usize,
    /// How old a profile may be.
    past: Option<Duration>,
    /// How far ahead of the server's clock.
    future: Option<Duration>,
}

/// Names and values that a series goes by.
type Labels = BTreeMap<String, String>;

/// A profile made ready for a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// What is sent, in this order.
    pub requests: Vec<Request>,
    /// Series in them.
    pub series: usize,
    /// Samples in them (the sum of the first value).
    pub samples: i64,
    /// Samples that the server takes no more, because they are too old (or its clock is behind).
    pub expired: i64,
    /// Samples of stacks that are too large for it.
    pub oversized: i64,
}

/// Makes a profile ready. `labels` are the machine's, and those that somebody asked for; a profile without
/// a time is taken to be of now.
pub fn prepare(
    protocol: Protocol,
    profile: &Profile,
    labels: &Labels,
    now: SystemTime,
) -> Prepared {
    let limits = match protocol {
        Protocol::Pyroscope => pyroscope::LIMITS,
        Protocol::Parca => parca::LIMITS,
        Protocol::OtlpHttp => otlp::LIMITS,
    };
    let mut prepared = Prepared::default();
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let taken = Duration::from_nanos(u64::try_from(profile.time_nanos).unwrap_or(0));
    let too_old = limits.past.is_some_and(|past| taken + past < now);
    let too_new = limits.future.is_some_and(|future| taken > now + future);
    if profile.time_nanos != 0 && (too_old || too_new) {
        prepared.expired = profile
            .sample
            .iter()
            .filter_map(|sample| sample.value.first())
            .sum();
        return prepared;
    }
    let mut waiting = Vec::new();
    let mut size = 0;
    for mut series in series::by_service(profile) {
        if series.profile.time_nanos == 0 {
            series.profile.time_nanos = now.as_nanos() as i64;
        }
        series::cut(&mut series.profile, limits.depth);
        let (pieces, lost) = series::split(series, limits.samples, limits.bytes);
        prepared.oversized += lost;
        for (n, mut piece) in (0..).zip(pieces) {
            // Of two profiles of a series and a millisecond Pyroscope keeps one (pkg/querier/select_merge.go).
            piece.profile.time_nanos += n * 1_000_000;
            let bytes = piece.profile.encoded_len();
            if size + bytes > BODY && !waiting.is_empty() {
                prepared.requests.push(request(protocol, &waiting, labels));
                waiting.clear();
                size = 0;
            }
            prepared.series += 1;
            let values = piece
                .profile
                .sample
                .iter()
                .filter_map(|sample| sample.value.first());
            prepared.samples += values.sum::<i64>();
            size += bytes;
            waiting.push(piece);
        }
    }
    if !waiting.is_empty() {
        prepared.requests.push(request(protocol, &waiting, labels));
    }
    prepared
}

fn request(protocol: Protocol, series: &[Series], labels: &Labels) -> Request {
    match protocol {
        Protocol::Pyroscope => pyroscope::request(series, labels),
        Protocol::Parca => parca::request(series, labels),
        Protocol::OtlpHttp => otlp::request(series, labels),
    }
}

/// What an answer comes to, whose status was a success: a page for a browser has one, too.
pub fn understood(protocol: Protocol, answer: Answer) -> Answer {
    match (protocol, answer) {
        (Protocol::OtlpHttp, Answer::Taken(body)) => match otlp::rejected(&body) {
            Ok(None) => Answer::Taken(body),
            Ok(Some(why)) => Answer::Refused(why),
            Err(()) => Answer::Denied("it answers as no OTLP server does".into()),
        },
        (_, Answer::Taken(body)) if body.trim_ascii().starts_with(b"{") => Answer::Taken(body),
        (_, Answer::Taken(_)) => {
            Answer::Denied(format!("it answers as no {} does", protocol.name()))
        }
        // Only those may be asked again (docs/specification.md of opentelemetry-proto, 1.11).
        (Protocol::OtlpHttp, Answer::Later(why, _))
            if why.contains("it answers 50")
                && !["502", "503", "504"]
                    .iter()
                    .any(|status| why.contains(status)) =>
        {
            Answer::Refused(why)
        }
        (_, answer) => answer,
    }
}

/// Whether a server takes a label of this name.
pub fn takes_label(protocol: Protocol, name: &str) -> bool {
    match protocol {
        _ if name.is_empty() => false,
        // As Prometheus writes them: `[a-zA-Z_][a-zA-Z0-9_]*`, and not its own.
        Protocol::Pyroscope | Protocol::Parca => {
            let word = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            word && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.starts_with("__")
        }
        Protocol::OtlpHttp => true,
    }
}

/// Asks a server what it is, by what it says to a push of nothing.
///
/// # Errors
/// It is none of them, or does not answer.
pub fn identify(client: &Client, base: &str) -> Result<Protocol, Failure> {
    let mut said = String::new();
    for protocol in Protocol::ALL {
        match client.send(base, &request(protocol, &[], &Labels::new())) {
            Answer::Taken(body) if is_empty_answer(protocol, &body) => return Ok(protocol),
            // An empty push is what Pyroscope has a word for.
            Answer::Refused(why)
                if protocol == Protocol::Pyroscope && why.contains("no profiles") =>
            {
                return Ok(protocol);
            }
            Answer::Taken(_) => said = "it answers as none of them would".into(),
            Answer::Later(why, _) | Answer::Refused(why) => said = why,
            Answer::Denied(why) => {
                // Somebody who has no such path says so to all three.
                if said.is_empty() || !why.contains("404") {
                    said = why;
                }
            }
        }
    }
    let names: Vec<&str> = Protocol::ALL
        .iter()
        .map(|protocol| protocol.name())
        .collect();
    let what = format!(
        "{base} is no server of {} that rprof knows: {said}",
        names.join(", ")
    );
    let rest = base.strip_prefix("http").unwrap_or(base);
    Err(Failure::new(what).next(format!("rprof push … --to pyroscope+http{rest}")))
}

/// Whether a server has answered a push of nothing: JSON without anything in it, or a message that says nothing.
fn is_empty_answer(protocol: Protocol, body: &[u8]) -> bool {
    match protocol {
        // An empty body may be anyone's: collectors answer with an empty part.
        Protocol::OtlpHttp => !body.is_empty() && otlp::rejected(body) == Ok(None),
        Protocol::Pyroscope | Protocol::Parca => body.trim_ascii() == b"{}",
    }
}

/// The labels of a series, as far as the server takes them: they may come from anyone's file. What was asked
/// for comes first: it may name the service.
fn labels_of(protocol: Protocol, series: &Series, labels: &Labels) -> Labels {
    let taken = labels
        .iter()
        .filter(|(name, value)| takes_label(protocol, name) && !value.is_empty());
    let cut = |text: &str| text[..text.floor_char_boundary(MOST_OF_A_VALUE)].to_string();
    let mut all: Labels = taken
        .take(MOST_LABELS)
        .map(|(name, value)| (name.clone(), cut(value)))
        .collect();
    let service = &series.service;
    let own = [
        ("service_name", Some(&service.name)),
        ("cgroup", service.cgroup.as_ref()),
        ("container_id", service.container.as_ref()),
    ];
    for (name, value) in own {
        if let Some(value) = value {
            all.entry(name.into()).or_insert_with(|| cut(value));
        }
    }
    all
}

/// What Prometheus calls the metric: by what the profile counts.
fn metric(profile: &Profile) -> &'static str {
    let text = |id: i64| {
        usize::try_from(id)
            .ok()
            .and_then(|id| profile.string_table.get(id))
            .map(String::as_str)
    };
    let types: Vec<&str> = profile
        .sample_type
        .iter()
        .filter_map(|t| text(t.ty))
        .collect();
    let has = |name: &str| types.contains(&name);
    match () {
        () if has("cpu") => "process_cpu",
        () if has("inuse_space") || has("alloc_space") => "memory",
        () if has("contentions") => "mutex",
        () if has("goroutine") || has("goroutines") => "goroutines",
        () if has("wall") => "wall",
        () => "profile",
    }
}

/// A profile as its own file would hold it.
fn packed(profile: &Profile) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(3));
    // Memory is written to: there is nothing that could fail.
    let _ = packed.write_all(&profile.encode_to_vec());
    packed.finish().unwrap_or_default()
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
