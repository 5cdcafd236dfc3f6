//! What the arguments mean on this machine. [`Record`] and [`Machine`] come in; [`Settings`], in
//! which nothing is left to guess, leave, or the one thing that is wrong. Everything that can be
//! refused is refused here, before anything is sampled; what the profile's file is worth is asked of
//! [`profile::output`](crate::profile::output).

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rprof_ebpf::identity::COMM_LEN;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::args::Record;
pub use super::args::{Color, Event, Format, OnFault, Reads};
use super::command;
pub use super::command::{Command, User};
use super::failure::Failure;
use super::glob::Glob;
use super::retype::Retype;
use super::values::{Cpus, LIST};
use crate::push::publisher;
use crate::push::spool::Bounds;
use crate::report::check::Machine;
use crate::sampling::faults::{self, Fault};

/// A recording, completely described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is profiled.
    pub target: Target,
    /// Samples a second on each CPU; 1 at least.
    pub frequency: u32,
    /// How long; `None`: until Ctrl-C, or the command's end.
    pub duration: Option<Duration>,
    /// What makes a sample.
    pub event: Event,
    /// The CPUs that are sampled: all that are online, unless some were named.
    pub cpus: Cpus,
    /// CPUs that come online later are sampled too: none were named.
    pub new_cpus: bool,
    /// Who reads names.
    pub reads: Reads,
    /// What becomes of samples that could not be read.
    pub on_fault: OnFault,
    /// Keep kernel frames.
    pub kernel: bool,
    /// Keep inlined functions.
    pub inline: bool,
    /// Bytes that the growing profile may take in memory.
    pub max_memory: u64,
    /// Where the profile goes; `-` is standard output. `None`: to servers only.
    pub output: Option<PathBuf>,
    /// Its format, if not by the file's ending.
    pub format: Option<Format>,
    /// Servers that profiles go to as they are taken.
    pub push: Option<publisher::Settings>,
    /// Labels of every sample.
    pub labels: Vec<(String, String)>,
    /// How much is said.
    pub verbosity: Verbosity,
    /// Whether text on standard error is colored.
    pub color: bool,
}

/// What is profiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every process.
    All {
        /// Only those in this cgroup and below: its folder, absolute.
        cgroup: Option<PathBuf>,
        /// Only those whose name matches this glob.
        comm: Option<Glob>,
    },
    /// Processes that existed a moment ago.
    Pids {
        /// Their pids as rprof sees them, sorted, each once.
        pids: Vec<u32>,
        /// Their children too.
        children: bool,
    },
    /// A command that is started.
    Command(Command),
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors.
    Quiet,
    /// Progress and summary too.
    #[default]
    Normal,
    /// What is being done, too.
    Verbose,
    /// Everything.
    Most,
}

const ALL: [&str; 2] = ["-a", "--all"];
const PID: [&str; 2] = ["-p", "--pid"];

/// The file that a profile goes to if none is named.
const DEFAULT_OUTPUT: &str = "rprof.pb.gz";

impl Settings {
    /// Resolves what was typed; `again` is the same as a line.
    ///
    /// # Errors
    /// Exit code 2, or 126 or 127 for a command that cannot be run.
    pub fn resolve(typed: &Record, machine: &Machine, again: &Retype) -> Result<Settings, Failure> {
        consistent(typed, again)?;
        let target = target(typed, again)?;
        let all = matches!(target, Target::All { .. });
        if typed.event == Event::Cycles && !machine.pmu {
            return Err(
                Failure::usage("this machine has no hardware counter for --event cycles")
                    .next(again.with(["", "--event"], None)),
            );
        }
        let may_read =
            machine.reads_without_waiting() || faults::asked(Fault::PagemapOnly).is_some();
        if typed.reads == Reads::ProcessVm && !may_read {
            return Err(Failure::usage(
                "--reads process-vm needs a kernel that can read another process without waiting \
                 for it (PROCESS_VM_NOWAIT); this one cannot",
            )
            .next(again.with(["", "--reads"], None)));
        }
        Ok(Settings {
            frequency: frequency(
                typed.freq.unwrap_or(if all { 20 } else { 199 }),
                machine,
                again,
            )?,
            target,
            duration: typed.duration,
            event: typed.event,
            cpus: cpus(typed.cpus.as_ref(), machine, again)?,
            new_cpus: typed.cpus.is_none(),
            reads: typed.reads,
            on_fault: typed.on_fault,
            kernel: !typed.no_kernel,
            inline: !typed.no_inline,
            max_memory: typed.max_memory,
            output: match (
                &typed.output,
                typed.push.is_empty() && typed.listen.is_none(),
            ) {
                (Some(output), _) => Some(output.clone()),
                (None, true) => Some(DEFAULT_OUTPUT.into()),
                (None, false) => None,
            },
            push: push(typed, again)?,
            format: typed.format,
            labels: typed.label.clone(),
            verbosity: match (typed.quiet, typed.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, 0) => Verbosity::Normal,
                (false, 1) => Verbosity::Verbose,
                (false, _) => Verbosity::Most,
            },
            color: colored(typed.color),
        })
    }
}

