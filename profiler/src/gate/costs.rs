//! What one run cost, function by function: a profile comes in, of rprof or of anyone.

use std::sync::Arc;

use hashbrown::HashMap;
use pprof::protos::{Profile, ValueType};
use rprof_ebpf::ledger::Column;

use super::names::plain;
use super::patterns::Pattern;
use crate::report::command::OfCommand;

/// Functions of a profile, and pairs of callee and caller: many runs are held at once.
const MAX_FUNCTIONS: usize = 50_000;
const MAX_CALLS: usize = 200_000;
/// Mapping of the kernel's functions.
const KERNEL: &str = "[kernel.kallsyms]";

/// A function as one profile names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function {
    /// Its name, without what compilers add to that from build to build.
    pub name: Arc<str>,
    /// Its file; empty: not known.
    pub file: Arc<str>,
    /// The last part of its module's path.
    pub module: Arc<str>,
}

/// What a function cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// By itself.
    pub own: f64,
    /// With all that it called: a stack that it is in several times counts once.
    pub all: f64,
}

/// What one run cost.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCosts {
    /// What it is counted in: `cpu/nanoseconds`.
    pub unit: String,
    /// Nanoseconds that a sample is worth; 0: not known.
    pub period: f64,
    /// All of it, by the clock of its processes if the profile tells, else by its samples.
    pub total: f64,
    /// By its samples.
    pub sampled: f64,
    /// Stacks that differ.
    pub stacks: u64,
    /// Its functions, and by their index what each cost.
    pub functions: Vec<(Function, Cost)>,
    /// What a function (the first) cost below another, by indices.
    pub calls: HashMap<(u32, u32), f64>,
    /// What a line of a function cost, with all that it called: by the function's index.
    pub lines: HashMap<(u32, u32), f64>,
    /// For each pattern that was asked for: what the stacks cost that a function of it is in.
    pub matched: Vec<f64>,
    /// What the stacks cost that a function of an accepted pattern is in.
    pub accepted: f64,
    /// When it began, nanoseconds since 1970; 0: not known.
    pub start: i64,
    /// How long it took, nanoseconds; 0: not known.
    pub duration: i64,
    /// What the profile says of its command and the machine.
    pub command: OfCommand,
    /// The share of its ticks that were lost, if it has a ledger.
    pub lost: Option<f64>,
}

