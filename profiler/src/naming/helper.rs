//! The process that reads modules' files for their names: our own binary, with nothing but a socket.
//!
//! A file may lie on a file system that never answers (FUSE, NFS), and who reads it may be beyond
//! any signal until that changes. A thread in that state would keep rprof from ending, and the pipes
//! it writes to open; a process that keeps silent is killed, left to the kernel, and replaced. An
//! open file and a question go to it, an answer comes back.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use rprof_symbolize::ModuleNames;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::answer::{Answer, Question};
use crate::sampling::memory;

/// The helper's name: as `argv[0]` it makes rprof the helper.
pub const NAME: &str = "rprof-names";

/// How long the helper may be silent without having used a CPU.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may be at work on one question.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it has to end when nothing is left to ask.
const FAREWELL: Duration = Duration::from_millis(100);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of a question or answer at most.
const MAX_BYTES: u64 = 32 << 20;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// None came in time.
    Silent,
    /// The reason.
    Said(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent => f.write_str("its file did not answer in time"),
            Self::Said(why) => f.write_str(why),
        }
    }
}

/// The helper, started by the first question.
#[derive(Default)]
pub(super) struct Helper(Option<Running>);

struct Running {
    process: Child,
    socket: UnixStream,
}

impl Helper {
    /// Asks about an open file, until a moment.
    pub(super) fn ask(
        &mut self,
        file: BorrowedFd<'_>,
        question: &Question,
        until: Instant,
    ) -> Result<Answer, Failed> {
        let now = Instant::now();
        if now >= until {
            return Err(Failed::Silent);
        }
        let until = until.min(now + ANSWER);
        let running = match self.0.take() {
            Some(running) => running,
            None => start().map_err(|e| Failed::Said(format!("cannot start {NAME}: {e}")))?,
        };
        match running.ask(file, question, until) {
            Ok(answer) => {
                self.0 = Some(running);
                match answer.error.is_empty() {
                    true => Ok(answer),
                    false => Err(Failed::Said(answer.error)),
                }
            }
            Err(error) => {
                running.kill();
                Err(match error.kind() {
                    io::ErrorKind::TimedOut => Failed::Silent,
                    _ => Failed::Said(format!("{NAME} ended over it: {error}")),
                })
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.dismiss();
        }
    }
}

fn start() -> io::Result<Running> {
    let (ours, its) = UnixStream::pair()?;
    ours.set_read_timeout(Some(LOOK))?;
    ours.set_write_timeout(Some(SILENCE))?;
    // What was installed under our name meanwhile may be another version: the file that we are.
    let process = Command::new("/proc/self/exe")
        .arg0(NAME)
        // Not the folder we were started in: it may be one to be unmounted.
        .current_dir("/")
        .stdin(OwnedFd::from(its))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Running {
        process,
        socket: ours,
    })
}

impl Running {
    fn ask(&self, file: BorrowedFd<'_>, question: &Question, until: Instant) -> io::Result<Answer> {
        let bytes = question.encode_to_vec();
        let len = (bytes.len() as u64).to_le_bytes();
        let files = [file];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        let sent = sendmsg(
            &self.socket,
            &[IoSlice::new(&len)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        if sent != len.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        (&self.socket).write_all(&bytes)?;
        let mut patient = Patient {
            running: self,
            until,
            alive: Instant::now(),
            used: None,
        };
        receive(&mut patient)
    }

    /// CPU time that the process has used.
    fn used(&self) -> Option<Duration> {
        let mut clock = 0;
        let pid = i32::try_from(self.process.id()).ok()?;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: both write to a variable of ours.
        let failed = unsafe {
            libc::clock_getcpuclockid(pid, &raw mut clock) != 0
                || libc::clock_gettime(clock, &raw mut time) != 0
        };
        (!failed).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    /// Lets it end, and waits for that: what it cost belongs to what we cost.
    fn dismiss(self) {
        let Self {
            mut process,
            socket,
        } = self;
        drop(socket);
        let asked = Instant::now();
        while asked.elapsed() < FAREWELL {
            match process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
        let _ = process.kill();
    }

    /// Ends it. It is not waited for: it may be beyond signals, and init takes what we leave.
    fn kill(mut self) {
        let _ = self.process.kill();
        let _ = self.process.try_wait();
    }
}

/// Reads from the helper as long as it is at work.
struct Patient<'a> {
    running: &'a Running,
    until: Instant,
    /// When it was last known to be at work.
    alive: Instant,
    used: Option<Duration>,
}

impl Read for Patient<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.running.socket).read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) => {
                    self.alive = Instant::now();
                    return Ok(read);
                }
                error => return error,
            }
            let used = self.running.used();
            if used != self.used {
                (self.used, self.alive) = (used, Instant::now());
            }
            if self.alive.elapsed() >= SILENCE || Instant::now() >= self.until {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// A message after its length.
fn receive<M: Message + Default>(from: &mut dyn Read) -> io::Result<M> {
    let mut len = [0; 8];
    from.read_exact(&mut len)?;
    receive_rest(from, u64::from_le_bytes(len))
}

fn receive_rest<M: Message + Default>(from: &mut dyn Read, len: u64) -> io::Result<M> {
    if len > MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    from.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    M::decode(bytes.as_slice()).map_err(io::Error::other)
}

/// The helper's life: answers what comes through its standard input, until nobody asks any more.
pub fn serve() {
    memory::prepare();
    // Whoever waits for an end of a pipe that rprof was given shall not wait for us.
    // SAFETY: nothing of ours has a descriptor beyond the standard ones yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    let Ok(socket) = rustix::io::dup(rustix::stdio::stdin()) else {
        return;
    };
    let mut socket = UnixStream::from(socket);
    while let Ok((file, len)) = take_file(&socket) {
        let Ok(question) = receive_rest::<Question>(&mut socket, len) else {
            return;
        };
        let answer = match ModuleNames::open(file.into(), question.options()) {
            Ok(names) => Answer::of(&names, &question.offsets),
            Err(error) => Answer::none(error.to_string()),
        };
        let mut bytes = answer.encode_to_vec();
        if bytes.len() as u64 > MAX_BYTES {
            bytes = Answer::none("its names are too long".into()).encode_to_vec();
        }
        let len = (bytes.len() as u64).to_le_bytes();
        if socket.write_all(&len).is_err() || socket.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// An open file, and the length of the question about it.
fn take_file(socket: &UnixStream) -> io::Result<(OwnedFd, u64)> {
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
    match files.flatten().next() {
        Some(file) if message.bytes == len.len() => Ok((file, u64::from_le_bytes(len))),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn nobody_is_asked_when_time_is_up() {
        let file = tempfile::tempfile().unwrap();
        let mut helper = Helper::default();
        let asked = helper.ask(file.as_fd(), &Question::default(), Instant::now());
        assert_eq!(asked, Err(Failed::Silent));
        assert!(helper.0.is_none());
    }

    #[test]
    fn messages_that_are_none() {
        let receive = |mut bytes: &[u8]| receive::<Answer>(&mut bytes).map_err(|e| e.kind());
        let ended = Err(io::ErrorKind::UnexpectedEof);
        assert_eq!(receive(&[1, 0]), ended);
        assert_eq!(receive(&[9, 0, 0, 0, 0, 0, 0, 0, 1]), ended);
        assert_eq!(receive(&[0xff; 9]), Err(io::ErrorKind::FileTooLarge));
        let nonsense = [2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        assert_eq!(receive(&nonsense), Err(io::ErrorKind::Other));
        assert_eq!(receive(&[0; 8]), Ok(Answer::default()));
    }
}
