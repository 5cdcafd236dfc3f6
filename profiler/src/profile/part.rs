//! The part file: stacks that memory had no room for. Runs of records sorted by key come in; they
//! are read back in that order, several runs at once, each through a small buffer. The file has no
//! name, so nothing is left behind, however rprof ends. It never holds names or tables: records
//! refer to them by number.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::frames::Owner;

/// Bytes that all read buffers together may take; each gets at least [`MIN_BUFFER`].
const READ_BUFFERS: usize = 2 << 20;
const MIN_BUFFER: usize = 4 << 10;
/// Bytes of the write buffer.
pub(super) const WRITE_BUFFER: usize = 32 << 10;
/// Frames of a record at most; more means that the file is not what was written.
const MAX_FRAMES: u64 = 1 << 16;

/// A stack with its count, on its way into or out of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// What records are sorted by; equal for equal stacks of equal owners.
    pub(super) key: u64,
    /// Whose it is.
    pub(super) owner: Owner,
    /// Samples.
    pub(super) count: u64,
    /// Frame numbers, leaf first.
    pub(super) frames: Vec<u32>,
}

/// All parts of one profile, in one file.
#[derive(Debug)]
pub(super) struct Parts {
    file: File,
    runs: Vec<Range<u64>>,
}

impl Parts {
    /// An empty file without a name in `directory`.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(directory)?,
            runs: Vec::new(),
        })
    }

    /// How many runs there are.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// Appends a run. On an error the file is as if nothing had been written.
    pub(super) fn append(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = self.bytes();
        self.file.seek(SeekFrom::Start(start))?;
        let mut writer = Writer(BufWriter::with_capacity(WRITE_BUFFER, &self.file));
        let written = write(&mut writer).and_then(|()| writer.0.flush());
        // Whatever the buffer still holds must not be written when it is dropped.
        drop(writer.0.into_parts());
        let end = written.and_then(|()| (&self.file).stream_position());
        match end {
            Ok(end) => {
                self.runs.push(start..end);
                Ok(())
            }
            Err(error) => {
                // What remains there would be overwritten by the next run anyway.
                let _ = self.file.set_len(start);
                Err(error)
            }
        }
    }

    /// One reader for each run.
    pub(super) fn readers(&self) -> impl Iterator<Item = RunReader<'_>> {
        let buffer = (READ_BUFFERS / self.runs.len().max(1)).clamp(MIN_BUFFER, 64 << 10);
        self.runs.iter().map(move |run| RunReader {
            file: &self.file,
            at: run.start,
            end: run.end,
            buffer: vec![0; buffer],
            filled: 0..0,
        })
    }
}

/// Writes the records of a run.
pub(super) struct Writer<'a>(BufWriter<&'a File>);

impl Writer<'_> {
    /// Writes one; keys must not fall.
    pub(super) fn record(&mut self, record: &Record) -> io::Result<()> {
        self.0.write_all(&record.key.to_le_bytes())?;
        let owner = &record.owner;
        for value in [owner.pid, owner.tid, owner.comm, owner.thread, owner.cgroup] {
            self.varint(value.into())?;
        }
        self.varint(owner.host_pid.into())?;
        self.varint(record.count)?;
        self.varint(record.frames.len() as u64)?;
        for &frame in &record.frames {
            self.varint(frame.into())?;
        }
        Ok(())
    }

    fn varint(&mut self, mut value: u64) -> io::Result<()> {
        while value >= 0x80 {
            self.0.write_all(&[value as u8 | 0x80])?;
            value >>= 7;
        }
        self.0.write_all(&[value as u8])
    }
}

/// Reads the records of a run.
pub(super) struct RunReader<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    filled: Range<usize>,
}

impl RunReader<'_> {
    /// The next record, into `record`; `false` at the end of the run.
    pub(super) fn next(&mut self, record: &mut Record) -> io::Result<bool> {
        if self.filled.is_empty() && self.at == self.end {
            return Ok(false);
        }
        let mut key = [0; 8];
        for byte in &mut key {
            *byte = self.byte()?;
        }
        record.key = u64::from_le_bytes(key);
        record.owner = Owner {
            pid: self.number()?,
            tid: self.number()?,
            comm: self.number()?,
            thread: self.number()?,
            cgroup: self.number()?,
            host_pid: self.varint()? != 0,
        };
        record.count = self.varint()?;
        let frames = self.varint()?;
        if frames > MAX_FRAMES {
            return Err(damaged());
        }
        record.frames.clear();
        for _ in 0..frames {
            let frame = self.number()?;
            record.frames.push(frame);
        }
        Ok(true)
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.filled.is_empty() {
            let want = (self.end - self.at).min(self.buffer.len() as u64) as usize;
            let buffer = self.buffer.get_mut(..want).unwrap_or_default();
            let got = self.file.read_at(buffer, self.at)?;
            self.at += got as u64;
            self.filled = 0..got;
        }
        let at = self.filled.next().ok_or_else(damaged)?;
        self.buffer.get(at).copied().ok_or_else(damaged)
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    fn number(&mut self) -> io::Result<u32> {
        u32::try_from(self.varint()?).map_err(|_| damaged())
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the part file of this profile is damaged",
    )
}
