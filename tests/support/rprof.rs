//! The `rprof` binary: built once with the release profile, run with a time limit. What it says
//! goes to files, so that descendants that keep a pipe open cannot keep a test waiting.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::machine;
use crate::profile::Profile;
use crate::scratch::{Scratch, finish};

/// A run that takes longer hangs, however noisy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for faults, and for more time a tick.
const FAULT: &str = "RPROF_FAULT";
/// The most that can be asked for.
const SLOWEST: u32 = 50;

/// The release binary. `RPROF_BINARY` names one that was built elsewhere.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("RPROF_BINARY") {
            return named.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let said = finish(
            Command::new(cargo)
                .args(["build", "--release", "-p", "rprof-profiler"])
                .args(["--message-format=json", "--manifest-path"])
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml")),
        );
        // The target folder may be set in places that only cargo knows.
        let built = said
            .split("\"executable\":\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        let binary = built.filter(|file| file.ends_with("/rprof")).last();
        binary.expect("cargo says where it put rprof").into()
    })
}

/// A run to be started.
pub struct Rprof {
    command: Command,
    faults: Option<String>,
    folder: PathBuf,
    output: PathBuf,
}

/// One that is going on; killed when dropped.
pub struct Running {
    child: Child,
    line: String,
    folder: PathBuf,
    output: PathBuf,
}

/// One that ended.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Where the profile was to go.
    pub output: PathBuf,
    /// How long it took.
    pub took: Duration,
    line: String,
}

impl Rprof {
    /// `rprof ARGS… -o FILE`, with a file in the test's folder.
    pub fn new<S: AsRef<OsStr>>(scratch: &Scratch, args: impl IntoIterator<Item = S>) -> Self {
        let run = Self::bare(scratch, ["-o"]);
        let output = run.output.clone();
        run.arg(output).args(args)
    }

    /// `rprof ARGS…`, run in the test's folder.
    pub fn bare<S: AsRef<OsStr>>(scratch: &Scratch, args: impl IntoIterator<Item = S>) -> Self {
        Self::within(scratch, Command::new(binary())).args(args)
    }

    /// Another command that ends up running rprof (`setpriv … rprof …`): the words so far.
    pub fn within(scratch: &Scratch, mut command: Command) -> Self {
        let numbered = (1..).map(|n| scratch.file(&format!("run-{n}")));
        let folder = numbered
            .into_iter()
            .find(|folder| std::fs::create_dir(folder).is_ok());
        let folder = folder.expect("a folder for the run");
        command.current_dir(&folder).stdin(Stdio::null());
        Self {
            command,
            faults: None,
            output: folder.join("out.pb.gz"),
            folder,
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        if name == FAULT {
            self.faults = Some(value.into());
        }
        self
    }

    /// What it reads.
    pub fn stdin(mut self, from: impl Into<Stdio>) -> Self {
        self.command.stdin(from);
        self
    }

    /// The folder that it runs in; empty but for what it writes itself and its two streams.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where `-o` of [`Rprof::new`] goes.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// SIGHUP is not ignored, also where the tests run under `nohup`.
    pub fn heeds_hangups(mut self) -> Self {
        let heed = || {
            // SAFETY: a system call without pointers.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: between fork and exec nothing but that call is made.
        unsafe { self.command.pre_exec(heed) };
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let file = |name| File::create(self.folder.join(name)).expect("a file in the folder");
        self.command.stdout(file("stdout")).stderr(file("stderr"));
        if machine::slower() > 1 {
            // The first of two of a kind counts.
            let slow = format!("slow-machine:{SLOWEST}");
            let faults = [Some(slow), self.faults.take()].into_iter().flatten();
            let faults: Vec<String> = faults.collect();
            self.command.env(FAULT, faults.join(","));
        }
        // A group of its own, so that a run that hangs goes with all its descendants.
        self.command.process_group(0);
        let line = format!("{:?}", self.command);
        let child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        Running {
            child,
            line,
            folder: self.folder,
            output: self.output,
        }
    }

    /// Runs it to its end.
    pub fn run(self) -> Run {
        self.start().finish()
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder that it runs in, with its streams in `stdout` and `stderr`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until it has a perf event on each CPU: sampling begins with the last of them.
    pub fn wait_until_sampling(&mut self) {
        let cpus = machine::cpus().len();
        machine::wait_for("rprof begins to sample", PATIENCE, || {
            let ended = self.child.try_wait().expect("our own child");
            assert_eq!(ended, None, "{} ended:\n{}", self.line, self.said());
            let folder = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).ok()?;
            let links = folder
                .flatten()
                .filter_map(|fd| std::fs::read_link(fd.path()).ok());
            let mut events = links.filter(|link| link.to_string_lossy().contains("[perf_event]"));
            events.nth(cpus - 1).map(drop)
        });
    }

    /// Sends a signal to rprof alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("rprof is running");
    }

    /// What it said so far on standard error.
    pub fn said(&self) -> String {
        let bytes = std::fs::read(self.folder.join("stderr")).expect("its standard error");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn finish(mut self) -> Run {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("our own child") {
                Some(status) => break status,
                None if start.elapsed() > machine::patience(PATIENCE) => {
                    panic!("{} hangs; so far it said:\n{}", self.line, self.said())
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let stderr = self.said();
        // A fault that a test asked for may be one.
        let asked_for = self.line.contains("RPROF_FAULT=") && self.line.contains("-panic:");
        assert!(
            asked_for || !stderr.contains("panicked"),
            "{}:\n{stderr}",
            self.line
        );
        Run {
            status,
            stdout: std::fs::read(self.folder.join("stdout")).expect("its standard output"),
            stderr,
            output: self.output.clone(),
            took: start.elapsed(),
            line: self.line.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that was waited for has given its pid away.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Run {
    /// The exit code, 128 + N if signal N ended it.
    pub fn code(&self) -> i32 {
        let code = self.status.code();
        code.or_else(|| self.status.signal().map(|n| 128 + n))
            .expect("it ended in one of two ways")
    }

    /// Fails with all it said unless it ended with this code.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{}:\n{}", self.line, self.stderr);
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("text on standard output")
    }

    /// The profile that `-o` named.
    pub fn profile(&self) -> Profile {
        assert!(
            self.output.exists(),
            "no profile; {}:\n{}",
            self.line,
            self.stderr
        );
        Profile::read(&self.output)
    }

    /// The profile of a run that succeeded.
    pub fn ok(self) -> Profile {
        self.expect(0).profile()
    }
}
