//! What kept silent is left alone: a file for a while that doubles each time, and, if a second file
//! of its device kept silent and none has answered since, all of that device. Nothing here asks anybody;
//! time is given.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rprof_ebpf::module::ModuleKey;

/// How long a file is left alone at first, and at last.
const FIRST: Duration = Duration::from_secs(8);
const LONGEST: Duration = Duration::from_secs(600);
/// Files that are remembered at most.
const MAX_FILES: usize = 4096;

/// A file as far as quarantine goes. All zero: not known, and never in quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its device.
    pub dev: u32,
    /// Its inode.
    pub ino: u64,
}

impl Place {
    /// That of a module.
    pub fn of(key: &ModuleKey) -> Self {
        Self {
            dev: key.dev,
            ino: key.ino,
        }
    }
}

/// What kept silent.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    files: HashMap<Place, Term>,
    devices: HashMap<u32, Device>,
}

/// What is known of a device.
#[derive(Clone, Copy, Debug, Default)]
struct Device {
    /// Files that kept silent since one answered.
    silent: u32,
    term: Option<Term>,
}

/// For how long, and until when.
#[derive(Clone, Copy, Debug)]
struct Term {
    length: Duration,
    until: Instant,
}

impl Term {
    fn after(before: Option<&Self>, now: Instant) -> Self {
        // What was asked before that began says nothing new.
        if let Some(term) = before
            && now < term.until
        {
            return *term;
        }
        let length = before.map_or(FIRST, |term| (term.length * 2).min(LONGEST));
        Self {
            length,
            until: now + length,
        }
    }
}

impl Quarantine {
    /// A file kept silent.
    pub(super) fn silent(&mut self, place: Place, now: Instant) {
        if place == Place::default() {
            return;
        }
        if self.files.len() >= MAX_FILES {
            self.files.clear();
        }
        let term = Term::after(self.files.get(&place), now);
        let known = self.files.insert(place, term).is_some();
        let device = self.devices.entry(place.dev).or_default();
        device.silent += u32::from(!known || device.silent == 0);
        if device.silent > 1 {
            device.term = Some(Term::after(device.term.as_ref(), now));
        }
    }

    /// A file answered, and so does its device.
    pub(super) fn answered(&mut self, place: Place) {
        self.files.remove(&place);
        if self.devices.len() >= MAX_FILES {
            self.devices.clear();
        }
        self.devices.insert(place.dev, Device::default());
    }

    /// Whether a file is to be left alone.
    pub(super) fn holds(&self, place: Place, now: Instant) -> bool {
        let device = self.devices.get(&place.dev);
        let terms = [
            self.files.get(&place),
            device.and_then(|device| device.term.as_ref()),
        ];
        terms.iter().flatten().any(|term| now < term.until)
    }

    /// Whether a file of a device answered, and none has kept silent since.
    pub(super) fn trusts(&self, dev: u32) -> bool {
        self.devices
            .get(&dev)
            .is_some_and(|device| device.silent == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = Place { dev: 7, ino: 1 };
    const B: Place = Place { dev: 7, ino: 2 };
    const C: Place = Place { dev: 7, ino: 3 };
    const OTHER: Place = Place { dev: 8, ino: 1 };

    #[test]
    fn a_file_alone_and_for_longer_each_time() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.silent(A, now);
        assert!(quarantine.holds(A, now) && !quarantine.holds(B, now));
        assert!(!quarantine.trusts(7));
        // Asked before that, and answered by nobody after it.
        quarantine.silent(A, now);
        let later = now + FIRST;
        assert!(!quarantine.holds(A, later));
        quarantine.silent(A, later);
        assert!(quarantine.holds(A, later + FIRST));
        assert!(!quarantine.holds(A, later + 2 * FIRST));
        quarantine.answered(A);
        assert!(!quarantine.holds(A, later) && quarantine.trusts(7));
    }

    #[test]
    fn a_device_with_its_second_file() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.silent(A, now);
        quarantine.silent(OTHER, now);
        assert!(!quarantine.holds(C, now));
        quarantine.silent(B, now);
        assert!(quarantine.holds(C, now) && !quarantine.holds(C, now + FIRST));
        quarantine.answered(A);
        assert!(!quarantine.holds(C, now) && quarantine.holds(B, now));
    }

    #[test]
    fn what_is_not_known_is_never_held() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.silent(Place::default(), now);
        quarantine.silent(Place::default(), now);
        assert!(!quarantine.holds(Place::default(), now));
    }
}
