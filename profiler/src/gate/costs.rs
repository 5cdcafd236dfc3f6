//! What one run cost, function by function: a profile comes in, of rprof or of anyone.

mod table;
pub(super) mod time;

use std::sync::Arc;

use hashbrown::HashMap;
use pprof::protos::Profile;
use rprof_ebpf::ledger::Column;

use super::patterns::Pattern;
use crate::report::command::OfCommand;
use table::Table;

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
    let (value, scale, unit) = time::value(profile)?;
    let mut table = Table::new(profile);
    let mut costs = RunCosts {
        unit,
        period: time::period(profile),
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

#[cfg(test)]
pub(super) mod tests {
    use pprof::protos::{Label, Line, Location, Sample, ValueType};

    use super::*;

    /// Functions are 1: `main`, 2: `work`, 3: `leaf`; each has the location of its number, and 4 has `leaf` inlined
    /// into `work`.
    pub(super) fn profile(stacks: &[(&[u64], i64)]) -> Profile {
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