/// How long an interval is, usually, at least and at most.
const INTERVAL: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
/// What may wait for a server that is away.
const SPOOL_BYTES: u64 = 256 << 20;
/// Less holds no profile.
const LEAST_SPOOL: u64 = 16 << 10;
const SPOOL_AGE: Duration = Duration::from_secs(24 * 3600);

/// Options that are given once.
const ONCE: [[&str; 2]; 20] = [
    ["", "--listen"],
    ["", "--interval"],
    ["", "--spool"],
    ["", "--spool-size"],
    ["", "--spool-age"],
    ["", "--tenant"],
    ["", "--ca"],
    ["", "--auth-file"],
    ["-F", "--freq"],
    ["-d", "--duration"],
    ["-o", "--output"],
    ["", "--event"],
    ["", "--cpus"],
    ["", "--reads"],
    ["", "--on-fault"],
    ["", "--max-memory"],
    ["", "--format"],
    ["", "--user"],
    ["", "--cgroup"],
    ["", "--comm"],
];

/// Refuses what contradicts itself.
fn consistent(typed: &Record, again: &Retype) -> Result<(), Failure> {
    for names in ONCE {
        let values = again.values(names);
        let last = values.last().copied().unwrap_or_default();
        if let Some(other) = values.iter().find(|&&value| value != last) {
            let what = format!("{} is given as {other} and as {last}", names[1]);
            return Err(Failure::usage(what).next(again.with(names, Some(last))));
        }
    }
    if typed.quiet && typed.verbose > 0 {
        let failure = Failure::usage("--quiet and --verbose contradict each other");
        return Err(failure
            .next(again.without(["-v", "--verbose"]))
            .next(again.without(["-q", "--quiet"])));
    }
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let mut other = None;
    // Of each key the last value.
    for (key, value) in &typed.label {
        if let Some(label) = labels.iter_mut().find(|label| label.0 == key) {
            other = other.or((label.1 != value).then_some((key, label.1, value)));
            label.1 = value;
        } else {
            labels.push((key, value));
        }
    }
    let Some((key, one, two)) = other else {
        return Ok(());
    };
    let kept: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
    let failure = Failure::usage(format!("the label '{key}' is given as {one} and as {two}"));
    Err(failure.next(again.with_all(["", "--label"], &kept)))
}

/// Whether standard error is colored. <https://no-color.org>: NO_COLOR counts if it is not empty;
/// what was typed goes before it.
pub fn colored(when: Color) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
            !no_color && !dumb && io::stderr().is_terminal()
        }
    }
}

/// Servers that profiles go to as they are taken.
fn push(typed: &Record, again: &Retype) -> Result<Option<publisher::Settings>, Failure> {
    let server = &typed.server;
    if typed.push.is_empty() {
        let alone = [
            (typed.interval.is_some(), "--interval"),
            (typed.spool.is_some(), "--spool"),
            (typed.spool_size.is_some(), "--spool-size"),
            (typed.spool_age.is_some(), "--spool-age"),
            (server.tenant.is_some(), "--tenant"),
            (server.auth_file.is_some(), "--auth-file"),
            (server.ca.is_some(), "--ca"),
        ];
        let alone = alone
            .into_iter()
            .find_map(|(given, option)| given.then_some(option));
        if let Some(option) = alone {
            let failure = Failure::usage(format!("{option} goes with --push only"));
            return Err(failure.next(again.with(["", option], None)));
        }
        if typed.listen.is_none() {
            return Ok(None);
        }
    }
    if typed.output.is_none() && typed.format.is_some() {
        let failure = Failure::usage("with --push or --listen, --format goes with -o only");
        return Err(failure.next(again.with(["", "--format"], None)));
    }
    let interval = typed.interval.unwrap_or(INTERVAL);
    if !(SHORTEST..=LONGEST).contains(&interval) {
        let failure = Failure::usage("an interval is 1 second to 1 hour long");
        let instead = if interval < SHORTEST { "1s" } else { "1h" };
        return Err(failure.next(again.with(["", "--interval"], Some(instead))));
    }
    if typed.spool_size.is_some_and(|size| size < LEAST_SPOOL) {
        let failure = Failure::usage("a spool that holds profiles has 16 KiB at least");
        return Err(failure.next(again.with(["", "--spool-size"], Some("256MiB"))));
    }
    Ok(Some(publisher::Settings {
        urls: typed.push.clone(),
        listen: typed.listen,
        interval,
        server: server.clone(),
        spool: typed.spool.clone().unwrap_or_else(publisher::usual_spool),
        bounds: Bounds {
            bytes: typed.spool_size.unwrap_or(SPOOL_BYTES),
            age: typed.spool_age.unwrap_or(SPOOL_AGE),
        },
    }))
}

