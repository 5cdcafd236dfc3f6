//! OpenTelemetry: `ProfilesService/Export`, over HTTP or gRPC (opentelemetry-proto 1.10, whose profiles are those of
//! 1.11). A message has one dictionary for all its profiles; index 0 of each table is the empty value; a
//! profile counts one thing, so that one of pprof is as many as it has sample types.

use std::collections::{BTreeMap, HashMap};

use opentelemetry_proto::tonic::collector::profiles::v1development::{
    ExportProfilesServiceRequest, ExportProfilesServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::profiles::v1development as wire;
use opentelemetry_proto::tonic::resource::v1::Resource;
use pprof::protos::{Message as _, Profile};
use prost_0_14::Message;

use super::{Labels, Limits, fingerprint, gzip, labels_of};
use crate::push::client::{Request, words};
use crate::push::destination::Protocol;
use crate::push::series::Series;

/// A receiver takes 4 MiB a message by gRPC's default, which collectors behind it have.
pub(super) const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    samples: 100_000,
    depth: usize::MAX,
    past: None,
    future: None,
};

/// Which of the incompatible `v1development` this is (docs/specification.md of opentelemetry-proto).
const VERSION: (&str, &str) = ("otlp-profiles-development-version", "1");
const PACKED: (&str, &str) = ("content-encoding", "gzip");

/// For a server that speaks HTTP.
pub(super) fn request(series: &[&Series], labels: &Labels) -> Request {
    Request {
        path: "/v1development/profiles",
        content_type: "application/x-protobuf",
        headers: &[VERSION, PACKED],
        strict: true,
        body: gzip(&message(series, labels)),
    }
}

/// For one that speaks gRPC.
pub(super) fn call(series: &[&Series], labels: &Labels) -> Request {
    Request {
        path: "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        content_type: "application/grpc",
        headers: &[VERSION],
        strict: true,
        body: message(series, labels),
    }
}

fn message(series: &[&Series], labels: &Labels) -> Vec<u8> {
    let mut dictionary = Dictionary::new();
    let resource_profiles = series
        .iter()
        .map(|series| dictionary.resource(series, labels))
        .collect();
    let message = ExportProfilesServiceRequest {
        resource_profiles,
        dictionary: Some(dictionary.tables),
    };
    message.encode_to_vec()
}

/// What the server did not take of what it took, in its words; `Err`: that is no answer of such a server.
pub(super) fn rejected(body: &[u8]) -> Result<Option<String>, ()> {
    let answer = ExportProfilesServiceResponse::decode(body).map_err(drop)?;
    let rejected = answer
        .partial_success
        .filter(|partial| partial.rejected_profiles > 0);
    Ok(rejected.map(|partial| {
        format!(
            "it refused {} of several profiles: {}",
            partial.rejected_profiles,
            words(&partial.error_message)
        )
    }))
}

const CGROUP: &str = "process.linux.cgroup";

/// What our own labels are called there (semantic conventions for resources).
fn attribute(label: &str) -> &str {
    match label {
        "service_name" => "service.name",
        "host" => "host.name",
        "container_id" => "container.id",
        "container" => "container.name",
        "pod_uid" => "k8s.pod.uid",
        "cgroup" => CGROUP,
        other => other,
    }
}

fn text_value(text: &str) -> Option<AnyValue> {
    Some(AnyValue {
        value: Some(Value::StringValue(text.into())),
    })
}

/// The tables of one message, and where in them things are.
struct Dictionary {
    tables: wire::ProfilesDictionary,
    texts: HashMap<String, i32>,
    attributes: HashMap<(&'static str, String), i32>,
    mappings: HashMap<wire::Mapping, i32>,
    functions: HashMap<wire::Function, i32>,
    /// By what they are encoded to: a location cannot be hashed.
    locations: HashMap<Vec<u8>, i32>,
    stacks: HashMap<Vec<i32>, i32>,
}

impl Dictionary {
    fn new() -> Self {
        Self {
            tables: wire::ProfilesDictionary {
                mapping_table: vec![wire::Mapping::default()],
                location_table: vec![wire::Location::default()],
                function_table: vec![wire::Function::default()],
                link_table: vec![wire::Link::default()],
                string_table: vec![String::new()],
                attribute_table: vec![wire::KeyValueAndUnit::default()],
                stack_table: vec![wire::Stack::default()],
            },
            texts: HashMap::from([(String::new(), 0)]),
            attributes: HashMap::new(),
            mappings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            stacks: HashMap::from([(Vec::new(), 0)]),
        }
    }