/// Sums a profile that [`crate::push::pprof_file::read`] took.
///
/// # Errors
/// Why nothing can be said of what it cost: words that go on after "FILE cannot be compared: ".
pub fn of(profile: &Profile, patterns: &[Pattern]) -> Result<RunCosts, String> {
    let (value, scale, unit) = value(profile)?;
    let mut table = Table::new(profile);
    let mut costs = RunCosts {
        unit,
        period: period(profile),
        total: 0.0,
        sampled: 0.0,
        stacks: 0,
        functions: Vec::new(),
        calls: HashMap::new(),
        lines: HashMap::new(),
        matched: vec![0.0; patterns.len()],
        accepted: 0.0,
        start: profile.time_nanos,
        duration: profile.duration_nanos,
        command: OfCommand::read(comments(profile)),
        lost: lost(comments(profile)),
    };
    if let Some(exit) = costs.command.exit.filter(|exit| *exit != 0) {
        return Err(format!("its command failed with exit code {exit}"));
    }
    // The patterns that each function is of.
    let of_patterns: Vec<Vec<usize>> = (table.functions.iter())
        .map(|function| {
            let of = (0..patterns.len()).filter(|&n| patterns[n].is_of(function));
            of.collect()
        })
        .collect();
    if table.functions.len() > MAX_FUNCTIONS {
        return Err(format!("it has more than {MAX_FUNCTIONS} functions"));
    }
    let mut seen_patterns = vec![0u64; patterns.len()];
    let mut by_line = vec![0.0; table.lines.len()];
    let mut of_functions: Vec<(Cost, u64)> = vec![(Cost::default(), 0); table.functions.len()];
    let mut calls: HashMap<(u32, u32), (f64, u64)> = HashMap::new();
    for (n, sample) in (1u64..).zip(&profile.sample) {
        let cost = sample.value.get(value).copied().unwrap_or(0) as f64 * scale;
        if cost < 0.0 {
            return Err("it has samples of less than nothing: a difference of profiles?".into());
        }
        costs.sampled += cost;
        costs.stacks += 1;
        let mut callee = None;
        let mut is_accepted = false;
        for &location in &sample.location_id {
            let Some(&(first, last)) = table.locations.get(&location) else {
                continue;
            };
            let lines = table.lines[first..last].iter();
            for (&(function, _), by_line) in lines.zip(&mut by_line[first..last]) {
                let (known, seen) = &mut of_functions[function as usize];
                if std::mem::replace(seen, n) != n {
                    known.all += cost;
                    *by_line += cost;
                    for &pattern in &of_patterns[function as usize] {
                        if std::mem::replace(&mut seen_patterns[pattern], n) != n {
                            costs.matched[pattern] += cost;
                            is_accepted |= patterns[pattern].is_accepted;
                        }
                    }
                }
                match callee {
                    None => known.own += cost,
                    Some(callee) if callee != function => {
                        if calls.len() > MAX_CALLS {
                            return Err(format!("it has more than {MAX_CALLS} calls"));
                        }
                        let (sum, seen) = calls.entry((callee, function)).or_default();
                        if std::mem::replace(seen, n) != n {
                            *sum += cost;
                        }
                    }
                    Some(_) => {}
                }
                callee = Some(function);
            }
        }
        if is_accepted {
            costs.accepted += cost;
        }
    }
    // A command may end before it is met, and be short by the clock all the same.
    let clock = costs.command.cpu.or(costs.command.counted);
    if costs.sampled <= 0.0 && clock.is_none() {
        return Err("it has no samples".into());
    }
    costs.total = clock.map_or(costs.sampled, |clock| clock.as_nanos() as f64);
    for (&line, cost) in table.lines.iter().zip(by_line) {
        if cost > 0.0 {
            *costs.lines.entry(line).or_default() += cost;
        }
    }
    let named = table.functions.drain(..).zip(of_functions);
    costs.functions = named
        .map(|(function, (cost, _))| (function, cost))
        .collect();
    costs.calls = calls
        .into_iter()
        .map(|(call, (cost, _))| (call, cost))
        .collect();
    Ok(costs)
}

/// Which of a sample's values is its CPU time, what it is multiplied by to be nanoseconds, and its type.
pub(super) fn value(profile: &Profile) -> Result<(usize, f64, String), String> {
    let text = |id: i64| text(profile, id);
    let is_time = |of: &ValueType| nanoseconds(text(of.unit)).map(|scale| (text(of.ty), scale));
    let types = &profile.sample_type;
    let named = |wanted: &str| types.iter().position(|of| text(of.ty) == wanted);
    // Events of these clocks of perf are nanoseconds, as perf_to_profile writes them.
    for clock in ["cpu-clock_event", "task-clock_event"] {
        if let Some(at) = named(clock) {
            return Ok((at, 1.0, "cpu/nanoseconds".into()));
        }
    }
    for cpu in ["cpu", "cpu-time", "on_cpu", "cpu-clock"] {
        if let Some(at) = named(cpu)
            && let Some((name, scale)) = is_time(&types[at])
        {
            return Ok((at, scale, format!("{name}/nanoseconds")));
        }
    }
    // Samples of equal weight, which the period tells.
    let counted = named("samples").or_else(|| named("sample"));
    let period = profile.period_type.as_ref().and_then(is_time);
    if let (Some(at), Some((clock, scale))) = (counted, period)
        && profile.period > 0
        && !waits(clock)
    {
        return Ok((at, scale * profile.period as f64, "cpu/nanoseconds".into()));
    }
    let last = types.len().checked_sub(1);
    let last = last.and_then(|at| Some((at, is_time(&types[at])?)));
    if let Some((at, (name, scale))) = last.filter(|(_, (name, _))| !waits(name)) {
        return Ok((at, scale, format!("{name}/nanoseconds")));
    }
    let known: Vec<String> = types
        .iter()
        .map(|of| format!("{}/{}", text(of.ty), text(of.unit)))
        .collect();
    let known = known.join(", ");
    Err(match (counted, period) {
        (Some(_), None) => {
            format!("it holds {known}, and not how much CPU time a sample stands for (its period)")
        }
        _ => format!("it holds {known}, no CPU time"),
    })
}

