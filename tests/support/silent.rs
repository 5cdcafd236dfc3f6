//! A file system that does not answer: FUSE, spoken by a thread of the test (structures and numbers
//! are those of `include/uapi/linux/fuse.h`, version 7.31). It holds one program. Reads are small
//! and synchronous, so that what nobody has read is in no cache, and who waits for an answer is
//! beyond every signal until [`Silent`] is dropped.
//!
//! It stops answering reads when it is told to, whoever asks; or it does not answer one run of rprof in
//! one way or another ([`Towards`]), while the program itself runs as ever.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::scratch::Scratch;

const ROOT: u64 = 1;
const PROGRAM: u64 = 2;
const MADE: u64 = 3;
/// Of as many more as are asked for.
const COPIES: u64 = 16;

/// How the kernel asks for what a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// By requests that the reader itself waits for, beyond every signal.
    Waiting,
    /// By read-ahead (`FUSE_ASYNC_READ`): the reader waits for the page.
    Ahead,
}

/// What a file system does not answer to rprof and its children: see [`Silent::is_rprof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// Nothing: all is answered.
    Nobody,
    /// Reads.
    Reads,
    /// What is asked when a file is closed.
    Flush,
    /// Where a name leads, and what a file is.
    Lookups,
}

/// A mounted file system, gone when dropped.
pub struct Silent {
    folder: PathBuf,
    silent: Arc<AtomicBool>,
    rprof: Arc<AtomicU32>,
    askers: Arc<Mutex<BTreeSet<String>>>,
    fuse: File,
    unanswered: Arc<Mutex<Vec<u64>>>,
}

impl Silent {
    /// Mounts a file system with a copy of `program`; `Err`: why that cannot be had here.
    pub fn mount(scratch: &Scratch, program: &Path) -> Result<Self, String> {
        Self::mount_with(scratch, program, Reading::Waiting)
    }

    /// The same, with a way of reading.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub fn mount_with(scratch: &Scratch, program: &Path, reading: Reading) -> Result<Self, String> {
        Self::mount_as(scratch, program, reading, Towards::Nobody)
    }

    /// The same, silent towards the rprof that [`Silent::is_rprof`] names.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub fn mount_towards(
        scratch: &Scratch,
        program: &Path,
        towards: Towards,
    ) -> Result<Self, String> {
        Self::mount_as(scratch, program, Reading::Waiting, towards)
    }

    fn mount_as(
        scratch: &Scratch,
        program: &Path,
        reading: Reading,
        towards: Towards,
    ) -> Result<Self, String> {
        let fuse = File::options().read(true).write(true).open("/dev/fuse");
        let fuse = fuse.map_err(|error| format!("/dev/fuse: {error}"))?;
        let folder = scratch.file("silent");
        std::fs::create_dir(&folder).expect("a folder to mount on");
        let target = CString::new(folder.as_os_str().as_bytes()).expect("a path");
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            fuse.as_raw_fd()
        );
        let options = CString::new(options).expect("text");
        // SAFETY: four texts that end in NUL.
        let mounted = unsafe {
            libc::mount(
                c"rprof-test".as_ptr(),
                target.as_ptr(),
                c"fuse".as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        if mounted != 0 {
            return Err(format!("mount: {}", std::io::Error::last_os_error()));
        }
        let silent = Arc::new(AtomicBool::new(false));
        let ours = fuse.try_clone().expect("another descriptor");
        let mut server = Server {
            fuse,
            silent: silent.clone(),
            reading,
            towards,
            rprof: Arc::default(),
            askers: Arc::default(),
            unanswered: Arc::default(),
            bytes: std::fs::read(program).expect("the program"),
        };
        let (rprof, askers) = (server.rprof.clone(), server.askers.clone());
        let unanswered = server.unanswered.clone();
        std::thread::spawn(move || while server.request() {});
        Ok(Self {
            folder,
            silent,
            rprof,
            askers,
            fuse: ours,
            unanswered,
        })
    }

    /// From now on rprof is answered, too, and what it waited for has failed.
    pub fn answers(&self) {
        self.rprof.store(0, SeqCst);
        for unique in self.unanswered.lock().expect("no panic").drain(..) {
            // fuse_out_header: length, error, unique. Who asked may have been killed.
            let mut out = 16u32.to_le_bytes().to_vec();
            out.extend((-libc::EIO).to_le_bytes());
            out.extend(unique.to_le_bytes());
            let _ = (&self.fuse).write_all(&out);
        }
    }

    /// Which process is rprof: to be said before it asks anything.
    pub fn is_rprof(&self, pid: u32) {
        self.rprof.store(pid, SeqCst);
    }

    /// Names of rprof's processes that have asked it anything.
    pub fn askers(&self) -> BTreeSet<String> {
        self.askers.lock().expect("no panic").clone()
    }

    /// The program's path.
    pub fn program(&self) -> PathBuf {
        self.folder.join("program")
    }

    /// The path of a copy of the program, a file of its own.
    pub fn copy(&self, number: usize) -> PathBuf {
        self.folder.join(format!("program-{number}"))
    }

    /// The folder that it is mounted on. A file can be made in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// It is there no more for whoever sees the test's mounts; it goes on in mount namespaces that have a copy
    /// of them.
    pub fn hide(&self) {
        let target = CString::new(self.folder.as_os_str().as_bytes()).expect("a path");
        // SAFETY: a text that ends in NUL.
        let hidden = unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        assert_eq!(hidden, 0, "{}", std::io::Error::last_os_error());
    }

    /// From now on reads and writes have no answer.
    pub fn silence(&self) {
        self.silent.store(true, SeqCst);
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let target = CString::new(self.folder.as_os_str().as_bytes()).expect("a path");
        // Force ends the connection, and with it whatever waits for an answer.
        // SAFETY: a text that ends in NUL.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_FORCE | libc::MNT_DETACH) };
    }
}

