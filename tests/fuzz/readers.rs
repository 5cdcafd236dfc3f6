//! What goes through the socket between rprof and those who read files for it: a reader that was
//! taken over by a file may answer anything, and one that is asked nonsense must end by itself.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use rprof_ebpf::record::{Shared, put};
use rprof_profiler::reader;
use rprof_symbolize::runtimes::detect;
use rprof_tests::rprof::binary;
use rprof_tests::scratch::Scratch;
use rprof_unwind::Table;
use rprof_unwind::slice::FrameSections;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::engine::fuzz;
use crate::mutate::Seed;
use crate::seeds::program;

/// A protobuf field of bytes.
fn bytes(tag: u8, content: &[u8]) -> Vec<u8> {
    [number(tag << 3 | 2, content.len() as u64), content.to_vec()].concat()
}

/// A protobuf field of a number.
fn varint(tag: u8, value: u64) -> Vec<u8> {
    number(tag << 3, value)
}

/// A protobuf field of eight bytes.
fn fixed(tag: u8, value: u64) -> Vec<u8> {
    [[tag << 3 | 1].as_slice(), &value.to_le_bytes()].concat()
}

/// A key, and a number in groups of seven bits.
fn number(key: u8, mut value: u64) -> Vec<u8> {
    let mut bytes = vec![key];
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A message as it goes through the socket.
fn message(content: &[Vec<u8>]) -> Vec<u8> {
    let content = content.concat();
    [&(content.len() as u64).to_le_bytes(), content.as_slice()].concat()
}

fn words<T: Shared>(value: &T) -> Vec<u8> {
    let mut words = vec![0; size_of::<T>().div_ceil(8)];
    put(value, &mut words);
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

#[test]
fn answers() {
    let module = program("c").seed.bytes.as_slice();
    let mut rows = Vec::new();
    let table = Table::from_elf(module, 1 << 20).expect("rows");
    table.write_to(&mut rows).expect("memory takes all");
    let mut cfi = Vec::new();
    let sections = FrameSections::from_elf(module, 1 << 20).expect("CFI");
    sections.write_to(&mut cfi).expect("memory takes all");
    let python = detect(program("python").seed.bytes.as_slice(), None);
    let python = python.expect("a known version").expect("an interpreter");
    let found = [
        bytes(1, &[7; 48]),
        bytes(2, b"/usr/bin/python3.11"),
        bytes(3, python.version.as_bytes()),
        bytes(4, &words(&python.interpreter)),
        bytes(5, &words(&python.plan)),
        bytes(6, &stamp(9999)),
    ];
    let names = [
        bytes(1, b"0123abcd"),
        bytes(3, b"main"),
        bytes(3, b"/srv/main.c"),
        bytes(4, &[1, 2, 0]),
        bytes(5, &[0, 1, 9, 3, 0, 1, 10, 3, 0, 0, 0, 0]),
    ];
    let memory = [
        bytes(1, b"0123456789abcdef"),
        bytes(2, &[8, 0, 8]),
        bytes(3, &[0, 4, 0]),
    ];
    let seeds = [
        message(&[bytes(1, b"no such file")]),
        message(&[bytes(7, &memory.concat())]),
        message(&[bytes(2, &found.concat())]),
        message(&[bytes(4, &names.concat())]),
        [message(&[varint(3, 1)]), rows].concat(),
        [message(&[]), cfi].concat(),
        [
            message(&[bytes(5, &[varint(1, 8 << 20), varint(2, 77)].concat())]),
            message(&[varint(6, 1)]),
        ]
        .concat(),
    ];
    fuzz(
        "readers::answers",
        &seeds.map(Seed::stream),
        reader::take_any,
    );
}

/// When the file that comes along was written last.
const WRITTEN: Duration = Duration::new(1_700_000_000, 5);

/// What tells whether it is still the one that was sampled.
fn stamp(size: u64) -> Vec<u8> {
    let time = (WRITTEN.as_secs(), u64::from(WRITTEN.subsec_nanos()));
    [varint(1, size), varint(2, time.0), varint(3, time.1)].concat()
}

/// A reader that is fed a stream of questions; killed when dropped.
struct Fed(Child);

impl Drop for Fed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes that a reader may hold.
const MAX_MEMORY: libc::rlim_t = 256 << 20;

#[test]
fn questions() {
    let scratch = Scratch::new();
    let path = scratch.file("program");
    std::fs::write(&path, &program("c").seed.bytes).expect("a file");
    let key: Vec<u8> = [8 << 20, 77, 20_000, 1_700_000_000, 5]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect();
    let wanted = [
        bytes(1, &[key, vec![0; 8]].concat()),
        varint(2, 1),
        fixed(3, 0x7fff_0000_0000),
        bytes(5, b"/libc.so.6/x86_64-linux-gnu/lib/usr"),
        bytes(6, &[9; 20]),
        bytes(7, &[1, 2]),
    ];
    let places = [
        bytes(1, b"/bin/program"),
        varint(2, 1),
        bytes(3, &[0x80, 0x20, 0x90, 0x20]),
    ];
    let file = path.to_str().expect("a plain path").as_bytes();
    let start = [
        bytes(1, file),
        bytes(2, b"/bin"),
        bytes(2, b""),
        bytes(2, b""),
        bytes(3, b"/"),
    ];
    let running = [
        varint(1, 2),
        bytes(2, &[varint(1, 8 << 20), varint(2, 1)].concat()),
    ];
    let file = std::fs::File::open(&path).expect("a file");
    file.set_modified(UNIX_EPOCH + WRITTEN).expect("our own");
    let stamp = stamp(file.metadata().expect("its status").len());
    let plan = detect(program("python").seed.bytes.as_slice(), None);
    let plan = plan.expect("a known version").expect("an interpreter").plan;
    let memory = [
        varint(1, std::process::id().into()),
        fixed(2, 1_000_000_000),
        bytes(3, &words(&plan)),
        bytes(4, &[7; 64]),
    ];
    let ask = |tag, parts: &[Vec<u8>]| message(&[bytes(tag, &parts.concat()), bytes(7, &stamp)]);
    let seeds = [
        ask(1, &wanted),
        ask(2, &[]),
        ask(3, &[]),
        ask(4, &places),
        ask(5, &start),
        ask(6, &running),
        ask(8, &memory),
        [ask(2, &[]), ask(3, &[]), ask(1, &wanted)].concat(),
    ];
    let longest = Cell::new(0);
    // Built before time counts.
    let binary = binary();
    fuzz("readers::questions", &seeds.map(Seed::stream), |bytes| {
        let (ours, its) = UnixStream::pair().expect("a socket pair");
        let mut command = Command::new(binary);
        command
            .arg0(reader::NAME)
            .stdin(OwnedFd::from(its))
            .stderr(Stdio::null());
        let mut reader = Fed(command.spawn().expect("rprof starts"));
        drop(command);
        let limit = libc::rlimit {
            rlim_cur: MAX_MEMORY,
            rlim_max: MAX_MEMORY,
        };
        let pid = reader.0.id().cast_signed();
        // SAFETY: a limit for our own child, which was not waited for.
        unsafe { libc::prlimit(pid, libc::RLIMIT_DATA, &limit, std::ptr::null_mut()) };
        feed(&ours, bytes, &file);
        // Its answers, up to its end: without one, this fails.
        ours.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a socket");
        let mut answers = Vec::new();
        match (&ours).take(64 << 20).read_to_end(&mut answers) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("a reader did not end: {error}"),
        }
        longest.set(longest.get().max(answers.len()));
        let status = reader.0.wait().expect("our child");
        assert!(status.success(), "a reader died: {status}");
    });
    assert!(longest.get() > 500, "no file was ever read");
}

/// Sends questions, with a file that all of them may be about, and then no more.
fn feed(mut socket: &UnixStream, bytes: &[u8], file: &std::fs::File) {
    let files = [file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let (first, rest) = bytes.split_at(bytes.len().min(8));
    let first = [std::io::IoSlice::new(first)];
    // One that wants no more has ended, as it should.
    let _ = sendmsg(socket, &first, &mut control, SendFlags::NOSIGNAL);
    let _ = socket.write_all(rest);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}
