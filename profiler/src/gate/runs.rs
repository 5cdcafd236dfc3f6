//! Runs that are compared: profiles come in, in any order, and leave in the order in which they were made, each with
//! its side and its block.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::costs::{self, RunCosts};
use super::once;
use super::patterns::Pattern;
use super::statistics::design::{BLOCK, Design, Side};
use crate::cli::Failure;
use crate::cli::retype::quoted;
use crate::push::pprof_file;

/// Bytes of a file at most.
const MAX_FILE: u64 = 256 << 20;
/// Files at most.
const MAX_FILES: usize = 400;
/// Processes that nobody waited for took this share of a run at least: below, it may be what clocks differ by.
const UNWAITED: f64 = 0.0025;

/// Runs of two sides, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// The side of each.
    pub sides: Vec<Side>,
    /// The block of each: runs that were made close to each other.
    pub blocks: Vec<u32>,
    /// What each cost.
    pub costs: Vec<RunCosts>,
    /// The file of each.
    pub files: Vec<PathBuf>,
    /// Whether blocks are what they should be. Else all are one, and what drifted counts as change.
    pub interleaved: bool,
    /// By which clock totals are.
    pub clock: Clock,
}

/// What says how long a run's processes took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// Samples: nothing else is known.
    #[default]
    Samples,
    /// The clocks of processes that were waited for, which are all.
    Processes,
    /// The kernel's task clock, which has more: there are some that were not waited for, or outlive the command.
    Counter,
}

impl Runs {
    /// Reads profiles, one of each run.
    ///
    /// # Errors
    /// A file that cannot be read, or that is no profile of CPU time; profiles that do not go together.
    pub fn read(base: &[PathBuf], head: &[PathBuf], patterns: &[Pattern]) -> Result<Self, Failure> {
        if base.len() + head.len() > MAX_FILES {
            return Err(Failure::usage(format!(
                "{} profiles are too many: {MAX_FILES} at most",
                base.len() + head.len()
            )));
        }
        let base = base.iter().map(|path| (Side::Base, path.as_path()));
        let head = head.iter().map(|path| (Side::Head, path.as_path()));
        let mut files: Vec<(Side, &Path)> = base.chain(head).collect();
        let names: Vec<&Path> = files.iter().map(|(_, file)| *file).collect();
        once::each(&names)?;
        let mut costs = read_all(&files, patterns)?;
        go_together(&files, &costs)?;
        let known = costs.iter().all(|run| run.start > 0);
        if known {
            let mut order: Vec<usize> = (0..costs.len()).collect();
            order.sort_by_key(|&n| costs[n].start);
            files = order.iter().map(|&n| files[n]).collect();
            let mut left: Vec<Option<RunCosts>> = costs.into_iter().map(Some).collect();
            costs = order.iter().filter_map(|&n| left[n].take()).collect();
        }
        let sides: Vec<Side> = files.iter().map(|(side, _)| *side).collect();
        let blocks = blocks(&sides).filter(|_| known);
        let mut runs = Self {
            interleaved: blocks.is_some(),
            blocks: blocks.unwrap_or_else(|| vec![0; sides.len()]),
            sides,
            costs,
            files: files.iter().map(|(_, file)| file.to_path_buf()).collect(),
            clock: Clock::default(),
        };
        runs.set_totals();
        Ok(runs)
    }

    /// Finds the clock that all runs have and that knows all of their processes, and takes totals from it: the same
    /// for all of them, whatever a run by itself would have.
    pub fn set_totals(&mut self) {
        let sum = |of: fn(&RunCosts) -> Option<Duration>, side: Side| -> Option<f64> {
            let runs = self.sides.iter().zip(&self.costs);
            let times = runs.filter(|(of, _)| **of == side).map(|(_, run)| of(run));
            times.map(|time| Some(time?.as_secs_f64())).sum()
        };
        let (waited, counted) = (
            |run: &RunCosts| run.command.cpu,
            |run: &RunCosts| run.command.counted,
        );
        let stolen = |run: &RunCosts| Some(run.command.conditions.steal);
        let has_others = |side| {
            let both = sum(waited, side).zip(sum(counted, side));
            // The counter goes on while the hypervisor has the CPU.
            let stolen = sum(stolen, side).unwrap_or(0.0);
            both.is_some_and(|(waited, counted)| counted - stolen > (1.0 + UNWAITED) * waited)
        };
        let all_have =
            |of: fn(&RunCosts) -> Option<Duration>| self.costs.iter().all(|run| of(run).is_some());
        self.clock = match (all_have(waited), all_have(counted)) {
            // A later block changes nothing of what earlier ones have shown.
            (_, true) if self.clock == Clock::Counter => Clock::Counter,
            (_, true) if has_others(Side::Base) || has_others(Side::Head) => Clock::Counter,
            (true, _) => Clock::Processes,
            (false, true) => Clock::Counter,
            _ => Clock::Samples,
        };
        for run in &mut self.costs {
            let time = match self.clock {
                Clock::Samples => None,
                Clock::Processes => waited(run),
                Clock::Counter => counted(run),
            };
            run.total = time.map_or(run.sampled, |time| time.as_nanos() as f64);
        }
    }

