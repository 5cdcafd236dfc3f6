//! The sampling clock: perf events on each CPU.
//!
//! A fixed period beats with programs that do something every 10, 50 or 100 ms, so each CPU has
//! several slower events whose unequal periods add up to the rate: none of them stays in step with
//! anything for long. (`PERF_EVENT_IOC_PERIOD` is no way to jitter: it restarts the timer.)

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use std::time::{Duration, Instant};

use perf_event_open_sys as perf;
use perf_event_open_sys::bindings as sys;

/// What makes a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The CPU's clock: ticks whatever the CPU does.
    CpuClock,
    /// The cycle counter, in frequency mode.
    Cycles,
}

/// Periods of the first events of a CPU, relative to an equal share; the last one's makes the rate
/// exact.
const SHARES: [f64; 3] = [0.9655, 0.9935, 1.0095];
/// Events a CPU.
pub const EVENTS: usize = SHARES.len() + 1;

/// Nanoseconds between the ticks of each event, for `frequency` ticks a second in sum.
pub fn periods(frequency: u32) -> [u64; EVENTS] {
    let rate = f64::from(frequency.max(1));
    let equal = EVENTS as f64 / rate;
    let rest = rate
        - SHARES
            .iter()
            .map(|share| 1.0 / (equal * share))
            .sum::<f64>();
    let mut periods = [0; EVENTS];
    for (period, share) in periods.iter_mut().zip(SHARES) {
        *period = (equal * share * 1e9).round() as u64;
    }
    periods[EVENTS - 1] = (1e9 / rest).round() as u64;
    periods
}

struct Event {
    fd: OwnedFd,
    period: u64,
    /// When it was enabled or looked at last, and how long it had run then, nanoseconds.
    seen: (Instant, u64),
}

/// What an event says of its time, nanoseconds.
#[derive(Clone, Copy, Default)]
struct Times {
    enabled: u64,
    running: u64,
}

