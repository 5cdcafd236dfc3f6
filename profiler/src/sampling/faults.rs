//! Faults that tests ask for, by the environment variable `RPROF_FAULT`: what cannot be brought
//! about from outside, and yet has a column of the ledger, or must not hang the end.
//!
//! The variable holds one or more of [`NAMES`] with a number each: `ring-bytes:4096,worker-panic:9`.
//! It is read by the release binary, because that is the one that the tests have to show; a build of
//! its own for tests would be another program. It gives nobody anything: who can set rprof's
//! environment can also give it other arguments (`sudo` passes no such variable on), each fault costs
//! only rprof's own samples, and each shows: in the ledger's columns, and as a comment `fault: …` of the
//! profile. Without the variable nothing here acts.

use std::sync::OnceLock;

/// What can be asked for; the number is N below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The ring has N bytes, a power of two of at least a page.
    RingBytes,
    /// Row space has N bytes.
    RowBytes,
    /// The programs have room for N modules.
    Modules,
    /// The kernel is asked for N frames of its stacks at most.
    KernelFrames,
    /// A tick, and the ticks of a second, may take N times as long, up to 50. An emulated processor
    /// is that slow.
    SlowMachine,
    /// The first worker's thread dies of its Nth sample.
    WorkerPanic,
    /// The first worker never comes back from its Nth sample.
    WorkerStuck,
    /// The reader panics over its Nth record.
    ReaderPanic,
    /// The learner panics over its Nth sample.
    LearnerPanic,
    /// The learner never comes back from its Nth sample.
    LearnerStuck,
    /// On kernels that lack what it takes to read memory without waiting, readers are asked nevertheless,
    /// under `--reads process-vm` for all names: they look at the pagemap, which takes the same lock, and
    /// read nothing. N is any number.
    PagemapOnly,
    /// A reader finds each sampled file N milliseconds later than it could.
    LateFiles,
}

/// What they are called.
pub const NAMES: [(&str, Fault); 12] = [
    ("ring-bytes", Fault::RingBytes),
    ("row-bytes", Fault::RowBytes),
    ("modules", Fault::Modules),
    ("kernel-frames", Fault::KernelFrames),
    ("slow-machine", Fault::SlowMachine),
    ("worker-panic", Fault::WorkerPanic),
    ("worker-stuck", Fault::WorkerStuck),
    ("reader-panic", Fault::ReaderPanic),
    ("learner-panic", Fault::LearnerPanic),
    ("learner-stuck", Fault::LearnerStuck),
    ("pagemap-only", Fault::PagemapOnly),
    ("late-files", Fault::LateFiles),
];

/// The number of a fault of this run.
pub fn asked(fault: Fault) -> Option<u32> {
    let faults = faults().iter();
    faults
        .filter(|(other, _)| *other == fault)
        .map(|&(_, n)| n)
        .next()
}

/// Strikes, if this fault is to strike at the `n`th time.
///
/// # Panics
/// If it is one that panics.
pub fn strike(fault: Fault, n: u64) {
    if asked(fault).is_none_or(|asked| u64::from(asked) != n) {
        return;
    }
    match fault {
        Fault::WorkerStuck | Fault::LearnerStuck => loop {
            std::thread::park();
        },
        _ => std::panic::panic_any("a fault that was asked for"),
    }
}

/// The faults of this run as they were asked for.
pub fn text() -> Option<String> {
    let names = faults().iter().filter_map(|(fault, n)| {
        let (name, _) = NAMES.iter().find(|(_, other)| other == fault)?;
        Some(format!("{name}:{n}"))
    });
    let all: Vec<String> = names.collect();
    (!all.is_empty()).then(|| all.join(","))
}

fn faults() -> &'static [(Fault, u32)] {
    static FAULTS: OnceLock<Vec<(Fault, u32)>> = OnceLock::new();
    FAULTS.get_or_init(|| {
        let text = std::env::var("RPROF_FAULT").unwrap_or_default();
        text.split(',').filter_map(parse).collect()
    })
}

fn parse(text: &str) -> Option<(Fault, u32)> {
    let (name, number) = text.split_once(':')?;
    let &(_, fault) = NAMES.iter().find(|(other, _)| *other == name)?;
    let number: u32 = number.parse().ok()?;
    let fits = match fault {
        Fault::RingBytes => number.is_power_of_two() && number >= 4096,
        Fault::SlowMachine => (1..=50).contains(&number),
        Fault::Modules => number > 0,
        _ => true,
    };
    fits.then_some((fault, number))
}

#[cfg(test)]
mod tests {
    use super::{Fault, parse};

    #[test]
    fn what_makes_no_sense_is_no_fault() {
        assert_eq!(parse("ring-bytes:8192"), Some((Fault::RingBytes, 8192)));
        for text in [
            "",
            "ring-bytes",
            "ring-bytes:5000",
            "slow-machine:51",
            "x:1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
