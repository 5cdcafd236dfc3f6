//! Runs a command once, profiled by a process of rprof of its own, so that a run is the same thing whoever makes it:
//! `rprof -F 999 -o FILE -- CMD`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::orphan;
use super::words::words;
use crate::cli::Failure;
use crate::cli::command;
use crate::cli::failure::exit;
use crate::cli::gate::Runs;
use crate::cli::retype::{Retype, quoted};
use crate::cli::settings;
use crate::gate::report::harmless;
use crate::profile::output::make_folder;
use crate::report::check::{self, Machine};
use crate::report::plain;
use crate::sampling::child;
use crate::sampling::limits::Limits;
use crate::sampling::signals::{Signal, Signals};

/// Of what a failing command said, so much of its end is shown.
const SHOWN: u64 = 16 << 10;
/// Of each of its lines, so many characters.
const LINE: usize = 400;
/// Begins a sentence of rprof.
const RPROF: &str = "rprof: ";
/// Bytes that are no room.
const FULL: u64 = 64 << 10;
/// How often it is looked at the time.
const LOOK: Duration = Duration::from_millis(500);
/// Who is told to end, and does not, is killed after so long.
const GRACE: Duration = Duration::from_secs(5);

/// Runs commands.
pub(super) struct Benchmark<'a> {
    how: &'a Runs,
    folder: PathBuf,
    program: PathBuf,
    signals: Signals,
    /// Children that somebody else has left us: `exec rprof gate …`.
    before: Vec<u32>,
    /// No run goes on for longer.
    deadline: Option<Instant>,
    /// Gone when it is dropped.
    _temporary: Option<tempfile::TempDir>,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Well: its profile.
    Well(PathBuf),
    /// Somebody said stop.
    Stopped,
    /// It would have taken longer than there is time.
    OutOfTime,
}

impl<'a> Benchmark<'a> {
    /// Profiles go to this folder; `None`: to one that is removed at the end. All runs end in `budget`.
    ///
    /// # Errors
    /// Nothing can be profiled here. There is no such folder, and it can not be made.
    pub(super) fn new(
        how: &'a Runs,
        keep: Option<&Path>,
        budget: Option<Duration>,
    ) -> Result<Self, Failure> {
        allowed(how)?;
        if let Some(user) = &how.user {
            command::user(user)?;
        }
        let (folder, temporary) = match keep {
            Some(folder) => {
                make_folder(folder).map_err(|error| {
                    Failure::file("make", folder, &error)
                        .next(format!("ls -ld {}", quoted(&folder.to_string_lossy())))
                })?;
                of_another(folder)?;
                (folder.to_path_buf(), None)
            }
            None => {
                let made = tempfile::Builder::new().prefix("rprof-gate-").tempdir();
                let made = made.map_err(|error| {
                    Failure::file("make a folder in", &std::env::temp_dir(), &error)
                        .next("df -h /tmp")
                })?;
                (made.path().to_path_buf(), Some(made))
            }
        };
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot find rprof's own file: {error}")))?;
        let signals = Signals::new()
            .map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;
        let before = child::children().unwrap_or_default();
        // Whoever survives a recorder can be ended. Where this is refused only its group can.
        let _ = child::become_subreaper();
        Ok(Self {
            how,
            folder,
            program,
            signals,
            before,
            deadline: budget.and_then(|budget| Instant::now().checked_add(budget)),
            _temporary: temporary,
        })
    }

