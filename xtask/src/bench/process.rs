//! What the kernel tells of a process: CPU time, memory, and its eBPF maps and programs.
//!
//! A process id comes in, figures leave. Nothing here changes a process; a process that is gone
//! counts nothing.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// `BPF_PROG_TYPE_PERF_EVENT`, `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h).
const PERF_EVENT: u64 = 7;
const MMAPABLE: u64 = 1 << 10;
const PAGE: u64 = 4096;

/// A process and all its descendants.
pub(super) fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for task in entries(&format!("/proc/{pid}/task")) {
            let children = read(&format!("/proc/{pid}/task/{task}/children"));
            let children = children.split_ascii_whitespace();
            found.extend(children.filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// User and system time of a process, threads that ended included, exact to the nanosecond.
pub(super) fn cpu_time(pid: u32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: pointers to our own variables; a pid that does not exist is an error.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) != 0
            || libc::clock_gettime(clock, &mut time) != 0
    };
    if failed {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of a process's threads of this name.
pub(super) fn thread_time(pid: u32, name: &str) -> Duration {
    let nanos = entries(&format!("/proc/{pid}/task"))
        .into_iter()
        .filter_map(|task| {
            let task = format!("/proc/{pid}/task/{task}");
            let named = read(&format!("{task}/comm")).trim_end() == name;
            let used = read(&format!("{task}/schedstat"));
            let used = used.split(' ').next().and_then(|n| n.parse::<u64>().ok());
            used.filter(|_| named)
        });
    Duration::from_nanos(nanos.sum())
}

/// CPU time of processes, and of their children that ended and were waited for, to 10 ms.
pub(super) fn cpu_time_with_ended(pids: &[u32]) -> Duration {
    let ticks = pids.iter().flat_map(|pid| {
        let stat = read(&format!("/proc/{pid}/stat"));
        // utime, stime, cutime, cstime are fields 14 to 17; the name before may hold anything.
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(4);
        ticks
            .filter_map(|n| n.parse::<u64>().ok())
            .collect::<Vec<_>>()
    });
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Bytes of a field of `/proc/PID/status` that is in kB.
pub(super) fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes =
        line.and_then(|line| line.trim_start_matches(':').split_ascii_whitespace().next());
    kibibytes.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes of a process that are resident; of pages that it shares with others its part (`Pss`).
pub(super) fn resident_bytes(pid: u32) -> u64 {
    let text = read(&format!("/proc/{pid}/smaps_rollup"));
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.split_ascii_whitespace().next());
    kibibytes.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What the sampling programs of a process used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProgramTime {
    /// Nanoseconds in the programs.
    pub(super) nanos: u64,
    /// Runs.
    pub(super) runs: u64,
}

/// What the descriptors of a process say of its perf_event programs.
pub(super) fn program_time(pid: u32) -> ProgramTime {
    let mut programs = BTreeMap::new();
    for fields in descriptors(pid) {
        if fields.get("prog_type") == Some(&PERF_EVENT)
            && let (Some(id), Some(nanos), Some(runs)) = (
                fields.get("prog_id"),
                fields.get("run_time_ns"),
                fields.get("run_cnt"),
            )
        {
            programs.insert(*id, (*nanos, *runs));
        }
    }
    let mut sum = ProgramTime::default();
    for (nanos, runs) in programs.values() {
        sum.nanos += nanos;
        sum.runs += runs;
    }
    sum
}

/// Bytes of kernel memory that a process holds to hand samples over and look things up: eBPF maps,
/// and the rings of perf events.
pub(super) fn kernel_bytes(pid: u32) -> u64 {
    let mut maps = BTreeMap::new();
    for fields in descriptors(pid) {
        // A map that can be mapped is counted by its mapping: its descriptor may be closed.
        let mapped = fields
            .get("map_flags")
            .is_some_and(|flags| flags & MMAPABLE != 0);
        if let (Some(id), Some(bytes), false) =
            (fields.get("map_id"), fields.get("memlock"), mapped)
        {
            maps.insert(*id, *bytes);
        }
    }
    let mapped = read(&format!("/proc/{pid}/maps"));
    let mapped = mapped.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let length = u64::from_str_radix(end, 16).ok()? - u64::from_str_radix(start, 16).ok()?;
        let at_start = rest.split(' ').nth(1) == Some("00000000");
        // A BPF ring has a page of its own at its start, and its data from the second page on.
        let array = rest.ends_with("anon_inode:bpf-map") && at_start && length > PAGE;
        let perf = rest.ends_with("anon_inode:[perf_event]");
        (array || perf).then_some(length)
    });
    maps.values().sum::<u64>() + mapped.sum::<u64>()
}

/// Whether a process has a perf event on each of `cpus` CPUs.
pub(super) fn has_events(pid: u32, cpus: usize) -> bool {
    let links = entries(&format!("/proc/{pid}/fd"))
        .into_iter()
        .filter_map(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
    let mut events = links.filter(|link| link.as_os_str() == "anon_inode:[perf_event]");
    events.nth(cpus.saturating_sub(1)).is_some()
}

/// The numeric fields of each descriptor that is an eBPF map or program.
fn descriptors(pid: u32) -> impl Iterator<Item = BTreeMap<String, u64>> {
    let fds = entries(&format!("/proc/{pid}/fdinfo")).into_iter();
    let texts = fds.map(move |fd| read(&format!("/proc/{pid}/fdinfo/{fd}")));
    let ours = texts.filter(|text| text.contains("map_id:") || text.contains("prog_id:"));
    ours.map(|text| {
        let fields = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            let number = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok()?,
                None => value.parse().ok()?,
            };
            Some((name.to_string(), number))
        });
        fields.collect()
    })
}

/// How many entries a folder has.
pub(super) fn count(folder: &str) -> usize {
    entries(folder).len()
}

fn entries(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn read(file: &str) -> String {
    // A process's name in `stat` need not be UTF-8.
    let bytes = fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
