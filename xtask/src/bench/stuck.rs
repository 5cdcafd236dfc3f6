//! What a stuck program costs: CPU time of rprof while something never answers it, ticks and names that two
//! busy neighbours lose meanwhile, and the time until a file or a process that does not answer is left alone.
//!
//! Programs get stuck over a file system of the bench's own (`targets/silent.c`), or are those of the
//! tests: a page that nobody brings, and a Python program whose mappings are locked, a queued writer
//! behind the lock. The latter's memory is asked for: by a kernel that has the flags for it, or, where
//! they are missing, by the pagemap alone (`RPROF_FAULT=pagemap-only`).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Bench;
use super::agent::{Agent, Ended, FREQUENCY};
use super::group::Group;
use super::loads::Load;
use super::process;
use super::table::Row;
use super::weather::Watch;
use crate::Outcome;

/// So fast that the time to quarantine can be told from samples; and for less time than a quarantine.
const HERTZ: u32 = 199;
const UNTIL_QUARANTINE: Duration = Duration::from_secs(6);
/// A second of silence, and the looks that see it.
const QUARANTINE: Row = Row::at_most("a file never answers: s until it is left alone", 2.0);

/// A fifth of a second of silence, counted from the first look at a reader that has used no more CPU time; looks
/// are 40 ms apart, and somebody has to begin to look: 0.3 s. The rest is for a machine on which they are late.
const LOCKED: Row = Row::at_most(
    "a process's locked memory: s from the question until it is left alone",
    0.5,
);
/// By then somebody has asked: names are wanted once a second.
const QUESTION: Duration = Duration::from_secs(20);

/// One that does not sample by then never will.
const START: Duration = Duration::from_secs(30);

/// Samples that need the name come until then.
const UNTIL_COUNTED: Duration = Duration::from_secs(2);
/// Memory is asked for, also by kernels that cannot read it without waiting.
const PAGEMAP: &str = "pagemap-only:1";

/// A way to be stuck.
struct Case {
    how: How,
    cpu: Row,
    ticks: Row,
    names: Row,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Its own file does not answer rprof.
    Program,
    /// It waits for a page of a file that answers nobody.
    Page,
    /// Its mappings are locked.
    Lock,
}

const CASES: [Case; 3] = [
    Case {
        how: How::Program,
        cpu: Row::at_most(
            "agent CPU, ms a second, a program's file never answers",
            1.0,
        ),
        ticks: Row::at_most("ticks lost by 2 neighbours of it", 0.0),
        names: Row::at_most("samples of theirs without a name", 0.0),
    },
    Case {
        how: How::Page,
        cpu: Row::at_most("agent CPU, ms a second, a page never comes (FUSE)", 1.0),
        ticks: Row::at_most("ticks lost by 2 neighbours of that", 0.0),
        names: Row::at_most("samples of these without a name", 0.0),
    },
    Case {
        how: How::Lock,
        cpu: Row::at_most(
            "agent CPU, ms a second, mappings locked, a queued writer",
            1.0,
        ),
        ticks: Row::at_most("ticks lost by 2 neighbours of the locked", 0.0),
        names: Row::at_most("samples of those without a name", 0.0),
    },
];

pub(super) fn run(bench: &mut Bench) -> Outcome {
    quarantine(bench)?;
    memory_quarantine(bench)?;
    for case in CASES {
        bench.wait_for_calm();
        measure(bench, &case)?;
    }
    Ok(())
}

/// Samples of a program whose file does not answer end as being learned until it is left alone.
fn quarantine(bench: &mut Bench) -> Outcome {
    let silent = Silent::mount(bench)?;
    let running = bench.agents.start(Agent::Rprof, HERTZ)?;
    sleep(bench.plan.warm_up);
    let stuck = Load::start([Command::new(silent.file("program"))])?;
    let ours = stuck.pids();
    let watch = Watch::start(&ours);
    sleep(UNTIL_QUARANTINE);
    let weather = watch.end(&ours);
    let folded = folded(running.stop(|_| ())?)?;
    drop((stuck, silent));
    let early = folded.of(&[
        "module being learned",
        "module being read",
        "stack not copied",
    ]);
    let left_alone = folded.of(&["file does not answer"]);
    if left_alone == 0 {
        return Err("the file was not left alone".into());
    }
    let seconds = UNTIL_QUARANTINE.as_secs_f64() * early as f64 / (early + left_alone) as f64;
    bench.add(QUARANTINE, Agent::Rprof, seconds, weather);
    Ok(())
}

