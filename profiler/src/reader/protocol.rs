//! What is asked of a reader and what it answers, as it goes through their socket: the length of a
//! message, and with it a descriptor if one belongs to it; the message; and after some replies a
//! table of rows or a module's CFI, as `rprof_unwind` writes them.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use prost::Message;
use rprof_ebpf::module::ModuleKey;
use rprof_ebpf::record::{Shared, put, take};
use rprof_symbolize::BuildId;
use rprof_symbolize::libraries::Environment;
use rprof_symbolize::module_file::Sampled;
use rprof_symbolize::runtimes::Detected;
use rprof_unwind::Table;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::memory::{Fields, Objects};
use super::names::{Answer, Places};
use super::quarantine::Place;
use super::{Failed, Found, MAX_MODULE_WORDS, Made, Pointed};

/// Bytes of a message at most.
pub(super) const MAX_BYTES: u64 = 32 << 20;

/// A question.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Question {
    #[prost(oneof = "Ask", tags = "1, 2, 3, 4, 5, 6, 8")]
    pub(super) ask: Option<Ask>,
    /// What the file's content was, that comes along.
    #[prost(message, optional, tag = "7")]
    pub(super) stamp: Option<Stamp>,
}

/// What a file's content was: its size, and when it was written last. (The change time also moves when
/// a name of it is removed.)
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Stamp {
    #[prost(uint64, tag = "1")]
    size: u64,
    #[prost(int64, tag = "2")]
    seconds: i64,
    #[prost(int64, tag = "3")]
    nanos: i64,
}

impl Stamp {
    /// That of an open file.
    ///
    /// # Errors
    /// What `fstat` returns.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let status = file.metadata()?;
        Ok(Self {
            size: status.size(),
            seconds: status.mtime(),
            nanos: status.mtime_nsec(),
        })
    }
}

/// What is asked. The file that rows, frames and names are asked of comes along.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Ask {
    /// A sampled module's file.
    #[prost(message, tag = "1")]
    Find(Wanted),
    /// Its rows.
    #[prost(message, tag = "2")]
    Rows(()),
    /// Its CFI.
    #[prost(message, tag = "3")]
    Frames(()),
    /// Its names.
    #[prost(message, tag = "4")]
    Names(Places),
    /// The files of a program that is to be started, and their rows.
    #[prost(message, tag = "5")]
    Start(Start),
    /// The interpreters among what runs, and their rows.
    #[prost(message, tag = "6")]
    Running(Rest),
    /// Code objects of a process; its pidfd comes along.
    #[prost(message, tag = "8")]
    Memory(Objects),
}

/// A sampled module: see [`Sampled`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct Wanted {
    #[prost(fixed64, repeated, tag = "1")]
    key: Vec<u64>,
    #[prost(uint32, tag = "2")]
    pid: u32,
    #[prost(fixed64, tag = "3")]
    start: u64,
    #[prost(fixed64, tag = "4")]
    end: u64,
    #[prost(bytes, tag = "5")]
    components: Vec<u8>,
    #[prost(bytes, tag = "6")]
    build_id: Vec<u8>,
    #[prost(uint32, repeated, tag = "7")]
    neighbours: Vec<u32>,
    /// Also along paths below other processes' roots.
    #[prost(bool, tag = "8")]
    pub(super) elsewhere: bool,
}

impl Wanted {
    pub(super) fn new(sampled: &Sampled<'_>, elsewhere: bool) -> Self {
        let build_id = sampled.build_id.map(BuildId::as_bytes);
        Self {
            key: words(&sampled.key),
            pid: sampled.pid,
            start: sampled.mapping.0,
            end: sampled.mapping.1,
            components: sampled.components.into(),
            build_id: build_id.unwrap_or_default().into(),
            neighbours: sampled.neighbours.into(),
            elsewhere,
        }
    }

    /// Calls `look` with what is wanted.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Sampled<'_>) -> T) -> Option<T> {
        Some(look(&Sampled {
            key: take(&self.key)?.0,
            pid: self.pid,
            mapping: (self.start, self.end),
            components: &self.components,
            build_id: BuildId::new(&self.build_id).as_ref(),
            neighbours: &self.neighbours,
        }))
    }
}

