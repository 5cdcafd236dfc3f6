//! Tables and CFI as bytes: a file is read by one process, and what it says is used by another.
//!
//! Numbers are 64 bits, little-endian; lists follow their lengths. What is read back counts as
//! hostile, too: whoever wrote it has read a file of a target.

use std::io::{self, Read, Write};

use rprof_ebpf::rows::Rule;

use crate::module::{Segment, Segments};
use crate::rows::rule_words;

/// Bytes that are read or written at once.
const PIECE: usize = 32 << 10;
/// Segments, and places that are known without CFI, at most.
pub(crate) const MAX_PLACES: u64 = 4096;

pub(crate) fn put(to: &mut impl Write, number: u64) -> io::Result<()> {
    to.write_all(&number.to_le_bytes())
}

pub(crate) fn take(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A length, if it is allowed.
pub(crate) fn take_len(from: &mut impl Read, most: u64) -> io::Result<usize> {
    let len = take(from)?;
    if len > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

pub(crate) fn put_numbers(
    to: &mut impl Write,
    numbers: impl ExactSizeIterator<Item = u64>,
) -> io::Result<()> {
    put(to, numbers.len() as u64)?;
    let mut piece = Vec::with_capacity(PIECE);
    for number in numbers {
        piece.extend(number.to_le_bytes());
        if piece.len() >= PIECE {
            to.write_all(&piece)?;
            piece.clear();
        }
    }
    to.write_all(&piece)
}

/// Numbers, `most` of them at most, each made into what it stands for. Room for them is made as they
/// come.
pub(crate) fn take_numbers<T>(
    from: &mut impl Read,
    most: u64,
    make: impl Fn(u64) -> T,
) -> io::Result<Vec<T>> {
    let mut left = take_len(from, most)?;
    let mut list = Vec::with_capacity(left.min(PIECE));
    let mut piece = vec![0; PIECE.min(left * 8)];
    while left > 0 {
        let count = left.min(PIECE / 8);
        let bytes = piece.get_mut(..count * 8).unwrap_or_default();
        from.read_exact(bytes)?;
        let numbers = bytes.as_chunks().0.iter();
        list.extend(numbers.map(|number| make(u64::from_le_bytes(*number))));
        left -= count;
    }
    list.shrink_to_fit();
    Ok(list)
}

pub(crate) fn put_bytes(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    put(to, bytes.len() as u64)?;
    to.write_all(bytes)
}

pub(crate) fn take_bytes(from: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let len = take_len(from, most)?;
    let mut bytes = Vec::with_capacity(len);
    from.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

pub(crate) fn put_rule(to: &mut impl Write, rule: &Rule) -> io::Result<()> {
    let [a, b, c, d] = rule_words(rule).map(u64::from);
    put(to, a | b << 32)?;
    put(to, c | d << 32)
}

pub(crate) fn take_rule(from: &mut impl Read) -> io::Result<Rule> {
    Ok(Rule::from_words(take(from)?, take(from)?))
}

pub(crate) fn put_segments(to: &mut impl Write, segments: &Segments) -> io::Result<()> {
    put(to, segments.iter().count() as u64)?;
    for segment in segments.iter() {
        for number in [segment.address, segment.offset, segment.size] {
            put(to, number)?;
        }
    }
    Ok(())
}

pub(crate) fn take_segments(from: &mut impl Read) -> io::Result<Segments> {
    let segments = (0..take_len(from, MAX_PLACES)?).map(|_| {
        let segment = Segment {
            address: take(from)?,
            offset: take(from)?,
            size: take(from)?,
        };
        let ends = [segment.address, segment.offset].map(|at| at.checked_add(segment.size));
        match ends {
            [Some(_), Some(_)] => Ok(segment),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    });
    segments.collect()
}
