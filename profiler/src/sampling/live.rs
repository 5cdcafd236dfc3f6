//! Figures of the recording as it goes, for the progress line.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::report::progress::Progress;

/// Programs that are shown.
const BUSIEST: usize = 3;
/// Programs that are counted at most.
const MAX_PROGRAMS: usize = 4096;

/// What workers have done so far.
#[derive(Debug)]
pub struct Live {
    samples: AtomicU64,
    lost: AtomicU64,
    programs: Mutex<HashMap<Arc<str>, u64>>,
    /// `CLOCK_MONOTONIC` of the first sample in the profile, nanoseconds; [`u64::MAX`] before.
    first: AtomicU64,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            samples: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            programs: Mutex::default(),
            first: AtomicU64::new(u64::MAX),
        }
    }
}

impl Live {
    /// A sample of a program came into the profile.
    pub fn sample(&self, program: &Arc<str>, time: u64) {
        self.samples.fetch_add(1, Ordering::Relaxed);
        // Samples that were unwound on come later than they were taken.
        self.first.fetch_min(time, Ordering::Relaxed);
        if let Ok(mut programs) = self.programs.lock() {
            // A program names itself, and may do so again and again.
            if programs.len() < MAX_PROGRAMS || programs.contains_key(program) {
                *programs.entry(program.clone()).or_default() += 1;
            }
        }
    }

    /// When the first sample was taken: `CLOCK_MONOTONIC`, nanoseconds.
    pub fn first(&self) -> Option<u64> {
        Some(self.first.load(Ordering::Relaxed)).filter(|&time| time < u64::MAX)
    }

    /// A sample was lost.
    pub fn loss(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How it stands.
    pub fn progress(&self, elapsed: Duration) -> Progress {
        let mut busiest: Vec<(String, u64)> = match self.programs.lock() {
            Ok(programs) => programs
                .iter()
                .map(|(name, &n)| (name.to_string(), n))
                .collect(),
            Err(_) => Vec::new(),
        };
        busiest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        busiest.truncate(BUSIEST);
        Progress {
            elapsed,
            samples: self.samples.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            busiest,
        }
    }
}
