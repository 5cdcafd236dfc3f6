//! The loop: stored inputs first, then seeds as they are, then changed ones until the time is over.

use std::collections::hash_map::DefaultHasher;
use std::ffi::CString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::limits::measured;
use crate::mutate::{Random, Seed, mutate};
use crate::reached::Reached;

/// Seconds for each target; without it [`BRIEF`].
const SECONDS: &str = "RPROF_FUZZ_SECONDS";
/// So long that all targets together take about a minute.
const BRIEF: Duration = Duration::from_secs(4);
/// How long a failing input is made smaller.
const SHRINKING: Duration = Duration::from_secs(20);
/// Inputs that reach something new are kept to be changed further, so many bytes of them.
const MAX_KEPT: usize = 64 << 20;

/// Tries inputs like `seeds` on `check`, which panics if something is wrong.
///
/// # Panics
/// If an input fails, or costs more than [`crate::limits`] allows. It is stored by then.
pub(crate) fn fuzz(target: &str, seeds: &[Seed], check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/inputs")
        .join(target.replace("::", "-"));
    let run = Run {
        folder,
        check: &check,
    };
    run.stored();
    // Where the handler of a dying process may write.
    fs::create_dir_all(&run.folder).expect("a folder for what fails");
    let limit = std::env::var(SECONDS).ok().map(|text| {
        let seconds: f64 = text.parse().expect("RPROF_FUZZ_SECONDS is a number");
        Duration::from_secs_f64(seconds)
    });
    // A brief run tries the same each time: what it finds is of the change that it is run for.
    let first = match limit {
        None => 1,
        Some(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |t| t.as_nanos() as u64),
    };
    let (start, limit) = (Instant::now(), limit.unwrap_or(BRIEF));
    let mut random = Random(first);
    let mut reached = Reached::default();
    let mut inputs: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut kept = 0;
    let (mut tried, mut slowest, mut largest) = (0u64, Duration::ZERO, 0);
    for (number, seed) in seeds.iter().enumerate() {
        run.one(&seed.bytes, &seed.bytes);
        reached.is_new();
        inputs.push((number, seed.bytes.clone()));
    }
    while start.elapsed() < limit {
        let (number, from) = random.one_of(&inputs);
        let (number, mut bytes) = (*number, from.clone());
        let (_, other) = random.one_of(&inputs);
        mutate(&mut random, &mut bytes, &seeds[number], other);
        let cost = run.one(&bytes, &seeds[number].bytes);
        tried += 1;
        slowest = slowest.max(cost.0);
        largest = largest.max(cost.1);
        if reached.is_new() && kept < MAX_KEPT {
            kept += bytes.len();
            inputs.push((number, bytes));
        }
    }
    // Gone if it is empty.
    let _ = fs::remove_dir(&run.folder);
    println!(
        "{target}: {tried} inputs in {:.0} s ({:.0} a second), {} kept; slowest {slowest:.1?}, \
         most memory {} KiB; began with {first}{reached}",
        start.elapsed().as_secs_f64(),
        tried as f64 / start.elapsed().as_secs_f64(),
        inputs.len() - seeds.len(),
        largest >> 10,
    );
}

struct Run<'c> {
    folder: PathBuf,
    check: &'c dyn Fn(&[u8]),
}

impl Run<'_> {
    /// What failed once.
    fn stored(&self) {
        let Ok(folder) = self.folder.read_dir() else {
            return;
        };
        let mut files: Vec<_> = folder.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let input = fs::read(&file).expect("a stored input");
            let cost = measured(&c_path(&file), &input, self.check);
            if let Some(failure) = cost.failure {
                panic!("{}: {failure}", file.display());
            }
        }
    }

    /// CPU time and memory of an input that was made from `seed`.
    fn one(&self, input: &[u8], seed: &[u8]) -> (Duration, usize) {
        let dying = self.folder.join(format!("dying-{}", std::process::id()));
        let path = c_path(&dying);
        let cost = measured(&path, input, self.check);
        if let Some(failure) = cost.failure {
            let fails = |input: &[u8]| measured(&path, input, self.check).failure.is_some();
            let input = smaller(input.to_vec(), seed, &fails);
            let failure = measured(&path, &input, self.check)
                .failure
                .unwrap_or(failure);
            let mut hasher = DefaultHasher::new();
            input.hash(&mut hasher);
            let file = self.folder.join(format!("{:016x}", hasher.finish()));
            fs::write(&file, &input).expect("a place for what failed");
            panic!("{failure}\nstored as {}", file.display());
        }
        (cost.cpu, cost.memory)
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path without NUL")
}

/// The input with as much of its seed as still fails, and as short.
fn smaller(mut input: Vec<u8>, seed: &[u8], fails: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let until = Instant::now() + SHRINKING;
    let mut size = seed.len().max(1);
    while size > 0 {
        for at in (0..seed.len().min(input.len())).step_by(size) {
            let end = seed.len().min(input.len()).min(at + size);
            if input[at..end] == seed[at..end] {
                continue;
            }
            let mut candidate = input.clone();
            candidate[at..end].copy_from_slice(&seed[at..end]);
            if Instant::now() > until {
                return input;
            }
            if fails(&candidate) {
                input = candidate;
            }
        }
        size /= 4;
    }
    let mut cut = input.len() / 2;
    while cut > 0 && Instant::now() < until {
        match fails(&input[..input.len() - cut]) {
            true => input.truncate(input.len() - cut),
            false => cut /= 2,
        }
        cut = cut.min(input.len() / 2);
    }
    input
}
