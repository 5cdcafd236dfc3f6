//! A reader's life: it answers what comes through its standard input, until nobody asks any more.
//!
//! Each file is closed before the answer goes out: closing, too, may ask a file system that keeps
//! silent, and whoever asks next must not be taken for it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use object::read::ReadCache;
use rprof_ebpf::module::ModuleKey;
use rprof_symbolize::libraries::{self, CodeFile};
use rprof_symbolize::module_file::{self, Identity, Sampled, Way};
use rprof_symbolize::{ModuleNames, beneath, runtimes};
use rprof_unwind::Table;
use rprof_unwind::slice::FrameSections;
use rustix::fs::{Mode, OFlags};

use super::names::{Answer, Places};
use super::process::IDLE;
use super::protocol::{
    Ask, FoundFile, MAX_BYTES, Passed, Question, Reply, Rest, Stamp, Start, receive, receive_len,
    send,
};
use super::{MAX_CFI, MAX_MODULE_WORDS, NAME};
use crate::sampling::faults::{self, Fault};
use crate::sampling::{memory, privileges};

/// Answers until nobody asks any more: for so many seconds.
pub fn serve(idle: Option<&OsStr>) {
    let idle = idle
        .and_then(|idle| idle.to_str()?.parse().ok())
        .map_or(IDLE, Duration::from_secs)
        .max(Duration::from_secs(1));
    memory::prepare();
    memory::be_the_first_to_go();
    privileges::read_only();
    // Whoever asked may be killed while we wait for a file that never answers: nobody else would end us.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // Whoever waits for an end of a pipe that rprof was given shall not wait for us.
    // SAFETY: nothing of ours has a descriptor beyond the standard ones yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if let Ok(name) = std::ffi::CString::new(NAME) {
        let _ = rustix::thread::set_name(&name);
    }
    let Ok(socket) = rustix::io::dup(rustix::stdio::stdin()) else {
        return;
    };
    let mut socket = UnixStream::from(socket);
    if socket.set_read_timeout(Some(idle)).is_err() {
        return;
    }
    while let Ok((len, file)) = receive_len(&socket) {
        let Ok(Question {
            ask: Some(ask),
            stamp,
        }) = receive(&mut socket, len, MAX_BYTES)
        else {
            return;
        };
        if answer(&socket, ask, file, stamp).is_err() {
            return;
        }
    }
}

fn answer(
    socket: &UnixStream,
    ask: Ask,
    file: Option<OwnedFd>,
    stamp: Option<Stamp>,
) -> io::Result<()> {
    match ask {
        Ask::Find(wanted) => {
            if let Some(late) = faults::asked(Fault::LateFiles) {
                std::thread::sleep(Duration::from_millis(late.into()));
            }
            let found = wanted.with(|sampled| find(socket, sampled, wanted.elsewhere));
            match found.unwrap_or_else(|| Err("what?".into())) {
                Ok((found, file)) => {
                    let found = Some(found);
                    let reply = Reply {
                        found,
                        ..Reply::default()
                    };
                    send(socket, &reply, Some(file.as_fd()))
                }
                Err(error) => send(socket, &Reply::error(error), None),
            }
        }
        Ask::Rows(()) => match opened(file, stamp).and_then(rows) {
            Ok(table) => send_table(socket, Reply::default(), table.as_ref(), None),
            Err(error) => send(socket, &Reply::error(error), None),
        },
        Ask::Frames(()) => match opened(file, stamp).and_then(frames) {
            Ok(frames) => send_frames(socket, &frames),
            Err(error) => send(socket, &Reply::error(error), None),
        },
        Ask::Names(places) => {
            let reply = match opened(file, stamp).and_then(|file| names(file, &places)) {
                Ok(names) => Reply {
                    names: Some(names),
                    ..Reply::default()
                },
                Err(error) => Reply::error(error),
            };
            send(socket, &reply, None).or_else(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => {
                    send(socket, &Reply::error("its names are too long"), None)
                }
                _ => Err(error),
            })
        }
        Ask::Memory(objects) => {
            let read = |pidfd| objects.read(pidfd).map_err(|refused| refused.to_string());
            let reply = match came(file).and_then(read) {
                Ok(fields) => Reply {
                    memory: Some(fields),
                    ..Reply::default()
                },
                Err(error) => Reply::error(error),
            };
            send(socket, &reply, None)
        }
        Ask::Start(start) => send_prepared(socket, started(start), None),
        Ask::Running(rest) => send_prepared(socket, running(socket, &rest), Some(&rest)),
    }
}

/// The descriptor that belongs to a question.
fn came(file: Option<OwnedFd>) -> Result<OwnedFd, String> {
    file.ok_or_else(|| "no descriptor came along".to_owned())
}

/// The file that belongs to a question, if it still is what it was.
fn opened(file: Option<OwnedFd>, stamp: Option<Stamp>) -> Result<File, String> {
    let file = beneath::reopen(came(file)?).map_err(|error| error.to_string())?;
    match Stamp::of(&file).map_err(|error| error.to_string())? {
        now if stamp == Some(now) => Ok(file),
        _ => Err("it was overwritten since it was sampled".to_owned()),
    }
}

/// A sampled module's file: what it is, and a descriptor that only points at it. `elsewhere`: also along
/// paths below other processes' roots, which is said before.
fn find(
    socket: &UnixStream,
    sampled: &Sampled<'_>,
    elsewhere: bool,
) -> Result<(FoundFile, OwnedFd), String> {
    let may = |way| {
        way != Way::ProcessPath
            || elsewhere && {
                let reply = Reply {
                    elsewhere,
                    ..Reply::default()
                };
                send(socket, &reply, None).is_ok()
            }
    };
    let (file, _) = module_file::find(sampled, may).map_err(|error| error.to_string())?;
    let path = match sampled.components {
        [] => path_of(&file),
        components => module_file::path(components),
    };
    found(&sampled.key, &path, file).map_err(|error| error.to_string())
}

