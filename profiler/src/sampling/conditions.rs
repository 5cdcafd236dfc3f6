//! What the machine was like while a command ran: what other programs, other machines on the same hardware, and
//! limits took from it. Counters of the kernel come in, differences leave. What cannot be read is taken for nothing.

use std::fs::read_to_string;
use std::path::Path;
use std::time::Duration;

/// Counters since the machine was started, or the difference of two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// CPU time of everything that ran here, all CPUs together.
    pub busy: Duration,
    /// Time in which the hypervisor gave a CPU to another machine.
    pub steal: Duration,
    /// Time in which our cgroup had no CPU because its quota was used up, all of its CPUs together.
    pub throttled: Duration,
    /// How often CPUs were slowed down because they were too hot.
    pub slowed: u64,
}

impl Conditions {
    /// As they are.
    pub fn now() -> Self {
        let (busy, steal) = read_to_string("/proc/stat")
            .ok()
            .and_then(|text| cpu_line(text.lines().next()?))
            .unwrap_or_default();
        Self {
            busy,
            steal,
            throttled: throttled(),
            slowed: slowed(),
        }
    }

    /// What came since.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(before.busy),
            steal: self.steal.saturating_sub(before.steal),
            throttled: self.throttled.saturating_sub(before.throttled),
            slowed: self.slowed.saturating_sub(before.slowed),
        }
    }
}

/// Busy and stolen time of a line of `/proc/stat` (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq,
/// steal, in hundredths of a second (`USER_HZ` of every architecture that rprof runs on).
fn cpu_line(line: &str) -> Option<(Duration, Duration)> {
    let mut words = line.split_whitespace();
    (words.next()? == "cpu").then_some(())?;
    let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
    let time = |at: usize| Duration::from_millis(ticks.get(at).unwrap_or(&0).saturating_mul(10));
    let busy = [0, 1, 2, 5, 6].map(time).iter().sum();
    (ticks.len() >= 7).then(|| (busy, time(7)))
}

/// Of our cgroup and those above it: whichever has waited longest for its quota.
fn throttled() -> Duration {
    let own = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let mounts: &[&str] = match (number, controllers) {
            ("0", "") => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
            (_, "cpu" | "cpu,cpuacct") => &["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"],
            _ => return None,
        };
        let groups = Path::new(path.trim_start_matches('/')).ancestors();
        let files = groups.flat_map(|group| {
            mounts
                .iter()
                .map(move |mount| Path::new(mount).join(group).join("cpu.stat"))
        });
        files
            .filter_map(|file| throttled_in(&read_to_string(file).ok()?))
            .max()
    };
    own.lines().filter_map(of).max().unwrap_or_default()
}

/// `cpu.stat` of cgroup v2 has microseconds, of v1 nanoseconds (Documentation/admin-guide/cgroup-v2.rst,
/// Documentation/scheduler/sched-bwc.rst).
fn throttled_in(stat: &str) -> Option<Duration> {
    stat.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        let number = number.trim().parse().ok()?;
        match name {
            "throttled_usec" => Some(Duration::from_micros(number)),
            "throttled_time" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    })
}

/// Of all CPUs (Documentation/ABI/testing/sysfs-devices-system-cpu, `thermal_throttle`).
fn slowed() -> u64 {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter();
    let files = cpus
        .flatten()
        .flatten()
        .map(|cpu| cpu.path().join("thermal_throttle/core_throttle_count"));
    files
        .filter_map(|file| read_to_string(file).ok()?.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let line = "cpu  1819797 4641 169580 590355 11184 7 648 2364 0 0";
        let (busy, steal) = cpu_line(line).unwrap();
        assert_eq!(busy, Duration::from_millis(19_946_730));
        assert_eq!(steal, Duration::from_millis(23_640));
        assert_eq!(cpu_line("intr 1 2 3 4 5 6 7 8"), None);
        assert_eq!(cpu_line("cpu 1 2"), None);
        let v2 = "usage_usec 5\nnr_throttled 2\nthrottled_usec 1500\n";
        assert_eq!(throttled_in(v2), Some(Duration::from_micros(1500)));
        let v1 = "nr_periods 1\nthrottled_time 900\n";
        assert_eq!(throttled_in(v1), Some(Duration::from_nanos(900)));
        assert_eq!(throttled_in("usage_usec 5\n"), None);
    }

    #[test]
    fn this_machine_is_busy_with_us() {
        let before = Conditions::now();
        let started = std::time::Instant::now();
        let mut n = 0u64;
        while started.elapsed() < Duration::from_millis(100) {
            n = std::hint::black_box(n + 1);
        }
        let since = Conditions::now().since(&before);
        assert!(since.busy >= Duration::from_millis(50), "{since:?}");
    }
}