    /// What each took: its total.
    pub fn totals(&self) -> Vec<f64> {
        self.costs.iter().map(|run| run.total).collect()
    }

    /// The side and the block of each.
    pub fn places(&self) -> Vec<(Side, u32)> {
        let blocks = self.blocks.iter().copied();
        self.sides.iter().copied().zip(blocks).collect()
    }

    /// How they can be compared.
    ///
    /// # Errors
    /// No block has both sides.
    pub fn design(&self) -> Result<Design, Failure> {
        let design = Design::new(&self.places());
        design.ok_or_else(|| Failure::new("no runs of both sides were made side by side"))
    }

    /// The mean of figures of the runs, of one side.
    pub fn mean(&self, side: Side, figures: &[f64]) -> f64 {
        let of = self.sides.iter().zip(figures);
        let (sum, n) = of
            .filter(|(of, _)| **of == side)
            .fold((0.0, 0), |(sum, n), (_, figure)| (sum + figure, n + 1));
        sum / f64::from(n.max(1))
    }
}

/// The number of each run's block: fours with two of each side, as they follow each other; the last may be of two.
/// `None`: they do not.
fn blocks(sides: &[Side]) -> Option<Vec<u32>> {
    let heads = |sides: &[Side]| sides.iter().filter(|side| **side == Side::Head).count();
    let mut fours = sides.chunks(BLOCK);
    let are_balanced = fours.all(|four| 2 * heads(four) == four.len());
    // A A B B, and again A A B B: what drifts is not alike for both. A B, A B is the most that is.
    let place = |wanted: Side| {
        let of = sides
            .iter()
            .enumerate()
            .filter(|(_, side)| **side == wanted);
        of.map(|(n, _)| (n % BLOCK) as f64).sum::<f64>() / (sides.len() as f64 / 2.0)
    };
    let is_even = (place(Side::Base) - place(Side::Head)).abs() <= 1.0;
    (are_balanced && is_even).then(|| (0..sides.len()).map(|n| (n / BLOCK) as u32).collect())
}

/// Reads files side by side.
fn read_all(files: &[(Side, &Path)], patterns: &[Pattern]) -> Result<Vec<RunCosts>, Failure> {
    let next = Mutex::new(0..files.len());
    let read = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..cores.min(files.len()) {
            scope.spawn(|| {
                loop {
                    let n = next.lock().ok().and_then(|mut next| next.next());
                    let Some((n, (_, path))) = n.and_then(|n| Some((n, files.get(n)?))) else {
                        return;
                    };
                    let costs = read_one(path, patterns);
                    if let Ok(mut read) = read.lock() {
                        read.push((n, costs));
                    }
                }
            });
        }
    });
    let mut read = read.into_inner().unwrap_or_default();
    read.sort_by_key(|(n, _)| *n);
    read.into_iter().map(|(_, costs)| costs).collect()
}

fn read_one(path: &Path, patterns: &[Pattern]) -> Result<RunCosts, Failure> {
    let not = |why: String| not_compared(path, &why);
    let profile = profile(path)?;
    costs::of(&profile, patterns).map_err(not)
}

fn not_compared(path: &Path, why: &str) -> Failure {
    let name = quoted(&path.to_string_lossy());
    Failure::new(format!("{} cannot be compared: {why}", path.display()))
        .next(format!("go tool pprof -raw {name} | head"))
}

/// Reads one profile.
///
/// # Errors
/// It cannot be read, or is none.
pub fn profile(path: &Path) -> Result<pprof::protos::Profile, Failure> {
    let name = quoted(&path.to_string_lossy());
    let failed =
        |error: std::io::Error| Failure::file("read", path, &error).next(format!("ls -l {name}"));
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(
            Failure::new(format!("{} is no file", path.display())).next(format!("ls -l {name}"))
        );
    }
    if about.len() > MAX_FILE {
        let why = format!("it has more than {} MiB", MAX_FILE >> 20);
        return Err(not_compared(path, &why));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    pprof_file::read(&bytes).map_err(|why| not_compared(path, &why))
}

