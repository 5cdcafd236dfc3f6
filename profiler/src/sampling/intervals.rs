//! The profile that samples go into, an interval after the other. A sample belongs to the interval that it
//! was taken in, though it may come later: out of the ring, or because it waited for a name.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Sender;
use rustix::time::{ClockId, clock_gettime};

use super::door::{Ask, Asked};
use super::stacks::Shared;
use super::standing::Standing;
use crate::naming::{Kept, Lookup};
use crate::profile::{Limits, Profile};

/// How long after its end the samples of an interval may come, which are asked for then.
const LAG: Duration = Duration::from_millis(500);

/// Intervals that are over, and of which more may come, at most. Cuts beyond wait until the oldest is given away:
/// of half a second at most, unless whoever takes them is behind.
const MOST_CLOSED: usize = 4;
/// Those that there are at most: these, the one that is open, one that waits to be taken, and one that is.
pub const MOST: usize = MOST_CLOSED + 3;
/// An interval's share of a run's memory.
pub const SHARE: usize = 16;

/// Asks for the profile of each interval while sampling goes on.
pub struct Publish {
    /// How long an interval is at most, but while whoever takes them is behind.
    pub every: Duration,
    /// For how many seconds frames are kept without a name, at most; `None`: to the end.
    pub kept_for: Option<u32>,
    /// Where somebody asks for a shorter one, and how the run stands.
    pub asked: Asked,
    /// Begins to take them, with this for their names.
    pub begin: Box<dyn FnOnce(Lookup) -> io::Result<Publishing>>,
}

/// Intervals are being taken.
pub struct Publishing {
    /// Where they go; one that is full is waited for by nobody: intervals that are over gather, and then the open one
    /// goes on.
    pub to: Sender<Interval>,
    /// Ends when `to` is dropped.
    pub thread: JoinHandle<Gathered>,
}

/// What is left of intervals at the end.
pub struct Gathered {
    /// What was sampled in all, if that was to be kept.
    pub profile: Profile,
    /// Samples that had no room in it.
    pub full: u64,
    /// Names of its frames.
    pub names: Kept,
}

/// An interval that is over.
#[derive(Debug)]
pub struct Interval {
    /// What was sampled in it.
    pub profile: Profile,
    /// When it began.
    pub start: SystemTime,
    /// The same, and when it was over, by the clock that nobody sets.
    pub span: Range<Instant>,
}

/// The interval that goes on, and those before it until nothing more is expected of them.
#[derive(Debug)]
pub struct Intervals {
    limits: Limits,
    now: Profile,
    /// The oldest first.
    before: VecDeque<Before>,
}

#[derive(Debug)]
struct Before {
    /// `CLOCK_MONOTONIC` of its end, nanoseconds.
    end: u64,
    profile: Profile,
}

impl Intervals {
    /// The first interval; each of them is bounded by these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            now: Profile::new(limits.clone()),
            before: VecDeque::new(),
            limits,
        }
    }

    /// Where a sample belongs that was taken at this time. What comes too late for its own interval goes
    /// into the one that is open.
    pub fn of(&mut self, time: u64) -> &mut Profile {
        let before = self.before.iter_mut().find(|before| time < before.end);
        before.map_or(&mut self.now, |before| &mut before.profile)
    }

    /// Begins the next interval, at this time.
    pub fn cut(&mut self, time: u64) {
        let profile = std::mem::replace(&mut self.now, Profile::new(self.limits.clone()));
        self.before.push_back(Before { end: time, profile });
    }

    /// Takes out the oldest interval: nothing more comes for it.
    pub fn settled(&mut self) -> Option<Profile> {
        self.before.pop_front().map(|before| before.profile)
    }

    /// Those before that are still there, and the last.
    pub fn into_rest(self) -> (impl Iterator<Item = Profile>, Profile) {
        let before = self.before.into_iter().map(|before| before.profile);
        (before, self.now)
    }
}

/// Ends intervals when it is time.
pub(super) struct Cutter {
    every: Duration,
    asked: Asked,
    publishing: Publishing,
    shared: Arc<Shared>,
    /// When the one that is open began.
    opened: (SystemTime, Instant),
    /// Those that are over, until they are given away: when each began, and when it was over.
    closed: VecDeque<(SystemTime, Instant, Instant)>,
    /// When it is to be over before its time.
    cuts: BTreeSet<Instant>,
    /// Nobody takes intervals any more.
    broken: bool,
}