fn found(key: &ModuleKey, path: &Path, file: File) -> io::Result<(FoundFile, OwnedFd)> {
    let stamp = Stamp::of(&file)?;
    let interpreter = runtimes::detect(&ReadCache::new(&file), Some(path));
    let interpreter = interpreter.map_err(|unknown| unknown.to_string());
    let path = path.to_string_lossy().into_owned();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let pointed = rustix::fs::open(link, flags, Mode::empty())?;
    Ok((FoundFile::new(key, path, stamp, &interpreter), pointed))
}

/// What an open file is called now.
fn path_of(file: &File) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

/// A file's rows; `None`: it has none. `Err`: too many.
fn rows(file: File) -> Result<Option<Table>, String> {
    match Table::from_elf(&ReadCache::new(&file), MAX_MODULE_WORDS) {
        Ok(table) => Ok(Some(table)),
        Err(error @ rprof_unwind::Error::TooLarge(_)) => Err(error.to_string()),
        Err(_) => Ok(None),
    }
}

fn names(file: File, places: &Places) -> Result<Answer, String> {
    let mut options = places.options();
    // A path means that of the process that maps the module: what stands beside it in our own root is
    // the module's only if the module itself stands there. Else its build id alone says what is its.
    options.links = options.path.as_ref().is_some_and(|path| {
        let here = beneath::root("/").and_then(|root| beneath::open(root, path));
        let is = |file: &File| rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
        here.is_ok_and(|here| is(&here).is_ok_and(|here| is(&file) == Ok(here)))
    });
    let names = ModuleNames::open(file, options).map_err(|error| error.to_string())?;
    Ok(Answer::of(&names, &places.offsets))
}

fn frames(file: File) -> Result<FrameSections<'static>, String> {
    let cache = ReadCache::new(&file);
    let sections = FrameSections::from_elf(&cache, MAX_CFI);
    let sections = sections.map(FrameSections::into_owned);
    sections.map_err(|error| error.to_string())
}

fn send_frames(socket: &UnixStream, frames: &FrameSections<'_>) -> io::Result<()> {
    send(socket, &Reply::default(), None)?;
    let mut to = BufWriter::new(socket);
    frames.write_to(&mut to)?;
    to.flush()
}

fn send_table(
    socket: &UnixStream,
    mut reply: Reply,
    table: Option<&Table>,
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    reply.table = table.is_some();
    send(socket, &reply, file)?;
    let mut to = BufWriter::new(socket);
    if let Some(table) = table {
        table.write_to(&mut to)?;
    }
    to.flush()
}

/// The files of a program that is to be started.
fn started(start: Start) -> Vec<CodeFile> {
    let (path, environment) = start.into_parts();
    let root = beneath::root("/");
    let files = root.and_then(|root| libraries::of_path(root, &path, &environment));
    files.unwrap_or_default()
}

/// The files of what runs, but for executables that were looked at already.
fn running(socket: &UnixStream, rest: &Rest) -> Vec<CodeFile> {
    let limit = usize::try_from(rest.executables).unwrap_or(usize::MAX);
    let begin = |dev, ino| begin(socket, Passed { dev, ino }, rest);
    let running = match rest.processes.as_slice() {
        [] => libraries::running(limit, begin),
        some => libraries::of_processes(some.iter().copied(), limit, begin),
    };
    running.map(|running| running.files).unwrap_or_default()
}

/// Says what is looked at now, unless it was before: then it may be what kept silent.
fn begin(socket: &UnixStream, file: Passed, rest: &Rest) -> bool {
    let device = Passed {
        dev: file.dev,
        ino: 0,
    };
    let new = ![&file, &device]
        .iter()
        .any(|passed| rest.passed.contains(passed));
    if new {
        let reply = Reply {
            begun: Some(file),
            ..Reply::default()
        };
        // Nobody listens: the next message ends us.
        let _ = send(socket, &reply, None);
    }
    new
}

/// Sends what is worth knowing before the first tick: all files, or (`rest`) only those of
/// interpreters, whose first samples would be lost otherwise (other modules' are unwound on in user
/// space).
fn send_prepared(socket: &UnixStream, files: Vec<CodeFile>, rest: Option<&Rest>) -> io::Result<()> {
    for CodeFile { path, file } in files {
        let Ok(identity) = Identity::of(&file) else {
            continue;
        };
        // File systems that ask a server have no device of their own.
        let (dev, ino) = (identity.key.dev, identity.key.ino);
        if dev >> 20 == 0
            && let Some(rest) = rest
            && !begin(socket, Passed { dev, ino }, rest)
        {
            // Closing it is what may not end.
            std::mem::forget(file);
            continue;
        }
        // Where the system does not show what the kernel's own structures hold (overlays), the key
        // would never be met.
        if !(identity.has_generation && identity.has_device && identity.has_inode) {
            continue;
        }
        let Ok((found, pointed)) = found(&identity.key, &path, file) else {
            continue;
        };
        if rest.is_none() || found.is_interpreter() {
            let rows = rows(beneath::reopen(pointed.try_clone()?).map_err(io::Error::other)?);
            let reply = Reply {
                found: Some(found),
                error: rows.as_ref().err().cloned().unwrap_or_default(),
                ..Reply::default()
            };
            let table = rows.ok().flatten();
            send_table(socket, reply, table.as_ref(), Some(pointed.as_fd()))?;
        }
    }
    let reply = Reply {
        last: true,
        ..Reply::default()
    };
    send(socket, &reply, None)
}