/// What to profile: exactly one of `--all`, `-p`, `-- CMD`, and what belongs to it.
fn target(typed: &Record, again: &Retype) -> Result<Target, Failure> {
    let (all, pids, run) = (typed.all, !typed.pid.is_empty(), !typed.command.is_empty());
    match u8::from(all) + u8::from(pids) + u8::from(run) {
        0 => {
            return Err(
                Failure::usage("say what to profile: --all, -p PID or -- CMD")
                    .next("sudo rprof --all -d 10s"),
            );
        }
        1 => {}
        _ => {
            let one = [
                all.then(|| again.options().with(PID, None)),
                pids.then(|| again.options().without(ALL)),
                run.then(|| match pids {
                    true => again.with(PID, None),
                    false => again.without(ALL),
                }),
            ];
            let failure = Failure::usage("--all, -p and -- CMD exclude each other");
            return Err(one.into_iter().flatten().fold(failure, Failure::next));
        }
    }
    let without = |long| again.without(["", long]);
    let with_none = |long| again.with(["", long], None);
    let belongs = [
        (
            typed.children && !pids,
            "--children",
            "-p",
            without("--children"),
        ),
        (
            typed.wait_all && !run,
            "--wait-all",
            "a command",
            without("--wait-all"),
        ),
        (
            typed.user.is_some() && !run,
            "--user",
            "a command",
            with_none("--user"),
        ),
        (
            typed.cgroup.is_some() && !all,
            "--cgroup",
            "--all",
            with_none("--cgroup"),
        ),
        (
            typed.comm.is_some() && !all,
            "--comm",
            "--all",
            with_none("--comm"),
        ),
    ];
    for (alone, option, with, next) in belongs {
        if alone {
            return Err(Failure::usage(format!("{option} goes with {with} only")).next(next));
        }
    }
    if all {
        let cgroup = typed.cgroup.as_deref().map(cgroup).transpose()?;
        let comm = typed
            .comm
            .as_deref()
            .map(|glob| comm(glob, again))
            .transpose()?;
        return Ok(Target::All { cgroup, comm });
    }
    if pids {
        return Ok(Target::Pids {
            pids: processes(typed.pid.iter().flat_map(|pids| &pids.0), again)?,
            children: typed.children,
        });
    }
    let name = typed
        .command
        .first()
        .map_or(OsStr::new(""), |name| name.as_os_str());
    // What execvp uses where there is no PATH.
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let user = typed.user.as_deref().map(command::user).transpose()?;
    Ok(Target::Command(Command {
        file: command::find(name, &path)?,
        words: typed.command.clone(),
        user,
        wait_all: typed.wait_all,
    }))
}

/// Checks that each pid is a process, and names each that is not.
fn processes<'a>(
    typed: impl Iterator<Item = &'a u32>,
    again: &Retype,
) -> Result<Vec<u32>, Failure> {
    let mut pids: Vec<u32> = typed.copied().collect();
    pids.sort_unstable();
    pids.dedup();
    let (mut gone, mut threads, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for &pid in &pids {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // A pidfd: no file of the target's procfs is touched. It exists for processes only, and
        // says EINVAL (ENOENT since 6.16) for a thread that is not the first of its process.
        match raw.map(|raw| pidfd_open(raw, PidfdFlags::empty())) {
            Some(Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT)) => threads.push(pid),
            Some(Err(rustix::io::Errno::SRCH)) | None => gone.push(pid),
            // Readable: it has ended, and its parent does not know yet.
            Some(Ok(process)) if is_readable(&process) => ended.push(pid),
            // Out of descriptors, say: whether it exists is seen when sampling begins.
            Some(_) => {}
        }
    }
    let list = |pids: &[u32]| {
        let texts: Vec<String> = pids.iter().map(u32::to_string).collect();
        texts.join(", ")
    };
    if !gone.is_empty() {
        let left: Vec<String> = pids
            .iter()
            .filter(|pid| ![&gone, &threads, &ended].iter().any(|no| no.contains(pid)))
            .map(u32::to_string)
            .collect();
        let failure = Failure::usage(match gone.as_slice() {
            [one] => format!("no process has the pid {one}"),
            many => format!("no process has the pids {}", list(many)),
        });
        return Err(if left.is_empty() {
            failure.next(LIST)
        } else {
            failure.next(again.with(PID, Some(&left.join(","))))
        });
    }
    if let Some(first) = threads.first() {
        let owner = owner(*first);
        let text = match threads.as_slice() {
            [one] => format!("{one} is a thread, not a process"),
            many => format!("{} are threads, not processes", list(many)),
        };
        let next = owner.map_or("ps -eLf".to_string(), |pid| {
            again.with(PID, Some(&pid.to_string()))
        });
        return Err(Failure::usage(text).next(next));
    }
    if let Some(&first) = ended.first() {
        let parent = field(first, "PPid:").unwrap_or_default();
        let name = field(first, "Name:").unwrap_or_default();
        let left: Vec<String> = pids
            .iter()
            .filter(|pid| !ended.contains(pid))
            .map(u32::to_string)
            .collect();
        let failure = Failure::usage(format!(
            "process {first} ({name}) has already ended; its parent {parent} has not waited for it"
        ));
        return Err(failure.next(match left.as_slice() {
            [] => again.with(PID, Some(&parent)),
            left => again.with(PID, Some(&left.join(","))),
        }));
    }
    Ok(pids)
}