/// Whether this is time in which nothing need run: of a clock on the wall, of locks, of disks.
fn waits(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let waits = ["wall", "delay", "wait", "lock", "off", "contention"];
    waits.iter().any(|wait| name.contains(wait)) && !name.ends_with("clock")
}

/// Nanoseconds that a sample is worth; 0: the profile does not say.
fn period(profile: &Profile) -> f64 {
    let unit = profile
        .period_type
        .as_ref()
        .map(|of| text(profile, of.unit));
    let nanos = unit.and_then(nanoseconds).unwrap_or(0.0);
    nanos * profile.period.max(0) as f64
}

fn nanoseconds(unit: &str) -> Option<f64> {
    match unit {
        "nanoseconds" | "ns" => Some(1.0),
        "microseconds" | "us" => Some(1e3),
        "milliseconds" | "ms" => Some(1e6),
        "seconds" | "s" => Some(1e9),
        _ => None,
    }
}

fn text(profile: &Profile, id: i64) -> &str {
    let id = usize::try_from(id).ok();
    let text = id.and_then(|id| profile.string_table.get(id));
    text.map_or("", String::as_str)
}

fn comments(profile: &Profile) -> impl Iterator<Item = &str> {
    let ids = profile.comment.iter();
    ids.filter_map(|&id| profile.string_table.get(usize::try_from(id).ok()?))
        .map(String::as_str)
}

/// The share of ticks that the ledger's lines of processes call lost: `ledger: process 12 name: 7 resolved,
/// 1 would fault` (see [`crate::report::comments`]).
fn lost<'a>(comments: impl Iterator<Item = &'a str>) -> Option<f64> {
    let (mut all, mut lost) = (0u64, 0u64);
    for comment in comments {
        let Some(rest) = comment.strip_prefix("ledger: process ") else {
            continue;
        };
        // A name may have anything in it, the counts have not.
        let counts = rest.rsplit(": ").next().unwrap_or_default();
        for count in counts.split(", ") {
            let Some((number, name)) = count.split_once(' ') else {
                continue;
            };
            let column = Column::ALL.iter().find(|column| column.name() == name);
            if let (Ok(number), Some(column)) = (number.parse::<u64>(), column) {
                all = all.saturating_add(number);
                if column.is_loss() {
                    lost = lost.saturating_add(number);
                }
            }
        }
    }
    (all > 0).then(|| lost as f64 / all as f64)
}

/// Name, file, and, where a converter made one text of them, the line.
type Named = (Arc<str>, Arc<str>, Option<i64>);

/// The functions of a profile.
struct Table {
    functions: Vec<Function>,
    /// For each location the functions in it, innermost first: a range of `lines`.
    locations: HashMap<u64, (usize, usize)>,
    /// Functions and line numbers.
    lines: Vec<(u32, u32)>,
}

impl Table {
    fn new(profile: &Profile) -> Self {
        let text = |id: i64| text(profile, id);
        let mut table = Self {
            functions: Vec::new(),
            locations: HashMap::new(),
            lines: Vec::new(),
        };
        let modules: HashMap<u64, Arc<str>> = profile
            .mapping
            .iter()
            .map(|mapping| (mapping.id, last_part(text(mapping.filename)).into()))
            .collect();
        let no_module: Arc<str> = "".into();
        let named: HashMap<u64, Named> = profile
            .function
            .iter()
            .map(|function| {
                let (name, file) = (text(function.name), text(function.filename));
                let place = Some(name).filter(|_| file.is_empty()).and_then(with_place);
                let (name, file, line) = match place {
                    Some((name, file, line)) => (name, file, Some(line)),
                    None => (name, file, None),
                };
                (function.id, (plain(name).into(), file.into(), line))
            })
            .collect();
        let mut numbers: HashMap<Function, u32> = HashMap::new();
        for location in &profile.location {
            let module = modules.get(&location.mapping_id).unwrap_or(&no_module);
            let first = table.lines.len();
            let mut add = |name: Arc<str>, file: Arc<str>, line: i64| {
                let function = Function {
                    name,
                    file,
                    module: module.clone(),
                };
                let next = table.functions.len() as u32;
                let number = *numbers.entry(function.clone()).or_insert_with(|| {
                    table.functions.push(function);
                    next
                });
                table.lines.push((number, u32::try_from(line).unwrap_or(0)));
            };
            for line in &location.line {
                if let Some((name, file, of_name)) = named.get(&line.function_id) {
                    let line = of_name.filter(|_| line.line == 0).unwrap_or(line.line);
                    add(name.clone(), file.clone(), line);
                }
            }
            if location.line.is_empty() {
                // Addresses change from build to build: what has no name is one function.
                let module = if module.is_empty() { "unknown" } else { module };
                add(format!("[{module}]").into(), "".into(), 0);
            }
            table
                .locations
                .insert(location.id, (first, table.lines.len()));
        }
        table
    }
}

