//! Sums for the summary: samples by process and by function. A profile and its symbols come in,
//! two rankings go out. A function that calls itself counts once a stack in its total.

use std::collections::HashMap;
use std::io;

use super::{Profile, Symbols};

/// A profile's rankings, most samples first; ties in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All samples.
    pub samples: u64,
    /// By process.
    pub processes: Vec<ProcessTotal>,
    /// By function, in the order of self samples, then of total ones.
    pub functions: Vec<FunctionTotal>,
}

/// Samples of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessTotal {
    /// Process id.
    pub pid: u32,
    /// The id is that of the initial namespace, ours does not show the process.
    pub host_pid: bool,
    /// The process's name.
    pub comm: String,
    /// Samples.
    pub samples: u64,
}

/// Samples of one function, inlined ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionTotal {
    /// Function name, or what stands for it.
    pub name: String,
    /// Base name of its module; for an interpreted function its file; else empty.
    pub place: String,
    /// Samples whose leaf it is.
    pub self_samples: u64,
    /// Samples in whose stack it is.
    pub total_samples: u64,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    own: u64,
    total: u64,
    /// Number of the stack that was counted last, from 1.
    seen: u64,
}

impl Profile {
    /// The rankings.
    ///
    /// # Errors
    /// Those of reading the part file back.
    pub fn totals(&self, symbols: &Symbols) -> io::Result<Totals> {
        let mut processes: HashMap<(u32, bool, u32), u64> = HashMap::new();
        let mut functions: HashMap<(u32, u32), Sums> = HashMap::new();
        let mut stack = 0;
        self.stacks.visit(&mut |frames, owner, count| {
            stack += 1;
            let process = (owner.pid, owner.host_pid, symbols.label(owner.comm));
            *processes.entry(process).or_default() += count;
            let mut leaf = true;
            for &frame in frames {
                let place = symbols.place_of(frame);
                let module = symbols.mapping(place.mapping).map(|m| m.short);
                for line in symbols.lines_of(&place) {
                    let Some(function) = symbols.functions().get(line.function as usize) else {
                        continue;
                    };
                    let key = (function.name, module.unwrap_or(function.file));
                    let sums = functions.entry(key).or_default();
                    if sums.seen != stack {
                        sums.seen = stack;
                        sums.total += count;
                    }
                    if std::mem::take(&mut leaf) {
                        sums.own += count;
                    }
                }
            }
            Ok(())
        })?;
        let mut totals = Totals {
            samples: self.samples(),
            processes: processes
                .into_iter()
                .map(|((pid, host_pid, comm), samples)| ProcessTotal {
                    pid,
                    host_pid,
                    comm: symbols.text_at(comm).to_owned(),
                    samples,
                })
                .collect(),
            functions: functions
                .into_iter()
                .map(|((name, place), sums)| FunctionTotal {
                    name: symbols.text_at(name).to_owned(),
                    place: symbols.text_at(place).to_owned(),
                    self_samples: sums.own,
                    total_samples: sums.total,
                })
                .collect(),
        };
        totals.processes.sort_by(|a, b| {
            (b.samples, &a.comm, a.pid, a.host_pid).cmp(&(a.samples, &b.comm, b.pid, b.host_pid))
        });
        totals.functions.sort_by(|a, b| {
            let (more, less) = (
                (b.self_samples, b.total_samples),
                (a.self_samples, a.total_samples),
            );
            more.cmp(&less)
                .then_with(|| (&a.name, &a.place).cmp(&(&b.name, &b.place)))
        });
        Ok(totals)
    }
}