/// A program that is to be started.
#[derive(Clone, PartialEq, Message)]
pub struct Start {
    /// Its path, absolute.
    #[prost(bytes, tag = "1")]
    file: Vec<u8>,
    #[prost(bytes, repeated, tag = "2")]
    environment: Vec<Vec<u8>>,
    #[prost(bytes, optional, tag = "3")]
    directory: Option<Vec<u8>>,
}

impl Start {
    /// A program with the environment that we have.
    pub fn new(file: &std::path::Path) -> Self {
        let variables = ["PATH", "LD_LIBRARY_PATH", "LD_PRELOAD"].map(std::env::var_os);
        let directory = std::env::current_dir().ok();
        Self {
            file: file.as_os_str().as_bytes().into(),
            environment: variables
                .map(|value| value.unwrap_or_default().into_vec())
                .into(),
            directory: directory.map(|path| path.into_os_string().into_vec()),
        }
    }

    pub(super) fn into_parts(self) -> (std::path::PathBuf, Environment) {
        let text = std::ffi::OsString::from_vec;
        let mut variables = self.environment.into_iter().map(text);
        let mut next = || variables.next().unwrap_or_default();
        let environment = Environment {
            path: next(),
            library_path: next(),
            preload: next(),
            directory: self.directory.map(|path| text(path).into()),
        };
        (text(self.file).into(), environment)
    }
}

/// What runs, but for what was looked at already.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Rest {
    /// Distinct executables that are looked at.
    #[prost(uint32, tag = "1")]
    pub(super) executables: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) passed: Vec<Passed>,
    /// Only what these processes run; none: all of them.
    #[prost(uint32, repeated, tag = "3")]
    pub(super) processes: Vec<u32>,
}

/// An executable, by device and inode as the system shows them; inode 0: all of its device.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(super) struct Passed {
    #[prost(uint32, tag = "1")]
    pub(super) dev: u32,
    #[prost(uint64, tag = "2")]
    pub(super) ino: u64,
}

impl Passed {
    pub(super) fn place(&self) -> Place {
        Place::File {
            dev: self.dev,
            ino: self.ino,
        }
    }
}

/// An answer, or a part of one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Reply {
    /// Why there is none; else empty.
    #[prost(string, tag = "1")]
    pub(super) error: String,
    /// A file that was found; it comes along.
    #[prost(message, optional, tag = "2")]
    pub(super) found: Option<FoundFile>,
    /// A table follows.
    #[prost(bool, tag = "3")]
    pub(super) table: bool,
    #[prost(message, optional, tag = "4")]
    pub(super) names: Option<Answer>,
    /// An executable is looked at now.
    #[prost(message, optional, tag = "5")]
    pub(super) begun: Option<Passed>,
    /// Of several replies, the last.
    #[prost(bool, tag = "6")]
    pub(super) last: bool,
    /// What was read of a process.
    #[prost(message, optional, tag = "7")]
    pub(super) memory: Option<Fields>,
    /// Nothing yet: the file is looked for along paths below other processes' roots now.
    #[prost(bool, tag = "8")]
    pub(super) elsewhere: bool,
}

/// See [`Found`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct FoundFile {
    #[prost(fixed64, repeated, tag = "1")]
    pub(super) key: Vec<u64>,
    #[prost(string, tag = "2")]
    pub(super) path: String,
    /// Name and version of the interpreter that it holds; empty: none.
    #[prost(string, tag = "3")]
    version: String,
    /// How it is walked and what names its code objects; empty if it cannot be walked.
    #[prost(fixed64, repeated, tag = "4")]
    interpreter: Vec<u64>,
    #[prost(fixed64, repeated, tag = "5")]
    plan: Vec<u64>,
    /// What its content is.
    #[prost(message, optional, tag = "6")]
    stamp: Option<Stamp>,
}

impl FoundFile {
    pub(super) fn new(
        key: &ModuleKey,
        path: String,
        stamp: Stamp,
        interpreter: &Result<Option<Detected>, String>,
    ) -> Self {
        let mut file = Self {
            key: words(key),
            path,
            stamp: Some(stamp),
            ..Self::default()
        };
        match interpreter {
            Ok(None) => {}
            Ok(Some(detected)) => {
                file.version.clone_from(&detected.version);
                file.interpreter = words(&detected.interpreter);
                file.plan = words(&detected.plan);
            }
            Err(version) => file.version.clone_from(version),
        }
        file
    }

    /// Whether it holds one that can be walked.
    pub(super) fn is_interpreter(&self) -> bool {
        !self.interpreter.is_empty()
    }
}

