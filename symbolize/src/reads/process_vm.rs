//! `process_vm_readv` that neither waits nor changes the target.
//!
//! Pieces enter; each leaves filled, or with the reason. A read is addressed by pidfd
//! (`PROCESS_VM_PIDFD`), so that no reused pid is read, and does not wait for pages
//! (`PROCESS_VM_NOWAIT`). A kernel that lacks either flag is refused: there is no fallback to a plain
//! read. Even so a read can un-share and map pages, so the pagemap is asked first; what is not in the
//! process's page tables may still be in a file that it maps.
//!
//! A pidfd finds the memory of a process's first thread only. Where that has ended, another is addressed
//! by its id, and a pidfd of its own says right before each read that the id is still that thread's.
//!
//! Source of the flags: the patch series "process_vm_readv: add PIDFD and NOWAIT flags" on
//! linux-mm, v5 of 2026-06-02; in no release up to Linux 7.3-rc7.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libc::{c_int, c_ulong, iovec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{MappedFiles, Pagemap, Piece, ReadError, Reads};

/// The first argument is a pidfd.
const PIDFD: c_ulong = 1 << 0;
/// Stop at a page that is not at hand.
const NOWAIT: c_ulong = 1 << 1;
/// Pieces of one call at most: each takes the target's lock for itself, and no call may hold our
/// reader for long.
const MAX_PIECES: usize = 64;

/// Which flags of `process_vm_readv` the running kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// `PROCESS_VM_PIDFD`
    pub pidfd: bool,
    /// `PROCESS_VM_NOWAIT`
    pub nowait: bool,
}

impl Flags {
    /// Asks the kernel; reads nothing from anyone.
    pub fn probe() -> Self {
        // A kernel refuses an unknown flag before it looks at anything else.
        let knows = |flag| {
            // SAFETY: both vectors are empty, so no memory is touched.
            unsafe {
                libc::process_vm_readv(0, std::ptr::null(), 0, std::ptr::null(), 0, flag) == 0
            }
        };
        Self {
            pidfd: knows(PIDFD),
            nowait: knows(NOWAIT),
        }
    }
}

/// The kernel lacks a flag without which a target could be made to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported(&'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this kernel has no {}", self.0)
    }
}

impl std::error::Error for Unsupported {}

/// Reads one process through its pidfd, or by the id of a thread.
#[derive(Debug)]
pub struct ProcessVm {
    pidfd: OwnedFd,
    thread: Option<c_int>,
    pagemap: Pagemap,
    files: Option<MappedFiles>,
}

impl ProcessVm {
    /// `pidfd` is the process's (of its leader, not `PIDFD_THREAD`, but for [`Self::by_thread`]),
    /// `pagemap` the same process's open `/proc/PID/pagemap`; `flags` what [`Flags::probe`] found.
    ///
    /// # Errors
    /// [`Unsupported`] names the flag that the kernel lacks.
    pub fn open(flags: Flags, pidfd: OwnedFd, pagemap: OwnedFd) -> Result<Self, Unsupported> {
        if !flags.nowait {
            return Err(Unsupported("PROCESS_VM_NOWAIT"));
        }
        if !flags.pidfd {
            return Err(Unsupported("PROCESS_VM_PIDFD"));
        }
        Ok(Self {
            pidfd,
            thread: None,
            pagemap: Pagemap::new(pagemap),
            files: None,
        })
    }

    /// The pidfd is that of a thread with this id (`PIDFD_THREAD`), which is read by the id. Whoever
    /// uses what was read asks once more whether the thread lives: between our look and the read it may
    /// end, and its id be another's.
    pub fn by_thread(mut self, tid: u32) -> Self {
        self.thread = Some(tid.cast_signed());
        self
    }

    /// What is not in the process's page tables is read from these files, if it is theirs.
    pub fn or_from(mut self, files: Option<MappedFiles>) -> Self {
        self.files = files;
        self
    }
}

