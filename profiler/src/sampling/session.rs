//! A recording: everything started in order, watched, and stopped in order.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use aya::maps::{HashMap as BpfHashMap, MapData};

use super::account::{self, Counted};
use super::child;
use super::conditions::Conditions;
use super::counter::Counters;
use super::ending;
use super::events::{self, Clock, Events};
use super::faults::{self, Fault};
use super::intervals::{Cutter, Gathered, Intervals, Publish, SHARE};
use super::learner::Learner;
use super::learning::Errands;
use super::lessons::Asker;
use super::limits;
use super::live::Live;
use super::memory;
use super::modules::Modules;
use super::online::Online;
use super::privileges;
use super::reading;
use super::row_space::RowSpace;
use super::setup::{self, Bpf, load};
use super::signals::{Signal, Signals};
use super::stacks::Shared;
use super::standing::{self, Standing};
use super::targets::{pidfds, removed_cgroup, selection, wanted_cgroup, wanted_processes};
use super::threads::Threads;
use crate::cli::Failure;
use crate::cli::failure::reason;
use crate::cli::settings::{Event, OnFault, Reads, Settings, Target, Verbosity};
use crate::ledger::Ledger;
use crate::naming::{Kept, Lookup};
use crate::profile::{Limits, Profile};
use crate::reader::{ERRANDS, LEARNING, MEMORY, Reader, Readers};
use crate::report::check::Machine;
use crate::report::progress::ProgressLine;

/// Code objects that wait to be asked for again, at most.
const FORGOTTEN: usize = 1024;
/// Lessons from beside that the learner has not taken yet, at most: each may hold a table.
const LESSONS: usize = 2;
/// So few open files may be less than the modules of a machine.
const FEW_FILES: u64 = 256;
/// Bytes of unwind rows.
const ROWS_BUDGET: u64 = 64 << 20;
/// How often progress is shown, and CPUs that come and go are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// What a recording gave.
pub struct Recording {
    /// Merged stacks.
    pub profile: Profile,
    /// When the first of them was taken: `CLOCK_MONOTONIC`, nanoseconds.
    pub first_sample: Option<u64>,
    /// Who looks up their names.
    pub names: Kept,
    /// Where each tick ended.
    pub ledger: Ledger,
    /// What of this machine changed meanwhile, and is not in the profile: sentences.
    pub notes: Vec<String>,
    /// When sampling began.
    pub start: SystemTime,
    /// How long it went on.
    pub duration: Duration,
    /// CPUs that were sampled.
    pub cpus: usize,
    /// Who read names.
    pub reads: &'static str,
    /// How the command ended.
    pub ended: Option<ExitStatus>,
    /// What the command took; `None`: there is none, or it goes on.
    pub command: Option<Ran>,
    /// The command's pid, if sampling ended before it, and its end is waited for.
    pub running: Option<u32>,
}

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// CPU time of the command and its descendants that were waited for, by their own clocks.
    pub cpu: Duration,
    /// That of all of them, by a counter: where a hypervisor takes CPUs away it counts that, too. `None`: the kernel
    /// lets nobody count.
    pub counted: Option<Duration>,
    /// Their instructions, where the machine counts them.
    pub instructions: Option<u64>,
    /// What the machine was like meanwhile.
    pub conditions: Conditions,
}

