//! What becomes of intervals: each who wants a profile gathers those of its own time, however they were cut.
//! On a thread of its own; sampling waits for none of it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, select};
use rprof_ebpf::ledger::Column;
use tokio::sync::oneshot;

use super::sender::Sending;
use crate::naming::{Kept, Lookup};
use crate::profile::{About, Limits, Profile, pprof};
use crate::sampling::door::Door;
use crate::sampling::intervals::{Gathered, Interval, MOST};
use crate::sampling::standing::Standing;

/// Profiles that are asked for at the same time, at most.
pub const MOST_SCRAPES: usize = 8;
/// Shares of a run's memory: of a profile that is scraped, of one that is pushed, and of all together. The
/// intervals that are open have [what they have](crate::sampling::intervals::SHARE).
const OF_A_SCRAPE: usize = 4 * MOST_SCRAPES;
const OF_A_PUSH: usize = 8;
const OF_ALL: usize = 4;
/// How long the run's own loop is given to say how it stands.
const TO_SAY: Duration = Duration::from_secs(2);

/// For how many seconds the frames of intervals of this length are kept without a name: of all that there may be;
/// files may take their time.
pub fn frames_kept(every: Duration) -> u32 {
    let every = u32::try_from(every.as_secs()).unwrap_or(u32::MAX);
    every.saturating_mul(MOST as u32).saturating_add(120)
}

/// What the profiles of a run say of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// Samples a second on each CPU.
    pub frequency: NonZeroU32,
    /// Comments.
    pub comments: Vec<String>,
    /// Of all profiles together.
    pub limits: Limits,
    /// All of it is wanted at the end.
    pub keep: bool,
}

/// Somebody wants the profile of a time that begins now.
#[derive(Debug)]
pub struct Scrape {
    /// How long.
    pub time: Duration,
    /// Where it goes, packed, or why there is none.
    pub to: oneshot::Sender<Result<Vec<u8>, String>>,
}

/// Who gathers.
pub struct Gatherer {
    run: Run,
    door: Door,
    names: Kept,
    /// How long a profile that is pushed is, at least.
    every: Duration,
    sendings: Arc<Vec<Sending>>,
    /// Bytes that a spool may have.
    most: u64,
    pushed: Option<Sum>,
    /// How the run stood when the last one was pushed.
    stood: Standing,
    scrapes: Vec<Wanted>,
    all: Profile,
    /// Samples that had no room in it.
    full: u64,
}

/// Intervals that follow each other.
struct Sum {
    profile: Profile,
    start: SystemTime,
    from: Instant,
    until: Instant,
    /// Samples that had no room in it.
    full: u64,
}

/// A profile that somebody waits for.
struct Wanted {
    from: Instant,
    until: Instant,
    to: oneshot::Sender<Result<Vec<u8>, String>>,
    gathered: Option<Sum>,
}

impl Gatherer {
    /// Of a run that is asked by this door; what is pushed goes to these, and is no larger than `most`.
    pub fn new(
        run: Run,
        door: Door,
        names: Lookup,
        every: Duration,
        sendings: Arc<Vec<Sending>>,
        most: u64,
    ) -> Self {
        Self {
            all: Profile::new(run.limits.share(OF_ALL)),
            full: 0,
            run,
            door,
            names: Kept::new(names),
            every,
            sendings,
            most,
            pushed: None,
            stood: Standing::default(),
            scrapes: Vec::new(),
        }
    }

    /// Until there are no more intervals; gives all of them together, if they are wanted.
    pub fn run(mut self, intervals: &Receiver<Interval>, scrapes: &Receiver<Scrape>) -> Gathered {
        let never = crossbeam_channel::never();
        let mut asked = scrapes;
        loop {
            select! {
                recv(intervals) -> interval => match interval {
                    Ok(interval) => {
                        self.door.took_one();
                        self.take(&interval);
                    }
                    Err(_) => break,
                },
                recv(asked) -> scrape => match scrape {
                    Ok(scrape) => self.begin(scrape),
                    // Nobody listens: it would be ready for ever.
                    Err(_) => asked = &never,
                },
            }
        }
        self.push();
        for wanted in std::mem::take(&mut self.scrapes) {
            self.answer(wanted);
        }
        Gathered {
            profile: self.all,
            full: self.full,
            names: self.names,
        }
    }

    fn begin(&mut self, Scrape { time, to }: Scrape) {
        self.scrapes.retain(|wanted| !wanted.to.is_closed());
        if self.scrapes.len() >= MOST_SCRAPES {
            let _ = to.send(Err(format!("{MOST_SCRAPES} profiles are being taken")));
            return;
        }
        let from = Instant::now();
        let until = from + time;
        self.door.cut(from);
        self.door.cut(until);
        self.scrapes.push(Wanted {
            from,
            until,
            to,
            gathered: None,
        });
        self.keep_frames();
    }

