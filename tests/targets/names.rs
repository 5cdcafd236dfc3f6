//! Rust names: a trait's method of a generic type. `names SECONDS`

use std::hint::black_box;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

fn thread_seconds() -> f64 {
    const THREAD_CPUTIME: i32 = 3;
    let mut now = Timespec { seconds: 0, nanos: 0 };
    // SAFETY: a pointer to our own variable, laid out as 64-bit Linux wants it.
    unsafe { clock_gettime(THREAD_CPUTIME, &mut now) };
    now.seconds as f64 + now.nanos as f64 * 1e-9
}

mod shelf {
    use super::*;

    pub struct Shelf<T>(pub T);

    pub trait Fill {
        fn fill(&self, end: f64) -> u64;
    }

    impl<T: Into<u64> + Copy> Fill for Shelf<T> {
        #[inline(never)]
        fn fill(&self, end: f64) -> u64 {
            let add = |mut n: u64| {
                while thread_seconds() < end {
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
    black_box(shelf::Fill::fill(&shelf::Shelf(7u32), seconds));
}
