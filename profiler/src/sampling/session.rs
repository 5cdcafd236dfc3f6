//! A recording: everything started in order, watched, and stopped in order.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use crossbeam_channel::{Receiver, Sender};
use rprof_ebpf::identity::LostKey;
use rprof_ebpf::ledger::Column;
use rprof_ebpf::select::{Config, Select, target};
use rprof_symbolize::beneath;
use rprof_symbolize::libraries::{self, Environment};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::child;
use super::events::{Clock, Events};
use super::faults::{self, Fault};
use super::learner::{Learner, ModuleMaps};
use super::live::Live;
use super::modules::Modules;
use super::names::Named;
use super::programs::{self, Programs, Setup};
use super::reading::Reader as ProcessReader;
use super::ring::{self, Batch, Lesson, Outlets, Reader};
use super::row_space::RowSpace;
use super::select::Selection;
use super::signals::{Signal, Signals};
use super::slices::Slices;
use super::stacks::{Shared, Worker};
use super::{cgroup, kernel_layout, memory};
use crate::cli::Failure;
use crate::cli::settings::{Event, OnFault, Reads, Settings, Target};
use crate::ledger::{Ledger, ProcessRow};
use crate::profile::{Limits, Profile};
use crate::report::check::Machine;
use crate::report::progress::ProgressLine;

/// A tick of the programs ends after this time.
const TICK: Duration = Duration::from_micros(250);
/// The programs use at most this share of each second of a CPU.
const SECOND: Duration = Duration::from_millis(10);
/// Bytes of unwind rows.
const ROWS_BUDGET: u64 = 64 << 20;
/// Bytes that a sample takes in the ring, about.
const SAMPLE_BYTES: u64 = 512;
/// Questions that wait for the learner at most.
const LESSONS: usize = 1024;
/// How long the learner may take for what is left when sampling has ended.
const LEARNER_PATIENCE: Duration = Duration::from_secs(20);
/// How long the first tick waits for what is learned before it.
const PREPARATION: Duration = Duration::from_millis(300);
/// Distinct executables that are looked at before the first tick.
const EXECUTABLES: usize = 256;
/// How often CPUs that come and go are looked for, and progress is shown.
const LOOK: Duration = Duration::from_secs(1);

/// What a recording gave.
pub struct Recording {
    /// Merged stacks.
    pub profile: Profile,
    /// When the first of them was taken: `CLOCK_MONOTONIC`, nanoseconds.
    pub first_sample: Option<u64>,
    /// Their names.
    pub names: Named,
    /// Where each tick ended.
    pub ledger: Ledger,
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
    /// The command's pid, if sampling ended before it.
    pub running: Option<u32>,
}

