//! A table as words of row space (the layout stands in [`rprof_ebpf::rows`]), and how a row is
//! found in them.

use rprof_ebpf::module::{ModuleInfo, PAGE_BITS};
use rprof_ebpf::rows::{CHUNK_WORDS, MAX_BLOCK_ROWS, RULE_WORDS, Rule};

use super::{NONE, Table};

/// Bytes of a page of text.
const PAGE: u64 = 1 << PAGE_BITS;
/// Words of a block at most.
const MAX_BLOCK: u64 = 1 + MAX_BLOCK_ROWS as u64;

// A row begins at a byte of its own, so no page has more rows than a block holds.
const _: () = assert!(PAGE <= MAX_BLOCK_ROWS as u64);
// Rules are aligned to their size, so none crosses the border of a chunk.
const _: () = assert!(CHUNK_WORDS.is_multiple_of(RULE_WORDS));

/// A table at its place in row space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The words, from the base address on.
    pub words: Vec<u32>,
    /// Where in them what stands: `first_page`, `pages`, `index` and `rules` are filled in, the rest
    /// is left at zero.
    pub info: ModuleInfo,
}

impl Table {
    /// Words that the table takes at most, wherever its base is.
    pub fn words(&self) -> u64 {
        let pages = self.pages().1;
        let rules = self.rules.len() as u64 * u64::from(RULE_WORDS);
        // A page: its index word, its block's count, and the row that holds where it begins.
        let words = u64::from(RULE_WORDS) + rules + 3 * pages + self.rows.len() as u64;
        // A block that does not fit into its chunk begins in the next.
        let chunks = words / (u64::from(CHUNK_WORDS) - MAX_BLOCK) + 1;
        words + chunks * MAX_BLOCK
    }

    /// First page, and number of pages.
    fn pages(&self) -> (u64, u64) {
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else {
            return (0, 0);
        };
        let first = first.offset() >> PAGE_BITS;
        (first, (last.offset() >> PAGE_BITS) - first + 1)
    }

    /// The words of the table if its first one has the word address `base`.
    ///
    /// They are at most [`Table::words`]. Word addresses beyond 32 bits wrap: the caller sees to it
    /// that the base leaves room.
    pub fn encode(&self, base: u32) -> Image {
        let mut words = Words {
            base,
            words: Vec::with_capacity(self.words() as usize),
        };
        words.align(RULE_WORDS);
        let rules = words.here();
        for rule in &self.rules {
            words.words.extend(rule_words(rule));
        }
        let (first_page, pages) = self.pages();
        let index = words.here();
        let index_at = words.words.len();
        words.words.resize(index_at + pages as usize, 0);

        // Blocks of one row are the same for all pages that its rule covers.
        let mut singles = vec![None; self.rules.len()];
        let mut rest = self.rows.as_slice();
        let mut current = NONE;
        for page in 0..pages {
            let start = (first_page + page) << PAGE_BITS;
            let count = rest
                .iter()
                .take_while(|row| row.offset() < start + PAGE)
                .count();
            let (mut rows, after) = rest.split_at(count);
            rest = after;
            if let Some((row, others)) = rows.split_first()
                && row.offset() == start
            {
                current = row.rule();
                rows = others;
            }
            let block = match singles.get_mut(usize::from(current)) {
                Some(single) if rows.is_empty() => {
                    *single.get_or_insert_with(|| words.block(current, rows))
                }
                _ => words.block(current, rows),
            };
            if let Some(word) = words.words.get_mut(index_at + page as usize) {
                *word = block;
            }
            current = rows.last().map_or(current, |row| row.rule());
        }
        Image {
            words: words.words,
            info: ModuleInfo {
                first_page: first_page as u32,
                pages: pages as u32,
                index,
                rules,
                ..ModuleInfo::default()
            },
        }
    }
}

struct Words {
    base: u32,
    words: Vec<u32>,
}

impl Words {
    /// Word address of the next word.
    fn here(&self) -> u32 {
        self.base.wrapping_add(self.words.len() as u32)
    }

    fn align(&mut self, to: u32) {
        while !self.here().is_multiple_of(to) {
            self.words.push(0);
        }
    }

    /// Writes a block and says where. The key of its first row is never compared; 0 is right in all
    /// pages.
    fn block(&mut self, first: u16, rows: &[super::Row]) -> u32 {
        let count = 1 + rows.len() as u32;
        if self.here() % CHUNK_WORDS + 1 + count > CHUNK_WORDS {
            self.align(CHUNK_WORDS);
        }
        let here = self.here();
        self.words.push(count);
        self.words.push(u32::from(first) << 16);
        let word = |row: &super::Row| row.offset() as u32 & 0xffff | u32::from(row.rule()) << 16;
        self.words.extend(rows.iter().map(word));
        here
    }
}

/// A rule in its four words, as `#[repr(C)]` lays it out on a little-endian machine.
pub(crate) fn rule_words(rule: &Rule) -> [u32; RULE_WORDS as usize] {
    let half = |low: i16, high: i16| u32::from(low as u16) | u32::from(high as u16) << 16;
    let first = i16::from_le_bytes([rule.kind, rule.register]);
    [
        half(first, rule.rbp),
        half(rule.rbx, rule.ra),
        rule.offset as u32,
        rule.offset2 as u32,
    ]
}

/// The rule at a file offset, found as the eBPF program finds it. `word` reads a word address.
///
/// `None`: the offset is in no indexed page, or a word cannot be read.
pub fn lookup(word: impl Fn(u32) -> Option<u32>, info: &ModuleInfo, offset: u64) -> Option<Rule> {
    let page = (offset >> PAGE_BITS).checked_sub(u64::from(info.first_page))?;
    let page = u32::try_from(page).ok().filter(|&p| p < info.pages)?;
    let block = word(info.index.wrapping_add(page))?;
    let mut count = word(block)?.clamp(1, MAX_BLOCK_ROWS);
    let mut first = block.wrapping_add(1);
    let key = offset as u32 & 0xffff;
    while count > 1 {
        let half = count / 2;
        if word(first.wrapping_add(half))? & 0xffff <= key {
            first = first.wrapping_add(half);
        }
        count -= half;
    }
    let rule = (word(first)? >> 16).wrapping_mul(RULE_WORDS);
    let at = info.rules.wrapping_add(rule);
    let two = |at: u32| {
        let high = u64::from(word(at.wrapping_add(1))?);
        Some(u64::from(word(at)?) | high << 32)
    };
    Some(Rule::from_words(two(at)?, two(at.wrapping_add(2))?))
}
