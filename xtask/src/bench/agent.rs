//! The profilers that are compared: rprof, and perf as it comes with the system.
//!
//! An agent is started on the whole machine at 20 Hz, watched through its process id, and stopped
//! with SIGINT. What it says and writes goes to files of the run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::process;
use crate::workspace::{self, root, run};

/// Samples a second on each CPU, in every trial that does not say otherwise.
pub(super) const FREQUENCY: u32 = 20;
/// An agent that is not stopped by then ends by itself.
const LONGEST: u32 = 300;
/// An agent that does not end by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Agent {
    /// This project's.
    Rprof,
    /// `perf record --call-graph dwarf`.
    PerfDwarf,
    /// `perf record --call-graph fp`.
    PerfFp,
}

impl Agent {
    /// All of them, in the order of the table's columns.
    pub(super) const ALL: [Self; 3] = [Self::Rprof, Self::PerfDwarf, Self::PerfFp];

    /// Its column's head.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rprof => "rprof",
            Self::PerfDwarf => "perf dwarf",
            Self::PerfFp => "perf fp",
        }
    }
}

/// Where the agents' files are.
pub(super) struct Agents {
    rprof: PathBuf,
    perf: bool,
    folder: PathBuf,
}

/// An agent that runs; killed when dropped.
pub(super) struct Running {
    agent: Agent,
    child: Child,
    started: Duration,
    folder: PathBuf,
}

/// What an agent left.
pub(super) struct Ended {
    /// What it said on standard error.
    pub(super) said: String,
    /// The profile: folded stacks of rprof, perf's data.
    pub(super) output: PathBuf,
    /// From SIGINT to its end.
    pub(super) took: Duration,
}

impl Agents {
    /// Builds rprof, unless `RPROF_BINARY` names one, and looks for perf.
    pub(super) fn build(folder: &Path) -> Result<Self, String> {
        let rprof = match std::env::var_os("RPROF_BINARY") {
            Some(binary) => binary.into(),
            None => {
                run(Command::new("cargo").current_dir(root()).args([
                    "build",
                    "--quiet",
                    "--release",
                    "-p",
                    "rprof-profiler",
                ]))?;
                workspace::scratch().with_file_name("release/rprof")
            }
        };
        Ok(Self {
            rprof,
            perf: workspace::output(Command::new("perf").arg("--version")).is_ok(),
            folder: folder.to_path_buf(),
        })
    }

    /// Those that this machine has.
    pub(super) fn present(&self) -> impl Iterator<Item = Agent> {
        let perf = self.perf;
        Agent::ALL
            .into_iter()
            .filter(move |&agent| perf || agent == Agent::Rprof)
    }

    /// Starts one on the whole machine, at `frequency`.
    pub(super) fn start(&self, agent: Agent, frequency: u32) -> Result<Running, String> {
        self.start_on(agent, frequency, &[])
    }

    /// Starts one; of rprof, only on these processes, unless there are none.
    pub(super) fn start_on(
        &self,
        agent: Agent,
        frequency: u32,
        pids: &[u32],
    ) -> Result<Running, String> {
        self.run(agent, frequency, pids, None)
    }

    /// Starts rprof on these processes, with a fault (`RPROF_FAULT`).
    pub(super) fn start_with(
        &self,
        frequency: u32,
        pids: &[u32],
        fault: Option<&str>,
    ) -> Result<Running, String> {
        self.run(Agent::Rprof, frequency, pids, fault)
    }

    /// Starts rprof on the whole machine; it pushes to this server.
    pub(super) fn start_pushing(&self, url: &str, longest: Duration) -> Result<Running, String> {
        let spool = self.folder.join("spool");
        let _ = fs::remove_dir_all(&spool);
        let mut command = Command::new(&self.rprof);
        let longest = format!("{}s", longest.as_secs());
        command.args(["--all", "--push", url, "-d", &longest]);
        command.arg("--spool").arg(spool);
        self.spawn(Agent::Rprof, command)
    }

    /// A profile of the whole machine, as a file.
    pub(super) fn profile(&self, time: Duration) -> Result<PathBuf, String> {
        let file = self.folder.join("rprof.pb.gz");
        let mut command = Command::new(&self.rprof);
        command.args(["--all", "-q", "-d", &format!("{}s", time.as_secs()), "-o"]);
        run(command.arg(&file))?;
        Ok(file)
    }

