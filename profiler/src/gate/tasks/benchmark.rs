//! Runs a command once, profiled by a process of rprof of its own, so that a run is the same thing whoever makes it:
//! `rprof -F 999 -o FILE -- CMD`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::cli::Failure;
use crate::cli::command;
use crate::cli::gate::Runs;
use crate::cli::retype::quoted;
use crate::gate::report::harmless;
use crate::profile::output::sudo_caller;
use crate::report::plain;
use crate::sampling::limits::Limits;
use crate::sampling::signals::{Signal, Signals};

/// Of what a failing command said, so much of its end is shown.
const SHOWN: u64 = 16 << 10;
/// Of each of its lines, so many characters.
const LINE: usize = 400;
/// How often it is looked at the time.
const LOOK: Duration = Duration::from_millis(500);
/// Who is told to end, and does not, is killed after so long.
const GRACE: Duration = Duration::from_secs(5);

/// Runs commands.
pub(super) struct Benchmark<'a> {
    how: &'a Runs,
    say: &'a dyn Fn(&str),
    folder: PathBuf,
    program: PathBuf,
    signals: Signals,
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
    /// Profiles go to this folder; `None`: to one that is removed at the end. All runs end in `budget`. `say`: text
    /// for people.
    ///
    /// # Errors
    /// There is no such folder, and it can not be made.
    pub(super) fn new(
        how: &'a Runs,
        keep: Option<&Path>,
        budget: Option<Duration>,
        say: &'a dyn Fn(&str),
    ) -> Result<Self, Failure> {
        let (folder, temporary) = match keep {
            Some(folder) => {
                let failed = |error| {
                    Failure::file("make", folder, &error)
                        .next(format!("ls -ld {}", quoted(&folder.to_string_lossy())))
                };
                let is_new = !folder.exists();
                std::fs::create_dir_all(folder).map_err(failed)?;
                if let (true, Some((user, group))) = (is_new, sudo_caller()) {
                    // Where this is refused the profiles still are worth having.
                    let _ = std::os::unix::fs::chown(folder, Some(user), Some(group));
                }
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
        if let Some(user) = &how.user {
            command::user(user)?;
        }
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot find rprof's own file: {error}")))?;
        let signals = Signals::new()
            .map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;
        Ok(Self {
            how,
            say,
            folder,
            program,
            signals,
            deadline: budget.and_then(|budget| Instant::now().checked_add(budget)),
            _temporary: temporary,
        })
    }

    /// Runs a command; its profile gets this name.
    ///
    /// # Errors
    /// It failed; what it said was shown.
    pub(super) fn run(&self, command: &str, name: &str) -> Result<Ended, Failure> {
        let profile = self.folder.join(format!("{name}.pb.gz"));
        let failed = |doing: &str, error: &std::io::Error| {
            Failure::new(format!("cannot {doing} {command:?}: {error}"))
        };
        let mut output =
            tempfile::tempfile_in(&self.folder).map_err(|error| failed("run", &error))?;
        let clone = |file: &File| {
            file.try_clone()
                .map(Stdio::from)
                .map_err(|error| failed("run", &error))
        };
        let mut rprof = Command::new(&self.program);
        rprof
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
            if let Some(ended) = rprof
                .try_wait()
                .map_err(|error| failed("wait for", &error))?
            {
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
        let length = output.metadata().map_or(0, |about| about.len());
        let mut said = Vec::new();
        let _ = output
            .seek(SeekFrom::Start(length.saturating_sub(SHOWN)))
            .and_then(|_| output.take(SHOWN).read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<String> = (said.trim_end().lines())
            // Not at the begin of a line: CI systems take some words there for commands.
            .map(|line| format!("  {}", harmless(&plain(&line.replace('\t', "    "), LINE))))
            .collect();
        if !lines.is_empty() {
            (self.say)(&format!("{}\n", lines.join("\n")));
        }
        let how = match ended.code() {
            Some(code) => format!("exit code {code}"),
            None => format!("{ended}"),
        };
        let output = match lines.as_slice() {
            [] => ", and said nothing",
            _ => "; what it said is above",
        };
        match is_profiled {
            true => Failure::new(format!("{command:?} failed with {how}{output}")).next(command),
            false => Failure::new(format!("{command:?} could not be profiled{output}"))
                .next(format!("rprof -o /var/tmp/one.pb.gz -- {}", typed(command))),
        }
    }
}

/// A command as a shell reads it.
fn typed(command: &str) -> String {
    match words(command).as_slice() {
        [sh, c, script] if sh == "sh" && c == "-c" => format!("sh -c {}", quoted(script)),
        words => words.join(" "),
    }
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
        Some(_) => Err(Failure::usage(format!(
            "{} has profiles of an earlier comparison",
            folder.display()
        ))
        .next(format!("rm {}/*.pb.gz", quoted(&folder.to_string_lossy())))),
    }
}

/// The words of a command: as they are, or, if only a shell knows what they mean, given to one.
pub(super) fn words(command: &str) -> Vec<String> {
    let plain = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_@%+:,./-=".contains(c);
    let words: Vec<String> = command.split_whitespace().map(String::from).collect();
    // `A=B program` sets a variable.
    let sets = words.first().is_some_and(|word| word.contains('='));
    if command.chars().all(plain) && !command.contains('\n') && !sets && !words.is_empty() {
        words
    } else {
        ["sh", "-c", command].map(String::from).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_a_shell() {
        assert_eq!(words("./bench --size=3"), ["./bench", "--size=3"]);
        assert_eq!(words("cd a && ./bench"), ["sh", "-c", "cd a && ./bench"]);
        assert_eq!(words("A=1 ./bench"), ["sh", "-c", "A=1 ./bench"]);
        assert_eq!(words("./bench 'a b'"), ["sh", "-c", "./bench 'a b'"]);
        assert_eq!(words("./a\n./b"), ["sh", "-c", "./a\n./b"]);
        assert_eq!(words(""), ["sh", "-c", ""]);
    }
}
