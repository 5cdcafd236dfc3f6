//! What kept silent is left alone: a file or a process for a while that doubles each time, and, if a
//! second file of its device kept silent and none has answered since, all of that device. A device is in
//! doubt for longer: until several of its files have answered for each that did not. Nothing here asks
//! anybody; time is given.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rprof_ebpf::identity::ProcessKey;
use rprof_ebpf::module::ModuleKey;

/// How long a file or a process is left alone at first, and at last.
const FIRST: Duration = Duration::from_secs(8);
const LONGEST: Duration = Duration::from_secs(600);
/// Files and processes that are remembered at most, and devices.
const MAX_PLACES: usize = 4096;
/// So many answers make good for one silence: whoever makes files that keep silent can make others, too.
const FORGIVEN: u32 = 8;

/// Whom a question is about, as far as quarantine goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Place {
    /// Not known, and never in quarantine.
    #[default]
    Unknown,
    /// A file; inode 0: all of its device.
    File {
        /// Its device.
        dev: u32,
        /// Its inode.
        ino: u64,
    },
    /// The same file, looked for along paths that others made: its device is not to blame.
    Elsewhere {
        /// Its device.
        dev: u32,
        /// Its inode.
        ino: u64,
    },
    /// The memory of a process. An `exec` may be what unblocks it, and yet is no reason to ask earlier.
    Process {
        /// Process id in the initial pid namespace.
        pid: u32,
        /// Start time in nanoseconds since boot.
        start: u64,
    },
}

impl Place {
    /// That of a module.
    pub fn of(key: &ModuleKey) -> Self {
        Self::File {
            dev: key.dev,
            ino: key.ino,
        }
    }

    /// That of a process's memory.
    pub fn of_process(process: &ProcessKey) -> Self {
        Self::Process {
            pid: process.tgid,
            start: process.start,
        }
    }

    /// Where else it may be looked for.
    pub(super) fn elsewhere(self) -> Self {
        match self {
            Self::File { dev, ino } => Self::Elsewhere { dev, ino },
            other => other,
        }
    }

    /// Whether it is about a process's memory.
    pub(super) fn is_process(self) -> bool {
        matches!(self, Self::Process { .. })
    }

    /// What may keep silent as one: a file's device, a process.
    pub(super) fn whole(self) -> Self {
        match self {
            Self::File { dev, .. } => Self::File { dev, ino: 0 },
            other => other,
        }
    }
}

/// What kept silent.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    places: HashMap<Place, Term>,
    /// By their [`Place::whole`].
    devices: HashMap<Place, Device>,
    /// Processes that answered, and have not kept silent since.
    answering: HashSet<Place>,
}

/// What is known of a device.
#[derive(Clone, Copy, Debug, Default)]
struct Device {
    /// Files that kept silent, less those that are forgiven: two at most.
    silent: u32,
    /// When the last one did.
    last: Option<Instant>,
    /// Answers since one did, or was forgiven.
    answers: u32,
    term: Option<Term>,
}

