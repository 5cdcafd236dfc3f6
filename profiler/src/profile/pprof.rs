//! The pprof format (`proto/profile.proto` of google/pprof, gzipped). A profile, its symbols and
//! what is known of the run come in; the file goes out in pieces, because in protobuf the messages
//! that repeat a field simply follow each other. It never holds the encoded profile in memory.
//!
//! What readers demand beyond the format: ids dense from 1, `string_table[0]` empty, no label key
//! that is text in one place and a number in another, and `has_…` only where it is true, because
//! `go tool pprof` looks symbols up again in mappings that have none of them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use pprof::protos::{self, Message};

use super::frames::Owner;
use super::gzip::Packer;
use super::{Profile, Symbols, containers, text};

/// Messages encoded at once.
const BATCH: usize = 256;
const NANOS: u128 = 1_000_000_000;

/// What is known of a run besides its samples.
#[derive(Clone, Debug)]
pub struct About {
    /// Samples a second on each CPU: each sample is worth 1/frequency.
    pub frequency: NonZeroU32,
    /// When sampling began.
    pub start: SystemTime,
    /// How long it lasted.
    pub duration: Duration,
    /// For people: version, host, kernel, frequency, ledger. One line each.
    pub comments: Vec<String>,
}

/// Writes a profile.
///
/// # Errors
/// Those of `out` and of reading the part file back.
pub fn write(
    profile: &Profile,
    symbols: &Symbols,
    about: &About,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut encoder = Encoder {
        out: Packer::new(out),
        buffer: Vec::new(),
        texts: Texts::new(symbols),
    };
    encoder.about(about)?;
    encoder.samples(profile, symbols, about)?;
    encoder.mappings(symbols)?;
    encoder.locations(symbols)?;
    encoder.functions(symbols)?;
    encoder.texts(symbols)?;
    encoder.out.finish()?.flush()
}

/// Text numbers: those of the symbols, then those that only this file has.
struct Texts {
    first: usize,
    more: Vec<String>,
}

impl Texts {
    fn new(symbols: &Symbols) -> Self {
        Self {
            first: symbols.texts().len(),
            more: Vec::new(),
        }
    }

    fn add(&mut self, value: &str) -> i64 {
        self.more.push(text::printable(value).into_owned());
        (self.first + self.more.len() - 1) as i64
    }
}

struct Encoder<'a> {
    out: Packer<&'a mut dyn Write>,
    buffer: Vec<u8>,
    texts: Texts,
}

impl Encoder<'_> {
    /// Writes a piece of the profile.
    fn piece(&mut self, piece: &protos::Profile) -> io::Result<()> {
        self.buffer.clear();
        piece.encode(&mut self.buffer).map_err(io::Error::other)?;
        self.out.write_all(&self.buffer)
    }

    /// Writes a table in batches.
    fn table<T>(
        &mut self,
        rows: impl Iterator<Item = T>,
        field: impl Fn(&mut protos::Profile) -> &mut Vec<T>,
    ) -> io::Result<()> {
        let mut piece = protos::Profile::default();
        for row in rows {
            field(&mut piece).push(row);
            if field(&mut piece).len() == BATCH {
                self.piece(&piece)?;
                field(&mut piece).clear();
            }
        }
        self.piece(&piece)
    }

    fn about(&mut self, about: &About) -> io::Result<()> {
        let samples = self.texts.add("samples");
        let count = self.texts.add("count");
        let cpu = self.texts.add("cpu");
        let nanoseconds = self.texts.add("nanoseconds");
        let time = protos::ValueType {
            ty: cpu,
            unit: nanoseconds,
        };
        let start = about.start.duration_since(SystemTime::UNIX_EPOCH);
        let piece = protos::Profile {
            sample_type: vec![
                protos::ValueType {
                    ty: samples,
                    unit: count,
                },
                time.clone(),
            ],
            time_nanos: nanos(start.unwrap_or_default()),
            duration_nanos: nanos(about.duration),
            period_type: Some(time),
            period: worth(1, about.frequency),
            comment: about.comments.iter().map(|c| self.texts.add(c)).collect(),
            default_sample_type: cpu,
            ..protos::Profile::default()
        };
        self.piece(&piece)
    }

    fn samples(&mut self, profile: &Profile, symbols: &Symbols, about: &About) -> io::Result<()> {
        let mut keys = Keys::new(&mut self.texts);
        let mut piece = protos::Profile::default();
        let mut counted = 0u64;
        profile.stacks.visit(&mut |frames, owner, count| {
            // Differences of the running sum: what rounding takes from one stack the next one has,
            // and the sum over all stacks is exact.
            let before = worth(counted, about.frequency);
            counted = counted.saturating_add(count);
            let time = worth(counted, about.frequency) - before;
            piece.sample.push(protos::Sample {
                location_id: frames.iter().map(|&frame| u64::from(frame) + 1).collect(),
                value: vec![i64::try_from(count).unwrap_or(i64::MAX), time],
                label: keys.labels(owner, profile, symbols, &mut self.texts),
            });
            if piece.sample.len() == BATCH {
                self.piece(&piece)?;
                piece.sample.clear();
            }
            Ok(())
        })?;
        self.piece(&piece)
    }

    fn mappings(&mut self, symbols: &Symbols) -> io::Result<()> {
        let rows = (1..)
            .zip(symbols.mappings())
            .map(|(id, m)| protos::Mapping {
                id,
                memory_start: m.start,
                memory_limit: m.limit,
                file_offset: 0,
                filename: m.path.into(),
                build_id: m.build_id.into(),
                has_functions: m.has_functions,
                has_filenames: m.has_files,
                has_line_numbers: m.has_lines,
                has_inline_frames: m.has_inlines,
            });
        self.table(rows, |p| &mut p.mapping)
    }

    fn locations(&mut self, symbols: &Symbols) -> io::Result<()> {
        let rows = (1..).zip(symbols.places()).map(|(id, place)| {
            let lines = symbols.lines_of(place).iter().map(|line| protos::Line {
                function_id: u64::from(line.function) + 1,
                line: line.line.into(),
            });
            protos::Location {
                id,
                mapping_id: place.mapping.into(),
                address: place.address,
                line: lines.collect(),
                is_folded: false,
            }
        });
        self.table(rows, |p| &mut p.location)
    }

    fn functions(&mut self, symbols: &Symbols) -> io::Result<()> {
        let rows = (1..)
            .zip(symbols.functions())
            .map(|(id, f)| protos::Function {
                id,
                name: f.name.into(),
                // Equal to the name, it would say that this is still to be demangled: `go tool pprof`
                // then takes what stands in angle brackets for template arguments, and drops it.
                system_name: 0,
                filename: f.file.into(),
                start_line: f.first_line.into(),
            });
        self.table(rows, |p| &mut p.function)
    }

    fn texts(&mut self, symbols: &Symbols) -> io::Result<()> {
        let more = std::mem::take(&mut self.texts.more);
        let rows = symbols.texts().iter().map(|t| t.to_string()).chain(more);
        self.table(rows, |p| &mut p.string_table)
    }
}

