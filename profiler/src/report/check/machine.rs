//! What this machine is and allows, read once. Files of `/proc` and `/sys` and five harmless system
//! calls go in, plain data leaves: what it means is said in [`checks`](super::checks). Nothing is
//! changed on the machine, and whatever cannot be read is `None` or an error number, never a guess.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use aya::programs::{ProgramError, ProgramType};
use perf_event_open_sys as perf;
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::cli::values::{self, Cpus};

/// What is known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Host name.
    pub host: String,
    /// `uname -r`.
    pub release: String,
    /// Major, minor and patch level in `release`.
    pub version: (u32, u32, u32),
    /// Types of the running kernel: whether its `mm_struct` has the maple tree `mm_mt`, or why
    /// `/sys/kernel/btf/vmlinux` cannot be read.
    pub btf: Probe<bool>,
    /// Effective user id.
    pub uid: u32,
    /// Effective capabilities, a bit for each number.
    pub capabilities: u64,
    /// rprof is in a user namespace of its own: its capabilities mean nothing to BPF.
    pub user_namespace: bool,
    /// rprof is in a pid namespace of its own: it cannot see the host's processes.
    pub pid_namespace: bool,
    /// rprof is in a container, as far as that can be told.
    pub container: bool,
    /// `none`, `integrity` or `confidentiality`; `None`: cannot be told.
    pub lockdown: Option<String>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<u32>,
    /// Whether `/proc/kallsyms` shows addresses; `None`: it cannot be read.
    pub kernel_addresses: Option<bool>,
    /// `kernel.perf_event_paranoid`.
    pub paranoid: Option<i32>,
    /// `kernel.perf_event_max_sample_rate`.
    pub max_sample_rate: Option<u32>,
    /// Whether there is a hardware counter of cycles.
    pub pmu: bool,
    /// Whether the kernel loads a perf_event program of two instructions.
    pub bpf: Probe<()>,
    /// Whether the kernel opens a cpu-clock event on a CPU.
    pub perf_event: Probe<()>,
    /// `process_vm_readv` takes PROCESS_VM_PIDFD.
    pub process_vm_pidfd: bool,
    /// `process_vm_readv` takes PROCESS_VM_NOWAIT.
    pub process_vm_nowait: bool,
    /// Bytes of memory that may be locked; `None`: no limit.
    pub memory_lock: Option<u64>,
    /// `/proc` is mounted.
    pub procfs: bool,
    /// `/sys` is mounted.
    pub sysfs: bool,
    /// CPUs that are online.
    pub online: Cpus,
    /// CPUs that the scheduler leaves alone (`isolcpus=`).
    pub isolated: Cpus,
}

/// What came of trying something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe<T> {
    /// It worked.
    Works(T),
    /// The system call gave this error number (0: an error without one).
    Refused(i32),
}

impl<T: Default> Default for Probe<T> {
    fn default() -> Self {
        Probe::Works(T::default())
    }
}

/// `PROCESS_VM_PIDFD`: a patch of 2026, in no released kernel yet.
const PROCESS_VM_PIDFD: u64 = 1 << 0;
/// `PROCESS_VM_NOWAIT`: the same.
const PROCESS_VM_NOWAIT: u64 = 1 << 1;

/// Inode numbers of the initial namespaces (`PROC_USER_INIT_INO`, `PROC_PID_INIT_INO` in the
/// kernel's `include/linux/proc_ns.h`).
const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