struct Server {
    fuse: File,
    silent: Arc<AtomicBool>,
    reading: Reading,
    towards: Towards,
    rprof: Arc<AtomicU32>,
    askers: Arc<Mutex<BTreeSet<String>>>,
    unanswered: Arc<Mutex<Vec<u64>>>,
    bytes: Vec<u8>,
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut number = [0; 8];
    number[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(number)
}

impl Server {
    /// Takes one request; `false`: there will be no more.
    fn request(&mut self) -> bool {
        // The least the kernel accepts is 8 KiB; a write, which never comes, would be larger.
        let mut request = vec![0; 256 << 10];
        let Ok(len) = self.fuse.read(&mut request) else {
            return false;
        };
        // fuse_in_header: length, opcode, unique, node, …; 40 bytes.
        let (header, body) = request[..len].split_at(40);
        let (opcode, node) = (number(header, 4, 4), number(header, 16, 8));
        let is_rprof = self.is_rprof(number(header, 32, 4));
        let silent = match (self.towards, opcode) {
            // LOOKUP, GETATTR; READ; FLUSH.
            (Towards::Lookups, 1 | 3) | (Towards::Reads, 15) | (Towards::Flush, 25) => is_rprof,
            _ => false,
        };
        if silent {
            let mut unanswered = self.unanswered.lock().expect("no panic");
            unanswered.push(number(header, 8, 8));
            return true;
        }
        let answer: Result<Vec<u8>, i32> = match opcode {
            // FORGET, INTERRUPT, BATCH_FORGET have no answer.
            2 | 36 | 42 => return true,
            // LOOKUP.
            1 if node == ROOT && body == b"program\0" => Ok(self.entry(PROGRAM)),
            1 if node == ROOT && copy(body).is_some() => {
                Ok(self.entry(COPIES + copy(body).unwrap_or_default()))
            }
            1 => Err(libc::ENOENT),
            // GETATTR, SETATTR: fuse_attr_out.
            3 | 4 => {
                let mut answer = words(&[self.valid(), 0]);
                answer.extend(self.attributes(node));
                Ok(answer)
            }
            // OPEN, OPENDIR: fuse_open_out: handle, flags. What rprof reads comes from no cache (1);
            // others keep theirs (2), or the program would wait for its own pages.
            14 | 27 if self.towards == Towards::Nobody => Ok(words(&[0, 0])),
            14 | 27 => Ok(words(&[0, if is_rprof { 1 | 2 } else { 2 }])),
            15 | 16 if self.silent.load(SeqCst) => return true,
            // READ: handle, offset, size.
            15 => {
                let from = (number(body, 8, 8) as usize).min(self.bytes.len());
                let to = (from + number(body, 16, 4) as usize).min(self.bytes.len());
                Ok(self.bytes[from..to].to_vec())
            }
            // CREATE: fuse_entry_out, fuse_open_out.
            35 => {
                let mut made = self.entry(MADE);
                made.extend(words(&[0, 0]));
                Ok(made)
            }
            // STATFS: fuse_kstatfs.
            17 => Ok(vec![0; 80]),
            // RELEASE, FLUSH, RELEASEDIR, ACCESS.
            18 | 25 | 29 | 34 => Ok(Vec::new()),
            // INIT: version, bytes of read-ahead, flags (1: asynchronous reads), and the rest.
            26 => {
                let (ahead, flags) = match self.reading {
                    Reading::Waiting => (0, 0),
                    Reading::Ahead => (128 << 10, 1),
                };
                let mut answer = Vec::new();
                answer.extend(
                    [7u32, 31, ahead, flags, 0, 128 << 10]
                        .iter()
                        .flat_map(|n| n.to_le_bytes()),
                );
                answer.resize(64, 0);
                Ok(answer)
            }
            _ => Err(libc::ENOSYS),
        };
        let (error, bytes) = match answer {
            Ok(bytes) => (0, bytes),
            Err(number) => (-number, Vec::new()),
        };
        let mut out = ((16 + bytes.len()) as u32).to_le_bytes().to_vec();
        out.extend(error.to_le_bytes());
        out.extend(&header[8..16]);
        out.extend(bytes);
        // Who asked may have been killed meanwhile.
        let _ = self.fuse.write_all(&out);
        true
    }

