//! Prints what the read ladder's vector read costs, for 1, 8 and 64 pieces, each on a page of its own, the
//! look at the pagemap included: `cargo run --release -p rprof-symbolize --example ladder`.
//!
//! Where the kernel lacks the flags that keep such a read from waiting, the same call is made without them.
//! That may change a process, and wait for it: it is made on a child of this program, and on nobody else.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rprof_symbolize::reads::{Flags, Pagemap, Piece, ProcessVm, ReadError, Reads};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const PAGE: usize = 4096;
const PIECES: [usize; 3] = [1, 8, 64];
/// Bytes of a piece, as of a name or a part of a line table.
const BYTES: usize = 64;
const CALLS: usize = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("child") {
        return child();
    }
    let mut child = Command::new(std::env::current_exe()?)
        .arg("child")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = measure(&mut child);
    // It ends when nobody says anything more.
    drop(child.stdin.take());
    child.wait()?;
    println!("{}", said?);
    Ok(())
}

/// Says where its pages are, and lives until its standard input ends.
fn child() -> Result<(), Box<dyn Error>> {
    let most = PIECES.iter().max().copied().unwrap_or(0);
    let pages = vec![1u8; (most + 1) * PAGE];
    println!("{}", (pages.as_ptr() as usize).next_multiple_of(PAGE));
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    std::hint::black_box(&pages);
    Ok(())
}

fn measure(child: &mut Child) -> Result<String, Box<dyn Error>> {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().ok_or("a child without output")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let first: usize = line.trim().parse()?;
    let pagemap = || File::open(format!("/proc/{}/pagemap", child.id())).map(OwnedFd::from);
    let flags = Flags::probe();
    let with_flags = flags.pidfd && flags.nowait;
    let mut reads: Box<dyn Reads> = match with_flags {
        true => {
            let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
            Box::new(ProcessVm::open(flags, pidfd, pagemap()?)?)
        }
        false => Box::new(OwnChild(child.id(), Pagemap::new(pagemap()?))),
    };
    let mut said = format!("flags {}", if with_flags { "yes" } else { "no" });
    for pieces in PIECES {
        let mut buffers = vec![[0u8; BYTES]; pieces];
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let places = buffers.iter_mut().enumerate();
            let mut wanted: Vec<_> = places
                .map(|(n, buffer)| Piece::new((first + n * PAGE) as u64, buffer))
                .collect();
            let start = Instant::now();
            reads.read(&mut wanted)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        if buffers.iter().any(|buffer| *buffer != [1; BYTES]) {
            return Err("what came is not what is there".into());
        }
        times.sort_by(f64::total_cmp);
        said += &format!("; {pieces} pieces {:.2} µs", times[CALLS / 2]);
    }
    Ok(said)
}

/// The same as [`ProcessVm`], without the flags.
struct OwnChild(u32, Pagemap);

impl Reads for OwnChild {
    fn read(&mut self, pieces: &mut [Piece<'_>]) -> Result<(), ReadError> {
        let mut look = self.1.look();
        for piece in pieces.iter() {
            look.readable(piece.address, piece.buffer.len())?;
        }
        let place = |base, iov_len| libc::iovec {
            iov_base: base,
            iov_len,
        };
        let local: Vec<_> = pieces
            .iter_mut()
            .map(|piece| place(piece.buffer.as_mut_ptr().cast(), piece.buffer.len()))
            .collect();
        let remote: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let base = std::ptr::without_provenance_mut(piece.address as usize);
                place(base, piece.buffer.len())
            })
            .collect();
        // SAFETY: each local vector is a buffer that `pieces` borrows mutably until we return; remote
        // addresses are only looked up in the child.
        let read = unsafe {
            libc::process_vm_readv(
                self.0 as libc::pid_t,
                local.as_ptr(),
                local.len() as libc::c_ulong,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        let all: usize = pieces.iter().map(|piece| piece.buffer.len()).sum();
        match usize::try_from(read) {
            Ok(read) if read == all => Ok(()),
            _ => Err(ReadError::NotRead),
        }
    }
}