impl Machine {
    /// Looks at this machine.
    pub fn read() -> Machine {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy().into_owned();
        let online = cpu_file("online").unwrap_or(Cpus(vec![0]));
        let namespace = |file, initial| {
            std::fs::metadata(file).is_ok_and(|namespace| namespace.ino() != initial)
        };
        Machine {
            host: name.nodename().to_string_lossy().into_owned(),
            version: version(&release),
            release,
            btf: maple_tree(),
            uid: rustix::process::geteuid().as_raw(),
            capabilities: capabilities(None)
                .map_or(CapabilitySet::empty(), |sets| sets.effective)
                .bits(),
            user_namespace: namespace("/proc/self/ns/user", INITIAL_USER_NAMESPACE),
            container: namespace("/proc/self/ns/pid", INITIAL_PID_NAMESPACE)
                || ["/.dockerenv", "/run/.containerenv"]
                    .iter()
                    .any(|file| Path::new(file).exists()),
            pid_namespace: namespace("/proc/self/ns/pid", INITIAL_PID_NAMESPACE),
            lockdown: line("/sys/kernel/security/lockdown").and_then(|text| selected(&text)),
            kptr_restrict: number("/proc/sys/kernel/kptr_restrict"),
            kernel_addresses: kernel_addresses(),
            paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
            max_sample_rate: number("/proc/sys/kernel/perf_event_max_sample_rate"),
            pmu: ["cpu", "cpu_core", "armv8_pmuv3_0"].iter().any(|pmu| {
                Path::new("/sys/bus/event_source/devices")
                    .join(pmu)
                    .exists()
            }),
            bpf: bpf(),
            perf_event: perf_event(online.0.first().copied().unwrap_or(0)),
            process_vm_pidfd: takes_flag(PROCESS_VM_PIDFD),
            process_vm_nowait: takes_flag(PROCESS_VM_NOWAIT),
            memory_lock: getrlimit(Resource::Memlock).current,
            procfs: Path::new("/proc/self/maps").exists(),
            sysfs: Path::new("/sys/kernel").exists(),
            online,
            isolated: cpu_file("isolated").unwrap_or_default(),
        }
    }

    /// Whether another process's memory can be read without waiting for it.
    pub fn reads_without_waiting(&self) -> bool {
        self.process_vm_pidfd && self.process_vm_nowait
    }

    /// Whether rprof has a capability.
    pub fn has(&self, capability: CapabilitySet) -> bool {
        self.capabilities & capability.bits() != 0
    }
}

/// A short file's text; `None` if it cannot be read or is empty.
fn line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
}

fn number<T: std::str::FromStr>(path: &str) -> Option<T> {
    line(path)?.parse().ok()
}

fn cpu_file(name: &str) -> Option<Cpus> {
    values::cpus(&line(&format!("/sys/devices/system/cpu/{name}"))?).ok()
}

/// `b` of `a [b] c`.
fn selected(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_string())
}

