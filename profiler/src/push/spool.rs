//! Profiles on disk until a server has them. One folder a destination, one file a profile; what a file's
//! name says is all that must be known to keep the order, to bound, and to count. Written beside and
//! renamed: after a `kill -9` there is the whole file or none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::cli::Failure;

/// The end of a file's name.
const ENDING: &str = ".pb.gz";
/// What is being written.
const PARTIAL: &str = ".part";
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// In the order of sampling.
    number: u64,
    /// When its sampling began: nanoseconds since 1970.
    taken: u64,
    /// Samples in it.
    pub samples: u64,
    /// Pieces of it that are done with, as it is split for its server.
    pub sent: u32,
    bytes: u64,
}

impl Entry {
    fn name(&self) -> String {
        format!(
            "{:016}-{}-{}-{}{ENDING}",
            self.number, self.taken, self.samples, self.sent
        )
    }

    fn read(name: &str, bytes: u64) -> Option<Self> {
        let mut words = name.strip_suffix(ENDING)?.splitn(4, '-');
        let mut word = || words.next();
        let entry = Self {
            number: word()?.parse().ok()?,
            taken: word()?.parse().ok()?,
            samples: word()?.parse().ok()?,
            sent: word()?.parse().ok()?,
            bytes,
        };
        (entry.name() == name).then_some(entry)
    }
}

/// The profiles that wait for one server.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    bounds: Bounds,
    /// In the order of sampling.
    entries: std::collections::VecDeque<Entry>,
    next: u64,
    /// Profiles and samples that the bounds threw out, since it was opened.
    pub evicted: (u64, u64),
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
        entries.sort_unstable();
        let next = entries.last().map_or(0, |entry| entry.number + 1);
        Ok(Self {
            folder: folder.to_owned(),
            bounds,
            entries: entries.into(),
            next,
            evicted: (0, 0),
            _lock: lock,
        })
    }

    /// Keeps a profile, and throws out the oldest as far as the bounds ask for it.
    ///
    /// # Errors
    /// It cannot be written: the disk is full, say. Nothing of it is left then.
    pub fn put(&mut self, profile: &[u8], taken: SystemTime, samples: u64) -> io::Result<()> {
        self.bound(profile.len() as u64, taken);
        let taken = taken
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let entry = Entry {
            number: self.next,
            taken: u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX),
            samples,
            sent: 0,
            bytes: profile.len() as u64,
        };
        let partial = self.folder.join(format!("{}{PARTIAL}", entry.number));
        let written = self
            .write(&partial, profile)
            .and_then(|()| fs::rename(&partial, self.path(&entry)));
        if let Err(error) = written {
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        self.next += 1;
        self.entries.push_back(entry);
        Ok(())
    }

    fn write(&self, path: &Path, profile: &[u8]) -> io::Result<()> {
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

    /// Throws out what is too old, and the oldest until there is room for so many bytes.
    fn bound(&mut self, room: u64, now: SystemTime) {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut bytes = self.bytes().saturating_add(room);
        while let Some(oldest) = self.entries.front() {
            // One of the future is not old: the clock was set back.
            let old = Duration::from_nanos(oldest.taken) + self.bounds.age < now;
            if !old && bytes <= self.bounds.bytes {
                break;
            }
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            bytes = bytes.saturating_sub(oldest.bytes);
            self.evicted.0 += 1;
            self.evicted.1 += oldest.samples;
            let _ = fs::remove_file(self.path(&oldest));
        }
    }

    /// The one that is to be sent first, and its content; one that cannot be read any more is evicted.
    pub fn oldest(&mut self) -> Option<(Entry, Vec<u8>)> {
        loop {
            let entry = self.entries.front()?.clone();
            match fs::read(self.path(&entry)) {
                Ok(profile) => return Some((entry, profile)),
                Err(_) => self.evict(&entry),
            }
        }
    }

    /// So many pieces of it are done with.
    ///
    /// # Errors
    /// Those of renaming its file.
    pub fn progress(&mut self, entry: &Entry, sent: u32) -> io::Result<()> {
        let before = self.path(entry);
        let folder = self.folder.clone();
        if let Some(known) = self
            .entries
            .iter_mut()
            .find(|known| known.number == entry.number)
        {
            known.sent = sent;
            fs::rename(before, folder.join(known.name()))?;
        }
        Ok(())
    }

    /// It is done with: the server has it, or will never.
    pub fn remove(&mut self, entry: &Entry) {
        if let Some(at) = self
            .entries
            .iter()
            .position(|known| known.number == entry.number)
            && let Some(known) = self.entries.remove(at)
        {
            let _ = fs::remove_file(self.path(&known));
        }
    }

    /// It is thrown out unsent.
    fn evict(&mut self, entry: &Entry) {
        self.evicted.0 += 1;
        self.evicted.1 += entry.samples;
        self.remove(entry);
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Profiles that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Samples that wait.
    pub fn samples(&self) -> u64 {
        self.entries.iter().map(|entry| entry.samples).sum()
    }

    /// Bytes of all that waits.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.folder.join(entry.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: 100,
        age: Duration::from_secs(3600),
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn ours(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("a/b")
    }

    #[test]
    fn in_order_and_over_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&ours(&folder), BOUNDS).unwrap();
        for n in 0..3u8 {
            spool.put(&[n; 9], at(n.into()), u64::from(n) + 1).unwrap();
        }
        let (first, profile) = spool.oldest().unwrap();
        assert_eq!((first.samples, profile), (1, vec![0; 9]));
        spool.remove(&first);
        let (second, _) = spool.oldest().unwrap();
        spool.progress(&second, 2).unwrap();
        fs::write(ours(&folder).join("7.part"), "half").unwrap();
        assert!(Spool::open(&ours(&folder), BOUNDS).is_err(), "in use");
        drop(spool);
        let mut spool = Spool::open(&ours(&folder), BOUNDS).unwrap();
        assert_eq!((spool.len(), spool.samples(), spool.bytes()), (2, 5, 18));
        assert_eq!(spool.oldest().unwrap().0.sent, 2);
        assert!(!ours(&folder).join("7.part").exists());
        // The clock was set back: the order is that of sampling.
        spool.put(&[9], at(0), 9).unwrap();
        assert_eq!(spool.oldest().unwrap().0.samples, 2);
    }

    #[test]
    fn bounds() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(&ours(&folder), BOUNDS).unwrap();
        for n in 0..4 {
            spool.put(&[0; 40], at(n), 10).unwrap();
        }
        assert_eq!((spool.len(), spool.evicted), (2, (2, 20)));
        spool.put(&[0; 1], at(3603), 1).unwrap();
        assert_eq!((spool.len(), spool.evicted), (2, (3, 30)));
        // Nothing else may be larger than all of it.
        spool.put(&[0; 101], at(3603), 1).unwrap();
        assert_eq!(spool.len(), 1);
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
