//! The start-up self-check: do the programs see an address space as it is?
//!
//! The loaded object enters; nothing leaves, or the first difference between what the walk of our
//! own mappings found (`rprof_ebpf::programs::self_check`, in our own context) and what
//! `/proc/self/maps` says. Compared are the addresses of all mappings, which of them are code, and
//! for code the file offset and the file. A kernel that keeps its mappings otherwise must not be
//! sampled: its frames would be named after the wrong files. Nothing of any other process is read.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{ProgramError, RawTracePoint};
use rprof_ebpf::module::ModuleKey;
use rprof_ebpf::self_check::{Kind, Walked};
use rprof_symbolize::module_file::Identity;

use super::programs;
use super::test_run::run;

/// How often we look again when our own mappings changed meanwhile.
const TRIES: usize = 8;
/// Above this, `maps` lists what is no mapping of ours: `[vsyscall]`.
const USER_END: u64 = 1 << 47;

/// Mappings and gaps of ours that are compared at most: a walk that leads nowhere has to end.
const MAX_ENTRIES: usize = 4096;

type Map = Array<MapData, Walked>;

/// Why there is no "yes".
#[derive(Debug)]
pub enum Error {
    /// The check's program was refused.
    Programs(programs::Error),
    /// It cannot be run.
    Run(io::Error),
    /// `/proc/self/maps` cannot be read.
    Maps(io::Error),
    /// Our own mappings did not hold still.
    Unstable,
    /// Where the walk and `/proc/self/maps` first differ, as one half of a sentence.
    Differs(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Programs(error) => write!(f, "its program cannot be loaded: {error}"),
            Self::Run(error) => write!(f, "its program cannot be run: {error}"),
            Self::Maps(error) => write!(f, "cannot read /proc/self/maps: {error}"),
            Self::Unstable => write!(f, "rprof's own mappings kept changing"),
            Self::Differs(where_) => write!(f, "{where_}"),
        }
    }
}

/// Loads the check's program, runs it, unloads it, and compares.
///
/// To be called before ticks are enabled: it uses the programs' state.
///
/// # Errors
/// See [`Error`].
pub fn check(ebpf: &mut Ebpf) -> Result<(), Error> {
    let missing = |name| Error::Programs(programs::Error::Missing(name));
    let map = ebpf.take_map("WALKED").ok_or_else(|| missing("WALKED"))?;
    let map = Array::try_from(map).map_err(|error| Error::Programs(error.into()))?;
    let failed = |error: ProgramError| Error::Programs(error.into());
    let program: &mut RawTracePoint = ebpf
        .program_mut("self_check")
        .ok_or_else(|| missing("self_check"))?
        .try_into()
        .map_err(failed)?;
    program.load().map_err(failed)?;
    let result = program
        .fd()
        .map_err(failed)
        .and_then(|fd| compare_with_maps(fd.as_fd(), &map));
    program.unload().map_err(failed)?;
    result
}

fn compare_with_maps(program: BorrowedFd<'_>, map: &Map) -> Result<(), Error> {
    let maps = || fs::read_to_string("/proc/self/maps").map_err(Error::Maps);
    let mut before = maps()?;
    for _ in 0..TRIES {
        let walked = walk(program, map)?;
        let after = maps()?;
        if before == after {
            return compare(&walked, &after, is_file).map_err(Error::Differs);
        }
        before = after;
    }
    Err(Error::Unstable)
}

/// A mapping that the walk found: its first address in the tree, and the rest.
type Found = (u64, Walked);

/// All mappings that the walk finds in our own address space, from the lowest address up.
fn walk(program: BorrowedFd<'_>, map: &Map) -> Result<Vec<Found>, Error> {
    let mut all = Vec::with_capacity(256);
    let mut address = 1;
    for _ in 0..MAX_ENTRIES {
        let is_found = run(program, address).map_err(Error::Run)? == 0;
        let found = map
            .get(&0, 0)
            .map_err(|error| Error::Programs(error.into()))?;
        // A walk that does not get on is no walk of a tree; the comparison shows where it ended.
        if !is_found || found.last < address {
            break;
        }
        if found.kind != Kind::Gap as u64 {
            all.push((address, found));
        }
        if found.last >= USER_END {
            break;
        }
        address = found.last + 1;
    }
    Ok(all)
}

