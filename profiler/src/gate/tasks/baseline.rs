//! A store of earlier runs, in a folder that CI keeps from job to job: a set of runs each time, the newest ones stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::retype::quoted;
use crate::gate::comparison::Comparison;
use crate::gate::runs::Runs;
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;

/// Sets that are kept.
const SETS: usize = 5;
/// What days differ by, so many times, is between the threshold and a change that is believed.
const DAYS: f64 = 2.0;
/// Ends the name of a file: `set-000012-run-003.pb.gz`.
const END: &str = ".pb.gz";

/// A folder of sets.
pub(super) struct Baseline {
    folder: PathBuf,
}

impl Baseline {
    /// The one at this path, which may be made if it is not there.
    ///
    /// # Errors
    /// It is not there, or can not be made.
    pub(super) fn open(folder: &Path, make: bool) -> Result<Self, Failure> {
        if !make && !folder.exists() {
            let shown = quoted(&folder.to_string_lossy());
            return Err(
                Failure::new(format!("there is no baseline {}", folder.display())).next(format!(
                    "rprof gate compare --baseline {shown} --update --head …"
                )),
            );
        }
        std::fs::create_dir_all(folder).map_err(|error| {
            Failure::file("make", folder, &error)
                .next(format!("ls -ld {}", quoted(&folder.to_string_lossy())))
        })?;
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether it can not say yet how much days differ.
    pub(super) fn is_young(&self) -> bool {
        self.sets().is_ok_and(|sets| sets.len() < 2)
    }

    /// All of its runs.
    ///
    /// # Errors
    /// The folder can not be read.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        Ok(self.sets()?.into_values().flatten().collect())
    }

    /// Adds a set, and lets go what is too old.
    ///
    /// # Errors
    /// It can not be written; then nothing was added.
    pub(super) fn add(&self, files: &[PathBuf]) -> Result<(), Failure> {
        let sets = self.sets()?;
        let number = sets.last_key_value().map_or(1, |(number, _)| number + 1);
        let mut temporary = Vec::new();
        for file in files {
            let new = tempfile::NamedTempFile::new_in(&self.folder)
                .map_err(|error| self.not_written(&error))?;
            std::fs::copy(file, new.path()).map_err(|error| self.not_written(&error))?;
            temporary.push(new);
        }
        for (n, new) in (1..).zip(temporary) {
            let name = format!("set-{number:06}-run-{n:03}{END}");
            new.persist(self.folder.join(name))
                .map_err(|error| self.not_written(&error.error))?;
        }
        let old = (sets.len() + 1).saturating_sub(SETS);
        for file in sets.into_values().take(old).flatten() {
            // What stays is let go next time.
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }

    /// Runs of several days say how much days differ: a change that is not more than that is none.
    pub(super) fn look(&self, runs: &Runs, comparison: &mut Comparison) {
        let mut sets: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        let each = runs.sides.iter().zip(&runs.files).zip(&runs.costs);
        for ((side, file), run) in each {
            if let (Side::Base, Some((set, _))) = (side, numbers(file)) {
                sets.entry(set).or_default().push(run.total);
            }
        }
        let means: Vec<f64> = (sets.values())
            .map(|totals| totals.iter().sum::<f64>() / totals.len().max(1) as f64)
            .collect();
        let least = means.iter().copied().fold(f64::INFINITY, f64::min);
        let most = means.iter().copied().fold(0.0, f64::max);
        let moved = most / least - 1.0;
        if means.len() < 2 {
            comparison.reasons.push(
                "The baseline has runs of one time only: how much the machine differs from day to day is not known."
                    .into(),
            );
            comparison.verdict = Verdict::Inconclusive;
            return;
        }
        let change = comparison.judged.change();
        let threshold = comparison.rule.threshold;
        // Today may differ from those days by as much again, either way.
        let is_doubtful = match comparison.verdict {
            Verdict::Regressed => change - threshold < DAYS * moved,
            _ => threshold - change < DAYS * moved,
        };
        if is_doubtful {
            comparison.reasons.push(format!(
                "The baseline's own {} sets differ by {:.1} %: runs of different times cannot decide a change of \
                 {:.1} %.",
                means.len(),
                100.0 * moved,
                100.0 * change.abs().max(comparison.rule.threshold)
            ));
            comparison.verdict = Verdict::Inconclusive;
        }
    }

    fn sets(&self) -> Result<BTreeMap<u64, Vec<PathBuf>>, Failure> {
        let entries = std::fs::read_dir(&self.folder).map_err(|error| {
            Failure::file("read", &self.folder, &error)
                .next(format!("ls -ld {}", quoted(&self.folder.to_string_lossy())))
        })?;
        let mut sets: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Some((set, _)) = numbers(&path) {
                sets.entry(set).or_default().push(path);
            }
        }
        sets.values_mut().for_each(|files| files.sort());
        Ok(sets)
    }

    fn not_written(&self, error: &std::io::Error) -> Failure {
        Failure::file("add to the baseline", &self.folder, error)
            .next(format!("df -h {}", quoted(&self.folder.to_string_lossy())))
    }
}

/// Set and run of a file's name.
fn numbers(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_name()?.to_str()?;
    let (set, run) = (name.strip_prefix("set-")?.strip_suffix(END)?).split_once("-run-")?;
    let number = |text: &str| text.parse().ok().filter(|number: &u64| *number < 1_000_000);
    Some((number(set)?, number(run)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_sets_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pb.gz");
        std::fs::write(&file, "profile").unwrap();
        let baseline = Baseline::open(&folder.path().join("store"), true).unwrap();
        std::fs::write(baseline.folder().join("README"), "not ours").unwrap();
        for _ in 0..8 {
            baseline.add(&[file.clone(), file.clone()]).unwrap();
        }
        let files = baseline.files().unwrap();
        let names: Vec<_> = files.iter().map(|file| numbers(file).unwrap()).collect();
        let wanted: Vec<_> = (4..=8).flat_map(|set| [(set, 1), (set, 2)]).collect();
        assert_eq!(names, wanted);
        assert_eq!(std::fs::read_dir(baseline.folder()).unwrap().count(), 11);
    }
}
