//! From a file offset to its unwind rule: page index, block, rule. See [`crate::rows`].

use super::maps::CHUNKS;
use super::memory::at;
use crate::module::{ModuleInfo, PAGE_BITS};
use crate::rows::{MAX_BLOCK_ROWS, Rule};

/// Halvings that find a row in a full block.
const HALVINGS: u32 = MAX_BLOCK_ROWS.ilog2() + 1;
const WORD_MASK: u64 = 0xffff;

/// The chunk of a word address.
#[inline(always)]
fn chunk(address: u32) -> Option<*const u32> {
    CHUNKS
        .get_value_ptr_mut(address >> 16, &0)
        .map(|chunk| chunk.cast_const().cast())
}

/// The rule that holds at a file offset; `None`: no row covers it.
#[inline(always)]
pub(crate) fn find(module: &ModuleInfo, offset: u64) -> Option<Rule> {
    let page = (offset >> PAGE_BITS).wrapping_sub(module.first_page as u64);
    if page >= module.pages as u64 {
        return None;
    }
    // SAFETY: words are masked to the 65,536 of a chunk; rules do not cross its end, and the
    // word before it is read at most 3 words on.
    unsafe {
        let entry = module.index.wrapping_add(page as u32);
        let block = *chunk(entry)?.add((entry as u64 & WORD_MASK) as usize);
        let words = chunk(block)?;
        let mut base = block as u64 + 1;
        let mut len = *words.add((block as u64 & WORD_MASK) as usize) as u64;
        let low = offset & 0xffff;
        // The last row that begins at or before the offset; the first one always does.
        for _ in 0..HALVINGS {
            // Of one row the half is none: the rest of the rounds change nothing.
            let half = len >> 1;
            let row = *words.add(((base + half) & WORD_MASK) as usize) as u64 & 0xffff;
            // Without a branch, so that the verifier does not follow 2^n paths.
            base += half & !(((low.wrapping_sub(row)) as i64 >> 63) as u64);
            len -= half;
        }
        let number = *words.add((base & WORD_MASK) as usize) >> 16;
        let rule = module.rules.wrapping_add(number << 2);
        let words = chunk(rule)?;
        let first = words.add(((rule & 0xfffc) as u64 & WORD_MASK) as usize);
        Some(Rule::from_words(at(first.cast(), 0), at(first.cast(), 8)))
    }
}
