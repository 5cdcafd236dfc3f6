//! The way to a run that goes on: who is on another thread asks, the loop that watches over it answers.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, eventfd};

use super::standing::Standing;

/// Questions that wait at most; who asks more is not answered.
const WAITING: usize = 64;

/// What a run is asked for.
pub(super) enum Ask {
    /// To end the interval at this time.
    Cut(Instant),
    /// How it stands.
    Standing(Sender<Standing>),
}

/// For who asks.
#[derive(Clone, Debug)]
pub struct Door {
    asks: Sender<Ask>,
    bell: Arc<OwnedFd>,
}

/// For who answers.
#[derive(Debug)]
pub struct Asked {
    pub(super) asks: Receiver<Ask>,
    bell: Arc<OwnedFd>,
}

/// Both sides.
///
/// # Errors
/// Those of `eventfd`.
pub fn door() -> io::Result<(Door, Asked)> {
    let (to, asks) = bounded(WAITING);
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let bell = Arc::new(bell);
    let door = Door {
        asks: to,
        bell: bell.clone(),
    };
    Ok((door, Asked { asks, bell }))
}

impl Door {
    /// The interval that is open at this time ends at it.
    pub fn cut(&self, at: Instant) {
        self.ask(Ask::Cut(at));
    }

    /// How the run stands; nothing comes if it is over, or does not get to it.
    pub fn standing(&self) -> Receiver<Standing> {
        let (to, answer) = bounded(1);
        self.ask(Ask::Standing(to));
        answer
    }

    /// There is room for another interval.
    pub fn took_one(&self) {
        self.ring();
    }

    fn ask(&self, ask: Ask) {
        if self.asks.try_send(ask).is_ok() {
            self.ring();
        }
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

impl Asked {
    /// Readable when somebody has asked.
    pub(super) fn bell(&self) -> Arc<OwnedFd> {
        self.bell.clone()
    }

    /// Who asks from now on hears at once that nobody answers, and so do those who wait.
    pub(super) fn close(&mut self) {
        self.asks = crossbeam_channel::never();
    }

    /// The bell is heard.
    pub(super) fn heard(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }
}
