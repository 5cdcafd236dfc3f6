//! The bound on memory: what goes through the part file comes back as if it had not.

mod profile_support;

use std::collections::HashMap;

use profile_support::*;
use rprof_profiler::profile::{Added, Frame, Limits, Profile};

/// Stacks with their owners, by content; each may be handed out once only.
fn contents(profile: &Profile) -> HashMap<String, u64> {
    let symbols = symbols(profile, &ByRule);
    let mut found = HashMap::new();
    profile
        .visit(&mut |stack| {
            let lines = stack.frames.iter().flat_map(|&f| symbols.lines(f));
            let lines: Vec<_> = lines.map(|l| (l.function, l.line, l.module)).collect();
            let owner = (
                stack.pid,
                stack.tid,
                stack.host_pid,
                stack.comm,
                stack.thread,
                stack.cgroup,
            );
            // Frames without a name of their own differ by number only.
            let ids = stack.frames;
            let content = format!("{owner:?} {lines:?} {ids:?}");
            assert_eq!(found.insert(content, stack.count), None, "handed out twice");
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn spilled_and_unspilled_profiles_are_equal() {
    for seed in 0..2 {
        let mut chance = Chance(1000 + seed);
        let (mut small, mut large) = (profile(700 << 10), profile(256 << 20));
        let stacks: Vec<_> = (0..1500).map(|_| chance.stack()).collect();
        for _ in 0..6_000 {
            let stack = &stacks[chance.below(1500) as usize];
            let labels = chance.labels();
            add(&mut small, stack, &labels, 1);
            add(&mut large, stack, &labels, 1);
            assert!(small.size().memory <= 700 << 10);
        }
        let size = small.size();
        assert!(size.parts >= 3 && size.part_bytes > 0, "{size:?}");
        assert_eq!(large.size().parts, 0);
        assert_eq!((small.samples(), large.samples()), (6_000, 6_000));
        let expected = contents(&large);
        assert_eq!(contents(&small), expected, "seed {seed}");
        assert_eq!(contents(&small), expected, "a second time");
        let (a, b) = (symbols(&small, &ByRule), symbols(&large, &ByRule));
        assert_eq!(small.totals(&a).unwrap(), large.totals(&b).unwrap());
        let decoded = decode(&encode(&small, &ByRule, 199));
        assert_eq!(decoded.sample.len(), expected.len());
        assert_eq!(
            decoded.sample.iter().map(|s| s.value[0]).sum::<i64>(),
            6_000
        );
    }
}

#[test]
fn merged_profiles_are_the_sum() {
    let mut chance = Chance(5);
    let (mut a, mut b, mut both) = (profile(600 << 10), profile(64 << 20), profile(64 << 20));
    let stacks: Vec<_> = (0..900).map(|_| chance.stack()).collect();
    for i in 0..6000 {
        let stack = &stacks[chance.below(900) as usize];
        let labels = chance.labels();
        add(if i % 2 == 0 { &mut a } else { &mut b }, stack, &labels, 3);
        add(&mut both, stack, &labels, 3);
    }
    assert!(a.size().parts > 0);
    assert_eq!(b.merge(&a).unwrap(), 0);
    assert_eq!(b.samples(), both.samples());
    let totals = |p: &Profile| p.totals(&symbols(p, &ByRule)).unwrap();
    assert_eq!(totals(&b), totals(&both));
}

#[test]
fn what_finds_no_room_is_said_and_harms_nothing() {
    // Tables have half of it: ever new frames come to an end, known ones go on.
    let mut full = profile(512 << 10);
    let (mut counted, mut refused) = (0, 0);
    for n in 0..20_000 {
        match full.add(&[native(1, n), native(2, n)], &labels(1, "a"), 1) {
            Added::Counted => counted += 1,
            Added::Full => refused += 1,
        }
        assert!(full.size().memory <= 512 << 10);
    }
    assert!(counted > 3_000 && refused > 3_000, "{counted} {refused}");
    add(&mut full, &[native(1, 3), native(2, 3)], &labels(1, "a"), 1);
    assert_eq!(full.samples(), counted + 1);
    assert!(full.spill_error().is_none());
    let mut sum = 0;
    full.visit(&mut |stack| {
        sum += stack.count;
        Ok(())
    })
    .unwrap();
    assert_eq!(sum, counted + 1);

    // No place for a part file: known stacks go on, new ones are refused.
    let mut stuck = Profile::new(Limits {
        max_memory: 1 << 20,
        directory: "/nonexistent/directory".into(),
    });
    let stack = |n: u64| -> Vec<Frame> {
        (0..100)
            .map(|i| native(1, (n * 31 + i * i) % 997))
            .collect()
    };
    let mut counted = 0;
    for n in 0..2000 {
        counted += u64::from(stuck.add(&stack(n), &labels(n as u32, "a"), 1) == Added::Counted);
    }
    assert!(counted > 50 && counted < 2000, "{counted}");
    assert!(stuck.spill_error().is_some());
    add(&mut stuck, &stack(0), &labels(0, "a"), 1);
    assert_eq!(stuck.samples(), counted + 1);
    assert_eq!(contents(&stuck).values().sum::<u64>(), counted + 1);
}

#[test]
fn a_callback_that_fails_ends_the_visit() {
    let mut p = profile(1 << 20);
    for n in 0..10 {
        add(&mut p, &[native(1, n)], &labels(1, "a"), 1);
    }
    let mut calls = 0;
    let ended = p.visit(&mut |_| {
        calls += 1;
        Err(std::io::ErrorKind::BrokenPipe.into())
    });
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(calls, 1);
}
