//! Code objects of a process, as they are asked of a reader and answered: addresses and a read plan go
//! there, the fields that the plan read come back, or why not. Only here is another process's memory
//! read, and what procfs says of it, because both may wait for locks of that process, beyond signals.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::OwnedFd;

use rprof_ebpf::plan::Plan;
use rprof_ebpf::record::take;
use rprof_symbolize::reads::{
    Flags, MappedFiles, Mappings, Pagemap, Piece, ProcessVm, ReadError, Reads, Unsupported,
    execute, has_ended,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::protocol::words;
use crate::sampling::faults::{self, Fault};

/// What a reader is called that was asked for memory.
const NAME: &CStr = c"rprof-memory";
/// Code objects of one question at most.
pub const MAX_OBJECTS: usize = 64;
/// Bytes of fields in one answer at most. Names and line tables of a code object are a few hundred
/// bytes, of a large one some ten thousand.
const MAX_FIELDS: usize = 1 << 20;
/// Bytes of a message with them.
pub(super) const MAX_ANSWER: u64 = MAX_FIELDS as u64 + 4096;

/// Which code objects are wanted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Objects {
    /// The process, as rprof sees it.
    #[prost(uint32, tag = "1")]
    pid: u32,
    /// The thread that is read instead, because the process's first one has ended: the pidfd is its.
    #[prost(uint32, optional, tag = "2")]
    thread: Option<u32>,
    /// The words of a [`Plan`].
    #[prost(fixed64, repeated, tag = "3")]
    plan: Vec<u64>,
    /// Where the objects stand.
    #[prost(fixed64, repeated, tag = "4")]
    addresses: Vec<u64>,
}

/// What was read of code objects.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Fields {
    /// The fields of those that were read, one after the other.
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    /// For each object how many of these are its; 0: it was not read.
    #[prost(uint32, repeated, tag = "2")]
    lengths: Vec<u32>,
    /// For each that was not read, why: place in [`ERRORS`].
    #[prost(uint32, repeated, tag = "3")]
    errors: Vec<u32>,
}

const ERRORS: [ReadError; 8] = [
    ReadError::NotRead,
    ReadError::WouldFault,
    ReadError::SharedPage,
    ReadError::BadAddress,
    ReadError::Changed,
    ReadError::Gone,
    ReadError::NotPermitted,
    ReadError::BadPlan,
];

/// Why nothing of a process can be read.
#[derive(Debug)]
pub(super) enum Refused {
    /// The question makes no sense.
    Question,
    /// No object of this process can be.
    Unread(ReadError),
    /// The kernel lacks what it takes.
    Unsupported(Unsupported),
}

const GONE: Refused = Refused::Unread(ReadError::Gone);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Question => f.write_str("what?"),
            Self::Unread(why) => why.fmt(f),
            Self::Unsupported(flag) => flag.fmt(f),
        }
    }
}

impl Objects {
    /// Objects of a process that rprof sees as `pid`.
    pub fn new(pid: u32, plan: &Plan, addresses: Vec<u64>) -> Self {
        Self {
            pid,
            thread: None,
            plan: words(plan),
            addresses,
        }
    }

    /// The same, read by a thread of that process.
    pub fn by_thread(mut self, tid: Option<u32>) -> Self {
        self.thread = tid;
        self
    }

    /// Reads them, in the reader: `pidfd` is the process's, or the thread's.
    pub(super) fn read(&self, pidfd: OwnedFd) -> Result<Fields, Refused> {
        // It is asked about nothing else: who looks at what runs can tell it from those.
        let _ = rustix::thread::set_name(NAME);
        let (plan, _) = take(&self.plan).ok_or(Refused::Question)?;
        if self.addresses.len() > MAX_OBJECTS {
            return Err(Refused::Question);
        }
        match self.open(pidfd) {
            Ok(mut process) => Ok(Fields::read(&plan, &mut *process, &self.addresses)),
            Err(Refused::Unread(why)) => Ok(Fields::unread(why, self.addresses.len())),
            Err(refused) => Err(refused),
        }
    }