/// A reader of memory that waits for the lock is seen from the moment it has its question and its name, until
/// it is killed: then its process is left alone, and the ledger says so.
fn memory_quarantine(bench: &mut Bench) -> Outcome {
    if bench.programs.python.is_none() {
        return Ok(());
    }
    let silent = Silent::mount(bench)?;
    let mut stuck = Stuck::start(command(bench, How::Lock, &silent)?, true)?;
    let ours = [stuck.0.id()];
    let watch = Watch::start(&ours);
    let fault = Some(PAGEMAP);
    let mut running = bench.agents.start_with(FREQUENCY, &ours, fault)?;
    let seen = wait_for(QUESTION, || {
        let mut children = process::tree(running.pid()).into_iter().skip(1);
        children.find(|&pid| is_memory_reader(pid))
    });
    let (asked, reader) = (
        Instant::now(),
        seen.ok_or("no reader was asked for memory")?,
    );
    let killed = wait_for(QUESTION, || is_killed(reader).then_some(()));
    let seconds = asked.elapsed().as_secs_f64();
    let weather = watch.end(&[ours.as_slice(), &running.pids()].concat());
    killed.ok_or("a reader was not given up")?;
    sleep(UNTIL_COUNTED);
    running.still_runs()?;
    let ended = running.stop(|_| ())?;
    drop(silent);
    stuck.end();
    if !ended.said.contains("quarantined  (lost") {
        return Err(format!("the process was not left alone:\n{}", ended.said));
    }
    bench.add(LOCKED, Agent::Rprof, seconds, weather);
    Ok(())
}

/// Asks again and again, without being a load.
fn wait_for<T>(most: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < most {
        if let Some(found) = attempt() {
            return Some(found);
        }
        sleep(Duration::from_millis(3));
    }
    None
}

/// Not the child that is to become one: it has the name of the thread that starts it.
fn is_memory_reader(pid: u32) -> bool {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    read("comm") == b"rprof-memory\n" && read("cmdline").starts_with(b"rprof-reader\0")
}

/// Whether a process has ended, or has got a SIGKILL that it cannot take yet.
fn is_killed(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let pending = field("ShdPnd:").and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let kill = 1 << (libc::SIGKILL - 1);
    pending.is_none_or(|bits| bits & kill != 0) || field("State:\tZ").is_some()
}

/// Folded stacks.
struct Folded(String);

fn folded(ended: Ended) -> Result<Folded, String> {
    let text = fs::read_to_string(&ended.output);
    let text = text.map_err(|error| format!("cannot read {}: {error}", ended.output.display()))?;
    Ok(Folded(text))
}

impl Folded {
    /// Samples of `program` that end for one of these reasons.
    fn of(&self, reasons: &[&str]) -> u64 {
        self.count(|frames| {
            frames.first() == Some(&"program")
                && reasons
                    .iter()
                    .any(|why| frames.contains(&format!("[truncated: {why}]").as_str()))
        })
    }

    fn count(&self, which: impl Fn(&[&str]) -> bool) -> u64 {
        let lines = self.0.lines().filter_map(|line| line.rsplit_once(' '));
        let counts = lines.filter_map(|(stack, count)| {
            let frames: Vec<&str> = stack.split(';').collect();
            which(&frames).then(|| count.parse::<u64>().unwrap_or(0))
        });
        counts.sum()
    }
}

/// A program that is stuck in a way.
fn command(bench: &Bench, how: How, silent: &Silent) -> Result<Command, String> {
    let mut stuck = match how {
        How::Program => return Ok(Command::new(silent.file("program"))),
        How::Page => {
            let mut stuck = Command::new(bench.programs.file("stuck"));
            stuck.arg("page");
            stuck
        }
        How::Lock => {
            let mut stuck = Command::new(bench.programs.python.as_ref().ok_or("no Python")?);
            stuck.arg(bench.programs.file("stuck.py"));
            stuck
        }
    };
    stuck.arg(silent.file("never"));
    Ok(stuck)
}

