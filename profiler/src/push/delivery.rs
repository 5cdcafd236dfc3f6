//! One profile on its way to one server, a request after the other. A request that is refused is taken apart:
//! of many series one may be what the server does not want.

use std::time::Duration;

use super::client::{Answer, Connection};
use super::destination::Protocol;
use super::protocols::{self, Labels, Prepared};

/// A profile on its way.
pub struct Delivery<'a> {
    /// Where to.
    pub connection: &'a Connection,
    /// What the server speaks.
    pub protocol: Protocol,
    /// Of all series.
    pub labels: &'a Labels,
    /// What is sent.
    pub prepared: &'a Prepared,
    /// Pieces that are done with.
    pub done: usize,
    /// Up to this one each is sent alone.
    pub alone: usize,
    /// Bytes of the requests.
    pub bytes: u64,
}

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
}

impl<'a> Delivery<'a> {
    /// Of which so many pieces were delivered before.
    pub fn new(
        connection: &'a Connection,
        protocol: Protocol,
        labels: &'a Labels,
        prepared: &'a Prepared,
        done: usize,
    ) -> Self {
        Self {
            connection,
            protocol,
            labels,
            prepared,
            done,
            alone: done,
            bytes: 0,
        }
    }

    /// Sends the next request; `None`: all is done. What was denied, or is to be sent later, is sent again by
    /// the next call.
    pub fn step(&mut self) -> Option<Step> {
        loop {
            let left = self.prepared.pieces.get(self.done..)?;
            let n = match self.done < self.alone {
                true => left.len().min(1),
                false => protocols::fit(left),
            };
            let pieces = left.get(..n).filter(|pieces| !pieces.is_empty())?;
            let samples = pieces.iter().map(|piece| piece.samples).sum();
            let request = protocols::request(self.protocol, pieces, self.labels);
            self.bytes += request.body.len() as u64;
            let answer = self.connection.send(&request);
            let step = match protocols::understood(self.protocol, answer) {
                Answer::Taken(_) => Step::Sent(samples),
                Answer::Refused(_) if n > 1 => {
                    self.alone = self.done + n;
                    continue;
                }
                Answer::Refused(why) if protocols::is_too_late(self.protocol, &why) => {
                    Step::Expired(samples)
                }
                // Which ones it has is not said: none is counted as sent.
                Answer::Refused(why) | Answer::Partly(why) => Step::Refused(samples, why),
                Answer::Denied(why) => return Some(Step::Denied(why)),
                Answer::Later(why, wait) => return Some(Step::Later(why, wait)),
            };
            self.done += n;
            return Some(step);
        }
    }
}
