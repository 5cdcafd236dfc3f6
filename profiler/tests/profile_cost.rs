//! What a profile costs. The bound counts what is really allocated; the times are printed by
//! `cargo test --release --test profile_cost -- --ignored --nocapture`.

mod profile_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use profile_support::*;
use rprof_profiler::profile::Frame;

/// Counts what each thread has allocated, and its peak.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    NOW.set(NOW.get() + bytes);
    PEAK.set(PEAK.get().max(NOW.get()));
}

// SAFETY: all calls go to the system allocator unchanged; the counters are plain cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn memory_stays_below_the_limit() {
    const LIMIT: isize = 2 << 20;
    let mut chance = Chance(17);
    let stacks: Vec<_> = (0..4000)
        .map(|_| (chance.stack(), chance.labels()))
        .collect();
    let before = NOW.get();
    PEAK.set(before);
    let mut profile = profile(LIMIT as usize);
    for (stack, labels) in &stacks {
        add(&mut profile, stack, labels, 1);
        let (said, real) = (profile.size().memory as isize, NOW.get() - before);
        // More may be said (room kept to write a part), never less.
        assert!(real <= said && said <= LIMIT, "{real} {said}");
    }
    let parts = profile.size().parts;
    assert!(parts > 0);
    let peak = PEAK.get() - before;
    assert!(peak <= LIMIT + (64 << 10), "peak {peak} with {parts} parts");
}

/// A call graph as programs have it: 50 frames, of which the 38 at the root are few.
fn typical(n: u64) -> Vec<Frame> {
    let mut chance = Chance(n);
    let leaf = (0..12)
        .map(|_| native(1, chance.below(4000)))
        .collect::<Vec<_>>();
    let variant = n % 40;
    let root = (0..38).map(|depth| native(2, variant * 4096 + depth * 64));
    leaf.into_iter().chain(root).collect()
}

/// The same without anything in common.
fn distinct(n: u64) -> Vec<Frame> {
    let mut chance = Chance(n);
    (0..50).map(|_| native(1, chance.below(20_000))).collect()
}

#[test]
#[ignore = "measures; prints"]
fn figures() {
    for (name, stack) in [
        ("typical", typical as fn(u64) -> _),
        ("nothing shared", distinct),
    ] {
        const STACKS: u64 = 100_000;
        let stacks: Vec<Vec<Frame>> = (0..STACKS).map(stack).collect();
        let labels: Vec<_> = (0..100).map(|pid| labels(pid, "program")).collect();
        let before = NOW.get();
        PEAK.set(before);
        let mut profile = profile(4 << 30);
        let new = Instant::now();
        for (stack, n) in stacks.iter().zip(0..) {
            add(&mut profile, stack, &labels[n % 100], 1);
        }
        let new = new.elapsed() / STACKS as u32;
        let memory = (NOW.get() - before) as f64 / STACKS as f64;
        let known = Instant::now();
        for (stack, n) in stacks.iter().zip(0..) {
            add(&mut profile, stack, &labels[n % 100], 1);
        }
        let known = known.elapsed() / STACKS as u32;
        let hot = Instant::now();
        for n in 0..STACKS as usize {
            let n = n % 1000;
            add(&mut profile, &stacks[n], &labels[n % 100], 1);
        }
        let hot = hot.elapsed() / STACKS as u32;
        PEAK.set(NOW.get());
        let before = NOW.get();
        let start = Instant::now();
        let symbols = symbols(&profile, &ByRule);
        let naming = start.elapsed();
        let mut file = Vec::with_capacity(64 << 20);
        let base = NOW.get();
        PEAK.set(base);
        let start = Instant::now();
        rprof_profiler::profile::pprof::write(&profile, &symbols, &about(20), &mut file).unwrap();
        let writing = start.elapsed();
        println!(
            "{name}: {STACKS} stacks of 50 frames, {} frames\n  \
             {memory:.0} bytes a stack; add new {new:?}, known {known:?}, of a thousand {hot:?}\n  \
             names {naming:?} (rule), {} KiB; pprof {writing:?}, {} KiB, {} KiB of memory",
            profile.size().frames,
            (base - before - (64 << 20)) / 1024,
            file.len() / 1024,
            (PEAK.get() - base) / 1024,
        );
    }
}