/// Records until the time is over, the command ends, or somebody says stop.
///
/// # Errors
/// What keeps this machine from being sampled, or the command from being run.
pub fn record(settings: &Settings, machine: &Machine) -> Result<Recording, Failure> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot {doing}: {error}")).next("rprof check")
    };
    memory::prepare();
    raise_limits();
    let signals = Signals::new().map_err(|error| failed("watch for signals", &error))?;
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
    let space = RowSpace::new(chunks.fd().as_fd(), ROWS_BUDGET)
        .map_err(|error| failed("make room for unwind rows", &error))?;
    let learner = Learner::new(module_maps, space, modules.clone());
    for (pid, wanted) in wanted_processes(settings) {
        targets
            .insert(pid, wanted, 0)
            .map_err(|error| failed("choose processes", &error))?;
    }

    let reader = match settings.reads {
        Reads::Context => None,
        Reads::Auto | Reads::ProcessVm => ProcessReader::new(),
    };
    let reads = match (settings.reads, reader.is_some()) {
        (Reads::ProcessVm, _) => "process-vm",
        (Reads::Auto, true) => "context, then process-vm",
        _ => "context",
    };
    let shared = Arc::new(Shared {
        profile: Mutex::new(Profile::new(Limits {
            max_memory: usize::try_from(settings.max_memory).unwrap_or(usize::MAX),
            directory: std::env::temp_dir(),
        })),
        modules: modules.clone(),
        mark_faults: settings.on_fault == OnFault::Mark,
        live: Live::default(),
        selection: selection(settings)?,
        reader,
    });
    let threads = Threads::start(ring, named, learner, &shared, settings)
        .map_err(|error| failed("start threads", &error))?;

    let clock = match settings.event {
        Event::CpuClock => Clock::CpuClock,
        Event::Cycles => Clock::Cycles,
    };
    let mut events = Events::new(clock, settings.frequency);
    let sample = programs
        .sample()
        .map_err(|error| failed("use the eBPF program", &error))?;
    let start = SystemTime::now();
    let began = Instant::now();
    for &cpu in &settings.cpus.0 {
        events
            .open(cpu, sample)
            .map_err(|error| failed(&format!("sample CPU {cpu}"), &error))?;
    }
    events
        .enable_in_turn()
        .map_err(|error| failed("start sampling", &error))?;
    let mut command = match &settings.target {
        Target::Command(command) => {
            child::become_subreaper()
                .map_err(|error| failed("adopt the command's descendants", &error))?;
            Some((child::start(command, signals.before())?, command.wait_all))
        }
        _ => None,
    };
    memory::be_the_first_to_go();

    let mut progress = ProgressLine::new(settings);
    let deadline = settings.duration.map(|duration| began + duration);
    let mut processes = pidfds(settings);
    let mut ended = None;
    let mut stops = 0;
    loop {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            break;
        }
        let wait = deadline.map_or(LOOK, |deadline| LOOK.min(deadline - now));
        let signal = signals
            .next(Some(wait), &mut processes)
            .map_err(|error| failed("watch for signals", &error))?;
        match (signal, &mut command) {
            (Some(Signal::Stop(number)), Some((child, _))) => {
                // Ctrl-C reached the command through the terminal; other signals are passed on.
                if number != libc::SIGINT {
                    pass_on(child.id(), number);
                }
                stops += 1;
                if stops > 1 {
                    abort(number);
                }
            }
            (Some(Signal::Stop(_)), None) => {
                stops += 1;
                break;
            }
            (Some(Signal::Child), Some((child, wait_all))) => {
                let none_left = child::reap(child.id(), &mut ended)
                    .map_err(|error| failed("wait for the command", &error))?;
                if ended.is_some() && (none_left || !*wait_all) {
                    break;
                }
            }
            _ => {}
        }
        if settings.new_cpus {
            follow_cpus(&mut events, sample);
        }
        if matches!(settings.target, Target::Pids { .. }) && processes.is_empty() {
            break;
        }
        progress.draw(&shared.live.progress(began.elapsed()));
    }
    progress.clear();
    abort_at_next(signals, 1u32.saturating_sub(stops));
    events.disable();
    let duration = began.elapsed();
    let expected = events.expected();
    let cpus = events.cpus().count();
    drop(events);

    let (mut ledger, received) = threads
        .stop()
        .map_err(|error| failed("read the last samples", &error))?;
    account(&mut ledger, expected, received, &counts, &lost)
        .map_err(|error| failed("read the ledger", &error))?;
    drop(programs);
    let profile = {
        let mut profile = match shared.profile.lock() {
            Ok(profile) => profile,
            Err(poisoned) => poisoned.into_inner(),
        };
        let empty = Profile::new(Limits {
            max_memory: 0,
            directory: std::env::temp_dir(),
        });
        std::mem::replace(&mut *profile, empty)
    };
    let names = Named::look_up(&profile, &modules, settings.inline);
    Ok(Recording {
        profile,
        first_sample: shared.live.first(),
        names,
        ledger,
        start,
        duration,
        cpus,
        reads,
        running: command
            .map(|(child, _)| child.id())
            .filter(|_| ended.is_none()),
        ended,
    })
}