/// Text numbers of label keys.
struct Keys {
    pid: i64,
    tid: i64,
    host_pid: i64,
    host_tid: i64,
    comm: i64,
    thread: i64,
    cgroup: i64,
    container_id: i64,
    pod_uid: i64,
    container: i64,
    /// Labels of cgroups, by the number of their path.
    groups: HashMap<u32, Vec<protos::Label>>,
}

impl Keys {
    fn new(texts: &mut Texts) -> Self {
        Self {
            pid: texts.add("pid"),
            tid: texts.add("tid"),
            host_pid: texts.add("host_pid"),
            host_tid: texts.add("host_tid"),
            comm: texts.add("comm"),
            thread: texts.add("thread"),
            cgroup: texts.add("cgroup"),
            container_id: texts.add("container_id"),
            pod_uid: texts.add("pod_uid"),
            container: texts.add("container"),
            groups: HashMap::new(),
        }
    }

    fn labels(
        &mut self,
        owner: &Owner,
        profile: &Profile,
        symbols: &Symbols,
        texts: &mut Texts,
    ) -> Vec<protos::Label> {
        // A key means one namespace: ids of the initial one have keys of their own.
        let (pid, tid) = match owner.host_pid {
            true => (self.host_pid, self.host_tid),
            false => (self.pid, self.tid),
        };
        let number = |key, num: u32| protos::Label {
            key,
            num: num.into(),
            ..Default::default()
        };
        let text = |key, id| protos::Label {
            key,
            str: symbols.label(id).into(),
            ..Default::default()
        };
        let mut labels = vec![
            number(pid, owner.pid),
            number(tid, owner.tid),
            text(self.comm, owner.comm),
            text(self.thread, owner.thread),
        ];
        if owner.cgroup != Owner::NONE {
            labels.extend_from_slice(self.group(owner.cgroup, profile, symbols, texts));
        }
        // A label of an empty text and no number says nothing, and readers disagree about it.
        labels.retain(|l| l.num != 0 || l.str != 0);
        labels
    }

    /// Labels of a cgroup: its container's id takes the place of its path.
    fn group(
        &mut self,
        group: u32,
        profile: &Profile,
        symbols: &Symbols,
        texts: &mut Texts,
    ) -> &[protos::Label] {
        let (cgroup, id, pod, name) =
            (self.cgroup, self.container_id, self.pod_uid, self.container);
        self.groups.entry(group).or_insert_with(|| {
            let container = containers::of(profile.tables.text_at(group));
            let path = container
                .id
                .is_none()
                .then(|| (cgroup, symbols.label(group).into()));
            let known = [
                (id, container.id),
                (pod, container.pod),
                (name, container.name),
            ];
            let known = known
                .into_iter()
                .filter_map(|(key, value)| Some((key, texts.add(&value?))));
            let labels = path.into_iter().chain(known);
            labels
                .map(|(key, str)| protos::Label {
                    key,
                    str,
                    ..Default::default()
                })
                .collect()
        })
    }
}

/// Nanoseconds that so many samples are worth.
pub(super) fn worth(samples: u64, frequency: NonZeroU32) -> i64 {
    let frequency = u128::from(frequency.get());
    let nanos = (u128::from(samples) * NANOS + frequency / 2) / frequency;
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
