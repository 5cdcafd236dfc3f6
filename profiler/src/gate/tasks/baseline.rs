//! A store of earlier runs, in a folder that CI keeps from job to job: a set of runs each time, the newest ones stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::cli::Failure;
use crate::cli::retype::quoted;
use crate::gate::once::{Content, content};
use crate::profile::output::{make_folder, sudo_caller};

mod days;
pub(super) use days::look;

/// Sets that are kept.
const SETS: usize = 5;
/// Ends the name of a file: `set-000012-run-003.pb.gz`.
const END: &str = ".pb.gz";
/// Begins and ends the name of a file that is being added.
const ADDING: [&str; 2] = [".rprof-", ".part"];
/// Nobody adds a file for so long: who has begun it was killed.
const LONG: Duration = Duration::from_secs(3600);

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
        make_folder(folder).map_err(|error| {
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

    /// How much it holds: `10 runs of 1 set`.
    ///
    /// # Errors
    /// The folder can not be read.
    pub(super) fn size(&self) -> Result<String, Failure> {
        let sets = self.sets()?;
        let runs: usize = sets.values().map(Vec::len).sum();
        let s = |n: usize| if n == 1 { "" } else { "s" };
        let (of_runs, of_sets) = (s(runs), s(sets.len()));
        Ok(format!(
            "{runs} run{of_runs} of {} set{of_sets}",
            sets.len()
        ))
    }

    /// Its runs that are none of these, and those of these that it does not hold: a job that is run again has put its
    /// runs here already, and they are not to be compared with themselves.
    ///
    /// # Errors
    /// The folder can not be read.
    pub(super) fn apart(&self, head: &[PathBuf]) -> Result<[Vec<PathBuf>; 2], Failure> {
        let stored: Vec<PathBuf> = self.sets()?.into_values().flatten().collect();
        // What can not be read is no run; who reads it later says why.
        let not_in = |files: &[PathBuf], others: &[PathBuf]| -> Vec<PathBuf> {
            let others: BTreeSet<Content> =
                others.iter().filter_map(|file| content(file)).collect();
            let is_other = |file: &&PathBuf| content(file).is_none_or(|of| !others.contains(&of));
            files.iter().filter(is_other).cloned().collect()
        };
        Ok([not_in(&stored, head), not_in(head, &stored)])
    }

    /// How many profiles are here that were put here by hand.
    ///
    /// # Errors
    /// The folder can not be read.
    pub(super) fn strangers(&self) -> Result<usize, Failure> {
        let is_stranger = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(END) && numbers(path).is_none()
        };
        Ok(self.entries()?.filter(is_stranger).count())
    }

    /// Adds a set, and lets go what is too old.
    ///
    /// # Errors
    /// It can not be written; then nothing was added.
    pub(super) fn add(&self, files: &[PathBuf]) -> Result<(), Failure> {
        self.remove_unfinished();
        let sets = self.sets()?;
        let mut number = sets.last_key_value().map_or(1, |(number, _)| number + 1);
        let copies = files.iter().map(|file| self.copy(file));
        let copies =
            (copies.collect::<io::Result<Vec<_>>>()).map_err(|error| self.not_written(&error))?;
        let mut added: Vec<PathBuf> = Vec::new();
        for (run, mut copy) in (1..).zip(copies) {
            loop {
                let path = self
                    .folder
                    .join(format!("set-{number:06}-run-{run:03}{END}"));
                match copy.persist_noclobber(&path) {
                    Ok(_) => break added.push(path),
                    // Of another job, which is at the same. Who has the first run of a number has all of them.
                    Err(error) if run == 1 && error.error.kind() == ErrorKind::AlreadyExists => {
                        copy = error.file;
                        number += 1;
                    }
                    Err(error) => {
                        for path in added {
                            let _ = std::fs::remove_file(path);
                        }
                        return Err(self.not_written(&error.error));
                    }
                }
            }
        }
        let old = (sets.len() + 1).saturating_sub(SETS);
        for file in sets.into_values().take(old).flatten() {
            // What stays is let go next time.
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }

    /// A copy in the folder, without a name that counts. Under sudo it belongs to the caller.
    fn copy(&self, file: &Path) -> io::Result<NamedTempFile> {
        let mut file = File::open(file)?;
        let [begin, end] = ADDING;
        let mut copy = tempfile::Builder::new()
            .prefix(begin)
            .suffix(end)
            .tempfile_in(&self.folder)?;
        io::copy(&mut file, &mut copy)?;
        copy.as_file()
            .set_permissions(file.metadata()?.permissions())?;
        if let Some((user, group)) = sudo_caller() {
            let _ = std::os::unix::fs::fchown(copy.as_file(), Some(user), Some(group));
        }
        Ok(copy)
    }

    /// Removes what jobs have left that were killed while they added. Others may be adding right now.
    fn remove_unfinished(&self) {
        let is_unfinished = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let [begin, end] = ADDING;
            let changed = path.symlink_metadata().and_then(|about| about.modified());
            let age = changed.ok().and_then(|changed| changed.elapsed().ok());
            name.starts_with(begin) && name.ends_with(end) && age.is_some_and(|age| age > LONG)
        };
        for path in self.entries().into_iter().flatten().filter(is_unfinished) {
            // What stays is removed next time.
            let _ = std::fs::remove_file(path);
        }
    }

    fn sets(&self) -> Result<BTreeMap<u64, Vec<PathBuf>>, Failure> {
        let mut sets: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
        for path in self.entries()? {
            if let Some((set, _)) = numbers(&path) {
                sets.entry(set).or_default().push(path);
            }
        }
        sets.values_mut().for_each(|files| files.sort());
        Ok(sets)
    }

    fn entries(&self) -> Result<impl Iterator<Item = PathBuf> + use<>, Failure> {
        let entries = std::fs::read_dir(&self.folder).map_err(|error| {
            Failure::file("read", &self.folder, &error)
                .next(format!("ls -ld {}", quoted(&self.folder.to_string_lossy())))
        })?;
        Ok(entries.flatten().map(|entry| entry.path()))
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
        let files = baseline.sets().unwrap().into_values().flatten();
        let names: Vec<_> = files.map(|file| numbers(&file).unwrap()).collect();
        let wanted: Vec<_> = (4..=8).flat_map(|set| [(set, 1), (set, 2)]).collect();
        assert_eq!(names, wanted);
        assert_eq!(std::fs::read_dir(baseline.folder()).unwrap().count(), 11);
    }

    #[test]
    fn what_was_not_added_to_its_end_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pb.gz");
        std::fs::write(&file, "profile").unwrap();
        let baseline = Baseline::open(&folder.path().join("store"), true).unwrap();
        let now = std::time::SystemTime::now();
        for (name, age) in [
            (".rprof-old.part", 2 * LONG),
            (".rprof-new.part", LONG / 2),
            (".other", 2 * LONG),
        ] {
            let file = File::create(baseline.folder().join(name)).unwrap();
            file.set_modified(now - age).unwrap();
        }
        baseline.add(&[file]).unwrap();
        let names = baseline.entries().unwrap();
        let mut names: Vec<_> = names
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [".other", ".rprof-new.part", "set-000001-run-001.pb.gz"]
        );
    }

    #[test]
    fn jobs_that_add_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        std::thread::scope(|scope| {
            for job in 0..SETS {
                let file = folder.path().join(format!("{job}.pb.gz"));
                std::fs::write(&file, format!("profile {job}")).unwrap();
                let baseline = Baseline::open(&store, true).unwrap();
                scope.spawn(move || baseline.add(&vec![file; 20]).unwrap());
            }
        });
        // All are there, and no set is of two jobs.
        let baseline = Baseline::open(&store, false).unwrap();
        assert_eq!(baseline.size().unwrap(), "100 runs of 5 sets");
        for files in baseline.sets().unwrap().into_values() {
            let contents: BTreeSet<_> = files.iter().map(|file| content(file)).collect();
            assert_eq!(contents.len(), 1);
        }
    }

    #[test]
    fn runs_that_are_stored() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b", "c"].map(|name| {
            let file = folder.path().join(name);
            std::fs::write(&file, name).unwrap();
            file
        });
        let [a, b, c] = files;
        let baseline = Baseline::open(&folder.path().join("store"), true).unwrap();
        baseline.add(&[a.clone(), b.clone()]).unwrap();
        let [others, new] = baseline.apart(&[b, c.clone()]).unwrap();
        assert_eq!(new, [c]);
        assert_eq!(others, [baseline.folder().join("set-000001-run-001.pb.gz")]);
        std::fs::write(baseline.folder().join("mine.pb.gz"), "d").unwrap();
        assert_eq!(baseline.strangers().unwrap(), 1);
        assert_eq!(baseline.size().unwrap(), "2 runs of 1 set");
    }
}
