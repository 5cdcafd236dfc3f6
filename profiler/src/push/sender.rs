//! Sends what a spool holds, one profile after the other, on a thread of its own: a server that is slow, or
//! away for days, keeps nobody waiting. What becomes of each profile is counted, and each reason is said once.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::client::{Client, Connection};
use super::delivery::{Delivery, Step};
use super::destination::{Destination, Protocol};
use super::pprof_file;
use super::protocols;
use super::publisher::Outcome;
use super::spool::Spool;
use crate::sampling::privileges;

/// Before a server that said "not now" is asked again: at first, and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Before one that takes nothing from us as we are: somebody has to mend something.
const DENIED_PAUSE: Duration = Duration::from_secs(60);
/// Reasons that are said: a server may have a new one each time.
const MOST_REASONS: usize = 32;

/// What became of profiles, in samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The server has them.
    pub sent: u64,
    /// It refused them for good.
    pub refused: u64,
    /// They were too old for it before they could be sent.
    pub expired: u64,
    /// Their stacks were too large for it.
    pub oversized: u64,
    /// The spool could not keep them, or only as something that is no profile.
    pub lost: u64,
    /// Bytes that were sent, refused and repeated ones included.
    pub bytes: u64,
}

fn whole(samples: i64) -> u64 {
    u64::try_from(samples).unwrap_or(0)
}

/// One destination with its spool.
pub struct Sending {
    shared: Arc<Shared>,
    /// `None`: it is to end.
    wake: Mutex<Option<Sender<()>>>,
    ended: Receiver<()>,
}

struct Shared {
    destination: Destination,
    spool: Mutex<Spool>,
    figures: Mutex<Figures>,
    say: Say,
}

type Say = Box<dyn Fn(&str) + Send + Sync>;

impl Sending {
    /// Begins to send what is there. `say` is told each reason why something is not sent, once.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        client: Client,
        destination: Destination,
        spool: Spool,
        say: impl Fn(&str) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            destination,
            spool: Mutex::new(spool),
            figures: Mutex::default(),
            say: Box::new(say),
        });
        let (wake, woken) = bounded(1);
        let (running, ended) = bounded(0);
        let mut worker = Worker {
            connection: None,
            shared: shared.clone(),
            client,
            woken,
            pause: FIRST_PAUSE,
            trouble: String::new(),
            refusals: BTreeSet::new(),
            chance: RandomState::new(),
        };
        let work = move || {
            privileges::sample_only();
            worker.run();
            drop(running);
        };
        std::thread::Builder::new()
            .name("rprof-push".into())
            .spawn(work)?;
        Ok(Self {
            shared,
            wake: Mutex::new(Some(wake)),
            ended,
        })
    }

    /// Keeps a profile until the server has it.
    pub fn put(&self, profile: &[u8], taken: SystemTime, samples: u64) {
        let put = self.shared.spool().put(profile, taken, samples);
        if let Err(error) = put {
            self.lose(samples);
            (self.shared.say)(&format!(
                "a profile for {} cannot be kept: {}",
                self.shared.destination,
                crate::cli::failure::reason(&error)
            ));
        }
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wake) = &*wake {
            let _ = wake.try_send(());
        }
    }

    /// A profile of so many samples could not be kept.
    pub fn lose(&self, samples: u64) {
        self.shared.count(|figures| figures.lost += samples);
    }

    /// What became of profiles so far.
    pub fn outcome(&self) -> Outcome {
        let spool = self.shared.spool();
        let figures = *self
            .shared
            .figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Outcome {
            to: self.shared.destination.clone(),
            figures,
            waiting: spool.samples(),
            profiles: spool.len() as u64,
            bytes: spool.bytes(),
            evicted: spool.evicted.1,
            spool: spool.folder().to_owned(),
        }
    }

    /// Ends it: what can be sent soon is, the rest stays in the spool.
    pub fn end(&self) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits for its end.
    pub fn wait(&self, deadline: Instant) {
        let _ = self.ended.recv_deadline(deadline);
    }
}