    /// Runs a command; its profile gets this name.
    ///
    /// # Errors
    /// It failed; what it said goes with that.
    pub(super) fn run(&self, command: &str, name: &str) -> Result<Ended, Failure> {
        let profile = self.folder.join(format!("{name}.pb.gz"));
        let failed = |doing: &str, error: &std::io::Error| {
            Failure::new(format!("cannot {doing} {command:?}: {error}"))
        };
        let mut output = tempfile::tempfile_in(&self.folder).map_err(|error| {
            Failure::file("make a file in", &self.folder, &error).next(self.room())
        })?;
        let clone = |file: &File| {
            file.try_clone()
                .map(Stdio::from)
                .map_err(|error| failed("run", &error))
        };
        let mut rprof = Command::new(&self.program);
        rprof
            .arg0(orphan::name(std::process::id()))
            .args(["--quiet", "--freq", &self.how.freq.to_string(), "--output"])
            .arg(&profile);
        if let Some(user) = &self.how.user {
            rprof.args(["--user", user]);
        }
        rprof
            .arg("--")
            .args(words(command))
            .stdin(Stdio::null())
            .stdout(clone(&output)?)
            .stderr(clone(&output)?);
        // A command of it is to find what a command of ours would: signals and limits as they were for us.
        let (limits, mask) = (Limits::raise(), self.signals.before());
        // SAFETY: between fork and exec only wrappers of system calls run.
        unsafe {
            rprof.pre_exec(move || {
                limits.restore();
                libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
                Ok(())
            });
        }
        // Of a group of its own, so that what does not listen can be ended with all that it has started.
        let mut rprof = (rprof.process_group(0))
            .spawn()
            .map_err(|error| failed("run", &error))?;
        let group = rprof.id().cast_signed();
        let mut told = None;
        let ended = loop {
            if has_ended(group).map_err(|error| failed("wait for", &error))? {
                if told.is_some() {
                    // What the command has started, and not waited for. The pid is still the recorder's, and so the
                    // group's.
                    // SAFETY: numbers only.
                    unsafe { libc::killpg(group, libc::SIGKILL) };
                }
                let ended = rprof.wait().map_err(|error| failed("wait for", &error))?;
                // What has made a group of its own is a child of ours now.
                match told {
                    Some(_) => orphan::end_children(&self.before),
                    None => orphan::reap(),
                }
                break ended;
            }
            let signal = self.signals.next(Some(LOOK), &mut Vec::new());
            let is_late = self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline);
            let why = match signal {
                Ok(Some(Signal::Stop(_))) => Some(Ended::Stopped),
                _ if is_late && told.is_none() => Some(Ended::OutOfTime),
                _ => None,
            };
            if let Some(why) = why {
                // SAFETY: a child of ours that was not waited for: the pid is still its.
                unsafe { libc::kill(group, libc::SIGTERM) };
                told.get_or_insert((why, Instant::now()));
            }
            let is_deaf = |(_, when): &(Ended, Instant)| when.elapsed() > GRACE;
            if told.as_ref().is_some_and(is_deaf) {
                // SAFETY: the group of a child of ours that was not waited for.
                unsafe { libc::killpg(group, libc::SIGKILL) };
            }
        };
        if let Some((why, _)) = told {
            let _ = std::fs::remove_file(profile);
            return Ok(why);
        }
        if ended.success() {
            return Ok(Ended::Well(profile));
        }
        Err(self.not_well(command, &profile, ended, &mut output))
    }

    fn not_well(
        &self,
        command: &str,
        profile: &Path,
        ended: ExitStatus,
        output: &mut File,
    ) -> Failure {
        // Of a command that was profiled the profile is there, and says how it ended.
        let is_profiled = profile.is_file();
        if self._temporary.is_none() {
            let _ = std::fs::remove_file(profile);
        }
        let mut lines = last_lines(output);
        if !is_profiled {
            let (why, next) = recorders_own(&mut lines);
            return self.not_profiled(command, ended, why, next).said(lines);
        }
        let how = match ended.code() {
            Some(code) => format!("exit code {code}"),
            None => format!("{ended}"),
        };
        let failure = format!("{command:?} failed with {how}");
        if self.is_full() {
            // What it says goes there: it may have failed by that alone.
            let folder = self.folder.display();
            return Failure::new(format!("{failure}, and {folder} has no room left"))
                .next(self.room())
                .said(lines);
        }
        match lines.as_slice() {
            [] => Failure::new(format!("{failure}, and said nothing")),
            _ => Failure::new(failure),
        }
        .next(command)
        .said(lines)
    }

    /// There is no profile of a run: `why` by the recorder's own words, with what it would type next.
    fn not_profiled(
        &self,
        command: &str,
        ended: ExitStatus,
        why: Option<String>,
        next: Vec<String>,
    ) -> Failure {
        let is_of_room = |why: &String| why.contains("No space left on device");
        if self.is_full() || why.as_ref().is_some_and(is_of_room) {
            let folder = self.folder.display();
            return Failure::new(format!(
                "{folder} has no room left for the profile of a run"
            ))
            .next(self.room());
        }
        let code = ended.code().and_then(|code| u8::try_from(code).ok());
        let done = match code {
            Some(exit::CANNOT_RUN | exit::NOT_FOUND) => "run",
            _ => "profiled",
        };
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        let failure = Failure::new(format!("{command:?} could not be {done}{why}"));
        // Commands of its own are none of what was typed.
        let is_own = |next: &String| next.contains(orphan::NAME) || next.starts_with("rprof ");
        let mut next = next.into_iter().filter(|next| !is_own(next));
        failure.next(next.next().unwrap_or_else(|| "rprof check".into()))
    }

    /// Tells how much room there is.
    fn room(&self) -> String {
        format!("df -h {}", quoted(&self.folder.to_string_lossy()))
    }

    fn is_full(&self) -> bool {
        // Some blocks are root's alone; a command of another user has none of them.
        let is_root = self.how.user.is_none() && rustix::process::geteuid().is_root();
        rustix::fs::statvfs(&self.folder).is_ok_and(|about| {
            let free = match is_root {
                true => about.f_bfree,
                false => about.f_bavail,
            };
            // Some file systems do not count what they have: nothing is known then.
            about.f_blocks > 0 && free.saturating_mul(about.f_frsize) < FULL
        })
    }
}

