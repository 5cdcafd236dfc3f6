//! Profiles on disk until a server has them. One folder a destination, one file a profile; what a file's
//! name says is all that must be known to keep the order, to bound, and to count. Written beside and
//! renamed: after a `kill -9` there is the whole file or none. Who holds a [`Spool`] waits for no data to
//! be written or read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::cli::Failure;

/// The end of a file's name.
const ENDING: &str = ".pb.gz";
/// What is being written.
const PARTIAL: &str = "part";
/// Held by who uses the folder.
const LOCK: &str = "lock";

/// What a spool may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files.
    pub bytes: u64,
    /// Since the sampling of a profile.
    pub age: Duration,
}

/// One profile that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In the order of sampling.
    pub number: u64,
    /// When its sampling began: nanoseconds since 1970.
    taken: u64,
    /// Samples in it that wait.
    pub samples: u64,
    /// Pieces of it that are done with, as it is split for its server.
    pub done: u32,
    bytes: u64,
    /// When this run kept it: its age by a clock that nobody sets.
    put: Option<Instant>,
}

impl Entry {
    fn name(&self) -> String {
        format!(
            "{:016}-{}-{}-{}{ENDING}",
            self.number, self.taken, self.samples, self.done
        )
    }

    fn read(name: &str, bytes: u64) -> Option<Self> {
        let mut words = name.strip_suffix(ENDING)?.splitn(4, '-');
        let mut word = || words.next();
        let entry = Self {
            number: word()?.parse().ok()?,
            taken: word()?.parse().ok()?,
            samples: word()?.parse().ok()?,
            done: word()?.parse().ok()?,
            bytes,
            put: None,
        };
        (entry.name() == name).then_some(entry)
    }

    /// Since its sampling; one of the future is new: the clock was set back.
    fn age(&self, now: SystemTime) -> Duration {
        let taken = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.taken);
        self.put.map_or_else(
            || now.duration_since(taken).unwrap_or_default(),
            |put| put.elapsed(),
        )
    }

    /// The time by the clock that it was taken by, which may have been set since.
    pub fn now(&self) -> SystemTime {
        let now = SystemTime::now();
        match self.put {
            Some(put) => SystemTime::UNIX_EPOCH + Duration::from_nanos(self.taken) + put.elapsed(),
            None => now,
        }
    }
}

/// The profiles that wait for one server.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    bounds: Bounds,
    /// In the order of sampling.
    entries: Vec<Entry>,
    next: u64,
    /// The one that is being sent: no bound throws it out.
    held: Option<u64>,
    /// Samples that the bounds threw out, since it was opened.
    pub evicted: u64,
    /// Held while it lives.
    _lock: File,
}