impl Shared {
    fn spool(&self) -> std::sync::MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, count: impl FnOnce(&mut Figures)) {
        count(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What comes next.
enum Next {
    /// The next profile.
    Go,
    /// Nothing, for so long.
    Wait(Duration),
}

struct Worker {
    shared: Arc<Shared>,
    client: Client,
    connection: Option<Connection>,
    woken: Receiver<()>,
    pause: Duration,
    /// Why nothing goes at the moment, as it was said.
    trouble: String,
    /// Why profiles were refused, as it was said.
    refusals: BTreeSet<String>,
    chance: RandomState,
}

impl Worker {
    /// Until nobody wakes it any more; then once through what is there, as far as it goes.
    fn run(&mut self) {
        let mut ending = false;
        loop {
            match self.one() {
                Some(Next::Go) => {}
                _ if ending => return,
                Some(Next::Wait(time)) => ending = self.wait(time),
                None => ending = self.woken.recv().is_err(),
            }
        }
    }

    /// Waits whatever new profiles come. Whether it is to end.
    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            match self.woken.recv_deadline(until) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// Sends the oldest; `None`: there is none.
    fn one(&mut self) -> Option<Next> {
        let shared = self.shared.clone();
        let (entry, bytes) = shared.spool().oldest()?;
        let destination = &shared.destination;
        let protocol = destination.protocol.unwrap_or(Protocol::Pyroscope);
        let profile = match pprof_file::read(&bytes) {
            Ok(profile) => profile,
            // After a power failure, say.
            Err(why) => {
                self.refusal(&format!("a profile in the spool is none: {why}"));
                shared.count(|figures| figures.lost += entry.samples);
                shared.spool().remove(&entry);
                return Some(Next::Go);
            }
        };
        let labels = super::files::labels_within(&profile);
        let prepared = protocols::prepare(protocol, &profile, SystemTime::now());
        if prepared.expired > 0 {
            self.refusal("profiles are older than it takes");
            shared.count(|figures| figures.expired += entry.samples);
            shared.spool().remove(&entry);
            return Some(Next::Go);
        }
        if entry.sent == 0 {
            shared.count(|figures| figures.oversized += whole(prepared.oversized));
        }
        let done = entry.sent as usize;
        let connection = self.connection.take().unwrap_or_else(|| {
            self.client
                .connect(&destination.base, destination.transport())
        });
        let mut delivery = Delivery::new(&connection, protocol, &labels, &prepared, done);
        let mut next = Next::Go;
        while let Some(step) = delivery.step() {
            let bytes = std::mem::take(&mut delivery.bytes);
            shared.count(|figures| {
                figures.bytes += bytes;
                match &step {
                    Step::Sent(n) => figures.sent += whole(*n),
                    Step::Refused(n, _) => figures.refused += whole(*n),
                    Step::Expired(n) => figures.expired += whole(*n),
                    Step::Denied(_) | Step::Later(..) => {}
                }
            });
            match step {
                Step::Sent(_) => {}
                Step::Refused(_, why) => self.refusal(&why),
                Step::Expired(_) => self.refusal("profiles are older than it takes"),
                Step::Denied(why) => {
                    self.trouble(&why);
                    next = Next::Wait(DENIED_PAUSE);
                    break;
                }
                Step::Later(why, wanted) => {
                    self.trouble(&why);
                    next = Next::Wait(wanted.unwrap_or_else(|| self.back_off()));
                    break;
                }
            }
            self.well();
            // If that fails, a part may be sent twice, after the next start.
            let done = u32::try_from(delivery.done).unwrap_or(u32::MAX);
            let _ = shared.spool().progress(&entry, done);
        }
        match next {
            Next::Go => {
                self.connection = Some(connection);
                shared.spool().remove(&entry);
            }
            // The next try has a connection of its own, and what credentials there are then.
            Next::Wait(_) => {}
        }
        Some(next)
    }

    /// The next pause: twice as long as the last, and as much as a half more or less, so that all who wait for
    /// one server do not come back at once.
    fn back_off(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        let chance = self.chance.hash_one(SystemTime::now()) % 1000;
        pause / 2 + pause.mul_f64(chance as f64 / 1000.0)
    }

    /// Nothing goes at the moment: said once, as long as it is for the same reason.
    fn trouble(&mut self, why: &str) {
        if self.trouble != why {
            self.trouble = why.into();
            self.say(why);
        }
    }

    /// Something went.
    fn well(&mut self) {
        self.pause = FIRST_PAUSE;
        if !std::mem::take(&mut self.trouble).is_empty() {
            self.say("it takes profiles again");
        }
    }

    /// Some profile was refused: each reason is said once.
    fn refusal(&mut self, why: &str) {
        if self.refusals.len() < MOST_REASONS && self.refusals.insert(why.into()) {
            self.say(why);
        }
    }

    fn say(&self, what: &str) {
        (self.shared.say)(&format!("{}: {what}", self.shared.destination));
    }
}