fn is_readable(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The process that a thread belongs to.
fn owner(thread: u32) -> Option<u32> {
    field(thread, "Tgid:")?.parse().ok()
}

/// A field of what the kernel says of a process; no lock of the process is taken for it.
fn field(pid: u32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_string())
}

/// The folder of a cgroup: as typed, or below the mount of cgroup v2. Groups of v1 have no place in
/// a sample.
fn cgroup(typed: &Path) -> Result<PathBuf, Failure> {
    let is_cgroup = |folder: &Path| {
        rustix::fs::statfs(folder).is_ok_and(|fs| fs.f_type == CGROUP2_SUPER_MAGIC)
            && folder.join("cgroup.procs").is_file()
    };
    let relative = typed.strip_prefix("/").unwrap_or(typed);
    let mounts =
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| Path::new(root).join(relative));
    std::iter::once(typed.to_path_buf())
        .filter(|folder| folder.is_absolute())
        .chain(mounts)
        .find(|folder| is_cgroup(folder))
        .ok_or_else(|| {
            Failure::usage(format!("there is no cgroup (v2) {}", typed.display()))
                .next("systemd-cgls")
        })
}

/// From the kernel's `include/uapi/linux/magic.h`.
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// The kernel cuts names of processes: a longer pattern would match nothing, silently.
fn comm(glob: &str, again: &Retype) -> Result<Glob, Failure> {
    const LONGEST: usize = COMM_LEN - 1;
    let parsed = Glob::parse(glob).map_err(|why| {
        let failure = Failure::usage(format!("--comm '{glob}': {why}"));
        failure.next("ps -eo comm | sort -u")
    })?;
    if parsed.least_bytes() <= LONGEST {
        return Ok(parsed);
    }
    let failure = Failure::usage(format!(
        "--comm '{glob}' matches nothing: the kernel cuts the names of processes to {LONGEST} bytes"
    ));
    Err(
        match glob
            .get(..LONGEST - 1)
            .filter(|cut| !cut.contains(['*', '[']))
        {
            Some(cut) => failure.next(again.with(["", "--comm"], Some(&format!("{cut}*")))),
            None => failure.next("ps -eo comm | sort -u"),
        },
    )
}

/// The kernel refuses, or throttles, what is above its limit.
///
/// # Errors
/// It is; exit code 2.
pub fn frequency(hertz: u32, machine: &Machine, again: &Retype) -> Result<u32, Failure> {
    match machine.max_sample_rate {
        Some(limit) if hertz > limit => Err(Failure::usage(format!(
            "{hertz} samples a second are more than this kernel allows: from 1 to {limit}"
        ))
        .next(again.with(["-F", "--freq"], Some(&limit.to_string())))
        .next(format!(
            "sudo sysctl kernel.perf_event_max_sample_rate={hertz}"
        ))),
        _ => Ok(hertz),
    }
}

/// CPUs that are sampled must be online.
fn cpus(typed: Option<&Cpus>, machine: &Machine, again: &Retype) -> Result<Cpus, Failure> {
    let Some(typed) = typed else {
        return Ok(machine.online.clone());
    };
    let offline: Vec<u32> = typed
        .0
        .iter()
        .copied()
        .filter(|cpu| !machine.online.0.contains(cpu))
        .collect();
    if offline.is_empty() {
        return Ok(typed.clone());
    }
    let (one, many) = ("is not an online CPU", "are not online CPUs");
    Err(Failure::usage(format!(
        "{} {} of this machine",
        Cpus(offline.clone()).list(),
        if offline.len() == 1 { one } else { many }
    ))
    .next(again.with(["", "--cpus"], Some(&machine.online.list()))))
}

#[cfg(test)]
mod tests;
