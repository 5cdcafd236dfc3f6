//! Sends what a spool holds, one profile after the other, on a thread of its own: a server that is slow, or
//! away for days, keeps nobody waiting. What becomes of each profile is counted, and each reason is said once.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::client::{self, Client, Connection};
use super::delivery::{Delivery, Progress, Step, Suspects};
use super::destination::{Destination, Protocol};
use super::pprof_file;
use super::protocols;
use super::publisher::Outcome;
use super::spool::{self, Spool};
use crate::sampling::privileges;

/// Before a server that said "not now" is asked again: at first, and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Before one that takes nothing from us as we are: somebody has to mend something.
const DENIED_PAUSE: Duration = Duration::from_secs(60);
/// Pauses of [`FIRST_PAUSE`] that one that is put aside makes at once, at most.
const MOST_OF_ASIDE: u32 = 60;
/// When a profile has failed so often, those behind it wait no more, and all are taken apart.
const PATIENCE: u32 = 3;
/// Reasons that are said: a server may have a new one each time.
const MOST_REASONS: usize = 32;
/// What a time that a server named is made longer by, at most.
const LONGEST_JITTER: Duration = Duration::from_secs(30);
/// What comes back again and again is said so often.
const SAY_AGAIN: Duration = Duration::from_secs(600);

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
    /// What was said, and when.
    said: Mutex<BTreeMap<String, Instant>>,
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
            said: Mutex::default(),
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
            aside: BTreeMap::new(),
            failed: 0,
            suspects: Suspects::new(),
            trouble: false,
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
        let shared = &self.shared;
        let bytes = profile.len() as u64;
        let (entry, path) = {
            let mut spool = shared.spool();
            let entry = spool.reserve(bytes, taken, samples);
            let path = spool.path(&entry);
            (entry, path)
        };
        match spool::write(&path, profile) {
            Ok(()) => shared.spool().keep(entry),
            Err(error) => {
                self.lose(samples);
                let why = crate::cli::failure::reason(&error);
                shared.say(&format!("a profile cannot be kept: {why}"), SAY_AGAIN);
            }
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
            profiles: spool.profiles(),
            bytes: spool.bytes(),
            evicted: spool.evicted,
            spool: spool.folder().to_owned(),
        }
    }

    /// Whether it goes on.
    pub fn lives(&self) -> bool {
        self.ended.try_recv() != Err(TryRecvError::Disconnected)
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

    /// Says it, unless the like was said in the time before.
    fn say(&self, what: &str, again: Duration) -> bool {
        let like = like(what);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let known = said.get(&like);
        let new = match known {
            Some(at) => at.elapsed() > again,
            None => said.len() < MOST_REASONS,
        };
        if new {
            said.insert(like, Instant::now());
            drop(said);
            (self.say)(&format!("{}: {}", self.destination, client::short(what)));
        }
        new
    }
}

/// What reasons of the same kind have in common: servers put ids and labels into them.
fn like(why: &str) -> String {
    let before = why.split('{').next().unwrap_or(why);
    let mut words: Vec<&str> = Vec::new();
    for word in before.split_whitespace().take(40) {
        let number = word.bytes().any(|byte| byte.is_ascii_digit());
        // A status is the same for all of a kind.
        let status = words.last() == Some(&"answers");
        words.push(if number && !status { "#" } else { word });
    }
    words.join(" ")
}

/// What comes next.
enum Next {
    /// The next profile.
    Go,
    /// Nothing, for so long.
    Wait(Duration),
    /// Nothing, for so long, unless there is a new profile.
    Idle(Duration),
}

/// A profile that was begun, and is put aside.
#[derive(Default)]
struct Aside {
    progress: Progress,
    /// When it is tried again.
    until: Option<Instant>,
    /// How often the server has said "not now".
    failed: u32,
}