/// Loads the programs for this kernel and these settings.
fn load(settings: &Settings, machine: &Machine) -> Result<Programs, Failure> {
    let kernel = kernel_layout::read().map_err(|error| {
        let what = match error {
            kernel_layout::Error::Unreadable(error) => {
                format!("cannot read {}: {error}", kernel_layout::BTF_FILE)
            }
            kernel_layout::Error::Malformed => {
                format!("{} is not BTF", kernel_layout::BTF_FILE)
            }
            kernel_layout::Error::MissingField(struct_, field) => format!(
                "the kernel ({}) has no {struct_}.{field}: rprof needs Linux 6.1 or later",
                machine.release
            ),
        };
        Failure::new(what).next("rprof check")
    })?;
    let cpus = possible_cpus();
    let ring_bytes = ring_bytes(settings);
    let slowness = match faults::asked() {
        Some(Fault::SlowMachine(times)) => times,
        _ => 1,
    };
    let config = Config {
        select: match &settings.target {
            Target::All { .. } => Select::All,
            Target::Pids {
                children: false, ..
            } => Select::Targets,
            Target::Pids { children: true, .. } | Target::Command(_) => Select::TargetsAndChildren,
        } as u32,
        own_ns: own_pid_namespace(),
        kernel_frames: u32::from(settings.kernel),
        tick_ns: slowness * TICK.as_nanos() as u32,
        second_ns: slowness * SECOND.as_nanos() as u32,
        name_code: u32::from(settings.reads != Reads::ProcessVm),
        // A ring that is to overflow wakes nobody.
        wake_bytes: match faults::asked() {
            Some(Fault::RingBytes(_)) => u64::MAX,
            _ => u64::from(ring_bytes) / 2,
        },
    };
    Programs::load(&Setup {
        kernel: &kernel,
        config: &config,
        cpus,
        ring_bytes,
    })
    .map_err(|error| {
        let what = match error {
            programs::Error::Verifier(log) => {
                format!("the kernel refused the eBPF program:\n{log}")
            }
            other => format!("cannot load the eBPF program: {other}"),
        };
        Failure::new(what).next("rprof check")
    })
}

/// Learns what is known to run before the first tick. What cannot be found now is learned when it
/// is met.
fn prepare(learner: &mut Learner, target: &Target) {
    if let Target::Command(command) = target {
        let environment = Environment {
            path: std::env::var_os("PATH").unwrap_or_default(),
            library_path: std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default(),
            preload: std::env::var_os("LD_PRELOAD").unwrap_or_default(),
            directory: std::env::current_dir().ok(),
        };
        let files = beneath::root("/").and_then(|root| {
            let file = std::path::absolute(&command.file)?;
            libraries::of_path(root, &file, &environment)
        });
        learner.prepare(files.unwrap_or_default(), false);
    }
    let running = libraries::running(EXECUTABLES).unwrap_or_default();
    learner.prepare(running.files, true);
}

/// The maps that user space works with.
struct Bpf {
    ring: RingBuf<MapData>,
    named: BpfHashMap<MapData, u64, u32>,
    targets: BpfHashMap<MapData, u32, u32>,
    counts: PerCpuArray<MapData, u64>,
    lost: BpfHashMap<MapData, LostKey, u64>,
    module_maps: ModuleMaps,
    chunks: MapData,
}

impl Bpf {
    fn take(programs: &mut Programs) -> Result<Self, programs::Error> {
        Ok(Self {
            ring: RingBuf::try_from(programs.map("RING")?)?,
            named: BpfHashMap::try_from(programs.map("NAMED")?)?,
            targets: BpfHashMap::try_from(programs.map("TARGETS")?)?,
            counts: PerCpuArray::try_from(programs.map("COUNTS")?)?,
            lost: BpfHashMap::try_from(programs.map("LOST")?)?,
            module_maps: ModuleMaps {
                modules: BpfHashMap::try_from(programs.map("MODULES")?)?,
                generation: Array::try_from(programs.map("GENERATION")?)?,
                pythons: Array::try_from(programs.map("PYTHONS")?)?,
                plans: Array::try_from(programs.map("PLANS")?)?,
            },
            chunks: match programs.map("CHUNKS")? {
                Map::ArrayOfMaps(chunks) => chunks,
                _ => return Err(programs::Error::Missing("CHUNKS")),
            },
        })
    }
}

