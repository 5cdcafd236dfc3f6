//! How inputs are changed: a few places of a real input at a time, mostly where structure is.

use std::ops::Range;

/// Deterministic numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    /// A number below a bound; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn one_of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }

    /// 1 or more, large ones seldom.
    fn few(&mut self) -> usize {
        1 + self.next().trailing_zeros() as usize
    }
}

/// An input to begin with.
#[derive(Clone)]
pub(crate) struct Seed {
    pub(crate) bytes: Vec<u8>,
    /// Where changes matter, each as often as the others however long it is. Empty: everywhere.
    pub(crate) places: Vec<Range<usize>>,
    /// What stands at an offset belongs there: bytes are seldom put in or taken out.
    pub(crate) rigid: bool,
}

impl Seed {
    /// A stream: what stands where follows from what came before.
    pub(crate) fn stream(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            places: Vec::new(),
            rigid: false,
        }
    }
}

/// Numbers that are one too many somewhere.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff8,
    u64::MAX,
];

/// Inputs do not grow beyond this many bytes over their seed's.
const MAX_GROWTH: usize = 4096;

/// Changes `bytes`, which were made from `seed`; `other` is where foreign pieces come from.
pub(crate) fn mutate(random: &mut Random, bytes: &mut Vec<u8>, seed: &Seed, other: &[u8]) {
    for _ in 0..random.few() {
        let at = place(random, bytes.len(), &seed.places);
        let kinds = if seed.rigid { 40 } else { 16 };
        match random.below(kinds) {
            0 => bytes.truncate(at),
            1 => {
                let end = bytes.len().min(at + random.below(64) + 1);
                bytes.drain(at..end);
            }
            2 => insert(random, bytes, at, seed),
            3 | 4 => copy(random, bytes, at, other),
            5 => {
                let own = bytes.clone();
                copy(random, bytes, at, &own);
            }
            6 => {
                let end = bytes.len().min(at + random.below(40));
                let value = *random.one_of(&[0, 0xff, 0x80, 0x7f, b'A']);
                bytes[at..end].fill(value);
            }
            7..=10 => number(random, bytes, at),
            _ => byte(random, bytes, at),
        }
    }
}

/// An offset in the input, or its end.
fn place(random: &mut Random, len: usize, places: &[Range<usize>]) -> usize {
    let place = match places {
        [] => 0..len,
        places => random.one_of(places).clone(),
    };
    // The end of a long one is reached as often as its beginning.
    let at = place.start + random.below(place.len());
    at.min(len.saturating_sub(1))
}

fn byte(random: &mut Random, bytes: &mut [u8], at: usize) {
    let Some(byte) = bytes.get_mut(at) else {
        return;
    };
    *byte = match random.below(6) {
        0 => 0,
        1 => 0xff,
        2 => *byte ^ 1 << random.below(8),
        3 => byte.wrapping_add(1),
        4 => byte.wrapping_sub(1),
        _ => random.next() as u8,
    };
}

/// A number of 1, 2, 4 or 8 bytes, mostly where one may stand.
fn number(random: &mut Random, bytes: &mut [u8], at: usize) {
    let width = 1 << random.below(4);
    let at = match random.below(3) {
        0 => at,
        _ => at / width * width,
    };
    let len = bytes.len() as u64;
    let Some(place) = bytes.get_mut(at..at + width) else {
        return;
    };
    let mut word = [0; 8];
    word[..width].copy_from_slice(place);
    let old = u64::from_le_bytes(word);
    let new = match random.below(6) {
        0 => old.wrapping_add(random.few() as u64),
        1 => old.wrapping_sub(random.few() as u64),
        2 => len.wrapping_add(random.below(17) as u64).wrapping_sub(8),
        3 => old << random.below(64),
        4 => random.below(len as usize) as u64,
        _ => *random.one_of(&EDGES),
    };
    place.copy_from_slice(&new.to_le_bytes()[..width]);
}

/// A piece of `other` over what stands at an offset.
fn copy(random: &mut Random, bytes: &mut [u8], at: usize, other: &[u8]) {
    let from = match random.below(2) {
        0 => random.below(other.len()),
        _ => at.min(other.len()),
    };
    let len = (1 << random.below(9)).min(other.len() - from);
    let end = bytes.len().min(at + len);
    let len = end - at;
    bytes[at..end].copy_from_slice(&other[from..from + len]);
}

/// More bytes: some of those that follow once more, or anything.
fn insert(random: &mut Random, bytes: &mut Vec<u8>, at: usize, seed: &Seed) {
    if bytes.len() > seed.bytes.len() + MAX_GROWTH {
        return;
    }
    let end = bytes.len().min(at + random.below(64) + 1);
    let piece = match random.below(3) {
        0 => vec![random.next() as u8; random.few()],
        _ => bytes[at..end].to_vec(),
    };
    let times = random.few();
    bytes.splice(at..at, piece.repeat(times.min(8)));
}