    fn run(
        &self,
        agent: Agent,
        frequency: u32,
        pids: &[u32],
        fault: Option<&str>,
    ) -> Result<Running, String> {
        let output = self.folder.join(output(agent));
        let _ = fs::remove_file(&output);
        let mut command = match agent {
            Agent::Rprof => {
                let mut command = Command::new(&self.rprof);
                let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
                match pids.is_empty() {
                    true => command.arg("--all"),
                    false => command.arg("-p").arg(pids.join(",")),
                };
                command.args(["-v", "-d", &format!("{LONGEST}s")]);
                command
            }
            Agent::PerfDwarf | Agent::PerfFp => {
                let stacks = if agent == Agent::PerfFp {
                    "fp"
                } else {
                    "dwarf"
                };
                let mut command = Command::new("perf");
                command
                    .args([
                        "record",
                        "-q",
                        "-e",
                        "cpu-clock",
                        "-a",
                        "-k",
                        "CLOCK_MONOTONIC",
                    ])
                    .args(["--call-graph", stacks]);
                command
            }
        };
        command
            .arg("-F")
            .arg(frequency.to_string())
            .arg("-o")
            .arg(output);
        if agent != Agent::Rprof {
            command.args(["--", "sleep", &LONGEST.to_string()]);
        }
        command.envs(fault.map(|fault| ("RPROF_FAULT", fault)));
        self.spawn(agent, command)
    }

    fn spawn(&self, agent: Agent, mut command: Command) -> Result<Running, String> {
        let said = self.folder.join("said");
        let said =
            File::create(&said).map_err(|e| format!("cannot write {}: {e}", said.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        let started = monotonic();
        let child = command
            .spawn()
            .map_err(|e| format!("cannot start {command:?}: {e}"))?;
        Ok(Running {
            agent,
            child,
            started,
            folder: self.folder.clone(),
        })
    }
}

impl Running {
    /// Its processes: of perf, not the `sleep` that bounds it.
    pub(super) fn pids(&self) -> Vec<u32> {
        match self.agent {
            Agent::Rprof => process::tree(self.child.id()),
            Agent::PerfDwarf | Agent::PerfFp => vec![self.child.id()],
        }
    }

    /// Its first process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its processes so far.
    pub(super) fn cpu_time(&self) -> Duration {
        self.pids().into_iter().map(process::cpu_time).sum()
    }

    /// CPU time so far of the threads that learn modules, which have nothing to do once all modules
    /// are known.
    pub(super) fn learning_time(&self) -> Duration {
        let pids = self.pids().into_iter();
        pids.map(|pid| process::thread_time(pid, "rprof-learner"))
            .sum()
    }

    /// Anonymous memory of all its processes.
    pub(super) fn anonymous_bytes(&self) -> u64 {
        let pids = self.pids().into_iter();
        pids.map(|pid| process::status_bytes(pid, "RssAnon")).sum()
    }

    /// Kernel memory for maps and rings.
    pub(super) fn kernel_bytes(&self) -> u64 {
        process::kernel_bytes(self.child.id())
    }

    /// What its programs used so far.
    pub(super) fn program_time(&self) -> process::ProgramTime {
        process::program_time(self.child.id())
    }

    /// The monotonic clock just before it was started.
    pub(super) fn started(&self) -> Duration {
        self.started
    }

    /// Whether it has a perf event on each CPU.
    pub(super) fn has_events(&self, cpus: usize) -> bool {
        process::has_events(self.child.id(), cpus)
    }

    /// Fails if it has ended by itself.
    pub(super) fn still_runs(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(format!("{} ended:\n{}", self.agent.name(), self.said())),
        }
    }

    /// Asks it to end, waits, and calls `meanwhile` again and again.
    pub(super) fn stop(mut self, mut meanwhile: impl FnMut(&Self)) -> Result<Ended, String> {
        self.still_runs()?;
        let asked = Instant::now();
        // SAFETY: a child that has not been waited for still owns its pid.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        loop {
            match self.child.try_wait() {
                Ok(None) if asked.elapsed() < PATIENCE => meanwhile(&self),
                Ok(Some(_)) => break,
                _ => return Err(format!("{} does not end", self.agent.name())),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Ended {
            took: asked.elapsed(),
            said: self.said(),
            output: self.folder.join(output(self.agent)),
        })
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.join("said")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(agent: Agent) -> &'static str {
    match agent {
        Agent::Rprof => "rprof.folded",
        Agent::PerfDwarf | Agent::PerfFp => "perf.data",
    }
}

/// `CLOCK_MONOTONIC`: the clock of perf's time stamps here.
pub(super) fn monotonic() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a pointer to our own variable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