/// Reader, learner and workers.
struct Threads {
    stop: OwnedFd,
    reader: JoinHandle<io::Result<(Ledger, u64)>>,
    /// The learner's account, when it has ended.
    learner: Receiver<Ledger>,
    /// Samples that the learner has not given back.
    unfinished: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Ledger>>,
}

impl Threads {
    fn start(
        ring: RingBuf<MapData>,
        named: BpfHashMap<MapData, u64, u32>,
        mut learner: Learner,
        shared: &Arc<Shared>,
        settings: &Settings,
    ) -> io::Result<Self> {
        let count = workers(a_second(settings));
        let mut senders = Vec::new();
        let mut to_workers = Vec::new();
        let mut workers = Vec::new();
        for number in 0..count {
            let (sender, batches) = crossbeam_channel::bounded(ring::QUEUE);
            senders.push(sender);
            // What the learner finished has a queue of its own: it may wait there, and must not fill
            // the one that the reader needs.
            let (sender, finished) = crossbeam_channel::bounded(ring::QUEUE);
            to_workers.push(sender);
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("rprof-stacks-{number}"));
            workers.push(thread.spawn(move || work(shared, &batches, &finished))?);
        }
        let (lessons, questions) = crossbeam_channel::bounded(LESSONS);
        let slices = Slices::new(shared.modules.clone());
        let unfinished = Arc::new(AtomicU64::new(0));
        let (account, learned) = crossbeam_channel::bounded(1);
        let count = unfinished.clone();
        let target = settings.target.clone();
        let (preparing, prepared) = crossbeam_channel::bounded::<()>(0);
        std::thread::Builder::new()
            .name("rprof-learner".into())
            .spawn(move || {
                learner.vdso();
                prepare(&mut learner, &target);
                drop(preparing);
                // Nobody listens if it took too long.
                let _ = account.send(learn(learner, slices, &questions, &to_workers, &count));
            })?;
        let _ = prepared.recv_timeout(PREPARATION);
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let reader = Reader::new(
            ring,
            named,
            Outlets {
                workers: senders,
                learner: lessons,
                unfinished: unfinished.clone(),
            },
        );
        let reader = std::thread::Builder::new()
            .name("rprof-reader".into())
            .spawn(move || reader.run(stopped))?;
        Ok(Self {
            stop,
            reader,
            learner: learned,
            unfinished,
            workers,
        })
    }

    /// Stops in the order of the flow: nothing that is under way is lost.
    fn stop(self) -> io::Result<(Ledger, u64)> {
        drop(self.stop);
        let (mut ledger, received) = self
            .reader
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reader died")))?;
        match self.learner.recv_timeout(LEARNER_PATIENCE) {
            Ok(part) => ledger.merge(&part),
            // A file that never answers costs what was to be learned from it, not our end.
            Err(_) => {
                let stuck = self.unfinished.load(Ordering::Relaxed);
                ledger.machine.add(Column::Quarantined, stuck);
                return Ok((ledger, received));
            }
        }
        for worker in self.workers {
            if let Ok(part) = worker.join() {
                ledger.merge(&part);
            }
        }
        Ok((ledger, received))
    }
}

/// How many workers such a rate needs: one is woken less often than two.
fn workers(samples_a_second: u64) -> usize {
    const EACH: u64 = 2000;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = usize::try_from(samples_a_second.div_ceil(EACH)).unwrap_or(usize::MAX);
    wanted.clamp(1, cpus.min(4))
}