impl Spool {
    /// Opens a folder, which is made if it is not there. Half-written files of who was killed go.
    ///
    /// # Errors
    /// The folder is not ours alone, or in use, or cannot be written to.
    pub fn open(folder: &Path, bounds: Bounds) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::file("use the spool", folder, &error);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        let found = fs::symlink_metadata(folder).map_err(failed)?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        if !found.is_dir() || !ours || found.mode() & 0o022 != 0 {
            return Err(Failure::new(format!(
                "the spool {} is not ours alone: others may put files there, which would be sent",
                folder.display()
            ))
            .next(format!("ls -ld {}", folder.display())));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(folder.join(LOCK))
            .map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Failure::new(format!(
                "the spool {} is in use by another rprof",
                folder.display()
            ))
            .next("pgrep -a rprof"));
        }
        let mut entries = Vec::new();
        for file in fs::read_dir(folder).map_err(failed)? {
            let file = file.map_err(failed)?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(PARTIAL) {
                let _ = fs::remove_file(file.path());
            } else if let Ok(found) = file.metadata()
                && found.is_file()
                && let Some(entry) = Entry::read(&name, found.len())
            {
                entries.push(entry);
            }
        }
        entries.sort_unstable_by_key(|entry| entry.number);
        let next = entries.last().map_or(0, |entry| entry.number + 1);
        let mut spool = Self {
            folder: folder.to_owned(),
            bounds,
            entries,
            next,
            held: None,
            evicted: 0,
            _lock: lock,
        };
        spool.bound(0);
        Ok(spool)
    }

    /// Makes room for a profile of so many bytes: throws out what is too old, and the oldest as far as the
    /// bounds ask for it. The profile is to be [`write()`]n, and then to be [kept](Spool::keep).
    pub fn reserve(&mut self, bytes: u64, taken: SystemTime, samples: u64) -> Entry {
        self.bound(bytes);
        let taken = taken
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let number = self.next;
        self.next += 1;
        Entry {
            number,
            taken: u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX),
            samples,
            done: 0,
            bytes,
            put: Some(Instant::now()),
        }
    }

    /// It is on disk, and waits.
    pub fn keep(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Throws out what is too old, and the oldest until there is room for so many bytes.
    fn bound(&mut self, room: u64) {
        let (now, bounds, held) = (SystemTime::now(), self.bounds, self.held);
        let mut bytes = self.bytes().saturating_add(room);
        let (out, kept) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|entry| {
                let out = held != Some(entry.number)
                    && (bytes > bounds.bytes || entry.age(now) > bounds.age);
                bytes -= if out { entry.bytes } else { 0 };
                out
            });
        self.entries = kept;
        let out: Vec<Entry> = out;
        for entry in out {
            self.evicted += entry.samples;
            let _ = fs::remove_file(self.path(&entry));
        }
    }

    /// The first that may be sent; it is held until another is.
    pub fn hold(&mut self, may: impl Fn(u64) -> bool) -> Option<Entry> {
        let first = self.entries.iter().find(|entry| may(entry.number));
        self.held = first.map(|entry| entry.number);
        first.cloned()
    }

    /// None is being sent.
    pub fn release(&mut self) {
        self.held = None;
    }

    /// Whether it waits.
    pub fn has(&self, number: u64) -> bool {
        self.entries.iter().any(|entry| entry.number == number)
    }

    /// So many pieces of it are done with, and so many samples wait.
    ///
    /// # Errors
    /// Those of renaming its file.
    pub fn progress(&mut self, number: u64, done: u32, samples: u64) -> io::Result<()> {
        let folder = &self.folder;
        if let Some(known) = self.entries.iter_mut().find(|known| known.number == number) {
            let new = Entry {
                done,
                samples,
                ..known.clone()
            };
            fs::rename(folder.join(known.name()), folder.join(new.name()))?;
            *known = new;
        }
        Ok(())
    }

    /// It is done with: the server has it, or will never. What it was.
    pub fn remove(&mut self, number: u64) -> Option<Entry> {
        let at = self
            .entries
            .iter()
            .position(|known| known.number == number)?;
        let known = self.entries.remove(at);
        let _ = fs::remove_file(self.path(&known));
        Some(known)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Profiles that wait.
    pub fn profiles(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Samples that wait.
    pub fn samples(&self) -> u64 {
        self.entries.iter().map(|entry| entry.samples).sum()
    }

    /// Bytes of all that waits.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// Where one is.
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.folder.join(entry.name())
    }
}

/// Writes the profile of an entry to its path: whole, or not at all. Takes as long as the disk does.
///
/// # Errors
/// It cannot be written: the disk is full, say. Nothing of it is left then.
pub fn write(path: &Path, profile: &[u8]) -> io::Result<()> {
    let partial = path.with_added_extension(PARTIAL);
    let written = write_partial(&partial, profile).and_then(|()| {
        fs::rename(&partial, path)?;
        // Of a power failure: the new name is on disk, too.
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    });
    written.inspect_err(|_| {
        let _ = fs::remove_file(&partial);
    })
}

