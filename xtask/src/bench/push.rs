//! What it costs to push a profile every ten seconds: to a server on this machine that takes whatever comes.
//! Naming, packing and sending are the work of threads of their own, and of the readers; sampling is measured by
//! [`super::steady`].

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Bench;
use super::agent::Agent;
use super::group::Group;
use super::loads::{Load, Programs};
use super::process;
use super::table::Row;
use super::weather::Watch;
use crate::Outcome;

/// Intervals before the measurement, which have a row of their own: most names are read in the first ones.
const FIRST: u64 = 6;
/// Intervals that are measured; and of two busy processes, where rprof itself is sampled now and then and
/// costs what it takes to name that, so many that their average means something.
const MEASURED: u64 = 3;
const MEASURED_BUSY: u64 = 18;
/// One that is not stopped by then ends by itself.
const LONGEST: Duration = Duration::from_secs(400);
/// As long as `rprof` has them by default.
const INTERVAL: Duration = Duration::from_secs(10);

/// A load, and what is measured beside it.
struct Case {
    load: fn(&Programs) -> Result<Load, String>,
    /// Intervals that are measured.
    measured: u64,
    /// Of the threads that push, and the readers.
    pushing: Row,
    bytes: Row,
    /// Of all its processes, from the start and later.
    first: Row,
    whole: Row,
    resident: Row,
    /// What the profile of an interval has as a file.
    file: Option<Row>,
}

fn cases() -> [Case; 3] {
    [
        Case {
            load: Programs::none,
            measured: MEASURED,
            pushing: Row::at_most("push: CPU, ms an interval, at rest", 2.0),
            bytes: Row::at_most("push: KiB an interval, at rest", 64.0),
            first: Row::plain("push: whole agent, first minute, ms a second, at rest"),
            whole: Row::plain("push: whole agent, ms a second, at rest"),
            resident: Row::at_most("push: resident MiB, at rest", 48.0),
            file: None,
        },
        Case {
            load: Programs::busy,
            measured: MEASURED_BUSY,
            pushing: Row::plain("push: CPU, ms an interval, 2 busy processes"),
            bytes: Row::plain("push: KiB an interval, 2 busy processes"),
            first: Row::plain("push: whole agent, first minute, ms a second, 2 busy processes"),
            whole: Row::at_most("push: whole agent, ms a second, 2 busy processes", 1.0),
            resident: Row::at_most("push: resident MiB, 2 busy processes", 48.0),
            file: None,
        },
        Case {
            load: Programs::services,
            measured: MEASURED,
            pushing: Row::plain("push: CPU, ms an interval, 50 services"),
            bytes: Row::plain("push: KiB an interval, 50 services"),
            first: Row::plain("push: whole agent, first minute, ms a second, 50 services"),
            whole: Row::plain("push: whole agent, ms a second, 50 services"),
            resident: Row::plain("push: resident MiB, 50 services"),
            file: Some(Row::plain("KiB of an equal pprof file, 50 services")),
        },
    ]
}

pub(super) fn run(bench: &mut Bench) -> Outcome {
    for case in cases() {
        bench.wait_for_calm();
        measure(bench, &case)?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, case: &Case) -> Outcome {
    let load = (case.load)(&bench.programs)?;
    let sink = Sink::start()?;
    let group = Group::new()?;
    let mut running = bench.agents.start_pushing(&sink.url, LONGEST)?;
    group.take(running.pid())?;
    let start = Instant::now();
    // Not in the middle of the next one.
    sleep(INTERVAL * FIRST as u32 + INTERVAL / 5);
    let first = group.used()?.as_secs_f64() * 1e3 / start.elapsed().as_secs_f64();
    let ours = load.pids();
    let watch = Watch::start(&ours);
    let before = (pushing(running.pid(), &group)?, group.used()?, sink.bytes());
    sleep(INTERVAL * case.measured as u32);
    let after = (pushing(running.pid(), &group)?, group.used()?, sink.bytes());
    let elapsed = watch.elapsed();
    let weather = watch.end(&ours);
    running.still_runs()?;
    // At rest there may be no sample to push.
    if sink.bytes() == 0 && !ours.is_empty() {
        return Err("nothing is pushed".into());
    }
    let pids = running.pids().into_iter();
    let resident: u64 = pids.map(process::resident_bytes).sum();
    running.stop(|_| ())?;
    let millis = |before: Duration, after: Duration| {
        let used = after.saturating_sub(before);
        used.as_secs_f64() * 1e3 / elapsed.as_secs_f64()
    };
    let agent = Agent::Rprof;
    let each = INTERVAL.as_secs_f64();
    bench.add(
        case.pushing,
        agent,
        millis(before.0, after.0) * each,
        weather,
    );
    bench.add(case.first, agent, first, weather);
    bench.add(case.whole, agent, millis(before.1, after.1), weather);
    let kib = (after.2 - before.2) as f64 / 1024.0 / case.measured as f64;
    bench.add(case.bytes, agent, kib, weather);
    bench.add(
        case.resident,
        agent,
        resident as f64 / f64::from(1 << 20),
        weather,
    );
    if let Some(row) = case.file {
        let file = bench.agents.profile(INTERVAL)?;
        let bytes = fs::metadata(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        bench.add(row, agent, bytes.len() as f64 / 1024.0, weather);
    }
    Ok(())
}

/// CPU time so far of the threads that name, pack and send, and of the readers.
fn pushing(pid: u32, group: &Group) -> Result<Duration, String> {
    let readers = group.used()?.saturating_sub(process::cpu_time(pid));
    let threads = ["rprof-publish", "rprof-push"].map(|name| process::thread_time(pid, name));
    Ok(threads.into_iter().sum::<Duration>() + readers)
}

/// A server that takes whatever is pushed to it.
pub(super) struct Sink {
    /// Where to push to.
    pub(super) url: String,
    bytes: Arc<AtomicU64>,
}

impl Sink {
    pub(super) fn start() -> Result<Self, String> {
        let failed = |error| format!("cannot listen: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let sink = Self {
            url: format!("pyroscope+http://{address}"),
            bytes: Arc::default(),
        };
        let bytes = sink.bytes.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bytes = bytes.clone();
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    while let Some(n) = take(&mut stream) {
                        bytes.fetch_add(n, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(sink)
    }

    /// Bytes that came so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// One request, headers included; `None`: there is none any more.
fn take(stream: &mut BufReader<TcpStream>) -> Option<u64> {
    let (mut bytes, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        let n = stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
        bytes += n as u64;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; usize::try_from(length).ok()?];
    stream.read_exact(&mut body).ok()?;
    stream
        .get_mut()
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        )
        .ok()?;
    Some(bytes + length)
}