    fn resource(&mut self, series: &Series, labels: &Labels) -> wire::ResourceProfiles {
        let labels = labels_of(Protocol::OtlpHttp, series, labels);
        // A name of ours and one that was asked for may come to the same.
        let names: BTreeMap<&str, &str> = labels
            .iter()
            .map(|(name, value)| (attribute(name), value.as_str()))
            .collect();
        let attributes = names.into_iter().map(|(key, value)| KeyValue {
            key: key.into(),
            value: match key {
                // As `/proc/PID/cgroup` has it.
                CGROUP => text_value(&format!("0::{value}")),
                _ => text_value(value),
            },
            ..KeyValue::default()
        });
        wire::ResourceProfiles {
            resource: Some(Resource {
                attributes: attributes.collect(),
                ..Resource::default()
            }),
            scope_profiles: vec![wire::ScopeProfiles {
                scope: Some(InstrumentationScope {
                    name: "rprof".into(),
                    version: env!("CARGO_PKG_VERSION").into(),
                    ..InstrumentationScope::default()
                }),
                profiles: self.profiles(&series.profile, &labels),
                ..wire::ScopeProfiles::default()
            }],
            ..wire::ResourceProfiles::default()
        }
    }

    fn profiles(&mut self, profile: &Profile, labels: &Labels) -> Vec<wire::Profile> {
        // "may be used for deduplication" (profiles.proto): the same when it is sent again.
        let id = |n: usize| {
            let parts = fingerprint(&(n, labels, profile.encode_to_vec()));
            parts.map(u64::to_be_bytes).concat()
        };
        let places = self.places(profile);
        let stacks: Vec<i32> = profile
            .sample
            .iter()
            .map(|sample| {
                let stack = sample
                    .location_id
                    .iter()
                    .filter_map(|id| places.get(id).copied());
                self.stack(stack.collect())
            })
            .collect();
        let text = |id: i64| {
            usize::try_from(id)
                .ok()
                .and_then(|id| profile.string_table.get(id))
        };
        let text = |id: i64| text(id).map_or("", String::as_str);
        let mut value_type = |of: &pprof::protos::ValueType| wire::ValueType {
            type_strindex: self.text(text(of.ty)),
            unit_strindex: self.text(text(of.unit)),
        };
        let period_type = profile.period_type.as_ref().map(&mut value_type);
        let types: Vec<wire::ValueType> = profile.sample_type.iter().map(value_type).collect();
        let each = types
            .into_iter()
            .enumerate()
            .map(|(n, sample_type)| wire::Profile {
                sample_type: Some(sample_type),
                samples: profile
                    .sample
                    .iter()
                    .zip(&stacks)
                    .map(|(sample, &stack_index)| wire::Sample {
                        stack_index,
                        values: sample.value.get(n).copied().into_iter().collect(),
                        ..wire::Sample::default()
                    })
                    .collect(),
                time_unix_nano: u64::try_from(profile.time_nanos).unwrap_or(0),
                duration_nano: u64::try_from(profile.duration_nanos).unwrap_or(0),
                period_type,
                period: profile.period,
                profile_id: id(n),
                ..wire::Profile::default()
            });
        each.collect()
    }