    /// Frames have names as long as somebody gathers them.
    fn keep_frames(&self) {
        if !self.run.keep {
            let scrapes = self.scrapes.iter().map(|wanted| wanted.until - wanted.from);
            let longest = scrapes.chain([self.every]).max().unwrap_or_default();
            self.names.keep_for(frames_kept(longest));
        }
    }

    fn take(&mut self, interval: &Interval) {
        if !self.sendings.is_empty() {
            gather(&mut self.pushed, self.run.limits.share(OF_A_PUSH), interval);
            if let Some(pushed) = &self.pushed
                // A timer is never early, but the last interval was cut by another clock.
                && pushed.until + Duration::from_millis(100) >= pushed.from + self.every
            {
                self.push();
            }
        }
        let scrapes = std::mem::take(&mut self.scrapes).into_iter();
        for mut wanted in scrapes.filter(|wanted| !wanted.to.is_closed()) {
            let is_over = interval.span.end >= wanted.until;
            // One that began early says so; it is better than none.
            if interval.span.start >= wanted.from || is_over && wanted.gathered.is_none() {
                let limits = self.run.limits.share(OF_A_SCRAPE);
                gather(&mut wanted.gathered, limits, interval);
            }
            match is_over {
                true => self.answer(wanted),
                false => self.scrapes.push(wanted),
            }
        }
        self.keep_frames();
        if self.run.keep {
            self.full += merge(&mut self.all, &interval.profile);
        }
    }

    /// Gives what was gathered to the servers.
    fn push(&mut self) {
        let Some(gathered) = self.pushed.take() else {
            return;
        };
        let stands = self.door.standing().recv_timeout(TO_SAY).ok();
        let lines = stands.map(|stands| {
            let since = stands.since(&self.stood);
            self.stood = stands;
            ledger(&since)
        });
        let samples = gathered.profile.samples();
        if samples > 0 {
            let packed = self.packed(&gathered, lines.unwrap_or_default());
            for sending in self.sendings.iter() {
                match &packed {
                    Ok(packed) if packed.len() as u64 <= self.most => {
                        sending.put(packed, gathered.start, samples);
                    }
                    _ => sending.lose(samples),
                }
            }
        }
        for sending in self.sendings.iter() {
            sending.lose(gathered.full);
        }
        self.names.end_of_interval();
    }

    fn answer(&mut self, wanted: Wanted) {
        let gathered = wanted.gathered.unwrap_or_else(|| Sum {
            profile: Profile::new(self.run.limits.share(OF_A_SCRAPE)),
            start: SystemTime::now(),
            from: wanted.from,
            until: wanted.from,
            full: 0,
        });
        let packed = self.packed(&gathered, Vec::new());
        if self.sendings.is_empty() {
            self.names.end_of_interval();
        }
        let _ = wanted.to.send(packed.map_err(|error| error.to_string()));
    }

    fn packed(&mut self, gathered: &Sum, ledger: Vec<String>) -> std::io::Result<Vec<u8>> {
        let about = About {
            frequency: self.run.frequency,
            start: gathered.start,
            duration: gathered.until - gathered.from,
            comments: self.run.comments.iter().cloned().chain(ledger).collect(),
        };
        let symbols = gathered.profile.symbols(&mut self.names);
        let mut packed = Vec::new();
        pprof::write(&gathered.profile, &symbols, &about, &mut packed)?;
        Ok(packed)
    }
}

fn gather(into: &mut Option<Sum>, limits: Limits, interval: &Interval) {
    let sum = into.get_or_insert_with(|| Sum {
        profile: Profile::new(limits),
        start: interval.start,
        from: interval.span.start,
        until: interval.span.end,
        full: 0,
    });
    sum.until = interval.span.end;
    sum.full += merge(&mut sum.profile, &interval.profile);
}

/// Adds one to another; samples that found no room, or cannot be read any more: their part file is broken.
fn merge(into: &mut Profile, profile: &Profile) -> u64 {
    let before = into.samples();
    let merged = into.merge(profile);
    merged.unwrap_or_else(|_| profile.samples().saturating_sub(into.samples() - before))
}

/// Comments: where ticks ended in the meantime.
fn ledger(since: &Standing) -> Vec<String> {
    let columns = Column::ALL.iter().filter_map(|&column| {
        let n = since.counts.get(column);
        let loss = if column.is_loss() { " (lost)" } else { "" };
        (n > 0).then(|| format!("ledger: {}: {n}{loss}", column.name()))
    });
    let ends = since.truncated.iter().filter(|(_, n)| **n > 0);
    let ends = ends.map(|(end, n)| format!("ledger: truncated at {}: {n}", end.reason()));
    std::iter::once(format!("ledger: expected: {}", since.expected))
        .chain(columns)
        .chain(ends)
        .collect()
}