/// Whether all are counted in the same, at the same frequency.
fn go_together(files: &[(Side, &Path)], runs: &[RunCosts]) -> Result<(), Failure> {
    let (Some(first), Some((_, first_file))) = (runs.first(), files.first()) else {
        return Ok(());
    };
    for ((_, file), run) in files.iter().zip(runs) {
        let what = if run.unit != first.unit {
            format!("{} and {}", first.unit, run.unit)
        } else if (run.period - first.period).abs() > 1e-6 * first.period.abs() {
            format!("samples of {} ns and of {} ns", first.period, run.period)
        } else if run.command.cpu.is_some() != first.command.cpu.is_some() {
            "the CPU time of a command that ended, and samples of something else".into()
        } else {
            continue;
        };
        return Err(Failure::new(format!(
            "{} and {} do not go together: they hold {what}",
            first_file.display(),
            file.display()
        ))
        .next(format!(
            "go tool pprof -raw {} | head",
            quoted(&file.to_string_lossy())
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Side::{Base, Head};
    use super::*;

    #[test]
    fn fours_that_are_balanced() {
        let abba = [Base, Head, Head, Base];
        let two = [abba, abba].concat();
        assert_eq!(blocks(&two), Some(vec![0, 0, 0, 0, 1, 1, 1, 1]));
        assert_eq!(
            blocks(&[&abba[..], &[Head, Base]].concat()),
            Some(vec![0, 0, 0, 0, 1, 1])
        );
        assert_eq!(
            blocks(&[Base, Base, Base, Base, Head, Head, Head, Head]),
            None
        );
        assert_eq!(blocks(&[&abba[..], &[Head]].concat()), None);
        assert!(blocks(&[Base, Head, Base, Head, Base, Head, Base, Head]).is_some());
        let aabb = [Base, Base, Head, Head];
        assert_eq!(blocks(&[aabb, aabb].concat()), None);
    }

    /// Two runs, with milliseconds of the clock of processes, of the counter, and of what the hypervisor took.
    fn clocked(of: [(u64, u64, u64); 2]) -> Runs {
        let mut runs = Runs {
            sides: vec![Base, Head],
            blocks: vec![0, 0],
            ..Runs::default()
        };
        for (waited, counted, stolen) in of {
            let mut profile = pprof::protos::Profile {
                sample_type: vec![pprof::protos::ValueType { ty: 1, unit: 2 }],
                ..pprof::protos::Profile::default()
            };
            let mut texts = ["", "cpu", "nanoseconds"].map(String::from).to_vec();
            for (name, millis) in [
                ("command cpu ns", waited),
                ("command task clock ns", counted),
                ("machine steal ns", stolen),
            ] {
                profile.comment.push(texts.len() as i64);
                texts.push(format!("{name}: {}", millis * 1_000_000));
            }
            profile.string_table = texts;
            let costs = costs::of(&profile, &[]).expect("a clock");
            runs.costs.push(costs);
        }
        runs.set_totals();
        runs
    }

    #[test]
    fn one_clock_for_all() {
        let of = |of| {
            let runs = clocked(of);
            let millis = runs.totals().iter().map(|total| total / 1e6).collect();
            (runs.clock, millis)
        };
        let processes = |of: [f64; 2]| (Clock::Processes, of.to_vec());
        // A process that nobody waited for, on one side; its own totals are of the same clock as the other's.
        let counter = (Clock::Counter, vec![998.0, 1400.0]);
        assert_eq!(of([(1000, 998, 0), (1000, 1400, 0)]), counter);
        assert_eq!(
            of([(1000, 998, 0), (1010, 1011, 0)]),
            processes([1000.0, 1010.0])
        );
        // What the hypervisor took is no process.
        assert_eq!(
            of([(1000, 998, 0), (1000, 1400, 410)]),
            processes([1000.0, 1000.0])
        );
        assert_eq!(
            of([(1000, 0, 0), (1000, 1400, 0)]),
            processes([1000.0, 1000.0])
        );
        assert_eq!(
            of([(0, 900, 0), (1000, 999, 0)]),
            (Clock::Counter, vec![900.0, 999.0])
        );
    }

    #[test]
    fn a_clock_that_was_needed_stays() {
        let mut runs = clocked([(1000, 1003, 0), (1000, 1003, 0)]);
        assert_eq!(runs.clock, Clock::Counter);
        let more = clocked([(9000, 8990, 0), (9000, 8990, 0)]);
        runs.costs.extend(more.costs);
        runs.sides.extend(more.sides);
        runs.set_totals();
        assert_eq!((runs.clock, runs.totals()[2]), (Clock::Counter, 8990e6));
    }
}