impl Event {
    fn enable(&mut self) -> io::Result<()> {
        // SAFETY: an open event.
        if unsafe { perf::ioctls::ENABLE(self.fd.as_raw_fd(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        self.seen = (Instant::now(), 0);
        Ok(())
    }

    /// Whether it has run since it was enabled or this was asked last.
    fn ran_all_the_time(&mut self) -> bool {
        let now = (Instant::now(), self.times().running);
        let (then, ran) = std::mem::replace(&mut self.seen, now);
        // Two clocks, not read at the same time.
        let least = now.0.duration_since(then).as_nanos() / 10 * 9;
        u128::from(now.1.saturating_sub(ran)) >= least
    }

    fn times(&self) -> Times {
        // value, time enabled, time running (include/uapi/linux/perf_event.h, read_format).
        let mut read = [0u64; 3];
        let len = size_of_val(&read);
        // SAFETY: as many bytes as there are.
        let n = unsafe { libc::read(self.fd.as_raw_fd(), read.as_mut_ptr().cast(), len) };
        if n != len as isize {
            return Times::default();
        }
        Times {
            enabled: read[1],
            running: read[2],
        }
    }

    /// Ticks that it should have given: whole periods, as its timer counts them.
    fn expected(&self) -> u64 {
        let times = self.times();
        // An event that was enabled after its CPU had gone counts time, but it never runs: nothing can
        // tick there, and nothing is expected.
        if times.running == 0 {
            return 0;
        }
        times.enabled / self.period
    }
}

/// The events of all CPUs that are sampled.
///
/// The events of a CPU that goes offline stop for good: the kernel takes them off it, and also when
/// it comes back they never tick again, nor does enabling them help. Nobody says so (the sysfs list
/// of CPUs looks the same after a CPU was away for a moment, and a machine that was suspended takes all
/// but one of them away without a word), but the time that an event has run stands still; so that is
/// what is looked at.
pub struct Events {
    clock: Clock,
    frequency: u32,
    cpus: BTreeMap<u32, Vec<Event>>,
    /// Ticks that events which are closed by now should have given, by CPU.
    past: BTreeMap<u32, u64>,
}

impl Events {
    /// No event yet.
    pub fn new(clock: Clock, frequency: u32) -> Self {
        Self {
            clock,
            frequency,
            cpus: BTreeMap::new(),
            past: BTreeMap::new(),
        }
    }

    /// Opens the events of one CPU, disabled, and lets `program` run at their ticks.
    ///
    /// # Errors
    /// Those of `perf_event_open` and of attaching; [`is_offline`] tells one of them.
    pub fn open(&mut self, cpu: u32, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let periods = periods(self.frequency);
        for period in periods {
            let mut attr = sys::perf_event_attr {
                size: size_of::<sys::perf_event_attr>() as u32,
                ..Default::default()
            };
            match self.clock {
                Clock::CpuClock => {
                    attr.type_ = sys::PERF_TYPE_SOFTWARE;
                    attr.config = sys::PERF_COUNT_SW_CPU_CLOCK as u64;
                    attr.__bindgen_anon_1.sample_period = period;
                }
                Clock::Cycles => {
                    attr.type_ = sys::PERF_TYPE_HARDWARE;
                    attr.config = sys::PERF_COUNT_HW_CPU_CYCLES as u64;
                    attr.__bindgen_anon_1.sample_freq = u64::from(self.frequency);
                    attr.set_freq(1);
                }
            }
            attr.read_format = u64::from(
                sys::PERF_FORMAT_TOTAL_TIME_ENABLED | sys::PERF_FORMAT_TOTAL_TIME_RUNNING,
            );
            attr.set_disabled(1);
            // SAFETY: `attr` outlives the call; the descriptor is new and ours.
            let fd = unsafe {
                let fd = perf::perf_event_open(
                    &mut attr,
                    -1,
                    cpu as i32,
                    -1,
                    sys::PERF_FLAG_FD_CLOEXEC.into(),
                );
                if fd < 0 {
                    return Err(io::Error::last_os_error());
                }
                OwnedFd::from_raw_fd(fd)
            };
            // SAFETY: both descriptors are open.
            if unsafe { perf::ioctls::SET_BPF(fd.as_raw_fd(), program.as_raw_fd() as u32) } < 0 {
                return Err(io::Error::last_os_error());
            }
            events.push(Event {
                fd,
                period,
                seen: (Instant::now(), 0),
            });
            if self.clock == Clock::Cycles {
                break;
            }
        }
        self.cpus.insert(cpu, events);
        Ok(())
    }

    /// The CPUs that have events.
    pub fn cpus(&self) -> impl Iterator<Item = u32> + '_ {
        self.cpus.keys().copied()
    }

    /// Starts all events of all CPUs, one after the other within their period: started together, their
    /// first ticks would come in bursts.
    ///
    /// # Errors
    /// Those of the ioctl.
    pub fn enable_in_turn(&mut self) -> io::Result<()> {
        let share = (Duration::from_secs(1) / self.frequency.max(1)).min(Duration::from_millis(50));
        for number in 0..EVENTS {
            if number > 0 {
                std::thread::sleep(share);
            }
            for event in self
                .cpus
                .values_mut()
                .filter_map(|events| events.get_mut(number))
            {
                event.enable()?;
            }
        }
        Ok(())
    }

    /// Closes events that did not run all the time since they were looked at last, and samples the CPUs
    /// of `wanted` that have none. Not to be called oftener than an event can be seen to run.
    ///
    /// Returns the CPUs that cannot be sampled although they are online, and why.
    pub fn follow(&mut self, wanted: &[u32], program: BorrowedFd<'_>) -> Vec<(u32, io::Error)> {
        let stopped: Vec<u32> = self
            .cpus
            .iter_mut()
            .filter_map(|(&cpu, events)| {
                // The first was enabled before the others: it stops if any of them does.
                let first = events.first_mut()?;
                (!first.ran_all_the_time()).then_some(cpu)
            })
            .collect();
        for cpu in stopped {
            self.close(cpu);
        }
        let mut failed = Vec::new();
        for &cpu in wanted {
            if self.cpus.contains_key(&cpu) {
                continue;
            }
            let sampled = self.open(cpu, program).and_then(|()| self.enable(cpu));
            if let Err(error) = sampled {
                self.close(cpu);
                // Offline: the next look will tell.
                if !is_offline(&error) {
                    failed.push((cpu, error));
                }
            }
        }
        failed
    }

    /// Starts all events of a CPU.
    fn enable(&mut self, cpu: u32) -> io::Result<()> {
        for event in self.cpus.get_mut(&cpu).into_iter().flatten() {
            event.enable()?;
        }
        Ok(())
    }

    /// Stops all events; they can still be asked what they should have given.
    pub fn disable(&self) {
        for event in self.cpus.values().flatten() {
            // SAFETY: an open event. An event of a CPU that is gone is stopped already.
            unsafe { perf::ioctls::DISABLE(event.fd.as_raw_fd(), 0) };
        }
    }

    /// Closes the events of a CPU.
    fn close(&mut self, cpu: u32) {
        if let Some(events) = self.cpus.remove(&cpu) {
            *self.past.entry(cpu).or_default() += expected(&events);
        }
    }

    /// Ticks that the events of each CPU should have given: enabled time / period, never from
    /// deliveries. `None`: time does not say. Cycles stand still while a CPU idles.
    pub fn expected(&self) -> Option<BTreeMap<u32, u64>> {
        if self.clock == Clock::Cycles {
            return None;
        }
        let mut all = self.past.clone();
        for (&cpu, events) in &self.cpus {
            *all.entry(cpu).or_default() += expected(events);
        }
        Some(all)
    }
}

fn expected(events: &[Event]) -> u64 {
    events.iter().map(Event::expected).sum()
}

/// Whether events cannot be opened because their CPU is not online.
pub fn is_offline(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

#[cfg(test)]
mod tests {
    use super::periods;

    #[test]
    fn unequal_periods_add_up_to_the_rate() {
        for frequency in [1, 20, 99, 199, 1000, 4999] {
            let periods = periods(frequency);
            let rate: f64 = periods.iter().map(|&p| 1e9 / p as f64).sum();
            assert!(
                (rate / f64::from(frequency) - 1.0).abs() < 1e-5,
                "{frequency}: {rate}"
            );
            for (i, a) in periods.iter().enumerate() {
                assert!(
                    periods[..i].iter().all(|b| a.abs_diff(*b) * 200 > *a),
                    "{periods:?}"
                );
            }
        }
    }
}