impl Device {
    /// Whether the last silence is so long ago that it says nothing of today.
    fn is_forgotten(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now >= last + LONGEST)
    }
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
    /// A file or a process kept silent.
    pub(super) fn silent(&mut self, place: Place, now: Instant) {
        if place == Place::Unknown {
            return;
        }
        let term = Term::after(self.places.get(&place), now);
        let known = self.places.insert(place, term).is_some();
        if self.places.len() > MAX_PLACES {
            // Those whose time is over were only remembered; or else the one whose time is over first.
            self.places.retain(|_, term| now < term.until);
            let first = self.places.iter().min_by_key(|(_, term)| term.until);
            let first = first.map(|(place, _)| *place);
            if self.places.len() > MAX_PLACES
                && let Some(first) = first
            {
                self.places.remove(&first);
            }
        }
        self.answering.remove(&place);
        if let Some(device) = self.device(place) {
            if device.is_forgotten(now) {
                device.silent = 0;
            }
            device.silent = (device.silent + u32::from(!known || device.silent == 0)).min(2);
            device.last = Some(now);
            device.answers = 0;
            if device.silent > 1 {
                device.term = Some(Term::after(device.term.as_ref(), now));
            }
        }
    }

    /// What is known of a file's device.
    fn device(&mut self, place: Place) -> Option<&mut Device> {
        let Place::File { .. } = place else {
            return None;
        };
        if self.devices.len() >= MAX_PLACES && !self.devices.contains_key(&place.whole()) {
            // Of those that keep silent it is told anew.
            self.devices.retain(|_, device| device.silent > 0);
            if self.devices.len() >= MAX_PLACES {
                self.devices.clear();
            }
        }
        Some(self.devices.entry(place.whole()).or_default())
    }

    /// A file answered, and so does its device; or a process.
    pub(super) fn answered(&mut self, place: Place) {
        self.places.remove(&place);
        if place.is_process() {
            if self.answering.len() >= MAX_PLACES {
                self.answering.clear();
            }
            self.answering.insert(place);
        }
        if let Some(device) = self.device(place) {
            device.term = None;
            device.answers += 1;
            if device.answers >= FORGIVEN {
                device.answers = 0;
                device.silent = device.silent.saturating_sub(1);
            }
        }
    }

    /// Whether a file or a process is to be left alone.
    pub(super) fn holds(&self, place: Place, now: Instant) -> bool {
        let device = self.devices.get(&place.whole());
        let terms = [
            self.places.get(&place),
            device.and_then(|device| device.term.as_ref()),
        ];
        terms.iter().flatten().any(|term| now < term.until)
    }

    /// Whether a file of the device kept silent, and is not forgiven.
    pub(super) fn doubts(&self, place: Place, now: Instant) -> bool {
        let device = self.devices.get(&place.whole());
        device.is_some_and(|device| device.silent > 0 && !device.is_forgotten(now))
    }

    /// Whether a file of the device answered, and none is known to keep silent; or the process did.
    pub(super) fn trusts(&self, place: Place, now: Instant) -> bool {
        if place.is_process() {
            return self.answering.contains(&place);
        }
        self.devices.contains_key(&place.whole()) && !self.doubts(place, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = Place::File { dev: 7, ino: 1 };
    const B: Place = Place::File { dev: 7, ino: 2 };
    const C: Place = Place::File { dev: 7, ino: 3 };
    const OTHER: Place = Place::File { dev: 8, ino: 1 };

    #[test]
    fn a_file_alone_and_for_longer_each_time() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.silent(A, now);
        assert!(quarantine.holds(A, now) && !quarantine.holds(B, now));
        assert!(!quarantine.trusts(A, now));
        // Asked before that, and answered by nobody after it.
        quarantine.silent(A, now);
        let later = now + FIRST;
        assert!(!quarantine.holds(A, later));
        quarantine.silent(A, later);
        assert!(quarantine.holds(A, later + FIRST));
        assert!(!quarantine.holds(A, later + 2 * FIRST));
        quarantine.answered(A);
        assert!(!quarantine.holds(A, later));
        // Several answers for each time that there was none, also if they come in turn.
        let answers = |quarantine: &mut Quarantine| {
            (0..FORGIVEN).for_each(|_| quarantine.answered(A));
        };
        assert!(quarantine.doubts(A, now) && !quarantine.trusts(A, now));
        answers(&mut quarantine);
        assert!(!quarantine.doubts(B, now) && quarantine.trusts(B, now));
    }

    #[test]
    fn a_silence_of_long_ago() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.silent(A, now);
        quarantine.silent(B, now);
        let later = now + LONGEST;
        assert!(quarantine.doubts(C, now) && quarantine.trusts(C, later));
        quarantine.silent(C, later);
        assert!(!quarantine.holds(A, later) && quarantine.doubts(A, later));
    }

    #[test]
    fn silence_and_answers_in_turn() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        let file = |ino| Place::File { dev: 7, ino };
        for ino in 0..2 {
            quarantine.silent(file(2 * ino), now);
            quarantine.answered(file(2 * ino + 1));
        }
        quarantine.silent(A, now);
        assert!(quarantine.holds(file(100), now));
    }

    #[test]
    fn more_than_are_remembered() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        let file = |dev, ino| Place::File { dev, ino };
        quarantine.silent(file(1, 1), now);
        let later = now + FIRST / 2;
        for n in 0..u64::try_from(MAX_PLACES).expect("few") {
            quarantine.silent(file(n as u32 + 2, n), later);
        }
        assert!(quarantine.places.len() <= MAX_PLACES && quarantine.devices.len() <= MAX_PLACES);
        assert!(!quarantine.holds(file(1, 1), later) && quarantine.holds(file(2, 0), later));
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
        assert!(
            quarantine.doubts(C, now) && !quarantine.doubts(Place::File { dev: 9, ino: 1 }, now)
        );
        // It is at its second already.
        quarantine.silent(C, now);
        assert!(quarantine.holds(A, now));
    }

    #[test]
    fn what_is_not_known_is_never_held() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.silent(Place::Unknown, now);
        quarantine.silent(Place::Unknown, now);
        assert!(!quarantine.holds(Place::Unknown, now));
    }

    #[test]
    fn paths_of_others_say_nothing_of_a_device() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        for place in [A, B, C] {
            quarantine.silent(place.elsewhere(), now);
            assert!(quarantine.holds(place.elsewhere(), now));
        }
        assert!(![A, B, C].iter().any(|&place| quarantine.holds(place, now)));
    }

    #[test]
    fn a_process_says_nothing_of_others() {
        let process = |pid| Place::Process { pid, start: 5 };
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        quarantine.silent(process(1), now);
        quarantine.silent(process(2), now);
        assert!(quarantine.holds(process(1), now) && !quarantine.holds(process(3), now));
        assert!(!quarantine.trusts(process(3), now));
        quarantine.answered(process(3));
        assert!(quarantine.trusts(process(3), now) && !quarantine.trusts(process(1), now));
        let reused = Place::Process { pid: 1, start: 6 };
        assert!(!quarantine.holds(reused, now));
        // For longer the second time, unless it answered.
        let later = now + FIRST;
        quarantine.silent(process(1), later);
        assert!(quarantine.holds(process(1), later + FIRST));
        quarantine.answered(process(1));
        quarantine.silent(process(1), later);
        assert!(!quarantine.holds(process(1), later + FIRST));
    }
}
