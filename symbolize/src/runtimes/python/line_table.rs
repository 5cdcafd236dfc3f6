//! CPython's location table, 3.11 and later (`co_linetable`).
//!
//! A table's bytes enter, [`Run`]s of instructions leave; columns are not kept. The table is a row
//! of entries, each for 1 to 8 code units of two bytes (caches counted) from where the entry before
//! ended. Source: `Objects/locations.md`, and `get_line_delta` in `Objects/codeobject.c`, 3.11.7.

use crate::runtimes::Run;

/// Set on the first byte of each entry, and on no other.
const ENTRY: u8 = 0x80;

/// The lines of a table; `first_line` is the code object's. Ends before the first entry that makes
/// no sense.
pub(super) fn runs(table: &[u8], first_line: u32) -> Box<[Run]> {
    let mut runs: Vec<Run> = Vec::new();
    let mut line = i64::from(first_line);
    let mut end: u32 = 0;
    let mut rest = table;
    while let Some((&head, after)) = rest.split_first() {
        let len = after.iter().take_while(|&&b| b & ENTRY == 0).count();
        let (body, next) = after.split_at(len);
        rest = next;
        let Some(entry) = Entry::read(head, body) else {
            break;
        };
        let here = match entry {
            Entry::NoLine => None,
            Entry::Moves(delta) => {
                // No overflow: a delta has 32 bits, and no table 4 Gi entries.
                line += delta;
                u32::try_from(line).ok().filter(|&line| line > 0)
            }
        };
        end = end.saturating_add(u32::from(head & 7) + 1);
        match runs.last_mut() {
            Some(last) if last.line == here => last.end = end,
            _ => runs.push(Run { end, line: here }),
        }
    }
    runs.into()
}

/// What an entry says of lines.
enum Entry {
    /// The compiler made these instructions up.
    NoLine,
    /// They stand this many lines below the entry before.
    Moves(i64),
}

impl Entry {
    fn read(head: u8, body: &[u8]) -> Option<Self> {
        if head & ENTRY == 0 {
            return None;
        }
        Some(match head >> 3 & 0xf {
            // Columns only.
            0..=9 => Self::Moves(0),
            code @ 10..=12 => Self::Moves(i64::from(code) - 10),
            13 | 14 => Self::Moves(signed(body)?),
            _ => Self::NoLine,
        })
    }
}

/// A number in six-bit groups, lowest first, bit 6 set on all but the last; its lowest bit is the
/// sign.
fn signed(bytes: &[u8]) -> Option<i64> {
    let mut value: u32 = 0;
    for (&byte, shift) in bytes.iter().zip((0..).step_by(6)) {
        value |= u32::from(byte & 0x3f).checked_shl(shift)?;
        if byte & 0x40 == 0 {
            let magnitude = i64::from(value >> 1);
            return Some(if value & 1 == 0 {
                magnitude
            } else {
                -magnitude
            });
        }
    }
    None
}
