//! One profile a service. A profile of a whole machine comes in; what goes out has neither processes nor
//! threads in it, so that stacks of several of them become one: a dashboard would make a series of each.

use std::collections::HashMap;

use pprof::protos::{Function, Location, Mapping, Message, Profile, Sample, ValueType};

use super::service::{self, Service};

/// Series of one profile at most, by what they use; those beyond are [`OTHERS`] together.
const MOST_SERIES: usize = 200;
const OTHERS: &str = "other services";
/// File name of the mapping that kernel frames belong to.
const KERNEL_MAPPING: &str = "[kernel.kallsyms]";

/// What a service used, in a profile of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Whose it is.
    pub service: Service,
    /// Its stacks, without labels.
    pub profile: Profile,
}

/// Splits a profile that [`pprof_file::read`](super::pprof_file::read) took, by service; all services may be
/// given one name.
pub fn by_service(profile: &Profile, name: Option<&str>) -> Vec<Series> {
    let tables = Tables::new(profile);
    let owners = Owners::new(profile, &tables);
    let mut samples: HashMap<Service, Vec<&Sample>> = HashMap::new();
    for sample in &profile.sample {
        let mut service = owners.of(sample);
        if let Some(name) = name {
            service.name = name.into();
        }
        samples.entry(service).or_default().push(sample);
    }
    let mut services: Vec<(Service, Vec<&Sample>)> = samples.into_iter().collect();
    let weight = |samples: &[&Sample]| -> i64 {
        let values = samples.iter().filter_map(|sample| sample.value.last());
        values.fold(0, |sum, &value| sum.saturating_add(value))
    };
    services.sort_by_cached_key(|(service, samples)| {
        (std::cmp::Reverse(weight(samples)), service.clone())
    });
    if services.len() > MOST_SERIES {
        let others = services
            .drain(MOST_SERIES - 1..)
            .flat_map(|(_, samples)| samples);
        let others = others.collect();
        let service = Service {
            name: OTHERS.into(),
            ..Service::default()
        };
        services.push((service, others));
    }
    services
        .into_iter()
        .map(|(service, samples)| Series {
            service,
            profile: extract(profile, &tables, &samples),
        })
        .collect()
}

/// The same in pieces of at most so many samples and bytes each. A stack that alone is larger is left out:
/// how many samples that were (the sum of the first value) is the second number.
pub fn split(series: Series, samples: usize, bytes: usize) -> (Vec<Series>, i64) {
    let (mut small, mut large, mut lost) = (Vec::new(), vec![series], 0);
    while let Some(series) = large.pop() {
        let n = series.profile.sample.len();
        if n <= samples && series.profile.encoded_len() <= bytes {
            small.push(series);
            continue;
        }
        let tables = Tables::new(&series.profile);
        let (first, second) = series.profile.sample.split_at(n / 2);
        if first.is_empty() {
            let values = second.iter().filter_map(|sample| sample.value.first());
            lost += values.sum::<i64>();
            continue;
        }
        for half in [second, first] {
            let half: Vec<&Sample> = half.iter().collect();
            large.push(Series {
                service: series.service.clone(),
                profile: extract(&series.profile, &tables, &half),
            });
        }
    }
    (small, lost)
}

/// Cuts stacks to so many frames, at the root, where a mark takes the place of what is left out.
pub fn cut(profile: &mut Profile, depth: usize) {
    if profile
        .sample
        .iter()
        .all(|sample| sample.location_id.len() <= depth)
    {
        return;
    }
    let text = profile.string_table.len() as i64;
    profile
        .string_table
        .push("[truncated: server's depth]".into());
    let function = profile.function.iter().map(|f| f.id).max().unwrap_or(0) + 1;
    profile.function.push(Function {
        id: function,
        name: text,
        ..Function::default()
    });
    let mark = profile.location.iter().map(|l| l.id).max().unwrap_or(0) + 1;
    profile.location.push(Location {
        id: mark,
        line: vec![pprof::protos::Line {
            function_id: function,
            line: 0,
        }],
        ..Location::default()
    });
    for sample in &mut profile.sample {
        if sample.location_id.len() > depth {
            sample.location_id.truncate(depth.saturating_sub(1));
            sample.location_id.push(mark);
        }
    }
}

/// A profile's tables by id.
struct Tables<'a> {
    profile: &'a Profile,
    mappings: HashMap<u64, &'a Mapping>,
    functions: HashMap<u64, &'a Function>,
    locations: HashMap<u64, &'a Location>,
}

impl<'a> Tables<'a> {
    fn new(profile: &'a Profile) -> Self {
        Self {
            profile,
            mappings: profile.mapping.iter().map(|m| (m.id, m)).collect(),
            functions: profile.function.iter().map(|f| (f.id, f)).collect(),
            locations: profile.location.iter().map(|l| (l.id, l)).collect(),
        }
    }

    fn text(&self, id: i64) -> &'a str {
        let text = usize::try_from(id)
            .ok()
            .and_then(|id| self.profile.string_table.get(id));
        text.map_or("", String::as_str)
    }

    fn is_kernel(&self, location: u64) -> bool {
        let mapping = self
            .locations
            .get(&location)
            .and_then(|l| self.mappings.get(&l.mapping_id));
        mapping.is_some_and(|mapping| self.text(mapping.filename) == KERNEL_MAPPING)
    }
}

/// Whose each sample is.
struct Owners<'a> {
    tables: &'a Tables<'a>,
    /// Processes, by pid, that have a frame outside the kernel somewhere.
    users: std::collections::HashSet<i64>,
}

