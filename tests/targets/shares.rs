//! Four kinds of work in Rust: a hash map, floating point, text, recursion. Each phase's function
//! takes its own thread's CPU clock at its borders; at the end the program says how much each had:
//! `NAME NANOSECONDS`.

use std::collections::HashMap;
use std::hint::black_box;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

fn thread_nanos() -> i64 {
    const THREAD_CPUTIME: i32 = 3;
    let mut now = Timespec { seconds: 0, nanos: 0 };
    // SAFETY: a pointer to our own variable, laid out as 64-bit Linux wants it.
    unsafe { clock_gettime(THREAD_CPUTIME, &mut now) };
    now.seconds * 1_000_000_000 + now.nanos
}

struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }

    /// Between 0.1 and 30 ms: below, at and above the time between two samples.
    fn length(&mut self) -> i64 {
        100_000 + self.next(30) as i64 * 1_000_000
    }
}

#[inline(always)]
fn for_a_while(length: i64, mut work: impl FnMut()) -> i64 {
    let start = thread_nanos();
    loop {
        work();
        let spent = thread_nanos() - start;
        if spent >= length {
            return spent;
        }
    }
}

#[inline(never)]
fn hashing(length: i64) -> i64 {
    let mut map = HashMap::new();
    for_a_while(length, || {
        for n in 0..200u64 {
            *map.entry(n * 7919 % 1000).or_insert(0u64) += n;
        }
        black_box(&map);
    })
}

#[inline(never)]
fn floating(length: i64) -> i64 {
    for_a_while(length, || {
        let sum: f64 = (1..2000).map(|n| (n as f64).sqrt().sin()).sum();
        black_box(sum);
    })
}

#[inline(never)]
fn formatting(length: i64) -> i64 {
    for_a_while(length, || {
        let text: String = (0..100).map(|n| format!("{n}, ")).collect();
        black_box(text);
    })
}

#[inline(never)]
fn ackermann(m: u64, n: u64) -> u64 {
    match (m, n) {
        (0, n) => n + 1,
        (m, 0) => ackermann(m - 1, 1),
        (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
    }
}

#[inline(never)]
fn recursing(length: i64) -> i64 {
    for_a_while(length, || {
        black_box(ackermann(2, black_box(20)));
    })
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1.0);
    let phases: [(&str, fn(i64) -> i64, u64); 4] = [
        ("hashing", hashing, 50),
        ("floating", floating, 30),
        ("formatting", formatting, 15),
        ("recursing", recursing, 5),
    ];
    let mut chance = Chance(42);
    let mut spent = [0; 4];
    while (spent.iter().sum::<i64>() as f64) < seconds * 1e9 {
        let mut at = chance.next(100);
        let mut n = 0;
        while at >= phases[n].2 {
            at -= phases[n].2;
            n += 1;
        }
        spent[n] += phases[n].1(chance.length());
    }
    for ((name, ..), nanos) in phases.iter().zip(spent) {
        println!("{name} {nanos}");
    }
}