impl Cutter {
    /// Begins the first interval.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(super) fn begin(publish: Publish, names: Lookup, shared: Arc<Shared>) -> io::Result<Self> {
        Ok(Self {
            every: publish.every,
            asked: publish.asked,
            publishing: (publish.begin)(names)?,
            shared,
            opened: (SystemTime::now(), Instant::now()),
            closed: VecDeque::new(),
            cuts: BTreeSet::new(),
            broken: false,
        })
    }

    /// When there is something to be done. What is held up by whoever takes them is no reason: they ring.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let is_held_up = |settles: &Instant| *settles <= now && self.publishing.to.is_full();
        let settles = self.settles().filter(|settles| !is_held_up(settles));
        let ends = (self.closed.len() < MOST_CLOSED).then(|| self.ends());
        [settles, ends].into_iter().flatten().min()
    }

    /// When nothing more comes for the oldest that is over.
    fn settles(&self) -> Option<Instant> {
        let (.., end) = self.closed.front()?;
        Some(*end + LAG.min(self.every / 2))
    }

    /// When the one that is open is to end.
    fn ends(&self) -> Instant {
        let usual = self.opened.1 + self.every;
        self.cuts.first().map_or(usual, |&cut| cut.min(usual))
    }

    /// What tells that somebody asks.
    pub(super) fn bell(&self) -> Arc<OwnedFd> {
        self.asked.bell()
    }

    /// Answers who asks how the run stands, and notes who asks for an interval's end.
    pub(super) fn answer(&mut self, standing: impl Fn() -> Option<Standing>) {
        self.asked.heard();
        for ask in self.asked.asks.try_iter() {
            match ask {
                Ask::Standing(to) => {
                    if let Some(standing) = standing() {
                        // It has room for one, and gets one; who asked may be gone.
                        let _ = to.try_send(standing);
                    }
                }
                Ask::Cut(at) => drop(self.cuts.insert(at)),
            }
        }
    }

    /// Does what is to be done by now; `hurry` asks for the samples that were taken so far.
    pub(super) fn work(&mut self, now: Instant, hurry: impl Fn()) {
        if self.next(now).is_none_or(|next| now < next) {
            return;
        }
        // Nobody holds it for longer than it takes to add a stack.
        let shared = self.shared.clone();
        let mut held = shared
            .profile
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(intervals) = held.as_mut() else {
            return;
        };
        let settles = self.settles().is_some_and(|settles| settles <= now);
        let settled = match settles && !self.publishing.to.is_full() {
            true => intervals.settled().zip(self.closed.pop_front()),
            false => None,
        };
        let ends = self.ends() <= now && self.closed.len() < MOST_CLOSED;
        if ends {
            intervals.cut(monotonic());
            self.cuts = self.cuts.split_off(&(now + Duration::from_nanos(1)));
            let (start, began) = self.opened;
            self.closed.push_back((start, began, now));
            self.opened = (SystemTime::now(), now);
        }
        drop(held);
        if ends {
            hurry();
        }
        if let Some((profile, (start, began, end))) = settled {
            self.give(profile, start, began..end);
        }
    }

    /// Whether nobody takes intervals any more: the thread has died.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Nobody who asks is answered any more.
    pub(super) fn close(&mut self) {
        self.asked.close();
    }

    fn give(&mut self, profile: Profile, start: SystemTime, span: Range<Instant>) {
        let interval = Interval {
            profile,
            start,
            span,
        };
        self.broken |= self.publishing.to.send(interval).is_err();
    }

    /// Gives away what is left, and waits until all is taken. Sampling was over at `end`.
    pub(super) fn end(mut self, rest: Intervals, end: Instant) -> Option<Gathered> {
        let (before, last) = rest.into_rest();
        let closed = std::mem::take(&mut self.closed);
        for (profile, (start, began, end)) in before.zip(closed) {
            self.give(profile, start, began..end);
        }
        let (start, began) = self.opened;
        self.give(last, start, began..end.max(began));
        let Publishing { to, thread } = self.publishing;
        drop(to);
        thread.join().ok()
    }
}

/// The clock of samples.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Added, Labels};

    #[test]
    fn a_sample_belongs_to_the_time_it_was_taken_at() {
        let mut intervals = Intervals::new(Limits {
            max_memory: 1 << 20,
            directory: std::env::temp_dir(),
        });
        let add = |intervals: &mut Intervals, time, n| {
            let labels = Labels {
                pid: 1,
                tid: 1,
                host_pid: false,
                comm: "a".into(),
                thread: "a".into(),
                cgroup: None,
            };
            let added = intervals.of(time).add(&[], &labels, n);
            assert_eq!(added, Added::Counted);
        };
        add(&mut intervals, 5, 1);
        assert!(intervals.settled().is_none());
        intervals.cut(10);
        add(&mut intervals, 9, 2);
        add(&mut intervals, 10, 4);
        assert_eq!(intervals.settled().map(|p| p.samples()), Some(3));
        add(&mut intervals, 9, 8);
        intervals.cut(20);
        intervals.cut(30);
        add(&mut intervals, 31, 16);
        add(&mut intervals, 19, 32);
        add(&mut intervals, 29, 64);
        let (before, last) = intervals.into_rest();
        assert!(before.map(|p| p.samples()).eq([44, 64]));
        assert_eq!(last.samples(), 16);
    }
}