impl<'a> Owners<'a> {
    fn new(profile: &Profile, tables: &'a Tables<'a>) -> Self {
        let mut owners = Self {
            tables,
            users: std::collections::HashSet::new(),
        };
        for sample in &profile.sample {
            if !sample.location_id.iter().all(|&id| tables.is_kernel(id)) {
                owners.users.insert(owners.pid(sample));
            }
        }
        owners
    }

    fn pid(&self, sample: &Sample) -> i64 {
        let pid = sample
            .label
            .iter()
            .find(|l| ["pid", "host_pid"].contains(&self.tables.text(l.key)));
        pid.map_or(0, |label| label.num)
    }

    fn of(&self, sample: &Sample) -> Service {
        let label = |key: &str| {
            let label = sample
                .label
                .iter()
                .find(|l| self.tables.text(l.key) == key && l.str != 0);
            label.map(|label| self.tables.text(label.str))
        };
        let only_kernel = sample
            .location_id
            .iter()
            .all(|&id| self.tables.is_kernel(id));
        if only_kernel && !sample.location_id.is_empty() && !self.users.contains(&self.pid(sample))
        {
            return service::kernel();
        }
        service::of(label)
    }
}

/// A profile of these samples: each stack once, and just the tables it needs.
fn extract(from: &Profile, tables: &Tables<'_>, samples: &[&Sample]) -> Profile {
    let mut out = Extract {
        tables,
        out: Profile {
            string_table: vec![String::new()],
            time_nanos: from.time_nanos,
            duration_nanos: from.duration_nanos,
            period: from.period,
            ..Profile::default()
        },
        texts: HashMap::from([(0, 0)]),
        mappings: HashMap::from([(0, 0)]),
        functions: HashMap::from([(0, 0)]),
        locations: HashMap::new(),
    };
    out.out.sample_type = from.sample_type.iter().map(|t| out.value_type(t)).collect();
    out.out.period_type = from.period_type.as_ref().map(|t| out.value_type(t));
    out.out.default_sample_type = out.text(from.default_sample_type);
    out.out.comment = from.comment.iter().map(|&id| out.text(id)).collect();
    let mut stacks: HashMap<&[u64], usize> = HashMap::new();
    for sample in samples {
        let known = stacks.get(&*sample.location_id).copied();
        match known.and_then(|at| out.out.sample.get_mut(at)) {
            Some(known) => {
                for (sum, value) in known.value.iter_mut().zip(&sample.value) {
                    *sum = sum.saturating_add(*value);
                }
            }
            None => {
                stacks.insert(&sample.location_id, out.out.sample.len());
                let location_id = sample
                    .location_id
                    .iter()
                    .map(|&id| out.location(id))
                    .collect();
                out.out.sample.push(Sample {
                    location_id,
                    value: sample.value.clone(),
                    label: Vec::new(),
                });
            }
        }
    }
    out.out
}

/// A profile that grows, and the numbers that things of the other one have in it.
struct Extract<'a> {
    tables: &'a Tables<'a>,
    out: Profile,
    texts: HashMap<i64, i64>,
    mappings: HashMap<u64, u64>,
    functions: HashMap<u64, u64>,
    locations: HashMap<u64, u64>,
}

impl Extract<'_> {
    fn text(&mut self, id: i64) -> i64 {
        let (tables, out) = (self.tables, &mut self.out.string_table);
        *self.texts.entry(id).or_insert_with(|| {
            out.push(tables.text(id).into());
            out.len() as i64 - 1
        })
    }

    fn value_type(&mut self, of: &ValueType) -> ValueType {
        ValueType {
            ty: self.text(of.ty),
            unit: self.text(of.unit),
        }
    }

    fn mapping(&mut self, id: u64) -> u64 {
        if let Some(&known) = self.mappings.get(&id) {
            return known;
        }
        let Some(&mapping) = self.tables.mappings.get(&id) else {
            return 0;
        };
        let new = self.out.mapping.len() as u64 + 1;
        let mapping = Mapping {
            id: new,
            filename: self.text(mapping.filename),
            build_id: self.text(mapping.build_id),
            ..mapping.clone()
        };
        self.out.mapping.push(mapping);
        self.mappings.insert(id, new);
        new
    }

    fn function(&mut self, id: u64) -> u64 {
        if let Some(&known) = self.functions.get(&id) {
            return known;
        }
        let Some(&function) = self.tables.functions.get(&id) else {
            return 0;
        };
        let new = self.out.function.len() as u64 + 1;
        let function = Function {
            id: new,
            name: self.text(function.name),
            system_name: self.text(function.system_name),
            filename: self.text(function.filename),
            start_line: function.start_line,
        };
        self.out.function.push(function);
        self.functions.insert(id, new);
        new
    }

    fn location(&mut self, id: u64) -> u64 {
        if let Some(&known) = self.locations.get(&id) {
            return known;
        }
        let new = self.locations.len() as u64 + 1;
        self.locations.insert(id, new);
        let empty = Location::default();
        let location = self.tables.locations.get(&id).copied().unwrap_or(&empty);
        let mut line = location.line.clone();
        for line in &mut line {
            line.function_id = self.function(line.function_id);
        }
        let location = Location {
            id: new,
            mapping_id: self.mapping(location.mapping_id),
            line,
            ..location.clone()
        };
        self.out.location.push(location);
        new
    }
}