/// The numbers that `6.17.7-cloud-amd64` begins with.
fn version(release: &str) -> (u32, u32, u32) {
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// Whether the kernel's BTF knows a member `mm_mt`. The name alone is looked for: it came with the
/// maple tree in 6.1, and is no other type's. The start of sampling looks at the member itself.
fn maple_tree() -> Probe<bool> {
    let found = File::open("/sys/kernel/btf/vmlinux").and_then(|file| {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        let (start, length) = strings(&header).ok_or(io::ErrorKind::InvalidData)?;
        let mut names = vec![0; length];
        file.read_exact_at(&mut names, start)?;
        Ok(names.split(|&byte| byte == 0).any(|name| name == b"mm_mt"))
    });
    match found {
        Ok(found) => Probe::Works(found),
        Err(error) => Probe::Refused(error.raw_os_error().unwrap_or(0)),
    }
}

/// Bytes of `struct btf_header` (the kernel's `include/uapi/linux/btf.h`).
const HEADER: usize = 24;

/// Where the names stand in a BTF file, and how many bytes they take.
fn strings(header: &[u8; HEADER]) -> Option<(u64, usize)> {
    let word = |at: usize| {
        let bytes = header.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let magic = u16::from_ne_bytes([*header.first()?, *header.get(1)?]);
    let (header_length, offset, length) = (word(4)?, word(16)?, word(20)?);
    // Today's kernels have 1 to 3 MB of names.
    let sane = magic == 0xeb9f && length < 64 << 20;
    sane.then_some((
        u64::from(header_length) + u64::from(offset),
        length as usize,
    ))
}

/// Whether `/proc/kallsyms` shows addresses: under `kptr_restrict`, or without CAP_SYSLOG, all are
/// zero. The first symbols may be per-CPU ones at or near 0, so some kilobytes are looked at.
fn kernel_addresses() -> Option<bool> {
    let mut text = Vec::new();
    let file = File::open("/proc/kallsyms").ok()?;
    file.take(16 << 10).read_to_end(&mut text).ok()?;
    let address = |line: &[u8]| {
        line.split(|&b| b == b' ')
            .next()
            .is_some_and(|a| a.iter().any(|&b| b != b'0'))
    };
    (!text.is_empty()).then(|| {
        text.split(|&b| b == b'\n')
            .any(|line| !line.is_empty() && address(line))
    })
}

/// Loads a program that does nothing, and lets it go.
fn bpf() -> Probe<()> {
    match aya::sys::is_program_supported(ProgramType::PerfEvent) {
        Ok(true) => Probe::Works(()),
        Ok(false) => Probe::Refused(libc::EINVAL),
        Err(ProgramError::SyscallError(error)) => {
            Probe::Refused(error.io_error.raw_os_error().unwrap_or(0))
        }
        Err(_) => Probe::Refused(0),
    }
}

/// Opens a cpu-clock event that is switched off, for all processes on one CPU, and closes it.
fn perf_event(cpu: u32) -> Probe<()> {
    let mut attributes = perf::bindings::perf_event_attr {
        size: size_of::<perf::bindings::perf_event_attr>() as u32,
        type_: perf::bindings::PERF_TYPE_SOFTWARE,
        config: u64::from(perf::bindings::PERF_COUNT_SW_CPU_CLOCK),
        ..Default::default()
    };
    attributes.set_disabled(1);
    let cpu = i32::try_from(cpu).unwrap_or(0);
    let flags = perf::bindings::PERF_FLAG_FD_CLOEXEC;
    // SAFETY: `attributes` is a complete structure whose `size` is its own; it lives over the call.
    let fd = unsafe { perf::perf_event_open(&mut attributes, -1, cpu, -1, flags.into()) };
    if fd < 0 {
        return Probe::Refused(io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    // SAFETY: the descriptor is new and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Probe::Works(())
}

/// Whether `process_vm_readv` takes a flag. Flags are checked before anything else; without any
/// memory to read, the pid is not looked at.
fn takes_flag(flag: u64) -> bool {
    // SAFETY: both lists are empty, so neither pointer is followed and no memory is written.
    let read = unsafe { libc::process_vm_readv(0, std::ptr::null(), 0, std::ptr::null(), 0, flag) };
    read == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("6.17.7-cloud-amd64"), (6, 17, 7));
        assert_eq!(version("7.3-rc7"), (7, 3, 0));
        assert_eq!(version("6.1.0"), (6, 1, 0));
        assert_eq!(version("odd"), (0, 0, 0));
        assert_eq!(version("99999999999.1"), (0, 1, 0));
    }

    #[test]
    fn what_is_selected() {
        assert_eq!(
            selected("none [integrity] confidentiality"),
            Some("integrity".into())
        );
        assert_eq!(selected("none"), None);
    }

    #[test]
    fn btf_headers() {
        let mut header = [0u8; HEADER];
        assert_eq!(strings(&header), None);
        header[..2].copy_from_slice(&0xeb9fu16.to_ne_bytes());
        header[4..8].copy_from_slice(&24u32.to_ne_bytes());
        header[16..20].copy_from_slice(&100u32.to_ne_bytes());
        header[20..24].copy_from_slice(&7u32.to_ne_bytes());
        assert_eq!(strings(&header), Some((124, 7)));
        header[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(strings(&header), None);
    }

    #[test]
    fn an_unknown_flag_is_refused_and_none_is_not() {
        assert!(takes_flag(0));
        assert!(!takes_flag(1 << 40));
    }

    #[test]
    fn this_machine() {
        let machine = Machine::read();
        assert_eq!(machine.release, line("/proc/sys/kernel/osrelease").unwrap());
        assert_eq!(
            Some(machine.online.list()),
            line("/sys/devices/system/cpu/online")
        );
        if machine.version >= (6, 1, 0) && Path::new("/sys/kernel/btf/vmlinux").exists() {
            assert_eq!(machine.btf, Probe::Works(true));
        }
    }
}