/// Records until the time is over, the command ends, or somebody says stop; `publish`: an interval after the
/// other is given away meanwhile.
///
/// # Errors
/// What keeps this machine from being sampled, or the command from being run.
pub fn record(
    settings: &Settings,
    machine: &Machine,
    publish: Option<Publish>,
) -> Result<Recording, Failure> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot {doing}: {error}")).next("rprof check")
    };
    let stays = memory::prepare();
    // Before anything large is made: who shares a bound of memory with rprof is not to go instead.
    if !matches!(settings.target, Target::Command(_)) {
        memory::be_the_first_to_go();
    }
    let cgroup = wanted_cgroup(settings)?;
    let mut notes = Vec::new();
    if !stays {
        notes.push(
            "rprof's memory is not locked: while the machine swaps, ticks may be lost (sudo prlimit --pid $$ \
             --memlock=unlimited)."
                .into(),
        );
    }
    let limits = limits::Limits::raise();
    if let Some(few) = limits.most_files().filter(|&files| files < FEW_FILES) {
        notes.push(format!(
            "Only {few} files may be open at once: those of more modules have no names (ulimit -n 1024)."
        ));
    }
    let mut signals = Signals::new().map_err(|error| failed("watch for signals", &error))?;
    let mut programs = load(settings, machine)?;
    programs.self_check().map_err(|error| {
        Failure::new(format!(
            "the start-up self-check failed on Linux {}: {error}",
            machine.release
        ))
        .next("rprof check")
    })?;
    let bpf = Bpf::take(&mut programs).map_err(|error| failed("use the eBPF maps", &error))?;
    let Bpf {
        ring,
        named,
        mut targets,
        counts,
        lost,
        module_maps,
        chunks,
    } = bpf;
    let modules = Arc::new(Modules::default());
    let ring_kib = setup::ring_bytes(settings) >> 10;
    modules.note(format!("ring buffer: {ring_kib} KiB"));
    let budget = faults::asked(Fault::RowBytes).map_or(ROWS_BUDGET, u64::from);
    let space = RowSpace::new(chunks.fd().as_fd(), budget)
        .map_err(|error| failed("make room for unwind rows", &error))?;
    for (pid, wanted) in wanted_processes(settings) {
        targets
            .insert(pid, wanted, 0)
            .map_err(|error| failed("choose processes", &error))?;
    }
    let targets = Arc::new(Mutex::new(targets));
    let readers = Arc::new(readers(settings, &targets));
    let (large, larges) = crossbeam_channel::unbounded();
    let (lessons, taught) = crossbeam_channel::bounded(LESSONS);
    let asker = Asker::new(Reader::new(readers.clone(), LEARNING), lessons.clone());
    let learner = Learner::new(module_maps, space, modules.clone(), large, asker);
    let errands = Errands {
        large: larges,
        reader: Reader::new(readers.clone(), ERRANDS),
        lessons,
    };

    let wanted = settings.reads != Reads::Context && reading::is_possible();
    let memory = match wanted.then(|| programs.identity()) {
        Some(Ok(identity)) => Some((Reader::new(readers.clone(), MEMORY), identity)),
        Some(Err(error)) if settings.reads == Reads::ProcessVm => {
            return Err(failed("tell whether a process is still the same", &error));
        }
        Some(Err(error)) => {
            notes.push(format!(
                "No names are read in user space, because it cannot be told whether a process is \
                 still the same: {error}."
            ));
            None
        }
        None => None,
    };
    let reads = match (settings.reads, memory.is_some()) {
        (Reads::ProcessVm, _) => "process-vm",
        (Reads::Auto, true) => "context, then process-vm",
        _ => "context",
    };
    let (forget, forgotten) = crossbeam_channel::bounded(FORGOTTEN);
    let limits_of_all = Limits {
        max_memory: usize::try_from(settings.max_memory).unwrap_or(usize::MAX),
        directory: std::env::temp_dir(),
    };
    let shared = Arc::new(Shared {
        profile: Mutex::new(Some(Intervals::new(match &publish {
            Some(_) => limits_of_all.share(SHARE),
            None => limits_of_all,
        }))),
        modules: modules.clone(),
        kernel_frames: settings.kernel.then(|| setup::kernel_frames(settings)),
        mark_faults: settings.on_fault == OnFault::Mark,
        live: Live::default(),
        forget,
        selection: selection(settings),
    });
    let threads = Threads::start(
        ring,
        named,
        forgotten,
        (learner, errands, taught),
        memory,
        &shared,
        settings,
    )
    .map_err(|error| failed("start threads", &error))?;

    let clock = match settings.event {
        Event::CpuClock => Clock::CpuClock,
        Event::Cycles => Clock::Cycles,
    };
    let mut events = Events::new(clock, settings.frequency);
    let sample = programs
        .sample()
        .map_err(|error| failed("use the eBPF program", &error))?;
    let names = || Lookup::new(modules.clone(), settings.inline, readers.clone());
    let kept_for = publish.as_ref().and_then(|publish| publish.kept_for);
    let cutter = publish.map(|publish| Cutter::begin(publish, names(), shared.clone()));
    if let Some(seconds) = kept_for {
        modules.keep_for(seconds);
    }
    let mut cutter = cutter
        .transpose()
        .map_err(|error| failed("start threads", &error))?;
    if let Some(cutter) = &cutter {
        signals.wait_also_for(cutter.bell());
    }
    let start = SystemTime::now();
    let began = Instant::now();
    let mut gone = None;
    for &cpu in &settings.cpus.0 {
        match events.open(cpu, sample) {
            Ok(()) => {}
            // It was online a moment ago, and may be again.
            Err(error) if events::is_offline(&error) => gone = Some((cpu, error)),
            Err(error) => return Err(failed(&format!("sample CPU {cpu}"), &error)),
        }
    }
    if let Some((cpu, error)) = gone.filter(|_| events.cpus().next().is_none()) {
        return Err(failed(&format!("sample CPU {cpu}"), &error));
    }
    events
        .enable_in_turn()
        .map_err(|error| failed("start sampling", &error))?;
    let conditions = Conditions::now();
    let mut counters = None;
    let mut command = match &settings.target {
        Target::Command(command) => {
            child::become_subreaper()
                .map_err(|error| failed("adopt the command's descendants", &error))?;
            let (counting, child) =
                Counters::start(|| child::start(command, signals.before(), limits));
            counters = Some(counting);
            Some((child?, command.wait_all))
        }
        _ => None,
    };
    if command.is_some() {
        memory::be_the_first_to_go();
    }
    privileges::sample_only();

    let quiet = settings.verbosity == Verbosity::Quiet;
    let mut progress = ProgressLine::new(settings);
    let deadline = settings.duration.map(|duration| began + duration);
    let (pids, mut processes): (Vec<u32>, Vec<OwnedFd>) = pidfds(settings).into_iter().unzip();
    // One that is gone already leaves its pid to another.
    if let Target::Pids { pids: wanted, .. } = &settings.target {
        for gone in wanted.iter().filter(|pid| !pids.contains(pid)) {
            if let Ok(mut targets) = targets.lock() {
                let _ = targets.remove(gone);
            }
        }
    }
    let numbers = processes.iter().map(AsRawFd::as_raw_fd);
    let mut watched: Vec<(u32, i32)> = pids.into_iter().zip(numbers).collect();
    let mut looked = Instant::now();
    let mut online = Online::new(&settings.cpus.0, settings.new_cpus);
    let mut unsampled = BTreeSet::new();
    let mut collected = child::Collected::default();
    let mut stops = 0;
    let mut untold = false;
    loop {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            break;
        }
        let mut wait = deadline.map_or(LOOK, |deadline| LOOK.min(deadline - now));
        if let Some(cutter) = &mut cutter {
            cutter.answer(|| {
                let counted = Counted::read_columns(&counts).ok()?;
                let running = readers.pids();
                Some(Standing {
                    elapsed: began.elapsed(),
                    cpus: events.cpus().count(),
                    cpu: standing::cpu_time(&running),
                    readers: running.len(),
                    ..account::standing(threads.books(), &counted, events.expected().as_ref())
                })
            });
            cutter.work(now, || threads.hurry());
            if cutter.is_broken() {
                break;
            }
            if let Some(next) = cutter.next(now) {
                wait = wait.min(next.saturating_duration_since(now));
            }
        }
        let signal = signals
            .next(Some(wait), &mut processes)
            .map_err(|error| failed("watch for signals", &error))?;
        let of_child = matches!(signal, Some(Signal::Child));
        match (signal, &mut command) {
            // Our own time is used up: the command has its own.
            (Some(Signal::Stop(libc::SIGXCPU)), Some(_)) => break,
            // Only descendants are waited for: its pid may be anyone's.
            (Some(Signal::Stop(_)), Some(_)) if collected.status.is_some() => {
                stops += 1;
                break;
            }
            (Some(Signal::Stop(number)), Some((child, _))) => {
                // The terminal's reached the command, too; others are passed on.
                let passed = match [libc::SIGINT, libc::SIGQUIT].contains(&number) {
                    true => Ok(()),
                    false => pass_on(child.id(), number),
                };
                stops += 1;
                progress.clear();
                if stops > 1 {
                    ending::abort(number, Some(child.id()), quiet);
                }
                if let Err(error) = passed {
                    // It may be anyone's by now (`sudo`), or was another's from the beginning (--user).
                    notes.push(format!(
                        "The command could not be told to end, and runs on as process {}: {} (CAP_KILL).",
                        child.id(),
                        reason(&error)
                    ));
                    untold = true;
                    break;
                }
                ending::wait(child.id(), quiet);
            }
            (Some(Signal::Other(number)), Some((child, _))) if collected.status.is_none() => {
                // It says nothing to us, and to a command that we may not signal nothing from us.
                let _ = pass_on(child.id(), number);
            }
            (Some(Signal::Stop(_)), None) => {
                stops += 1;
                break;
            }
            _ => {}
        }
        // Once it has ended also without a signal: the last child that is left may be a reader, which is
        // no reason to wait.
        if let Some((child, wait_all)) = &command
            && (of_child || collected.status.is_some())
        {
            let (before, is_ours) = (|pid| readers.ended(pid), |pid| readers.contains(pid));
            let none_left = child::reap(child.id(), &mut collected, before, is_ours)
                .map_err(|error| failed("wait for the command", &error))?;
            if collected.status.is_some() && (none_left || !*wait_all) {
                break;
            }
        }
        if looked.elapsed() >= look_at_cpus(settings.cpus.0.len()) {
            looked = Instant::now();
            for (cpu, error) in events.follow(online.now(), sample) {
                if unsampled.insert(cpu) {
                    notes.push(format!("CPU {cpu} is not sampled any more: {error}."));
                }
            }
        }
        // A pid may be given to another process, which nobody asked for.
        watched.retain(|(pid, number)| {
            let lives = processes.iter().any(|fd| fd.as_raw_fd() == *number);
            if !lives && let Ok(mut targets) = targets.lock() {
                let _ = targets.remove(pid);
            }
            lives
        });
        if matches!(settings.target, Target::Pids { .. }) && processes.is_empty() {
            break;
        }
        progress.draw(|| shared.live.progress(began.elapsed()));
    }
    progress.clear();
    signals.wait_for_nothing_else();
    if let Some(cutter) = &mut cutter {
        cutter.close();
    }
    let running = command
        .map(|(child, _)| child.id())
        .filter(|_| collected.status.is_none());
    ending::watch(
        signals,
        1u32.saturating_sub(stops),
        readers.clone(),
        running,
        quiet,
    );
    events.disable();
    let command = collected.status.map(|_| Ran {
        cpu: collected.cpu,
        counted: counters.as_mut().and_then(Counters::clock),
        instructions: counters.as_mut().and_then(Counters::instructions),
        conditions: Conditions::now().since(&conditions),
    });
    notes.extend(cgroup.and_then(removed_cgroup));
    let duration = began.elapsed();
    let expected = events.expected();
    let cpus = events.cpus().count();
    drop(events);

    let ended_at = Instant::now();
    let (intervals, booked) = threads
        .stop()
        .map_err(|error| failed("take the profile", &error))?;
    let counted = Counted::read(&counts, &lost);
    let counted = counted.map_err(|error| failed("read the ledger", &error))?;
    let mut ledger = account::close(booked, &counted, expected.as_ref());
    drop(programs);
    let Gathered {
        profile,
        full,
        names,
    } = match cutter {
        Some(cutter) => cutter.end(intervals, ended_at).ok_or_else(|| {
            Failure::new("the thread that sends profiles has died: a defect, please report it")
        })?,
        None => Gathered {
            profile: intervals.into_rest().1,
            full: 0,
            names: Kept::once(names()),
        },
    };
    ledger.found_no_room(full);
    Ok(Recording {
        profile,
        first_sample: shared.live.first(),
        names,
        ledger,
        notes,
        start,
        duration,
        cpus,
        reads,
        running: running.filter(|_| !untold),
        ended: collected.status,
        command,
    })
}

/// How often CPUs are looked at, so many of them. One that comes back is not sampled for so long, and
/// nothing is expected of it. To ask an event interrupts its CPU, which takes some 20 µs of ours: not
/// more than 16 of them a second.
fn look_at_cpus(cpus: usize) -> Duration {
    LOOK.max(LOOK * cpus as u32 / 16)
}

/// Readers are our children: of a command's profile they are no part.
fn readers(settings: &Settings, targets: &Arc<Mutex<BpfHashMap<MapData, u32, u32>>>) -> Readers {
    if !matches!(settings.target, Target::Command(_)) {
        return Readers::default();
    }
    let targets = targets.clone();
    Readers::new(Some(Box::new(move |pid, runs| {
        if let Ok(mut targets) = targets.lock() {
            let _ = match runs {
                true => targets.insert(pid, 0, 0),
                false => targets.remove(&pid),
            };
        }
    })))
}

fn pass_on(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: our own child, not yet waited for: the pid is still its.
    match unsafe { libc::kill(pid as i32, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