fn write_partial(path: &Path, profile: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(profile)?;
    // Else the name may be on disk before the content, and after a power failure stand for nothing.
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 100,
        age: Duration::from_secs(3600),
    };

    fn ago(seconds: u64) -> SystemTime {
        SystemTime::now() - Duration::from_secs(seconds)
    }

    fn ours(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("a/b")
    }

    fn put(spool: &mut Spool, profile: &[u8], taken: SystemTime, samples: u64) {
        let entry = spool.reserve(profile.len() as u64, taken, samples);
        write(&spool.path(&entry), profile).unwrap();
        spool.keep(entry);
    }

    #[test]
    fn in_order_and_over_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&ours(&folder), BOUNDS).unwrap();
        for n in 0..3u8 {
            put(&mut spool, &[n; 9], ago(9), u64::from(n) + 1);
        }
        let first = spool.hold(|_| true).unwrap();
        assert_eq!(fs::read(spool.path(&first)).unwrap(), vec![0; 9]);
        assert_eq!(spool.remove(first.number).unwrap().samples, 1);
        let second = spool.hold(|_| true).unwrap();
        spool.progress(second.number, 2, 1).unwrap();
        assert_eq!(spool.hold(|n| n != second.number).unwrap().samples, 3);
        fs::write(ours(&folder).join("7.part"), "half").unwrap();
        assert!(Spool::open(&ours(&folder), BOUNDS).is_err(), "in use");
        drop(spool);
        let mut spool = Spool::open(&ours(&folder), BOUNDS).unwrap();
        assert_eq!(
            (spool.profiles(), spool.samples(), spool.bytes()),
            (2, 4, 18)
        );
        assert_eq!(spool.hold(|_| true).unwrap().done, 2);
        assert!(!ours(&folder).join("7.part").exists());
        // The clock was set back: the order is that of sampling.
        put(&mut spool, &[9], ago(3000), 9);
        assert_eq!(spool.hold(|_| true).unwrap().samples, 1);
    }

    #[test]
    fn bounds() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&ours(&folder), BOUNDS).unwrap();
        for n in 0..4 {
            put(&mut spool, &[0; 40], ago(9), 10 + n);
        }
        assert_eq!((spool.profiles(), spool.evicted), (2, 10 + 11));
        // The one that is being sent stays.
        assert_eq!(spool.hold(|_| true).unwrap().samples, 12);
        put(&mut spool, &[0; 30], ago(9), 5);
        assert_eq!((spool.samples(), spool.evicted), (12 + 5, 21 + 13));
        // Nothing else may be larger than all of it.
        spool.hold(|n| n != 2).unwrap();
        put(&mut spool, &[0; 101], ago(9), 1);
        assert_eq!(spool.samples(), 5 + 1);
    }

    #[test]
    fn age_is_not_what_a_clock_that_is_set_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&ours(&folder), BOUNDS).unwrap();
        put(&mut spool, &[0], SystemTime::now() + BOUNDS.age * 9, 1);
        put(&mut spool, &[0], ago(4000), 2);
        put(&mut spool, &[0], ago(9), 4);
        assert_eq!(spool.samples(), 7);
        drop(spool);
        // Of another run nothing else is known. One of the future hides none behind it.
        let spool = Spool::open(&ours(&folder), BOUNDS).unwrap();
        assert_eq!((spool.samples(), spool.evicted), (5, 2));
    }

    #[test]
    fn a_profile_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.pb.gz");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, &[1]).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_others_may_write_to() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let said = Spool::open(folder.path(), BOUNDS).unwrap_err().to_string();
        assert!(said.contains("not ours alone"), "{said}");
    }

    #[test]
    fn names_of_others() {
        for name in [
            "lock",
            "a.pb.gz",
            "1-2-3-4.pb.gz",
            "0000000000000001-2-3.pb.gz",
        ] {
            assert_eq!(Entry::read(name, 1), None, "{name}");
        }
    }
}