/// A worker's thread.
fn work(shared: Arc<Shared>, batches: &Receiver<Batch>, finished: &Receiver<Batch>) -> Ledger {
    let mut worker = Worker::new(shared);
    let mut patience = Instant::now();
    // A queue that has ended is left out: it would be ready for ever.
    let never = crossbeam_channel::never();
    let (mut batches, mut finished) = (Some(batches), Some(finished));
    while batches.is_some() || finished.is_some() {
        crossbeam_channel::select! {
            recv(batches.unwrap_or(&never)) -> batch => match batch {
                Ok(batch) => worker.batch(&batch),
                Err(_) => batches = None,
            },
            recv(finished.unwrap_or(&never)) -> batch => match batch {
                Ok(batch) => worker.batch(&batch),
                Err(_) => finished = None,
            },
            default(LOOK) => {}
        }
        if patience.elapsed() >= LOOK / 4 {
            worker.settle(false);
            patience = Instant::now();
        }
    }
    worker.into_ledger()
}

/// The learner's thread.
fn learn(
    mut learner: Learner,
    mut slices: Slices,
    questions: &Receiver<Lesson>,
    workers: &[Sender<Batch>],
    unfinished: &AtomicU64,
) -> Ledger {
    let mut losses = super::losses::Losses::default();
    for lesson in questions {
        match lesson {
            Lesson::Module(record) => {
                if let Some((seen, path)) = ring::module_seen(&record) {
                    learner.learn(&rprof_symbolize::module_file::Sampled {
                        key: seen.key,
                        pid: seen.own_tgid,
                        mapping: (seen.start, seen.end),
                        components: &path,
                    });
                }
            }
            Lesson::Unwind(sample) => {
                let finished = slices.finish(&sample, &mut learner);
                unfinished.fetch_sub(1, Ordering::Relaxed);
                match finished {
                    Some(finished) if finished.interpreter_unwalked => {
                        losses.add_record(&finished.record, Column::RuntimeBeingLearned);
                    }
                    Some(finished) => {
                        let record = finished.record;
                        let Some(sample) = losses.sample(&record) else {
                            continue;
                        };
                        let worker = ring::worker_of(&sample.task.process, workers.len());
                        let mut batch = vec![record.len() as u64];
                        batch.extend(record);
                        // Waiting here delays only what is learned.
                        if workers[worker].send(batch).is_err() {
                            losses.add(&sample, Column::WorkerLost);
                        }
                    }
                    None => losses.add_record(&sample.sample, Column::Malformed),
                }
            }
        }
    }
    losses.into_ledger()
}

/// Completes the ledger with what the programs counted.
fn account(
    ledger: &mut Ledger,
    expected: u64,
    received: u64,
    counts: &PerCpuArray<MapData, u64>,
    lost: &BpfHashMap<MapData, LostKey, u64>,
) -> Result<(), MapError> {
    let mut delivered = received;
    for column in [
        Column::Idle,
        Column::NotSelected,
        Column::RateLowered,
        Column::RingFull,
    ] {
        let n: u64 = counts.get(&(column as u32), 0)?.iter().sum();
        ledger.machine.add(column, n);
        delivered += n;
    }
    for entry in lost.iter() {
        let (key, n) = entry?;
        let Some(&column) = Column::ALL.get(key.column as usize) else {
            continue;
        };
        let row = ProcessRow {
            pid: key.process.tgid,
            start: key.process.start,
        };
        ledger
            .processes
            .entry(row)
            .or_default()
            .counts
            .add(column, n);
    }
    ledger.expected = expected.max(delivered);
    ledger
        .machine
        .add(Column::NotDelivered, ledger.expected - delivered);
    Ok(())
}

/// The processes that were asked for, by pid, with bits of [`target`].
fn wanted_processes(settings: &Settings) -> Vec<(u32, u32)> {
    match &settings.target {
        Target::All { .. } => Vec::new(),
        Target::Pids { pids, children } => {
            let descendants = if *children { target::DESCENDANTS } else { 0 };
            pids.iter()
                .map(|&pid| (pid, target::ITSELF | descendants))
                .collect()
        }
        // Orphans of the command become our children: the chain of parents always meets us.
        Target::Command(_) => vec![(std::process::id(), target::DESCENDANTS)],
    }
}

