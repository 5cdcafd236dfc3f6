//! What each server is sent, and what its answers mean. Series come in; requests leave, each within what
//! that server takes: what it would refuse is never sent, and counted instead.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use pprof::protos::{Message, Profile};

use super::client::{Answer, Client, Request, short};
use super::credentials;
use super::destination::Protocol;
use super::series::{self, Series};
use super::service::Service;
use crate::cli::Failure;
use crate::profile::gzip::gzip;

mod otlp;
mod parca;
mod pyroscope;

/// Bytes of a body, about: what is added to it may make it somewhat larger.
const BODY: usize = 1 << 20;

/// Labels of a series that are not ours at most, and bytes of a value (pkg/validation/limits.go of Pyroscope has 30
/// and 2,048, with ours and its own).
pub const MOST_LABELS: usize = 20;
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
pub type Labels = BTreeMap<String, String>;

/// A profile made ready for a server.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// What is sent, in this order: the same each time, for the same profile.
    pub pieces: Vec<Piece>,
    /// Samples that the server takes no more, because they are too old (or its clock is behind).
    pub expired: i64,
    /// Samples of stacks that are too large for it.
    pub oversized: i64,
}

/// A series, or a part of one that is too large: what a server takes or refuses.
#[derive(Clone, Debug)]
pub struct Piece {
    series: Series,
    /// Unpacked.
    bytes: usize,
    /// Samples in it (the sum of the first value).
    pub samples: i64,
}

impl Piece {
    /// Whose it is.
    pub fn service(&self) -> &Service {
        &self.series.service
    }
}

impl Prepared {
    /// Samples that are to be sent.
    pub fn samples(&self) -> i64 {
        self.pieces.iter().map(|piece| piece.samples).sum()
    }
}

/// Makes a profile ready; one without a time is taken to be of now. `labels` may name its service.
pub fn prepare(
    protocol: Protocol,
    profile: &Profile,
    labels: &Labels,
    now: SystemTime,
) -> Prepared {
    let limits = match protocol {
        Protocol::Pyroscope => pyroscope::LIMITS,
        Protocol::Parca => parca::LIMITS,
        Protocol::OtlpHttp | Protocol::OtlpGrpc => otlp::LIMITS,
    };
    let mut prepared = Prepared::default();
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let taken = Duration::from_nanos(u64::try_from(profile.time_nanos).unwrap_or(0));
    let too_old = limits.past.is_some_and(|past| taken + past < now);
    let too_new = limits.future.is_some_and(|future| taken > now + future);
    if profile.time_nanos != 0 && (too_old || too_new) {
        prepared.expired = samples(profile);
        return prepared;
    }
    let named = labels.get("service_name").or(labels.get("service.name"));
    for mut series in series::by_service(profile, named.map(String::as_str)) {
        if series.profile.time_nanos == 0 {
            series.profile.time_nanos = now.as_nanos() as i64;
        }
        series::cut(&mut series.profile, limits.depth);
        let (pieces, lost) = series::split(series, limits.samples, limits.bytes);
        prepared.oversized += lost;
        for (n, mut series) in (0..).zip(pieces) {
            // Of two profiles of a series and a millisecond Pyroscope keeps one (pkg/querier/select_merge.go).
            series.profile.time_nanos += n * 1_000_000;
            prepared.pieces.push(Piece {
                bytes: series.profile.encoded_len(),
                samples: samples(&series.profile),
                series,
            });
        }
    }
    prepared
}

/// How many of these pieces, from the first on, go into one request.
pub fn fit(pieces: &[Piece]) -> usize {
    let mut bytes = 0;
    let fitting = pieces.iter().take_while(|piece| {
        bytes += piece.bytes;
        bytes <= BODY
    });
    fitting.count().max(pieces.len().min(1))
}

/// A request with these pieces. `labels` are the machine's, and those that somebody asked for.
pub fn request(protocol: Protocol, pieces: &[&Piece], labels: &Labels) -> Request {
    let series: Vec<&Series> = pieces.iter().map(|piece| &piece.series).collect();
    match protocol {
        Protocol::Pyroscope => pyroscope::request(&series, labels),
        Protocol::Parca => parca::request(&series, labels),
        Protocol::OtlpHttp => otlp::request(&series, labels),
        Protocol::OtlpGrpc => otlp::call(&series, labels),
    }
}

/// Samples of a profile: the sum of its first value.
fn samples(profile: &Profile) -> i64 {
    let values = profile
        .sample
        .iter()
        .filter_map(|sample| sample.value.first());
    values.fold(0, |sum, &value| sum.saturating_add(value))
}

/// What an answer comes to, whose status was a success: a page for a browser has one, too.
pub fn understood(protocol: Protocol, answer: Answer) -> Answer {
    match (protocol, answer) {
        (Protocol::OtlpHttp | Protocol::OtlpGrpc, Answer::Taken(body)) => {
            match otlp::rejected(&body) {
                Ok(None) => Answer::Taken(body),
                Ok(Some(why)) => Answer::Partly(why),
                Err(()) => Answer::Denied("it answers as no OTLP server does".into()),
            }
        }
        (_, Answer::Taken(body)) if body.trim_ascii().starts_with(b"{") => Answer::Taken(body),
        (_, Answer::Taken(_)) => {
            Answer::Denied(format!("it answers as no {} does", protocol.name()))
        }
        (_, answer) => answer,
    }
}