impl Reply {
    /// Why something could not be had.
    pub(super) fn error(error: impl ToString) -> Self {
        Self {
            error: error.to_string(),
            ..Self::default()
        }
    }

    /// The file that was found, which came along, or why there is none. `key`: what it is.
    pub(super) fn found(
        &mut self,
        file: Option<OwnedFd>,
        key: Option<ModuleKey>,
    ) -> io::Result<Result<Found, String>> {
        let Some(found) = self.found.take() else {
            return Ok(Err(std::mem::take(&mut self.error)));
        };
        let known = || {
            let interpreter = match (take(&found.interpreter), take(&found.plan)) {
                (Some((interpreter, _)), Some((plan, _))) => Ok(Some(Detected {
                    version: found.version.clone(),
                    interpreter,
                    plan,
                })),
                _ if found.version.is_empty() => Ok(None),
                _ => Err(found.version.clone()),
            };
            Some(Ok(Found {
                key: key.or_else(|| Some(take(&found.key)?.0))?,
                path: found.path.clone(),
                file: Pointed {
                    fd: file?,
                    stamp: found.stamp?,
                },
                interpreter,
            }))
        };
        known().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Itself, if it is no error.
    pub(super) fn checked(self) -> Result<Self, Failed> {
        match self.error.is_empty() {
            true => Ok(self),
            false => Err(Failed::Said(self.error)),
        }
    }

    /// The rows, which follow.
    pub(super) fn rows(self, from: &mut impl Read) -> io::Result<Made> {
        if !self.error.is_empty() {
            return Ok(Err(Failed::Said(self.error)));
        }
        let table = self.table.then(|| Table::read_from(from, MAX_MODULE_WORDS));
        table.transpose().map(Ok)
    }
}

/// The words of a struct.
pub(super) fn words<T: Shared>(value: &T) -> Vec<u64> {
    let mut words = vec![0; size_of::<T>().div_ceil(8)];
    put(value, &mut words);
    words
}

/// Sends a message, and a descriptor with it.
pub(super) fn send(
    mut socket: &UnixStream,
    message: &impl Message,
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = message.encode_to_vec();
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let len = (bytes.len() as u64).to_le_bytes();
    let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&files));
    }
    let message = [IoSlice::new(&len), IoSlice::new(&bytes)];
    let sent = sendmsg(socket, &message, &mut control, SendFlags::NOSIGNAL)?;
    match bytes.get(sent.saturating_sub(len.len())..) {
        Some(rest) if sent >= len.len() => socket.write_all(rest),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The length of a message, and the descriptor that came with it.
pub(super) fn receive_len(socket: &UnixStream) -> io::Result<(u64, Option<OwnedFd>)> {
    let mut len = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut len)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
    )?;
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let file = files.flatten().next();
    if message.bytes != len.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((u64::from_le_bytes(len), file))
}

/// A message of a length, which may be `most` bytes.
pub(super) fn receive<M: Message + Default>(
    from: &mut impl Read,
    len: u64,
    most: u64,
) -> io::Result<M> {
    if len > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    from.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    M::decode(bytes.as_slice()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_are_none() {
        let receive = |mut bytes: &[u8], len| {
            let received: io::Result<Reply> = receive(&mut bytes, len, MAX_BYTES);
            received.map_err(|error| error.kind())
        };
        assert_eq!(receive(&[1], 9), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(receive(&[], u64::MAX), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(receive(&[0xff, 0xff], 2), Err(io::ErrorKind::Other));
        assert_eq!(receive(&[], 0), Ok(Reply::default()));
    }

    #[test]
    fn a_descriptor_goes_with_its_message() {
        let (ours, mut its) = UnixStream::pair().expect("a socket pair");
        let file = tempfile::tempfile().expect("a file");
        send(&ours, &Reply::error("none"), None).expect("sent");
        send(
            &ours,
            &Reply::default(),
            Some(std::os::fd::AsFd::as_fd(&file)),
        )
        .expect("sent");
        let (len, none) = receive_len(&its).expect("a length");
        assert!(none.is_none());
        let reply: Reply = receive(&mut its, len, MAX_BYTES).expect("a reply");
        assert_eq!(reply, Reply::error("none"));
        let (len, file) = receive_len(&its).expect("a length");
        assert_eq!((len, file.is_some()), (0, true));
    }
}