/// Descriptors that become readable when the processes that were asked for end.
fn pidfds(settings: &Settings) -> Vec<OwnedFd> {
    let Target::Pids { pids, .. } = &settings.target else {
        return Vec::new();
    };
    pids.iter()
        .filter_map(|&pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect()
}

fn selection(settings: &Settings) -> Result<Selection, Failure> {
    let Target::All { cgroup, comm } = &settings.target else {
        return Ok(Selection::default());
    };
    let cgroup = match cgroup {
        None => None,
        Some(directory) => Some(cgroup::below_root(directory).ok_or_else(|| {
            Failure::new(format!(
                "{} is not in the cgroup v2 hierarchy",
                directory.display()
            ))
            .next("rprof --all")
        })?),
    };
    Ok(Selection {
        cgroup,
        comm: comm.clone(),
    })
}

/// Opens events on CPUs that came, closes those of CPUs that went.
fn follow_cpus(events: &mut Events, program: std::os::fd::BorrowedFd<'_>) {
    let Ok(text) = std::fs::read_to_string("/sys/devices/system/cpu/online") else {
        return;
    };
    let Ok(online) = crate::cli::values::cpus(text.trim()) else {
        return;
    };
    let have: Vec<u32> = events.cpus().collect();
    for &cpu in have.iter().filter(|cpu| !online.0.contains(cpu)) {
        events.close(cpu);
    }
    for &cpu in online.0.iter().filter(|cpu| !have.contains(cpu)) {
        // It may be gone again; the next look will tell.
        let _ = events.open(cpu, program).and_then(|()| events.enable(cpu));
    }
}

/// CPUs that can ever be there.
fn possible_cpus() -> u32 {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = text
        .trim()
        .rsplit([',', '-'])
        .next()
        .and_then(|n| n.parse().ok());
    last.map_or(1, |last: u32| last + 1)
}

/// Samples a second of a machine without an idle CPU.
fn a_second(settings: &Settings) -> u64 {
    settings.cpus.0.len() as u64 * u64::from(settings.frequency)
}

/// Bytes of the ring: half a second of samples, between 1 and 64 MiB.
fn ring_bytes(settings: &Settings) -> u32 {
    if let Some(Fault::RingBytes(bytes)) = faults::asked() {
        return bytes;
    }
    (a_second(settings) * SAMPLE_BYTES / 2)
        .clamp(1 << 20, 64 << 20)
        .next_power_of_two() as u32
}

/// Inode number of our pid namespace.
fn own_pid_namespace() -> u32 {
    std::fs::read_link("/proc/self/ns/pid")
        .ok()
        .and_then(|link| {
            let link = link.to_string_lossy().into_owned();
            link.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
        })
        .unwrap_or(rprof_ebpf::select::INITIAL_PID_NS)
}

/// Files stay open for each module: as many as we may.
fn raise_limits() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

fn pass_on(pid: u32, signal: i32) {
    // SAFETY: our own child, not yet waited for: the pid is still its.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Ends rprof at once at the next signals but `patience`, whatever it is doing: names may take
/// long. No partial file stays behind.
fn abort_at_next(signals: Signals, mut patience: u32) {
    let watch = move || {
        loop {
            match signals.next(None, &mut Vec::new()) {
                Ok(Some(Signal::Stop(number))) if patience == 0 => abort(number),
                Ok(Some(Signal::Stop(_))) => patience -= 1,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    };
    // Without the thread, signals wait until the profile is written.
    let _ = std::thread::Builder::new()
        .name("rprof-signals".into())
        .spawn(watch);
}

fn abort(signal: i32) -> ! {
    crate::profile::output::remove_partial_files();
    std::process::exit(128 + signal)
}