    /// fuse_entry_out: node, generation, two validities in seconds, and the rest.
    fn entry(&self, node: u64) -> Vec<u8> {
        let mut entry = words(&[node, 0, self.valid(), self.valid(), 0]);
        entry.extend(self.attributes(node));
        entry
    }

    /// Seconds for which a name and a file's attributes need not be asked for again.
    fn valid(&self) -> u64 {
        match self.towards {
            Towards::Lookups => 0,
            _ => 3600,
        }
    }

    /// Whether a thread (0: the kernel's own) is rprof's or a child's; if so its process's name is
    /// kept. It may be in the middle of an exec that waits for us: only files of `/proc` that take no
    /// lock for that are looked at.
    fn is_rprof(&self, thread: u64) -> bool {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{thread}/status")) else {
            return false;
        };
        let field = |name: &str| -> Option<u32> {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse().ok()
        };
        let (process, parent) = (field("Tgid:"), field("PPid:"));
        let rprof = Some(self.rprof.load(SeqCst)).filter(|&pid| pid != 0);
        let is = rprof.is_some() && (process == rprof || parent == rprof);
        if let (true, Some(process)) = (is, process) {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
            let name = name.unwrap_or_default().trim_end().to_owned();
            self.askers.lock().expect("no panic").insert(name);
        }
        is
    }

    /// fuse_attr: inode, size, blocks, three times; their nanoseconds, mode, links, and the rest.
    fn attributes(&self, node: u64) -> Vec<u8> {
        let (mode, size) = match node {
            ROOT => (libc::S_IFDIR | 0o755, 0),
            MADE => (libc::S_IFREG | 0o600, 0),
            _ => (libc::S_IFREG | 0o755, self.bytes.len() as u64),
        };
        let mut attributes = words(&[node, size, size / 512, 1, 1, 1]);
        let rest = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0];
        attributes.extend(rest.iter().flat_map(|n: &u32| n.to_le_bytes()));
        attributes
    }
}

/// The number of a copy, by its name.
fn copy(name: &[u8]) -> Option<u64> {
    let number = name.strip_prefix(b"program-")?.strip_suffix(b"\0")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