/// Whether this machine lets commands be profiled so. Asked before the first one is run, of us and not of a recorder:
/// what is to be typed next is what was typed.
fn allowed(how: &Runs) -> Result<(), Failure> {
    let again = Retype::new(&std::env::args_os().collect::<Vec<_>>());
    let machine = Machine::read();
    check::allowed(&check::checks(&machine, &again.as_root())).map_err(|failure| {
        let next = failure.next_commands().iter();
        let next = next.map(|next| next.replace("rprof --all -d 10s", &again.line()));
        next.fold(Failure::new(failure.what()), Failure::next)
    })?;
    settings::frequency(how.freq, &machine, &again).map(drop)
}

/// Whether a child has ended. It is still to be waited for.
fn has_ended(child: libc::pid_t) -> std::io::Result<bool> {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let Some(child) = Pid::from_raw(child) else {
        return Ok(true);
    };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(child), look) {
        Ok(ended) => Ok(ended.is_some()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The end of what was said, as lines that can be shown.
fn last_lines(output: &mut File) -> Vec<String> {
    let length = output.metadata().map_or(0, |about| about.len());
    let mut said = Vec::new();
    let _ = output
        .seek(SeekFrom::Start(length.saturating_sub(SHOWN)))
        .and_then(|_| output.take(SHOWN).read_to_end(&mut said));
    let said = String::from_utf8_lossy(&said);
    (said.trim_end().lines())
        .map(|line| harmless(&plain(&line.replace('\t', "    "), LINE)))
        // A line that begins so is a command to GitHub's runner.
        .map(|line| match line.trim_start().starts_with("::") {
            true => format!("… {line}"),
            false => line,
        })
        .collect()
}

/// Takes what the recorder has said off the lines: its sentence is the last that begins so, and what it would type
/// next follows.
fn recorders_own(lines: &mut Vec<String>) -> (Option<String>, Vec<String>) {
    let Some(at) = lines.iter().rposition(|line| line.starts_with(RPROF)) else {
        return (None, Vec::new());
    };
    let own = lines.split_off(at);
    let why = own.first().and_then(|line| line.strip_prefix(RPROF));
    let next = own.iter().filter_map(|line| line.strip_prefix("  try: "));
    (why.map(String::from), next.map(String::from).collect())
}

/// Profiles of another comparison would be taken for some of this one.
fn of_another(folder: &Path) -> Result<(), Failure> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_run = |name: &String| {
        let is_of_side = name.starts_with("base-") || name.starts_with("head-");
        is_of_side && name.ends_with(".pb.gz")
    };
    match names.find(is_run) {
        None => Ok(()),
        Some(_) => {
            let shown = quoted(&folder.to_string_lossy());
            Err(Failure::new(format!(
                "{} has profiles of an earlier comparison",
                folder.display()
            ))
            .next(format!("rm {shown}/base-*.pb.gz {shown}/head-*.pb.gz")))
        }
    }
}
