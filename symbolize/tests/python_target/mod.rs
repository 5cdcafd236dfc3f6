//! Interpreters to test against: found on this machine, started on a script that describes itself
//! and then stops, and read while it is stopped.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, ReadCache, elf};
use rprof_symbolize::reads::{Piece, ReadError, Reads};
use rprof_symbolize::runtimes::{Detected, Unknown, detect};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Executables of a version (`3.11`): those on `PATH`, and pyenv's.
pub(crate) fn interpreters(version: &str) -> BTreeSet<PathBuf> {
    let name = format!("python{version}");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all: BTreeSet<_> = std::env::split_paths(&path).collect();
    let pyenv = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".pyenv")));
    let versions = pyenv.and_then(|root| root.join("versions").read_dir().ok());
    all.extend(
        versions
            .into_iter()
            .flatten()
            .flatten()
            .map(|v| v.path().join("bin")),
    );
    all.iter()
        .filter_map(|folder| folder.join(&name).canonicalize().ok())
        .filter(|file| is_elf(file))
        .collect()
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).is_ok_and(|f| f.read_exact_at(&mut magic, 0).is_ok()) && magic == *b"\x7fELF"
}

/// [`detect`] on a file, read piecewise.
pub(crate) fn detect_file(path: &Path) -> Result<Option<Detected>, Unknown> {
    let data = ReadCache::new(File::open(path).unwrap());
    detect(&data, Some(path))
}

/// A stopped interpreter.
pub(crate) struct Target {
    child: Child,
    pub(crate) memory: Memory,
    /// What the script printed.
    pub(crate) said: Vec<String>,
    /// The one mapped file that holds the interpreter.
    pub(crate) file: PathBuf,
    pub(crate) detected: Detected,
    /// Address in the process − address in the file.
    pub(crate) bias: u64,
}

impl Target {
    pub(crate) fn start(interpreter: &Path, arguments: &[&str], script: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/python_target")
            .join(script);
        let mut child = Command::new(interpreter)
            .args(arguments)
            .arg(&script)
            .env("PYTHONUTF8", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap)
            .take_while(|line| line != "ready")
            .collect();
        let (_, status) = waitpid(Some(pid(&child)), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap();
        assert!(
            status.stopped(),
            "{} did not get to its end: {status:?}",
            script.display()
        );

        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(range), Some(path)) = (words.next(), words.nth(4)) else {
                continue;
            };
            let path = Path::new(path);
            if path.is_absolute() && seen.insert(path.to_owned()) && is_elf(path) {
                let start = u64::from_str_radix(range.split('-').next().unwrap(), 16).unwrap();
                let detected = detect_file(path).unwrap();
                found.extend(detected.map(|d| (path.to_owned(), d, start - first_address(path))));
            }
        }
        assert_eq!(
            found.len(),
            1,
            "{} of {} files hold an interpreter",
            found.len(),
            seen.len()
        );
        let (file, detected, bias) = found.remove(0);
        Self {
            memory: Memory(File::open(format!("/proc/{}/mem", child.id())).unwrap()),
            child,
            said,
            file,
            detected,
            bias,
        }
    }
}

impl Target {
    /// Lets it run on from where it stopped.
    pub(crate) fn go_on(&self) {
        kill_process(pid(&self.child), Signal::CONT).unwrap();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Virtual address of a file's first byte.
fn first_address(path: &Path) -> u64 {
    let data = ReadCache::new(File::open(path).unwrap());
    let header = elf::FileHeader64::<LittleEndian>::parse(&data).unwrap();
    let segments = header.program_headers(LittleEndian, &data).unwrap();
    let first = segments
        .iter()
        .find(|s| s.p_type(LittleEndian) == elf::PT_LOAD)
        .unwrap();
    first.p_vaddr(LittleEndian) - first.p_offset(LittleEndian)
}

/// The memory of a stopped child of ours. For tests only: it waits for the child's pages.
pub(crate) struct Memory(File);

impl Reads for Memory {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError> {
        for piece in pieces.iter_mut() {
            let read = self.0.read_exact_at(piece.buffer, piece.address);
            piece.result = read.map_err(|_| ReadError::BadAddress);
        }
        pieces.iter().try_for_each(|p| p.result)
    }
}

impl Memory {
    /// The word at an address.
    pub(crate) fn word(&mut self, address: u64) -> u64 {
        let mut word = [0; 8];
        let piece = Piece::new(address, &mut word);
        self.read(&mut [piece])
            .unwrap_or_else(|why| panic!("{address:#x}: {why}"));
        u64::from_le_bytes(word)
    }
}