    fn open(&self, pidfd: OwnedFd) -> Result<Box<dyn Reads>, Refused> {
        let id = self.thread.unwrap_or(self.pid);
        let pagemap = rustix::fs::open(
            format!("/proc/{id}/pagemap"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let pagemap = pagemap.map_err(|error| match error {
            Errno::NOENT | Errno::SRCH => GONE,
            Errno::PERM | Errno::ACCESS => Refused::Unread(ReadError::NotPermitted),
            _ => Refused::Unread(ReadError::NotRead),
        })?;
        let maps = rustix::fs::open(
            format!("/proc/{id}/maps"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        // If the process or the thread lives, the id was its all the time. (Whether it is the one that was
        // sampled is asked when it has been read.)
        if has_ended(&pidfd) {
            return Err(GONE);
        }
        let flags = Flags::probe();
        if faults::asked(Fault::PagemapOnly).is_some() && !(flags.pidfd && flags.nowait) {
            return Ok(Box::new(PagemapOnly(Pagemap::new(pagemap))));
        }
        match ProcessVm::open(flags, pidfd, pagemap) {
            Ok(process) => {
                let mappings = maps.ok().map(Mappings::new);
                let files = mappings.map(|mappings| MappedFiles::new(id, mappings));
                let process = match self.thread {
                    Some(tid) => process.by_thread(tid),
                    None => process,
                };
                Ok(Box::new(process.or_from(files)))
            }
            Err(flag) => Err(Refused::Unsupported(flag)),
        }
    }
}

/// See [`Fault::PagemapOnly`].
struct PagemapOnly(Pagemap);

impl Reads for PagemapOnly {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError> {
        let mut look = self.0.look();
        for piece in pieces.iter_mut() {
            let readable = look.readable(piece.address, piece.buffer.len());
            piece.result = readable.and(Err(ReadError::NotRead));
        }
        pieces.iter().try_for_each(|piece| piece.result)
    }
}

impl Fields {
    fn read(plan: &Plan, process: &mut dyn Reads, addresses: &[u64]) -> Self {
        let mut fields = Self::default();
        for &address in addresses {
            // One that has no room may be asked for again.
            let read = match fields.bytes.len() {
                MAX_FIELDS.. => Err(ReadError::NotRead),
                _ => execute(plan, process, address),
            };
            fields.add(read.and_then(|bytes| {
                let fits = !bytes.is_empty() && fields.bytes.len() + bytes.len() <= MAX_FIELDS;
                fits.then_some(bytes).ok_or(ReadError::NotRead)
            }));
        }
        fields
    }

    fn unread(why: ReadError, objects: usize) -> Self {
        let mut fields = Self::default();
        (0..objects).for_each(|_| fields.add(Err(why)));
        fields
    }

    fn add(&mut self, read: Result<Vec<u8>, ReadError>) {
        let (bytes, why) = match read {
            Ok(bytes) => (bytes, ReadError::NotRead),
            Err(why) => (Vec::new(), why),
        };
        let number = ERRORS.iter().position(|&other| other == why);
        self.lengths.push(bytes.len() as u32);
        self.errors.push(number.unwrap_or(0) as u32);
        self.bytes.extend(bytes);
    }

    /// What each of so many objects' plan read, or why it did not. Whoever answered may say anything.
    pub fn of(&self, objects: usize) -> impl Iterator<Item = Result<&[u8], ReadError>> {
        let mut rest = self.bytes.as_slice();
        let zeros = std::iter::repeat(&0);
        let lengths = self.lengths.iter().chain(zeros.clone());
        let errors = self.errors.iter().chain(zeros);
        lengths.zip(errors).take(objects).map(move |(&len, &why)| {
            let why = ERRORS.get(why as usize).copied();
            let why = why.unwrap_or(ReadError::NotRead);
            let (bytes, after) = rest.split_at_checked(len as usize).ok_or(why)?;
            rest = after;
            (!bytes.is_empty()).then_some(bytes).ok_or(why)
        })
    }
}

#[cfg(test)]
mod tests {
    use rprof_ebpf::plan::{Op, Step};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::*;

    /// Memory that holds its own addresses, up to 0x1000.
    struct Memory;

    impl Reads for Memory {
        fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError> {
            for piece in pieces.iter_mut() {
                piece.buffer.fill(piece.address as u8);
                let is_there = piece.address < 0x1000;
                piece.result = is_there.then_some(()).ok_or(ReadError::SharedPage);
            }
            pieces.iter().try_for_each(|piece| piece.result)
        }
    }

    /// Eight bytes of an object, or more.
    fn plan(len: u32) -> Plan {
        let mut plan = Plan {
            len: 1,
            ..Plan::default()
        };
        plan.steps[0] = Step {
            op: Op::Bytes as u8,
            len,
            ..Step::default()
        };
        plan
    }

    fn heads(fields: &Fields, objects: usize) -> Vec<Result<(usize, u8), ReadError>> {
        let all = fields.of(objects);
        all.map(|read| read.map(|bytes| (bytes.len(), bytes.last().copied().unwrap_or(0))))
            .collect()
    }

    #[test]
    fn each_object_has_its_fields_or_a_reason() {
        let fields = Fields::read(&plan(8), &mut Memory, &[1, 0x2000, 7]);
        let shared = Err(ReadError::SharedPage);
        assert_eq!(heads(&fields, 3), [Ok((16, 1)), shared, Ok((16, 7))]);
        let gone = Fields::unread(ReadError::Gone, 2);
        assert_eq!(heads(&gone, 2), [Err(ReadError::Gone); 2]);
    }

    #[test]
    fn no_answer_is_longer_than_may_be() {
        let addresses = vec![1; 64 << 10];
        let fields = Fields::read(&plan(512), &mut Memory, &addresses);
        assert!(fields.bytes.len() <= MAX_FIELDS);
        let read = fields.of(addresses.len()).filter(Result::is_ok).count();
        assert_eq!(read, MAX_FIELDS / 520);
        let last = fields.of(addresses.len()).last();
        assert_eq!(last, Some(Err(ReadError::NotRead)));
    }

    #[test]
    fn answers_that_do_not_fit_the_question() {
        let unread = Err(ReadError::NotRead);
        assert_eq!(heads(&Fields::default(), 2), [unread; 2]);
        let lies = Fields {
            bytes: vec![1, 2, 3],
            lengths: vec![2, u32::MAX, 0, 1, 1],
            errors: vec![9, 4, 9],
        };
        let changed = Err(ReadError::Changed);
        let expected = [Ok((2, 2)), changed, unread, Ok((1, 3)), unread, unread];
        assert_eq!(heads(&lies, 6), expected);
        assert_eq!(heads(&lies, 1), [Ok((2, 2))]);
    }

    fn objects(pid: u32) -> Objects {
        Objects::new(pid, &plan(8), vec![0])
    }

    #[test]
    fn a_process_is_opened_while_it_lives() {
        let pid = std::process::id();
        let pidfd = || pidfd_open(getpid(), PidfdFlags::empty()).expect("ourselves");
        let flags = Flags::probe();
        match objects(pid).open(pidfd()) {
            Ok(_) => assert!(flags.pidfd && flags.nowait),
            Err(Refused::Unsupported(_)) => assert!(!(flags.pidfd && flags.nowait)),
            Err(refused) => panic!("{refused}"),
        }
        let refused = objects(u32::MAX).open(pidfd());
        assert!(matches!(refused, Err(Refused::Unread(ReadError::Gone))));
        // Its id is another's now, be it the process's or the thread's.
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let ended = rustix::process::Pid::from_child(&child);
        let ended = || pidfd_open(ended, PidfdFlags::empty()).expect("a child");
        let [by_pid, by_thread] = [ended(), ended()];
        assert!(child.wait().is_ok());
        let refused = objects(pid).open(by_pid);
        assert!(matches!(refused, Err(Refused::Unread(ReadError::Gone))));
        let refused = objects(u32::MAX).by_thread(Some(pid)).open(by_thread);
        assert!(matches!(refused, Err(Refused::Unread(ReadError::Gone))));
        // A thread that lives is opened, whatever the process's id leads to.
        let refused = objects(u32::MAX).by_thread(Some(pid)).open(pidfd());
        assert!(!matches!(refused, Err(Refused::Unread(_))));
    }
}