/// What a line of `maps` says.
struct Listed<'a> {
    start: u64,
    end: u64,
    offset: u64,
    kind: Kind,
    path: &'a str,
}

impl<'a> Listed<'a> {
    /// `start-end rwxp offset major:minor inode path`
    fn parse(line: &'a str) -> Option<Self> {
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let mut rest = line;
        let mut word = || {
            let (word, after) = rest.split_once(' ')?;
            rest = after;
            Some(word)
        };
        let (start, end) = word()?.split_once('-')?;
        let (rights, offset, _device, inode) = (word()?, hex(word()?)?, word()?, word()?);
        let path = rest.trim_start();
        let kind = match (rights.contains('x'), inode, path) {
            (false, ..) => Kind::Data,
            (true, "0", "[vdso]") => Kind::Vdso,
            (true, "0", _) => Kind::Anonymous,
            (true, ..) => Kind::File,
        };
        Some(Self {
            start: hex(start)?,
            end: hex(end)?,
            offset,
            kind,
            path,
        })
    }
}

/// The first difference, if there is one. `is_file` says whether the file of a line can have a key.
fn compare(
    walked: &[Found],
    maps: &str,
    is_file: impl Fn(&Listed<'_>, &ModuleKey) -> bool,
) -> Result<(), String> {
    let mut walked = walked.iter();
    for line in maps.lines() {
        let listed = Listed::parse(line)
            .ok_or_else(|| format!("/proc/self/maps has a line of another form: `{line}`"))?;
        if listed.start >= USER_END {
            break;
        }
        let differs = |found: &str| {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            Err(format!(
                "/proc/self/maps lists `{line}`, rprof's walk {found}"
            ))
        };
        let Some((first, found)) = walked.next() else {
            return differs("ended before it");
        };
        let range = |start, end| format!("found {start:x}-{end:x} there");
        let in_tree = (*first, found.last.saturating_add(1));
        if in_tree != (listed.start, listed.end) {
            return differs(&range(in_tree.0, in_tree.1));
        }
        if found.kind != listed.kind as u64 {
            return differs(match found.kind {
                kind if kind == Kind::Data as u64 => "found no code there",
                kind if kind == Kind::File as u64 => "found a file's code there",
                kind if kind == Kind::Vdso as u64 => "found the vDSO there",
                _ => "found code of no file there",
            });
        }
        if listed.kind == Kind::Data {
            continue;
        }
        if (found.start, found.end) != (listed.start, listed.end) {
            return differs(&range(found.start, found.end));
        }
        if listed.kind == Kind::Anonymous {
            continue;
        }
        if found.offset != listed.offset {
            return differs(&format!("found file offset {:x} there", found.offset));
        }
        if listed.kind == Kind::File && !is_file(&listed, &found.key) {
            let ModuleKey {
                dev,
                ino,
                size,
                ctime_sec,
                ctime_nsec,
                ..
            } = found.key;
            let (major, minor) = (dev >> 20, dev & 0xf_ffff);
            return differs(&format!(
                "found another file there (device {major:x}:{minor:x}, inode {ino}, {size} bytes, \
                 changed at {ctime_sec}.{ctime_nsec:09})"
            ));
        }
    }
    match walked.next() {
        None => Ok(()),
        Some((first, found)) => Err(format!(
            "/proc/self/maps lists nothing more, rprof's walk found a mapping {first:x}-{:x}",
            found.last.saturating_add(1)
        )),
    }
}

/// Whether the kernel's own inode of a mapping has this key; yes, if that cannot be seen from here
/// (overlays, file systems that we may not ask).
fn is_file(listed: &Listed<'_>, key: &ModuleKey) -> bool {
    let link = format!("/proc/self/map_files/{:x}-{:x}", listed.start, listed.end);
    let file = File::open(link).or_else(|_| File::open(Path::new(listed.path)));
    let identity = file.ok().and_then(|file| Identity::of(&file).ok());
    identity.is_none_or(|identity| !identity.has_inode || identity.is(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
5566a1000000-5566a1004000 r--p 00000000 fe:00 1234                       /usr/bin/my prog
5566a1004000-5566a1008000 r-xp 00004000 fe:00 1234                       /usr/bin/my prog
7ffff7fc0000-7ffff7fc2000 r-xp 00000000 00:00 0                          [vdso]
7ffff7fd0000-7ffff7fd1000 rwxp 00000000 00:00 0 
7fffffffd000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";
    const KEY: ModuleKey = ModuleKey {
        ino: 1234,
        ..ModuleKey::VDSO
    };

    fn walked() -> Vec<Found> {
        let none = ModuleKey::VDSO;
        let found = |first: u64, behind: u64, offset, key, kind| {
            let is_code = kind != Kind::Data;
            let (start, end) = if is_code { (first, behind) } else { (0, 0) };
            (
                first,
                Walked {
                    last: behind - 1,
                    start,
                    end,
                    offset,
                    key,
                    kind: kind as u64,
                },
            )
        };
        vec![
            found(0x5566_a100_0000, 0x5566_a100_4000, 0, none, Kind::Data),
            found(0x5566_a100_4000, 0x5566_a100_8000, 0x4000, KEY, Kind::File),
            found(0x7fff_f7fc_0000, 0x7fff_f7fc_2000, 0, none, Kind::Vdso),
            found(0x7fff_f7fd_0000, 0x7fff_f7fd_1000, 0, none, Kind::Anonymous),
            found(0x7fff_ffff_d000, 0x7fff_ffff_f000, 0, none, Kind::Data),
        ]
    }

    fn compared(walked: &[Found]) -> Result<(), String> {
        compare(walked, MAPS, |listed, key| {
            listed.path == "/usr/bin/my prog" && *key == KEY
        })
    }

    #[test]
    fn what_agrees_passes() {
        assert_eq!(compared(&walked()), Ok(()));
    }

    #[test]
    fn each_difference_is_named() {
        type Change = fn(&mut Vec<Found>);
        let changes: [(Change, &str); 12] = [
            (|w| w[1].0 += 0x1000, "r-xp 00004000 fe:00 1234"),
            (
                |w| w[1].1.start += 0x1000,
                "walk found 5566a1005000-5566a1008000",
            ),
            (
                |w| w[3].1.end += 0x1000,
                "walk found 7ffff7fd0000-7ffff7fd2000",
            ),
            (
                |w| w[4].1.last -= 0x1000,
                "[stack]`, rprof's walk found 7fffffffd000-7fffffffe000",
            ),
            (|w| w[1].1.offset = 4, "found file offset 4"),
            (
                |w| w[2].1.offset = 0x1000,
                "[vdso]`, rprof's walk found file offset 1000",
            ),
            (|w| w[1].1.key.ino += 1, "found another file"),
            (|w| w[1].1.kind = Kind::Data as u64, "found no code"),
            (|w| w[0].1.kind = Kind::File as u64, "found a file's code"),
            (
                |w| w[2].1.kind = Kind::Anonymous as u64,
                "found code of no file",
            ),
            (
                |w| w.truncate(w.len() - 1),
                "[stack]`, rprof's walk ended before it",
            ),
            (
                |w| w.push(w[4]),
                "found a mapping 7fffffffd000-7ffffffff000",
            ),
        ];
        for (change, expected) in changes {
            let mut walked = walked();
            change(&mut walked);
            let message = compared(&walked).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
        assert!(compare(&walked(), "what is this", |_, _| true).is_err());
    }
}
