//! Counts words of no meaning for some tenths of a second: runs of it differ by what the machine does.

use std::collections::{BTreeMap, HashMap};

#[inline(never)]
fn text(words: usize) -> String {
    let mut state = 1u64;
    let mut text = String::new();
    for _ in 0..words {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("w{} ", (state >> 40) % 50_000));
    }
    text
}

#[inline(never)]
fn count(text: &str) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for word in text.split(' ') {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

#[inline(never)]
fn sorted<'a>(counts: &HashMap<&'a str, usize>) -> BTreeMap<(usize, &'a str), ()> {
    counts.iter().map(|(&word, &count)| ((count, word), ())).collect()
}

fn main() {
    let text = text(1_000_000);
    let counts = count(&text);
    println!("{:?}", sorted(&counts).last_key_value());
}
