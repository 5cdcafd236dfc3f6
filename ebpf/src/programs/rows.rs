//! From a file offset to its unwind rule: page index, block, rule. See [`crate::rows`].

use super::maps::CHUNKS;
use super::memory::at;
use crate::module::{ModuleInfo, PAGE_BITS};
use crate::rows::{MAX_BLOCK_ROWS, Rule};

/// Halvings that find a row in a full block, in nearly every block, and in most.
const HALVINGS: u32 = MAX_BLOCK_ROWS.ilog2() + 1;
const MANY: u32 = 6;
const FEW: u32 = 3;
const WORD_MASK: u64 = 0xffff;

/// The chunk of a word address.
#[inline(always)]
fn chunk(address: u32) -> Option<*const u32> {
    CHUNKS
        .get_value_ptr_mut(address >> 16, &0)
        .map(|chunk| chunk.cast_const().cast())
}

/// Looks at the middle row of a run, and goes on with the half that holds `low`.
///
/// # Safety
/// `words` are a whole chunk.
#[inline(always)]
unsafe fn halve(words: *const u32, base: &mut u64, len: &mut u64, low: u64) {
    let half = *len >> 1;
    // SAFETY: the index is masked.
    let row = unsafe { *words.add(((*base + half) & WORD_MASK) as usize) } as u64 & 0xffff;
    // Without a branch, so that the verifier does not follow 2^n paths.
    *base += half & !((low.wrapping_sub(row) as i64 >> 63) as u64);
    *len -= half;
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
        // The last row that begins at or before the offset; the first one always does. Rounds come
        // in three fixed runs, so that the verifier has few paths; of one row the half is none, and
        // what is left of the rounds changes nothing.
        if len > 1 << MANY {
            for _ in MANY..HALVINGS {
                halve(words, &mut base, &mut len, low);
            }
        }
        if len > 1 << FEW {
            for _ in FEW..MANY {
                halve(words, &mut base, &mut len, low);
            }
        }
        for _ in 0..=FEW {
            halve(words, &mut base, &mut len, low);
        }
        let number = *words.add((base & WORD_MASK) as usize) >> 16;
        let rule = module.rules.wrapping_add(number << 2);
        let words = chunk(rule)?;
        let first = words.add(((rule & 0xfffc) as u64 & WORD_MASK) as usize);
        Some(Rule::from_words(at(first.cast(), 0), at(first.cast(), 8)))
    }
}
