//! What happens to signals once sampling is over, while files are still read for rows and names. One
//! that keeps silent for long is said, and then Ctrl-C leaves it out, and all that is still to be
//! asked; any other Ctrl-C ends rprof at once. No partial file stays behind.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::signals::{Signal, Signals};
use crate::reader::Readers;
use crate::report::plain;

/// How long a file may be waited for without a word.
const UNSAID: Duration = Duration::from_secs(1);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(250);
/// Characters of a path.
const PATH: usize = 80;

/// The profile is where it was to go.
static WRITTEN: AtomicBool = AtomicBool::new(false);

/// The profile is written from now on: whoever ends rprof loses nothing.
pub fn note_written() {
    WRITTEN.store(true, Ordering::Relaxed);
}

/// What the next signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: it is the first, and rprof is ending already.
    Nothing,
    /// Files are waited for, and it was said so: they are left out.
    LeaveOut,
    /// The end.
    Abort,
}

/// Takes signals from now on; so many are still the first. If nothing may be said, none leaves files
/// out: nobody would know.
pub(super) fn watch(
    signals: Signals,
    first: u32,
    readers: Arc<Readers>,
    command: Option<u32>,
    quiet: bool,
) {
    let mut next = match first {
        0 => Next::Abort,
        _ => Next::Nothing,
    };
    let watch = move || {
        let mut said = quiet;
        loop {
            match signals.next((!said).then_some(LOOK), &mut Vec::new()) {
                Ok(Some(Signal::Stop(number))) => match next {
                    Next::Nothing => next = Next::Abort,
                    Next::LeaveOut => {
                        readers.hurry();
                        next = Next::Abort;
                    }
                    Next::Abort => abort(number, command, quiet),
                },
                Ok(_) => {}
                Err(_) => return,
            }
            if let Some(text) = (!said).then(|| waiting(&readers.waits(UNSAID))).flatten() {
                say(&text);
                (said, next) = (true, Next::LeaveOut);
            }
        }
    };
    // Without the thread, signals wait until the profile is written.
    let _ = std::thread::Builder::new()
        .name("rprof-signals".into())
        .spawn(watch);
}

/// What is said of files that are waited for.
fn waiting(files: &[String]) -> Option<String> {
    let (first, more) = files.split_first()?;
    let more = match more.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let first = match first.as_str() {
        "" => "a file".into(),
        path => plain(path, PATH),
    };
    Some(format!(
        "rprof: waiting for {first}{more} to be read for names; Ctrl-C leaves them out\n"
    ))
}

/// Says what the first Ctrl-C does with a command: it has got it as well, and may take its time.
pub(super) fn wait(command: u32, quiet: bool) {
    if !quiet {
        say(&format!(
            "rprof: waiting for the command (pid {command}) to end; Ctrl-C once more stops without a profile\n"
        ));
    }
}

fn say(text: &str) {
    // That nobody listens is no reason to do otherwise.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Ends rprof at once. `command`: one that runs on; who stops rprof may take it for stopped, too.
pub(super) fn abort(signal: i32, command: Option<u32>, quiet: bool) -> ! {
    // First of all: whom it is told may not listen.
    crate::profile::output::remove_partial_files();
    let profile = match WRITTEN.load(Ordering::Relaxed) {
        true => "",
        false => " without a profile",
    };
    let command = command.map_or_else(String::new, |pid| {
        format!("; the command runs on, as process {pid}")
    });
    if !quiet {
        say(&format!("rprof: stopped{profile}{command}\n"));
    }
    std::process::exit(128 + signal)
}

#[cfg(test)]
mod tests {
    use super::waiting;

    #[test]
    fn what_is_waited_for() {
        let said = |files: &[&str]| waiting(&Vec::from_iter(files.iter().map(ToString::to_string)));
        assert_eq!(said(&[]), None);
        assert_eq!(
            said(&["/mnt/a\x1b", "/b"]).as_deref(),
            Some(
                "rprof: waiting for /mnt/a? and 1 more to be read for names; Ctrl-C leaves them out\n"
            )
        );
    }
}
