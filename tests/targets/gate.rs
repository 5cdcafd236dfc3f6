//! `gate.c` in Rust: work in functions of its own, `NAME AMOUNT` by `NAME AMOUNT`; `GATE_LOG` is told what each took.

use std::hint::black_box;
use std::io::Write;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

const PROCESS_CPUTIME: i32 = 2;
const THREAD_CPUTIME: i32 = 3;

fn nanos(clock: i32) -> i64 {
    let mut now = Timespec { seconds: 0, nanos: 0 };
    // SAFETY: a pointer to our own variable, laid out as 64-bit Linux wants it.
    unsafe { clock_gettime(clock, &mut now) };
    now.seconds * 1_000_000_000 + now.nanos
}

/// About 0.1 ms.
fn step(mut x: u64, factor: u64) -> u64 {
    for _ in 0..90_000 {
        x = black_box(x.wrapping_mul(factor).wrapping_add(1442695040888963407));
    }
    x
}

trait Work {
    const FACTOR: u64;

    #[inline(never)]
    fn work(&self, n: u64) -> u64 {
        (0..n).fold(n, |x, _| step(x, Self::FACTOR))
    }
}

struct Alpha;
struct Beta;

impl Work for Alpha {
    const FACTOR: u64 = 6364136223846793005;
}

impl Work for Beta {
    const FACTOR: u64 = 6364136223846793009;
}

/// Has a hash or a crate's own number in its name.
#[inline(never)]
fn generic<T: Work>(of: &T, n: u64) -> u64 {
    black_box(of.work(n))
}

#[inline(never)]
fn alpha(n: u64) -> u64 {
    // What is done with it afterwards keeps this function on the stack.
    black_box(generic(&Alpha, n))
}

#[inline(never)]
fn beta(n: u64) -> u64 {
    black_box(generic(&Beta, n))
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut line = String::new();
    for pair in words.chunks(2) {
        let n = pair[1].parse().expect("an amount");
        let before = nanos(THREAD_CPUTIME);
        match pair[0].as_str() {
            "alpha" => alpha(n),
            "beta" => beta(n),
            other => panic!("{other}"),
        };
        line += &format!("{} {} ", pair[0], nanos(THREAD_CPUTIME) - before);
    }
    if let Ok(log) = std::env::var("GATE_LOG") {
        let log = std::fs::File::options().append(true).create(true).open(log);
        let total = nanos(PROCESS_CPUTIME);
        log.and_then(|mut log| log.write_all(format!("{line}total {total}\n").as_bytes())).expect("a log");
    }
}