/// Which of several series a server has not taken, while it has the others; `None`: it has none.
pub fn not_taken(protocol: Protocol, why: &str, n: usize) -> Option<BTreeSet<usize>> {
    match protocol {
        Protocol::Pyroscope => pyroscope::not_taken(why, n),
        Protocol::Parca | Protocol::OtlpHttp | Protocol::OtlpGrpc => None,
    }
}

/// Whether a refusal means that it came too late: a server's window may be smaller than the usual one.
pub fn is_too_late(protocol: Protocol, why: &str) -> bool {
    // pkg/validation/validate.go, v1.19.
    protocol == Protocol::Pyroscope && why.contains("ingestion window")
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
        Protocol::OtlpHttp | Protocol::OtlpGrpc => true,
    }
}

/// Asks a server what it is, by what it says to a push of nothing. `command` is what a URL may follow, for who
/// has to name the protocol.
///
/// # Errors
/// It is none of them, or does not answer.
pub fn identify(client: &Client, base: &str, command: &str) -> Result<Protocol, Failure> {
    let mut said = String::new();
    let mut answers = false;
    let mut silent = None;
    for protocol in Protocol::ALL {
        if silent == Some(protocol.transport()) {
            continue;
        }
        let connection = client.connect(base, protocol.transport());
        match connection.send(&request(protocol, &[], &Labels::new())) {
            Answer::Taken(body) if is_empty_answer(protocol, &body) => return Ok(protocol),
            // An empty push is what Pyroscope has a word for.
            Answer::Refused(why)
                if protocol == Protocol::Pyroscope && why.contains("no profiles") =>
            {
                return Ok(protocol);
            }
            Answer::Away(why) => {
                silent = Some(protocol.transport());
                if said.is_empty() {
                    said = why;
                }
                continue;
            }
            Answer::Taken(_) => said = "it answers as none of them would".into(),
            Answer::Refused(why) | Answer::Partly(why) => said = why,
            // It does not get as far as what is asked.
            Answer::Later(why, _) => {
                said = why;
                continue;
            }
            Answer::Denied(why) if why.contains(" 401 ") || why.contains(" 403 ") => {
                said = format!("{why} ({} says who we are)", credentials::VARIABLE);
                continue;
            }
            Answer::Denied(why) => {
                // Somebody who has no such path says so to all three.
                if said.is_empty() || !why.contains("404") {
                    said = why;
                }
            }
        }
        answers = true;
    }
    let what = match answers {
        true => {
            let names = Protocol::ALL.map(Protocol::name).join(", ");
            format!(
                "{base} is no server of {names} that rprof knows: {}",
                short(&said)
            )
        }
        false => format!("{base} cannot be asked what it is: {}", short(&said)),
    };
    Err(Failure::new(what).next(format!("{command} pyroscope+{base}")))
}

/// Whether a server has answered a push of nothing: JSON without anything in it, or a message that says nothing.
fn is_empty_answer(protocol: Protocol, body: &[u8]) -> bool {
    match protocol {
        // An empty body may be anyone's: collectors answer with an empty part.
        Protocol::OtlpHttp => !body.is_empty() && otlp::rejected(body) == Ok(None),
        Protocol::OtlpGrpc => otlp::rejected(body) == Ok(None),
        Protocol::Pyroscope | Protocol::Parca => body.trim_ascii() == b"{}",
    }
}

/// Why a server does not take a label that somebody asked for, and what it would take instead.
///
/// # Errors
/// Words that go on after the name of the server.
pub fn check_label(protocol: Protocol, name: &str, value: &str) -> Result<(), (String, String)> {
    if !takes_label(protocol, name) {
        let mut instead: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        if instead.starts_with(|c: char| c.is_ascii_digit()) || instead.starts_with("__") {
            instead.insert_str(0, "my_");
        }
        let why = format!("takes no label '{name}': letters, digits and _ only");
        return Err((why, format!("{instead}={value}")));
    }
    if value.is_empty() {
        return Err((
            format!("takes no empty label '{name}'"),
            format!("{name}=value"),
        ));
    }
    if value.len() > MOST_OF_A_VALUE {
        let why = format!("takes no label '{name}' of more than {MOST_OF_A_VALUE} bytes");
        return Err((why, format!("{name}=value")));
    }
    Ok(())
}

/// The labels of a series, as far as the server takes them: they may come from anyone's file. What was asked
/// for may name the service.
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
        ("container_id", service.container_id.as_ref()),
        ("container", service.container.as_ref()),
        ("pod_uid", service.pod_uid.as_ref()),
    ];
    for (name, value) in own {
        if let Some(value) = value {
            all.insert(name.into(), cut(value));
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
    gzip(&profile.encode_to_vec())
}

/// What tells a thing from others, and is the same in each run.
fn fingerprint(of: &impl Hash) -> [u64; 2] {
    [0u8, 1].map(|seed| {
        let mut hasher = DefaultHasher::new();
        (seed, of).hash(&mut hasher);
        hasher.finish()
    })
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