impl RunCosts {
    /// What a sample's nanosecond stands for, where the clock of the run's processes knows better.
    pub fn scale(&self) -> f64 {
        match self.sampled > 0.0 {
            true => self.total / self.sampled,
            false => 1.0,
        }
    }

    /// How many samples there are, by what one is worth.
    pub fn ticks(&self) -> f64 {
        self.scale() * self.sampled / self.of_a_sample()
    }

    /// What one sample stands for.
    pub fn of_a_sample(&self) -> f64 {
        match self.period > 0.0 {
            true => self.period * self.scale(),
            false => self.total / self.stacks.max(1) as f64,
        }
    }
}

impl Function {
    /// Whether it is the kernel's.
    pub fn is_kernel(&self) -> bool {
        &*self.module == KERNEL
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `parse (src/parse.py:17)`, as py-spy's raw format has it: name, file and line.
fn with_place(name: &str) -> Option<(&str, &str, i64)> {
    let (name, place) = name.strip_suffix(')')?.rsplit_once(" (")?;
    let (file, line) = place.rsplit_once(':')?;
    let is_place = !name.is_empty() && !file.is_empty();
    Some((name, file, line.parse().ok()?)).filter(|_| is_place)
}

#[cfg(test)]
mod tests {
    use pprof::protos::{Label, Line, Location, Sample, ValueType};

    use super::*;

    /// Functions are 1: `main`, 2: `work`, 3: `leaf`; each has the location of its number, and 4 has `leaf` inlined
    /// into `work`.
    fn profile(stacks: &[(&[u64], i64)]) -> Profile {
        let texts = ["", "cpu", "nanoseconds", "main", "work", "leaf", "a.c"];
        let function = |id: u64| pprof::protos::Function {
            id,
            name: id as i64 + 2,
            filename: 6,
            ..Default::default()
        };
        let location = |id, lines: &[u64]| Location {
            id,
            line: lines
                .iter()
                .map(|&function_id| Line {
                    function_id,
                    line: 1,
                })
                .collect(),
            ..Location::default()
        };
        Profile {
            sample_type: vec![ValueType { ty: 1, unit: 2 }],
            string_table: texts.map(String::from).to_vec(),
            function: (1..=3).map(function).collect(),
            location: vec![
                location(1, &[1]),
                location(2, &[2]),
                location(3, &[3]),
                location(4, &[3, 2]),
            ],
            sample: stacks
                .iter()
                .map(|(stack, value)| Sample {
                    location_id: stack.to_vec(),
                    value: vec![*value],
                    label: Vec::<Label>::new(),
                })
                .collect(),
            ..Profile::default()
        }
    }

    #[test]
    fn a_function_counts_once_in_a_stack() {
        // `work` calls itself.
        let costs = of(
            &profile(&[(&[3, 2, 2, 1], 10), (&[2, 1], 5), (&[4, 1], 1)]),
            &[],
        )
        .unwrap();
        let of = |name: &str| {
            let found = costs.functions.iter().position(|(f, _)| &*f.name == name);
            (found.unwrap() as u32, costs.functions[found.unwrap()].1)
        };
        let ((main, _), (work, cost), (leaf, of_leaf)) = (of("main"), of("work"), of("leaf"));
        assert_eq!(
            cost,
            Cost {
                own: 5.0,
                all: 16.0
            }
        );
        assert_eq!(
            of_leaf,
            Cost {
                own: 11.0,
                all: 11.0
            }
        );
        assert_eq!(costs.calls[&(leaf, work)], 11.0);
        assert_eq!(costs.calls[&(work, main)], 16.0);
        assert_eq!((costs.total, costs.stacks), (16.0, 3));
    }

    #[test]
    fn what_has_no_time() {
        assert_eq!(of(&profile(&[]), &[]).unwrap_err(), "it has no samples");
        let mut heap = profile(&[(&[1], 1)]);
        heap.string_table[2] = "bytes".into();
        assert_eq!(
            of(&heap, &[]).unwrap_err(),
            "it holds cpu/bytes, no CPU time"
        );
    }

    #[test]
    fn samples_that_are_worth_a_period() {
        let mut counted = profile(&[(&[1], 3)]);
        counted.string_table[1] = "samples".into();
        counted.string_table[2] = "count".into();
        counted.string_table.push("milliseconds".into());
        counted.period_type = Some(ValueType { ty: 1, unit: 7 });
        counted.period = 10;
        assert_eq!(of(&counted, &[]).unwrap().total, 30e6);
        counted.period = 0;
        counted.period_type = None;
        assert_eq!(
            of(&counted, &[]).unwrap_err(),
            "it holds samples/count, and not how much CPU time a sample stands for (its period)"
        );
    }

    #[test]
    fn time_in_which_nothing_runs() {
        for (of_what, is_cpu) in [
            ("cpu", true),
            ("task-clock", true),
            ("wall", false),
            ("delay", false),
            ("offcpu", false),
            ("lock_duration", false),
        ] {
            // By itself, and of samples that stand for it.
            let mut profile = profile(&[(&[1], 3)]);
            profile.string_table[1] = of_what.into();
            assert_eq!(of(&profile, &[]).is_ok(), is_cpu, "{of_what}");
            profile
                .string_table
                .extend(["samples".into(), "count".into()]);
            profile.sample_type = vec![ValueType { ty: 7, unit: 8 }];
            profile.period_type = Some(ValueType { ty: 1, unit: 2 });
            profile.period = 10;
            assert_eq!(of(&profile, &[]).is_ok(), is_cpu, "{of_what}");
        }
    }

    #[test]
    fn events_of_a_clock_of_perf() {
        let mut profile = profile(&[(&[1], 3)]);
        profile.string_table[1] = "cpu-clock_event".into();
        profile.string_table[2] = "count".into();
        assert_eq!(of(&profile, &[]).unwrap().total, 3.0);
        profile.string_table[1] = "cycles_event".into();
        assert_eq!(
            of(&profile, &[]).unwrap_err(),
            "it holds cycles_event/count, no CPU time"
        );
    }

    #[test]
    fn a_place_in_a_name() {
        assert_eq!(
            with_place("parse (src/a.py:17)"),
            Some(("parse", "src/a.py", 17))
        );
        assert_eq!(
            with_place("<module> (<string>:1)"),
            Some(("<module>", "<string>", 1))
        );
        for name in [
            "parse",
            "operator()(int)",
            "parse (int)",
            " (a:1)",
            "f (a:b)",
        ] {
            assert_eq!(with_place(name), None, "{name}");
        }
        // Lines are no functions.
        let mut lines = profile(&[(&[2], 3), (&[3], 4)]);
        lines.string_table[4] = "work (a.py:1)".into();
        lines.string_table[5] = "work (a.py:2)".into();
        lines
            .function
            .iter_mut()
            .for_each(|function| function.filename = 0);
        let costs = of(&lines, &[]).unwrap();
        let (function, cost) = &costs
            .functions
            .iter()
            .find(|(_, cost)| cost.all > 0.0)
            .unwrap();
        assert_eq!(
            (&*function.name, &*function.file, cost.own),
            ("work", "a.py", 7.0)
        );
    }

    #[test]
    fn the_clock_of_the_processes_is_believed() {
        let mut clocked = profile(&[(&[1], 3)]);
        clocked.string_table.push("command cpu ns: 2500".into());
        clocked.comment = vec![7];
        let costs = of(&clocked, &[]).unwrap();
        assert_eq!((costs.total, costs.sampled), (2500.0, 3.0));
        assert_eq!(costs.scale(), 2500.0 / 3.0);
        clocked.sample.clear();
        let costs = of(&clocked, &[]).unwrap();
        assert_eq!((costs.total, costs.scale()), (2500.0, 1.0));
    }
}