struct Worker {
    shared: Arc<Shared>,
    client: Client,
    connection: Option<Connection>,
    woken: Receiver<()>,
    pause: Duration,
    /// By number.
    aside: BTreeMap<u64, Aside>,
    suspects: Suspects,
    /// Tries of which nothing was taken, one after the other, of profiles that were not put aside before.
    failed: u32,
    /// Nothing goes at the moment, and it was said.
    trouble: bool,
    chance: RandomState,
}

impl Worker {
    /// Until nobody wakes it any more; then once through what is there, as far as it goes.
    fn run(&mut self) {
        let mut ending = false;
        loop {
            let next = self.one();
            self.shared.spool().release();
            match next {
                Some(Next::Go) => {}
                _ if ending => return,
                Some(Next::Wait(time)) => ending = self.wait(time),
                Some(Next::Idle(time)) => {
                    let woken = self.woken.recv_timeout(time);
                    ending = woken == Err(RecvTimeoutError::Disconnected);
                }
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

    /// Sends the oldest that may be sent; `None`: there is none.
    fn one(&mut self) -> Option<Next> {
        let shared = self.shared.clone();
        let (entry, path) = {
            let mut spool = shared.spool();
            self.aside.retain(|&number, _| spool.has(number));
            let now = Instant::now();
            let aside = |number| self.aside.get(&number);
            let fresh = |number| aside(number).is_none_or(|aside| aside.failed < PATIENCE);
            let due = |number| aside(number).is_none_or(|aside| aside.until <= Some(now));
            let entry = spool.hold(fresh).or_else(|| spool.hold(due));
            let Some(entry) = entry else {
                let next = self.aside.values().filter_map(|aside| aside.until).min();
                return next.map(|next| Next::Idle(next.saturating_duration_since(now)));
            };
            let path = spool.path(&entry);
            (entry, path)
        };
        let read = std::fs::read(path).map_err(|error| crate::cli::failure::reason(&error));
        let profile = match read.and_then(|bytes| pprof_file::read(&bytes)) {
            Ok(profile) => profile,
            // After a power failure, say.
            Err(why) => {
                self.refusal(&format!("a profile in the spool is none: {why}"));
                return Some(self.finish(entry.number, |figures, n| figures.lost += n));
            }
        };
        let destination = &shared.destination;
        let protocol = destination.protocol.unwrap_or(Protocol::Pyroscope);
        let labels = super::files::labels_within(&profile);
        let prepared = protocols::prepare(protocol, &profile, &labels, entry.now());
        if prepared.expired > 0 {
            self.refusal("profiles are older than it takes");
            return Some(self.finish(entry.number, |figures, n| figures.expired += n));
        }
        let apart = self.aside.values().any(|aside| aside.failed >= PATIENCE);
        let aside = self.aside.remove(&entry.number).unwrap_or(Aside {
            progress: Progress::after(entry.done as usize),
            ..Aside::default()
        });
        let mut progress = aside.progress;
        let connection = self.connection.take().unwrap_or_else(|| {
            self.client
                .connect(&destination.base, destination.transport())
        });
        let mut delivery = Delivery::new(&connection, protocol, &labels, &prepared, apart);
        let mut some = false;
        let mut end = None;
        while let Some(step) = delivery.step(&mut progress, &mut self.suspects) {
            let bytes = std::mem::take(&mut delivery.bytes);
            shared.count(|figures| {
                // Nothing may have got there.
                figures.bytes += if matches!(step, Step::Away(_)) {
                    0
                } else {
                    bytes
                };
                match &step {
                    Step::Sent(n) => figures.sent += whole(*n),
                    Step::Refused(n, _) => figures.refused += whole(*n),
                    Step::Expired(n) => figures.expired += whole(*n),
                    Step::Denied(_) | Step::Later(..) | Step::Away(_) => {}
                }
            });
            match step {
                Step::Sent(_) => {
                    some = true;
                    self.well();
                }
                Step::Refused(_, why) => self.refusal(&why),
                Step::Expired(_) => self.refusal("profiles are older than it takes"),
                step => {
                    end = Some(step);
                    break;
                }
            }
            // If that fails, a part may be sent twice, after the next start.
            let done = u32::try_from(progress.done()).unwrap_or(u32::MAX);
            let left = whole(progress.left(&prepared)) + whole(prepared.oversized);
            let _ = shared.spool().progress(entry.number, done, left);
        }
        if some {
            self.failed = 0;
            let others = self.aside.values_mut();
            others.for_each(|aside| aside.progress.others_go());
        }
        let Some(end) = end else {
            self.connection = Some(connection);
            let oversized = whole(prepared.oversized);
            return Some(self.finish(entry.number, |figures, _| figures.oversized += oversized));
        };
        let mut aside = Aside { progress, ..aside };
        let next = match end {
            Step::Later(why, None) => {
                self.trouble(&why);
                let known = aside.failed >= PATIENCE;
                aside.failed += if apart && !known { PATIENCE } else { 1 };
                self.failed += u32::from(!some && !known);
                // It answered: others may go, unless it says the same to them.
                if aside.failed >= PATIENCE && self.failed < PATIENCE {
                    let pause = FIRST_PAUSE * (aside.failed / 4).clamp(1, MOST_OF_ASIDE);
                    aside.until = Some(Instant::now() + pause);
                    Next::Go
                } else {
                    Next::Wait(self.back_off())
                }
            }
            Step::Later(why, Some(wanted)) => {
                self.trouble(&why);
                let more = self.some_of(wanted.min(LONGEST_JITTER));
                Next::Wait(wanted.max(self.back_off()) + more)
            }
            Step::Denied(why) => {
                self.trouble(&why);
                Next::Wait(DENIED_PAUSE)
            }
            Step::Away(why) => {
                self.trouble(&why);
                Next::Wait(self.back_off())
            }
            Step::Sent(_) | Step::Refused(..) | Step::Expired(_) => Next::Go,
        };
        // The next try has a connection of its own, and what credentials there are then.
        self.aside.insert(entry.number, aside);
        Some(next)
    }

    /// It is done with: what of it still waited is counted.
    fn finish(&mut self, number: u64, count: impl FnOnce(&mut Figures, u64)) -> Next {
        let mut spool = self.shared.spool();
        if let Some(entry) = spool.remove(number) {
            self.shared.count(|figures| count(figures, entry.samples));
        }
        Next::Go
    }

    /// The next pause: twice as long as the last, and as much as a half more or less, so that all who wait for
    /// one server do not come back at once.
    fn back_off(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause / 2 + self.some_of(pause)
    }

    /// By chance, up to all of it.
    fn some_of(&self, time: Duration) -> Duration {
        let chance = self.chance.hash_one(SystemTime::now()) % 1000;
        time.mul_f64(chance as f64 / 1000.0)
    }

    /// Nothing goes at the moment.
    fn trouble(&mut self, why: &str) {
        self.trouble |= self.shared.say(why, SAY_AGAIN);
    }

    /// Something went.
    fn well(&mut self) {
        self.pause = FIRST_PAUSE;
        if std::mem::take(&mut self.trouble) {
            let _ = self.shared.say("it takes profiles again", Duration::ZERO);
        }
    }

    /// Some profile was refused: each reason is said once.
    fn refusal(&mut self, why: &str) {
        let _ = self.shared.say(why, Duration::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_a_kind() {
        let said = |index, id| {
            format!(
                "it answers 400 Bad Request: push series with index {index} and id {id} failed: \
                 profile labels {{a=\"{id}\"}} are too old"
            )
        };
        assert_eq!(
            like(&said(0, "0b6e-11")),
            "it answers 400 Bad Request: push series with index # and id # failed: profile labels"
        );
        assert_eq!(like(&said(0, "0b6e-11")), like(&said(17, "9c0f-22")));
        assert_ne!(like("it answers 400"), like("it answers 500"));
    }
}
