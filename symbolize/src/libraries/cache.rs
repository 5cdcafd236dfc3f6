//! `/etc/ld.so.cache`: where the loader finds a library by name.
//!
//! The file's bytes and a name enter; a path leaves. Entries are sorted, and looked up by halving as
//! the loader does: a file that is not sorted hides its entries from the loader too. No offset is
//! trusted.
//!
//! Layout: glibc 2.36, sysdeps/generic/dl-cache.h. 48 bytes of header (magic, count, …, offset of
//! the extensions), entries of 24 bytes (flags, name, path, …, hwcap). Until 2.31 as a rule, the
//! older format stands before it (a header of 16 bytes, entries of 12). Offsets count from the newer
//! format's header.

use std::cmp::Ordering;

use crate::elf::{u32_at, u64_at};

/// Bytes of a cache that are read at most: thousands of libraries take a few hundred KiB.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// Entries of one name that are looked at.
const MAX_SAME: usize = 64;
/// Bytes of a name or path (`PATH_MAX`).
const MAX_STRING: usize = 4096;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`.
const X86_64: u32 = 0x0303;
/// `DL_CACHE_HWCAP_EXTENSION`: the low word is an index into the names of instruction set levels.
const HWCAP_EXTENSION: u64 = 1 << 62;
/// `cache_extension_magic`.
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
/// `cache_extension_tag_glibc_hwcaps`.
const TAG_HWCAPS: u32 = 1;
/// Sections of the extensions that are looked at.
const MAX_EXTENSIONS: u32 = 16;

/// A cache.
#[derive(Debug)]
pub(super) struct Cache {
    /// From the newer format's header on.
    bytes: Vec<u8>,
    count: usize,
}

/// Instruction set levels this machine has, best first, as glibc names their directories.
fn levels() -> [Option<&'static [u8]>; 3] {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("cmpxchg16b") && has!("popcnt") && has!("sse4.2") && has!("ssse3");
    let v3 = v2
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 = v3
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    [
        v4.then_some(b"x86-64-v4"),
        v3.then_some(b"x86-64-v3"),
        v2.then_some(b"x86-64-v2"),
    ]
}

impl Cache {
    /// `None`: not a cache, or cut off in its entries.
    pub(super) fn parse(mut bytes: Vec<u8>) -> Option<Self> {
        if bytes.starts_with(OLD_MAGIC) {
            let count = u32_at(bytes.get(12..16)?, 0) as usize;
            let end = count.checked_mul(OLD_ENTRY)?.checked_add(OLD_HEADER)?;
            bytes.drain(..end.checked_next_multiple_of(8)?.min(bytes.len()));
        }
        let header = bytes.get(..HEADER)?;
        if !header.starts_with(MAGIC) {
            return None;
        }
        let count = u32_at(header, 20) as usize;
        bytes.get(HEADER..)?.get(..count.checked_mul(ENTRY)?)?;
        Some(Self { bytes, count })
    }

    /// Where the library of that name is.
    pub(super) fn find(&self, name: &[u8]) -> Option<&[u8]> {
        // The entries' order is descending.
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if compare(name, self.key(middle)?) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let levels = levels();
        let rank = |entry: &[u8]| match u64_at(entry, 16) {
            0 => Some(levels.len()),
            hwcap if hwcap & HWCAP_EXTENSION != 0 => {
                let level = self.level(hwcap as u32)?;
                levels.iter().position(|&l| l == Some(level))
            }
            _ => None,
        };
        (low..self.count)
            .take(MAX_SAME)
            .take_while(|&i| self.key(i).is_some_and(|key| compare(name, key).is_eq()))
            .filter_map(|i| self.entry(i))
            .filter(|entry| u32_at(entry, 0) == X86_64)
            .filter_map(|entry| Some((rank(entry)?, u32_at(entry, 8))))
            .min_by_key(|&(rank, _)| rank)
            .and_then(|(_, at)| self.string(at))
    }

    fn entry(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_mul(ENTRY)?.checked_add(HEADER)?;
        self.bytes.get(start..start.checked_add(ENTRY)?)
    }

    fn key(&self, index: usize) -> Option<&[u8]> {
        self.string(u32_at(self.entry(index)?, 4))
    }

    fn string(&self, at: u32) -> Option<&[u8]> {
        let rest = self.bytes.get(at as usize..)?;
        let rest = rest.get(..rest.len().min(MAX_STRING))?;
        rest.get(..memchr::memchr(0, rest)?)
    }

    /// The name of an instruction set level.
    fn level(&self, index: u32) -> Option<&[u8]> {
        let start = u32_at(&self.bytes, 32) as usize;
        let extensions = self.bytes.get(start..)?;
        let header = extensions.get(..8)?;
        if start == 0 || u32_at(header, 0) != EXTENSION_MAGIC {
            return None;
        }
        let count = u32_at(header, 4).min(MAX_EXTENSIONS) as usize;
        let sections = extensions.get(8..)?.chunks_exact(16).take(count);
        let section = sections.into_iter().find(|s| u32_at(s, 0) == TAG_HWCAPS)?;
        let (offset, len) = (u32_at(section, 8) as usize, u32_at(section, 12) as usize);
        let names = self.bytes.get(offset..offset.checked_add(len)?)?;
        let name = names.chunks_exact(4).nth(index as usize)?;
        self.string(u32_at(name, 0))
    }
}

/// `_dl_cache_libcmp`: numbers count as numbers, and stand behind everything else.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    fn number(digits: &mut &[u8]) -> u32 {
        let mut value = 0u32;
        while let [digit @ b'0'..=b'9', rest @ ..] = *digits {
            value = value.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'));
            *digits = rest;
        }
        value
    }
    loop {
        match (a, b) {
            ([], _) | (_, []) => return a.len().cmp(&b.len()),
            ([b'0'..=b'9', ..], [b'0'..=b'9', ..]) => {
                let order = number(&mut a).cmp(&number(&mut b));
                if order.is_ne() {
                    return order;
                }
            }
            ([b'0'..=b'9', ..], _) => return Ordering::Greater,
            (_, [b'0'..=b'9', ..]) => return Ordering::Less,
            ([x, a_rest @ ..], [y, b_rest @ ..]) => {
                if x != y {
                    return x.cast_signed().cmp(&y.cast_signed());
                }
                (a, b) = (a_rest, b_rest);
            }
        }
    }
}
