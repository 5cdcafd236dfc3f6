//! The programs, set up for this kernel and these settings, and the maps they share with us.

use std::time::Duration;

use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, PerCpuArray, RingBuf};
use rprof_ebpf::identity::{LostKey, LostTicks};
use rprof_ebpf::select::{Config, MAX_KERNEL_FRAMES, Select};

use super::faults::{self, Fault};
use super::kernel_layout;
use super::learner::ModuleMaps;
use super::programs::{self, Programs, Setup};
use super::targets::{samples_a_second, wanted_cgroup};
use crate::cli::Failure;
use crate::cli::settings::{Reads, Settings, Target};
use crate::report::check::Machine;

/// A tick of the programs ends after this time.
const TICK: Duration = Duration::from_micros(250);
/// The programs use at most this share of each second of a CPU.
const SECOND: Duration = Duration::from_millis(10);
/// Bytes that a sample takes in the ring, about.
const SAMPLE_BYTES: u64 = 512;

/// Loads the programs for this kernel and these settings.
pub(super) fn load(settings: &Settings, machine: &Machine) -> Result<Programs, Failure> {
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
            kernel_layout::Error::FarField(struct_, field) => format!(
                "the kernel ({}) has {struct_}.{field} where this version of rprof does not look",
                machine.release
            ),
        };
        Failure::new(what).next("rprof check")
    })?;
    let cpus = possible_cpus()?;
    let ring_bytes = ring_bytes(settings);
    let slowness = faults::asked(Fault::SlowMachine).unwrap_or(1);
    let cgroup = wanted_cgroup(settings)?;
    let config = Config {
        select: match &settings.target {
            Target::All { .. } if cgroup.is_some() => Select::Cgroup,
            Target::All { .. } => Select::All,
            Target::Pids {
                children: false, ..
            } => Select::Targets,
            Target::Pids { children: true, .. } | Target::Command(_) => Select::TargetsAndChildren,
        } as u32,
        own_ns: own_pid_namespace(),
        kernel_frames: kernel_frames(settings),
        tick_ns: slowness * TICK.as_nanos() as u32,
        second_ns: slowness * SECOND.as_nanos() as u32,
        name_code: u32::from(settings.reads != Reads::ProcessVm),
        cgroup: cgroup.map_or(0, |(_, id)| id),
        // A ring that is to overflow wakes nobody.
        wake_bytes: match faults::asked(Fault::RingBytes) {
            Some(_) => u64::MAX,
            None => u64::from(ring_bytes) / 2,
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

/// The maps that user space works with.
pub(super) struct Bpf {
    pub(super) ring: RingBuf<MapData>,
    pub(super) named: BpfHashMap<MapData, u64, u32>,
    pub(super) targets: BpfHashMap<MapData, u32, u32>,
    pub(super) counts: PerCpuArray<MapData, u64>,
    pub(super) lost: BpfHashMap<MapData, LostKey, LostTicks>,
    pub(super) module_maps: ModuleMaps,
    pub(super) chunks: MapData,
}

impl Bpf {
    pub(super) fn take(programs: &mut Programs) -> Result<Self, programs::Error> {
        Ok(Self {
            ring: RingBuf::try_from(programs.map("RING")?)?,
            named: BpfHashMap::try_from(programs.map("NAMED")?)?,
            targets: BpfHashMap::try_from(programs.map("TARGETS")?)?,
            counts: PerCpuArray::try_from(programs.map("COUNTS")?)?,
            lost: BpfHashMap::try_from(programs.map("LOST")?)?,
            module_maps: ModuleMaps {
                modules: BpfHashMap::try_from(programs.map("MODULES")?)?,
                generation: Array::try_from(programs.map("GENERATION")?)?,
                interpreters: Array::try_from(programs.map("INTERPRETERS")?)?,
                plans: Array::try_from(programs.map("PLANS")?)?,
            },
            chunks: match programs.map("CHUNKS")? {
                Map::ArrayOfMaps(chunks) => chunks,
                _ => return Err(programs::Error::Missing("CHUNKS")),
            },
        })
    }
}

/// Kernel frames that a sample has at most; 0 if none are wanted.
///
/// The kernel gives as many as `kernel.perf_event_max_stack` says, which cannot be changed while
/// somebody, we too, is asking for stacks.
pub(super) fn kernel_frames(settings: &Settings) -> u32 {
    if !settings.kernel {
        return 0;
    }
    let said = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_stack")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let asked = faults::asked(Fault::KernelFrames);
    let limits = [said, asked].into_iter().flatten();
    limits.fold(MAX_KERNEL_FRAMES, u32::min)
}

/// CPUs that can ever be there.
fn possible_cpus() -> Result<u32, Failure> {
    const LIST: &str = "/sys/devices/system/cpu/possible";
    let text = std::fs::read_to_string(LIST).unwrap_or_default();
    let last = text.trim().rsplit([',', '-']).next();
    let last = last.and_then(|n| n.parse::<u32>().ok());
    last.and_then(|last| last.checked_add(1)).ok_or_else(|| {
        Failure::new(format!(
            "cannot learn from {LIST} how many CPUs there may be"
        ))
        .next("mount -t sysfs sysfs /sys")
    })
}

/// Bytes of the ring: half a second of samples, between 1 and 64 MiB.
pub(super) fn ring_bytes(settings: &Settings) -> u32 {
    if let Some(bytes) = faults::asked(Fault::RingBytes) {
        return bytes;
    }
    (samples_a_second(settings) * SAMPLE_BYTES / 2)
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
