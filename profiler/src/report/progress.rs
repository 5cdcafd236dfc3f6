//! The line that is redrawn on a terminal while sampling: elapsed, samples, losses, the three
//! busiest programs. [`Progress`] comes in about once a second; escape codes leave for standard
//! error. Not on a terminal nothing is written at all.
//!
//! The cursor is left at the start of the line: what a profiled command prints next stands over
//! our line, so at most one line of its output is mixed with ours.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use super::{called, plain};
use crate::cli::Settings;
use crate::cli::settings::Verbosity;

/// How a recording stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Time since sampling began.
    pub elapsed: Duration,
    /// Samples taken and not lost, idle ticks left out.
    pub samples: u64,
    /// Samples lost, for whatever reason.
    pub lost: u64,
    /// Programs with their samples, the busiest first; more than three are not shown.
    pub busiest: Vec<(String, u64)>,
}

/// A line on standard error, or nothing.
#[derive(Debug)]
pub struct ProgressLine {
    on: bool,
    drawn: bool,
}

impl ProgressLine {
    /// A line, if standard error is a terminal and something may be said.
    pub fn new(settings: &Settings) -> Self {
        ProgressLine {
            on: settings.verbosity > Verbosity::Quiet
                && io::stderr().is_terminal()
                // One that knows no escape codes cannot draw a line again.
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
            drawn: false,
        }
    }

    /// Draws the line again. A terminal that is gone is no reason to stop sampling.
    pub fn draw(&mut self, progress: impl FnOnce() -> Progress) {
        if !self.on {
            return;
        }
        let progress = &progress();
        let width = tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col));
        let width = if width == 0 { 80 } else { width };
        // One column stays free: a full line wraps on some terminals.
        let line = line(progress, width - 1);
        let _ = write!(io::stderr(), "\r{line}\x1b[K\r");
        self.drawn = true;
    }

    /// Takes the line away: call it before anything else is printed.
    pub fn clear(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The line's text, at most `width` characters.
fn line(progress: &Progress, width: usize) -> String {
    let mut line = format!(
        "{}  {} samples  {} lost",
        clock(progress.elapsed),
        progress.samples,
        progress.lost
    );
    let all = progress.samples.max(1);
    for (name, samples) in progress.busiest.iter().take(3) {
        let share = *samples as f64 * 100.0 / all as f64;
        line += &format!("  {} {share:.0}%", plain(called(name), 15));
    }
    plain(&line, width)
}

/// `0:07`, `12:00`, `1:00:00`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            elapsed: Duration::from_secs(75),
            samples: 400,
            lost: 2,
            busiest: vec![
                ("python3".into(), 200),
                ("no\x1bde".into(), 100),
                ("a-very-long-program-name".into(), 50),
                ("fourth".into(), 1),
            ],
        }
    }

    #[test]
    fn what_it_says() {
        assert_eq!(
            line(&progress(), 200),
            "1:15  400 samples  2 lost  python3 50%  no?de 25%  a-very-long-pr… 12%"
        );
        assert_eq!(line(&progress(), 20), "1:15  400 samples  …");
        assert_eq!(line(&Progress::default(), 80), "0:00  0 samples  0 lost");
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(Duration::from_secs(7)), "0:07");
        assert_eq!(clock(Duration::from_secs(720)), "12:00");
        assert_eq!(clock(Duration::from_secs(3661)), "1:01:01");
    }
}
