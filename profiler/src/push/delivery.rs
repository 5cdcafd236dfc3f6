//! One profile on its way to one server, a request after the other. A request that is refused is taken apart:
//! of many series one may be what the server does not want.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::client::{Answer, Connection};
use super::destination::Protocol;
use super::protocols::{self, Labels, Piece, Prepared};
use super::service::Service;

/// A profile on its way.
pub struct Delivery<'a> {
    connection: &'a Connection,
    protocol: Protocol,
    labels: &'a Labels,
    prepared: &'a Prepared,
    /// A request of several series that is answered with "not now" is taken apart.
    apart: bool,
    /// Pieces that were sent alone and failed, since it was said so.
    tried: BTreeSet<usize>,
    /// Why the last of them did.
    later: String,
    /// Requests that failed, one after the other.
    failed: u32,
    /// The server has taken something.
    taken: bool,
    /// Bytes of the requests, before gRPC packs them.
    pub bytes: u64,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pieces before this one were tried.
    next: usize,
    /// Those of them that are to be sent once more, each alone.
    alone: BTreeSet<usize>,
    /// Those that failed since the server took something.
    failed: BTreeSet<usize>,
    /// How often it took something after they had failed.
    strikes: BTreeMap<usize, u32>,
}

/// Series that a server did not take, while it took others: it is not asked twice.
pub type Suspects = BTreeSet<Service>;

/// So often a server takes something else, each time after a series has failed, before that one is what it will
/// never take.
const STRIKES: u32 = 10;
/// A server to which so many series fail in a row takes none at the moment.
const IN_A_ROW: u32 = 2;

/// What one request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The server has so many samples more.
    Sent(i64),
    /// It refused so many for good: why.
    Refused(i64, String),
    /// So many came too late for it.
    Expired(i64),
    /// It takes nothing from us as we are: why.
    Denied(String),
    /// Not now: why, and how long it asked us to wait.
    Later(String, Option<Duration>),
    /// It does not answer: why.
    Away(String),
}

impl Progress {
    /// Of a profile of which so many pieces, from the first on, are done with.
    pub fn after(done: usize) -> Self {
        Self {
            next: done,
            ..Self::default()
        }
    }

    /// Pieces, from the first on, that are done with.
    pub fn done(&self) -> usize {
        self.alone.first().copied().unwrap_or(self.next)
    }

    /// Samples of the others.
    pub fn left(&self, prepared: &Prepared) -> i64 {
        let untried = prepared.pieces.get(self.next..).unwrap_or_default();
        let again = self.alone.iter().filter_map(|&at| prepared.pieces.get(at));
        untried.iter().chain(again).map(|piece| piece.samples).sum()
    }

    fn strikes(&self, piece: usize) -> u32 {
        self.strikes.get(&piece).copied().unwrap_or(0)
    }

    /// The server takes something else.
    pub fn others_go(&mut self) {
        for piece in std::mem::take(&mut self.failed) {
            *self.strikes.entry(piece).or_default() += 1;
        }
    }
}

impl<'a> Delivery<'a> {
    /// Of a profile that is prepared for this protocol.
    pub fn new(
        connection: &'a Connection,
        protocol: Protocol,
        labels: &'a Labels,
        prepared: &'a Prepared,
        apart: bool,
    ) -> Self {
        Self {
            connection,
            protocol,
            labels,
            prepared,
            apart,
            tried: BTreeSet::new(),
            later: String::new(),
            failed: 0,
            taken: false,
            bytes: 0,
        }
    }