/// Whether what a pidfd stands for has ended: the process with all its threads, or the thread.
pub fn has_ended(pidfd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// One system call: how many bytes came, in the order of the pieces. `process` is a pidfd or a pid,
/// as `flags` say.
fn call(process: c_int, flags: c_ulong, pieces: &mut [&mut Piece<'_>]) -> Result<usize, c_int> {
    let local: Vec<_> = pieces.iter_mut().map(|p| local(p)).collect();
    let remote: Vec<_> = pieces.iter().map(|p| remote(p)).collect();
    // SAFETY: each local vector is a buffer that `pieces` borrows mutably until we return; remote
    // addresses are only looked up in the other process.
    let read = unsafe {
        libc::process_vm_readv(
            process,
            local.as_ptr(),
            local.len() as c_ulong,
            remote.as_ptr(),
            remote.len() as c_ulong,
            flags,
        )
    };
    usize::try_from(read).map_err(|_| last_errno())
}

fn last_errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn local(piece: &mut Piece<'_>) -> iovec {
    iovec {
        iov_base: piece.buffer.as_mut_ptr().cast(),
        iov_len: piece.buffer.len(),
    }
}

fn remote(piece: &Piece<'_>) -> iovec {
    iovec {
        iov_base: std::ptr::without_provenance_mut(piece.address as usize),
        iov_len: piece.buffer.len(),
    }
}

impl Reads for ProcessVm {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError> {
        for pieces in pieces.chunks_mut(MAX_PIECES) {
            let mut look = self.pagemap.look();
            let mut readable = Vec::with_capacity(pieces.len());
            for piece in pieces {
                piece.result = look.readable(piece.address, piece.buffer.len());
                match (piece.result, &mut self.files) {
                    (Ok(()), _) => readable.push(piece),
                    (Err(ReadError::WouldFault), Some(files)) => {
                        let read = files.read(&self.pagemap, piece.address, piece.buffer);
                        piece.result = read.ok_or(ReadError::WouldFault);
                    }
                    _ => {}
                }
            }
            let pidfd = &self.pidfd;
            read_all(&mut readable, |pieces| match self.thread {
                None => call(pidfd.as_raw_fd(), PIDFD | NOWAIT, pieces),
                Some(_) if has_ended(pidfd) => Err(libc::ESRCH),
                Some(tid) => call(tid, NOWAIT, pieces),
            });
        }
        // Neither the page tables nor the kernel's errors tell what is away from what never was.
        let mappings = self.files.as_ref().map(MappedFiles::mappings);
        for piece in pieces.iter_mut() {
            let is_mapped = |address| mappings.and_then(|mappings| mappings.is_mapped(address));
            if piece.result == Err(ReadError::WouldFault) && is_mapped(piece.address) == Some(false)
            {
                piece.result = Err(ReadError::BadAddress);
            }
        }
        pieces.iter().try_for_each(|piece| piece.result)
    }
}

/// Reads all pieces with as many calls as their gaps need: the kernel stops at the first page that
/// it cannot read. Each call settles one piece at least.
fn read_all(
    mut pieces: &mut [&mut Piece<'_>],
    mut call: impl FnMut(&mut [&mut Piece<'_>]) -> Result<usize, c_int>,
) {
    while !pieces.is_empty() {
        let mut left = match call(pieces) {
            Ok(read) => read,
            // Nothing was read of the first piece.
            Err(libc::EFAULT) => 0,
            Err(errno) => {
                let why = match errno {
                    libc::ESRCH => ReadError::Gone,
                    libc::EPERM => ReadError::NotPermitted,
                    _ => ReadError::NotRead,
                };
                pieces.iter_mut().for_each(|p| p.result = Err(why));
                return;
            }
        };
        let mut settled = 0;
        for piece in pieces.iter_mut() {
            settled += 1;
            match left.checked_sub(piece.buffer.len()) {
                Some(rest) => {
                    piece.result = Ok(());
                    left = rest;
                }
                None => {
                    piece.result = Err(ReadError::WouldFault);
                    break;
                }
            }
        }
        pieces = pieces.get_mut(settled..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    /// A kernel whose readable memory is 0..1000 and 2000.., each byte its address's lowest.
    fn kernel(pieces: &mut [&mut Piece<'_>]) -> Result<usize, c_int> {
        let mut read = 0;
        for piece in pieces {
            for (byte, address) in piece.buffer.iter_mut().zip(piece.address..) {
                if (1000..2000).contains(&address) {
                    return if read == 0 {
                        Err(libc::EFAULT)
                    } else {
                        Ok(read)
                    };
                }
                *byte = address as u8;
                read += 1;
            }
        }
        Ok(read)
    }

    fn results(at: &[(u64, usize)]) -> Vec<Result<u8, ReadError>> {
        let mut buffers: Vec<_> = at.iter().map(|&(_, len)| vec![0; len]).collect();
        let mut pieces: Vec<_> = at
            .iter()
            .zip(&mut buffers)
            .map(|(&(address, _), buffer)| Piece::new(address, buffer))
            .collect();
        let mut all: Vec<_> = pieces.iter_mut().collect();
        let mut calls = 0;
        read_all(&mut all, |pieces| {
            calls += 1;
            kernel(pieces)
        });
        assert!(calls <= at.len(), "{calls} calls for {} pieces", at.len());
        let last = |p: &Piece<'_>| p.buffer.last().copied().unwrap_or(0);
        pieces.iter().map(|p| p.result.map(|()| last(p))).collect()
    }

    #[test]
    fn a_gap_costs_only_its_own_piece() {
        let gap = Err(ReadError::WouldFault);
        assert_eq!(results(&[(0, 8), (16, 4)]), [Ok(7), Ok(19)]);
        assert_eq!(results(&[(1500, 8), (16, 4)]), [gap, Ok(19)]);
        // One piece that ends in the gap, then two behind it.
        let partial = [(992, 8), (996, 8), (2000, 8), (1000, 1), (3, 1)];
        assert_eq!(results(&partial), [Ok(231), gap, Ok(215), gap, Ok(3)]);
        assert_eq!(
            results(&[(1000, 1), (1001, 0), (1002, 1)]),
            [gap, Ok(0), gap]
        );
    }

    /// The real call on ourselves: without flags, which no other process may be read with.
    #[test]
    fn a_gap_of_the_real_kernel_costs_only_its_own_piece() {
        let source: Vec<u8> = (0..200).collect();
        let at = source.as_ptr() as u64;
        let (mut first, mut gap, mut last) = ([0; 16], [0; 8], [0; 100]);
        let mut pieces = [
            Piece::new(at, &mut first),
            Piece::new(8, &mut gap),
            Piece::new(at + 100, &mut last),
        ];
        let mut all: Vec<_> = pieces.iter_mut().collect();
        read_all(&mut all, |pieces| {
            call(std::process::id() as c_int, 0, pieces)
        });
        let results = pieces.map(|p| p.result);
        assert_eq!(results, [Ok(()), Err(ReadError::WouldFault), Ok(())]);
        assert_eq!(first[..], source[..16]);
        assert_eq!(last[..], source[100..]);
    }

    #[test]
    fn a_process_that_is_gone_ends_all_pieces() {
        let (mut a, mut b) = ([0], [0]);
        let mut pieces = [Piece::new(1, &mut a), Piece::new(2, &mut b)];
        let mut all: Vec<_> = pieces.iter_mut().collect();
        read_all(&mut all, |_| Err(libc::ESRCH));
        assert!(pieces.iter().all(|p| p.result == Err(ReadError::Gone)));
    }

    /// Its id may be another's by now: here it is our own, whose pages are all at hand.
    #[test]
    fn who_has_ended_is_not_read_by_its_id() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(!has_ended(&pidfd));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(has_ended(&pidfd));
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        let mut reads = ProcessVm {
            pidfd,
            thread: Some(std::process::id().cast_signed()),
            pagemap: Pagemap::new(pagemap.into()),
            files: None,
        };
        // A file's page: a fork in another test shares all that are our own.
        let (source, mut buffer) = (b"7", [0]);
        let mut pieces = [Piece::new(source.as_ptr() as u64, &mut buffer)];
        assert_eq!(reads.read(&mut pieces), Err(ReadError::Gone));
        assert_eq!(buffer, [0]);
    }

    #[test]
    fn a_kernel_without_nowait_is_refused_in_one_sentence() {
        let fd = || OwnedFd::from(std::fs::File::open("/proc/self/pagemap").unwrap());
        let flags = Flags {
            pidfd: true,
            nowait: false,
        };
        let refused = ProcessVm::open(flags, fd(), fd()).unwrap_err();
        assert_eq!(refused.to_string(), "this kernel has no PROCESS_VM_NOWAIT");
    }
}
