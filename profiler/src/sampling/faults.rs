//! Faults that tests ask for, by the environment variable `RPROF_FAULT`: what cannot be brought
//! about from outside, and yet has a column of the ledger. Without the variable nothing here acts.

use std::sync::OnceLock;

/// A fault that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `ring-bytes:N`: the ring has N bytes, a power of two of at least a page.
    RingBytes(u32),
    /// `worker-panic:N`: each worker panics over its Nth sample.
    WorkerPanic(u64),
    /// `slow-machine:N`: a tick, and the ticks of a second, may take N times as long. An emulated
    /// processor is that slow.
    SlowMachine(u32),
}

/// The fault of this run.
pub fn asked() -> Option<Fault> {
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    *FAULT.get_or_init(|| parse(&std::env::var("RPROF_FAULT").ok()?))
}

fn parse(text: &str) -> Option<Fault> {
    let (name, number) = text.split_once(':')?;
    let number: u32 = number.parse().ok()?;
    match name {
        "ring-bytes" if number.is_power_of_two() && number >= 4096 => {
            Some(Fault::RingBytes(number))
        }
        "worker-panic" => Some(Fault::WorkerPanic(number.into())),
        "slow-machine" if (1..=50).contains(&number) => Some(Fault::SlowMachine(number)),
        _ => None,
    }
}