    /// Sends the next request; `None`: all is done. What was denied, or is to be sent later, is sent again by
    /// the next call.
    pub fn step(&mut self, progress: &mut Progress, suspects: &mut Suspects) -> Option<Step> {
        while let Some(batch) = self.next(progress, suspects) {
            let pieces: Vec<&Piece> = batch
                .iter()
                .filter_map(|&at| self.prepared.pieces.get(at))
                .collect();
            let request = protocols::request(self.protocol, &pieces, self.labels);
            self.bytes += request.body.len() as u64;
            let answer = self.connection.send(&request);
            let answer = protocols::understood(self.protocol, answer);
            if let Answer::Refused(why) | Answer::Later(why, _) = &answer
                && let Some(not) = protocols::not_taken(self.protocol, why, batch.len())
            {
                // It has the others.
                self.takes(progress);
                let mut samples = 0;
                for (n, (&at, piece)) in batch.iter().zip(&pieces).enumerate() {
                    match not.contains(&n) {
                        true => drop(progress.alone.insert(at)),
                        false => samples += piece.samples,
                    }
                }
                return Some(Step::Sent(samples));
            }
            let samples = pieces.iter().map(|piece| piece.samples).sum();
            let step = match (answer, batch.as_slice()) {
                (Answer::Taken(_), _) => {
                    self.takes(progress);
                    for piece in &pieces {
                        suspects.remove(piece.service());
                    }
                    return Some(Step::Sent(samples));
                }
                (Answer::Refused(why), [_]) => {
                    return Some(match protocols::is_too_late(self.protocol, &why) {
                        true => Step::Expired(samples),
                        false => Step::Refused(samples, why),
                    });
                }
                // Which ones it has is not said: none is counted as sent.
                (Answer::Partly(why), _) => return Some(Step::Refused(samples, why)),
                (Answer::Refused(_), _) => {
                    progress.alone.extend(&batch);
                    continue;
                }
                (Answer::Later(why, None), &[at]) => {
                    let strikes = progress.strikes(at);
                    let series = pieces.first().map(|piece| piece.service());
                    let suspect = series.is_some_and(|series| suspects.contains(series));
                    if strikes >= STRIKES || suspect && (self.taken || strikes > 0) {
                        suspects.extend(series.cloned());
                        return Some(Step::Refused(samples, why));
                    }
                    progress.alone.insert(at);
                    progress.failed.insert(at);
                    self.tried.insert(at);
                    self.failed += 1;
                    self.later = why;
                    if self.failed < IN_A_ROW {
                        continue;
                    }
                    break;
                }
                (Answer::Later(_, None), _) if self.apart => {
                    progress.alone.extend(&batch);
                    continue;
                }
                (Answer::Later(why, wait), _) => Step::Later(why, wait),
                (Answer::Denied(why), _) => Step::Denied(why),
                (Answer::Away(why), _) => Step::Away(why),
            };
            // All of it again.
            match batch.first() {
                Some(&first) if progress.next == first + batch.len() => progress.next = first,
                _ => progress.alone.extend(&batch),
            }
            return Some(step);
        }
        self.tried.clear();
        self.failed = 0;
        let more = !progress.alone.is_empty() || progress.next < self.prepared.pieces.len();
        more.then(|| Step::Later(std::mem::take(&mut self.later), None))
    }

    fn takes(&mut self, progress: &mut Progress) {
        progress.others_go();
        self.failed = 0;
        self.taken = true;
    }

    /// What is sent next: taken out of what is left.
    fn next(&self, progress: &mut Progress, suspects: &Suspects) -> Option<Vec<usize>> {
        let alone = progress.alone.iter().find(|at| !self.tried.contains(at));
        if let Some(&at) = alone {
            progress.alone.remove(&at);
            return Some(vec![at]);
        }
        let left = self.prepared.pieces.get(progress.next..)?;
        let from = progress.next;
        progress.next += protocols::fit(left);
        let (doubted, batch) = (from..progress.next)
            .zip(left)
            .partition::<Vec<_>, _>(|(_, piece)| suspects.contains(piece.service()));
        progress.alone.extend(doubted.iter().map(|(at, _)| at));
        let batch: Vec<usize> = batch.into_iter().map(|(at, _)| at).collect();
        match batch.is_empty() {
            true if doubted.is_empty() => None,
            true => self.next(progress, suspects),
            false => Some(batch),
        }
    }
}