    /// Where the locations of a profile are in the table.
    fn places(&mut self, profile: &Profile) -> HashMap<u64, i32> {
        let text = |id: i64| {
            usize::try_from(id)
                .ok()
                .and_then(|id| profile.string_table.get(id))
        };
        let text = |id: i64| text(id).map_or("", String::as_str);
        let mappings: HashMap<u64, (i32, bool)> = profile
            .mapping
            .iter()
            .map(|mapping| {
                let build_id = text(mapping.build_id);
                let build_id = (!build_id.is_empty())
                    .then(|| self.attribute("process.executable.build_id.gnu", build_id));
                let new = wire::Mapping {
                    memory_start: mapping.memory_start,
                    memory_limit: mapping.memory_limit,
                    file_offset: mapping.file_offset,
                    filename_strindex: self.text(text(mapping.filename)),
                    attribute_indices: build_id.into_iter().collect(),
                };
                let kernel = text(mapping.filename) == "[kernel.kallsyms]";
                let at = place(&mut self.mappings, &mut self.tables.mapping_table, new);
                (mapping.id, (at, kernel))
            })
            .collect();
        let functions: HashMap<u64, (i32, &str, &str)> = profile
            .function
            .iter()
            .map(|function| {
                let new = wire::Function {
                    name_strindex: self.text(text(function.name)),
                    system_name_strindex: self.text(text(function.system_name)),
                    filename_strindex: self.text(text(function.filename)),
                    start_line: function.start_line,
                };
                let at = place(&mut self.functions, &mut self.tables.function_table, new);
                (
                    function.id,
                    (at, text(function.name), text(function.filename)),
                )
            })
            .collect();
        let ours = profile
            .comment
            .iter()
            .any(|&id| text(id).starts_with("rprof: "));
        let locations = profile.location.iter().map(|location| {
            let (mapping_index, kernel) = mappings
                .get(&location.mapping_id)
                .copied()
                .unwrap_or((0, false));
            let innermost = location
                .line
                .first()
                .and_then(|line| functions.get(&line.function_id));
            let frame_type = match innermost {
                _ if kernel => Some("kernel"),
                Some((_, _, file)) if file.ends_with(".py") => Some("cpython"),
                _ if mapping_index != 0 => Some("native"),
                // A script may be called anything; what others leave without a mapping is any interpreter's.
                Some((_, _, file)) if file.starts_with('<') || ours && !file.is_empty() => {
                    Some("cpython")
                }
                _ => None,
            };
            let frame_type = frame_type.map(|kind| self.attribute("profile.frame.type", kind));
            let lines = location.line.iter().map(|line| wire::Line {
                function_index: functions
                    .get(&line.function_id)
                    .map_or(0, |function| function.0),
                line: line.line,
                ..wire::Line::default()
            });
            let new = wire::Location {
                mapping_index,
                address: location.address,
                lines: lines.collect(),
                attribute_indices: frame_type.into_iter().collect(),
            };
            let table = &mut self.tables.location_table;
            let at = *self
                .locations
                .entry(new.encode_to_vec())
                .or_insert_with(|| {
                    table.push(new);
                    table.len() as i32 - 1
                });
            (location.id, at)
        });
        locations.collect()
    }

    fn text(&mut self, text: &str) -> i32 {
        if let Some(&known) = self.texts.get(text) {
            return known;
        }
        place(
            &mut self.texts,
            &mut self.tables.string_table,
            text.to_string(),
        )
    }

    fn attribute(&mut self, key: &'static str, value: &str) -> i32 {
        let known = (key, value.to_string());
        if let Some(&known) = self.attributes.get(&known) {
            return known;
        }
        let key_strindex = self.text(key);
        self.tables.attribute_table.push(wire::KeyValueAndUnit {
            key_strindex,
            value: text_value(value),
            ..wire::KeyValueAndUnit::default()
        });
        let at = self.tables.attribute_table.len() as i32 - 1;
        self.attributes.insert(known, at);
        at
    }

    fn stack(&mut self, locations: Vec<i32>) -> i32 {
        if let Some(&known) = self.stacks.get(&locations) {
            return known;
        }
        self.tables.stack_table.push(wire::Stack {
            location_indices: locations.clone(),
        });
        let at = self.tables.stack_table.len() as i32 - 1;
        self.stacks.insert(locations, at);
        at
    }
}

/// The number of a row, which is added if it is new.
fn place<T: Clone + Eq + std::hash::Hash>(
    known: &mut HashMap<T, i32>,
    table: &mut Vec<T>,
    row: T,
) -> i32 {
    *known.entry(row).or_insert_with_key(|row| {
        table.push(row.clone());
        table.len() as i32 - 1
    })
}