fn measure(bench: &mut Bench, case: &Case) -> Outcome {
    if case.how == How::Lock && bench.programs.python.is_none() {
        return Ok(());
    }
    let silent = Silent::mount(bench)?;
    // They end when their standard input does.
    let command = command(bench, case.how, &silent)?;
    let mut stuck = Stuck::start(command, case.how != How::Program)?;
    let neighbours = bench.programs.native()?;
    let group = Group::new()?;
    let fault = (case.how == How::Lock).then_some(PAGEMAP);
    let mut ours = neighbours.pids();
    ours.push(stuck.0.id());
    // Only these: what others on the machine start is learned, too.
    let mut running = bench.agents.start_with(FREQUENCY, &ours, fault)?;
    group.take(running.pid())?;
    // What it takes to start is another row's: beside a build that may last longer than the warm-up.
    let cpus = bench.cpus;
    let samples = wait_for(START, || running.has_events(cpus).then_some(()));
    running.still_runs()?;
    samples.ok_or("rprof does not begin to sample")?;
    sleep(bench.plan.warm_up);
    ours.extend(running.pids());
    let watch = Watch::start(&ours);
    let before = group.used()?;
    sleep(bench.plan.window);
    let used = group.used()?.saturating_sub(before);
    let elapsed = watch.elapsed();
    let weather = watch.end(&ours);
    running.still_runs()?;
    let pids = neighbours.pids();
    let ended = running.stop(|_| ())?;
    // The server goes first: until then a program's end may wait for it.
    drop(silent);
    stuck.end();
    let lost = lost(&ended.said, &pids)?;
    let folded = folded(ended)?;
    let nameless = folded.count(|frames| {
        let is_bad = |frame: &&str| *frame == "[unknown]" || frame.starts_with("[truncated: ");
        frames.first() == Some(&"chain") && frames.iter().any(is_bad)
    });
    let millis = used.as_secs_f64() * 1e3 / elapsed.as_secs_f64();
    bench.add(case.cpu, Agent::Rprof, millis, weather);
    bench.add(case.ticks, Agent::Rprof, lost as f64, weather);
    bench.add(case.names, Agent::Rprof, nameless as f64, weather);
    Ok(())
}

/// Ticks that these processes lost, as the summary says: `  chain (pid 7) lost 1 of 20: …`.
fn lost(said: &str, pids: &[u32]) -> Result<u64, String> {
    let of = |pid: &u32| {
        let line = said.split_once(&format!(" (pid {pid}) lost "))?.1;
        line.split(' ').next()?.parse::<u64>().ok()
    };
    let lost: Vec<Option<u64>> = pids.iter().map(of).collect();
    match said.contains(" more processes lost some") && lost.iter().any(Option::is_none) {
        true => Err(format!("more processes lost than are listed:\n{said}")),
        false => Ok(lost.into_iter().flatten().sum()),
    }
}

/// A program that is stuck; killed when dropped.
struct Stuck(Child);

impl Stuck {
    fn start(mut command: Command, says: bool) -> Result<Self, String> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut stuck = Self(child.map_err(|e| format!("cannot start {command:?}: {e}"))?);
        match says {
            true => stuck.ready().map(|()| stuck),
            false => Ok(stuck),
        }
    }

    fn ready(&mut self) -> Outcome {
        let mut line = String::new();
        let stdout = self.0.stdout.take().ok_or("no standard output")?;
        let read = BufReader::new(stdout).read_line(&mut line);
        match read.is_ok() && line == "ready\n" {
            true => Ok(()),
            false => Err(format!("a stuck program said {line:?}")),
        }
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

/// The mounted file system and its server.
struct Silent {
    server: Stuck,
    folder: PathBuf,
}

impl Silent {
    fn mount(bench: &Bench) -> Result<Self, String> {
        let folder = bench.programs.file("silent-files");
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut server = Command::new(bench.programs.file("silent"));
        server.arg(&folder).arg(bench.programs.file("chain"));
        let server = Stuck::start(server, true)?;
        Ok(Self { server, folder })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Without the server the connection ends, and with it whatever waits for an answer.
        self.server.end();
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
