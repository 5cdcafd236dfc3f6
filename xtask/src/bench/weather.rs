//! What else the machine did while something was measured.
//!
//! Figures of a few hundred microseconds a second drown in a neighbour's build. Each measurement
//! records what others took, and says itself that it was disturbed; before each one is a wait for
//! calm, which gives up after a while: a disturbed figure is better than none.

use std::fs;
use std::time::{Duration, Instant};

use super::process;

/// From this share of a CPU on, what others do disturbs.
const OTHERS: f64 = 0.10;
/// From this share of all CPUs on, what the hypervisor takes disturbs.
const STOLEN: f64 = 0.03;

/// What the machine did during a measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// CPUs' worth of work by processes that the measurement did not start.
    pub(super) others: f64,
    /// Share of all CPUs that the hypervisor gave to others.
    pub(super) stolen: f64,
    /// Load average of the last minute, at the end.
    pub(super) load: f64,
}

impl Weather {
    /// Whether a figure that was taken in it may be off.
    pub(super) fn disturbs(&self) -> bool {
        self.others > OTHERS || self.stolen > STOLEN
    }
}

/// Watches the machine from its start to its end.
pub(super) struct Watch {
    at: Instant,
    machine: Machine,
    ours: Duration,
}

impl Watch {
    /// Begins; `ours` are the processes of the measurement.
    pub(super) fn start(ours: &[u32]) -> Self {
        Self {
            ours: process::cpu_time_with_ended(ours),
            machine: Machine::now(),
            at: Instant::now(),
        }
    }

    /// How long it has watched.
    pub(super) fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }

    /// Ends, with the same processes.
    pub(super) fn end(self, ours: &[u32]) -> Weather {
        let machine = Machine::now();
        let elapsed = self.at.elapsed().as_secs_f64();
        let ours = process::cpu_time_with_ended(ours).saturating_sub(self.ours);
        let busy = (machine.busy - self.machine.busy) as f64 / 100.0 - ours.as_secs_f64();
        let total = (machine.total - self.machine.total).max(1);
        Weather {
            others: (busy / elapsed).max(0.0),
            stolen: (machine.stolen - self.machine.stolen) as f64 / total as f64,
            load: load(),
        }
    }
}

/// Waits until nobody else uses the machine, `patience` at most.
pub(super) fn wait_for_calm(patience: Duration) {
    let start = Instant::now();
    while start.elapsed() < patience {
        let watch = Watch::start(&[]);
        std::thread::sleep(Duration::from_secs(1));
        if !watch.end(&[]).disturbs() {
            return;
        }
    }
}

/// Load average of the last minute.
pub(super) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next();
    first.and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// The CPU times of all CPUs since boot, in hundredths of a second.
struct Machine {
    busy: u64,
    stolen: u64,
    total: u64,
}

impl Machine {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal (guest times are in user).
        let mut times = [0; 8];
        for (time, field) in times.iter_mut().zip(line.split_ascii_whitespace().skip(1)) {
            *time = field.parse().unwrap_or(0);
        }
        let [user, nice, system, idle, iowait, irq, softirq, stolen] = times;
        let busy = user + nice + system + irq + softirq;
        Self {
            busy,
            stolen,
            total: busy + idle + iowait + stolen,
        }
    }
}
