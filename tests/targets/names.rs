//! Rust names: a trait's method of a generic type. `names SECONDS`

use std::hint::black_box;
use std::time::{Duration, Instant};

mod shelf {
    use super::*;

    pub struct Shelf<T>(pub T);

    pub trait Fill {
        fn fill(&self, end: Instant) -> u64;
    }

    impl<T: Into<u64> + Copy> Fill for Shelf<T> {
        #[inline(never)]
        fn fill(&self, end: Instant) -> u64 {
            let add = |mut n: u64| {
                while Instant::now() < end {
                    for i in 0..100_000 {
                        n = black_box(n.wrapping_add(i));
                    }
                }
                n
            };
            black_box(add(self.0.into())) + 1
        }
    }
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1.0);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    black_box(shelf::Fill::fill(&shelf::Shelf(7u32), end));
}
