//! What each finding about the machine means for profiling, and what to do about it: one function
//! for each line of `rprof check`. A [`Machine`] comes in, [`Check`]s leave; nothing is read here.

use rustix::thread::CapabilitySet;

use super::{Check, Machine, Probe, State};
use crate::cli::failure::reason;

/// Says what a machine allows. `as_root` is how the command at hand is typed as root.
pub fn checks(machine: &Machine, as_root: &str) -> Vec<Check> {
    let mut checks = vec![kernel(machine), btf(machine), privileges(machine, as_root)];
    if !machine.procfs {
        checks.push(missing("procfs", "/proc is not mounted").next("mount -t proc proc /proc"));
    }
    checks.extend(namespaces(machine));
    checks.push(lockdown(machine));
    // What the kernel refuses for want of privileges has been said by now.
    if checks.iter().all(|check| check.state != State::Missing) {
        checks.push(loads(machine));
        checks.push(opens(machine));
    }
    checks.push(sample_rate(machine));
    checks.push(event(machine));
    checks.push(cpu_clock());
    checks.push(paranoid(machine));
    checks.push(kernel_names(machine));
    checks.push(files(machine));
    checks.push(names(machine));
    checks.push(memory_lock(machine));
    checks.push(others(machine));
    checks.extend(isolated(machine));
    checks
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check {
        name,
        state: State::Ok,
        found: found.into(),
        next: None,
    }
}

fn warning(name: &'static str, found: impl Into<String>) -> Check {
    Check {
        state: State::Warning,
        ..ok(name, found)
    }
}

fn missing(name: &'static str, found: impl Into<String>) -> Check {
    Check {
        state: State::Missing,
        ..ok(name, found)
    }
}

impl Check {
    fn next(mut self, command: impl Into<String>) -> Check {
        self.next = Some(command.into());
        self
    }
}

/// What works where rprof does not.
const PERF: &str = "sudo perf record -F 99 -a -g -- sleep 10";

/// Decided by the kernel's own types where they can be read: distributions carry features back.
fn kernel(machine: &Machine) -> Check {
    let found = format!("Linux {}", machine.release);
    let has_tree = match machine.btf {
        Probe::Works(has_tree) => has_tree,
        Probe::Refused(_) => machine.version >= (6, 1, 0),
    };
    if !has_tree {
        return missing(
            "kernel",
            format!("{found} is too old: rprof needs Linux 6.1"),
        )
        .next(PERF);
    }
    match machine.version {
        // Fixed by stopping the timer outside of its own handler.
        (6, 16, _) | (6, 17, 0..=7) => warning(
            "kernel",
            format!("{found} can hang when a cpu-clock event is throttled; fixed in 6.17.8"),
        ),
        // 5.19 to 6.3; older than 6.1 has been refused. Fixed by "mm: Fix copy_from_user_nofault".
        (6, 1..=3, _) => warning(
            "kernel",
            format!("{found} can freeze when eBPF reads user memory, unless patched; fixed in 6.4"),
        ),
        _ => ok("kernel", found),
    }
}

fn btf(machine: &Machine) -> Check {
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    match machine.btf {
        Probe::Works(_) => ok("kernel types", FILE),
        Probe::Refused(_) if !machine.sysfs => {
            missing("kernel types", "/sys is not mounted").next("mount -t sysfs sysfs /sys")
        }
        Probe::Refused(libc::ENOENT) => missing(
            "kernel types",
            format!("there is no {FILE}: the kernel has no CONFIG_DEBUG_INFO_BTF"),
        )
        .next("grep CONFIG_DEBUG_INFO_BTF= /boot/config-$(uname -r)"),
        Probe::Refused(error) => missing(
            "kernel types",
            format!("cannot read {FILE}: {}", words(error)),
        )
        .next(format!("ls -l {FILE}")),
    }
}

/// The system's words for an error number.
fn words(error: i32) -> String {
    if error == 0 {
        "it makes no sense".to_string()
    } else {
        reason(&std::io::Error::from_raw_os_error(error))
    }
}

fn privileges(machine: &Machine, as_root: &str) -> Check {
    let admin = machine.has(CapabilitySet::SYS_ADMIN);
    // CAP_SYS_ADMIN still includes what was split off from it in 5.8.
    let lacking: Vec<&str> = [
        ("CAP_BPF", admin || machine.has(CapabilitySet::BPF)),
        ("CAP_PERFMON", admin || machine.has(CapabilitySet::PERFMON)),
        ("CAP_SYS_PTRACE", machine.has(CapabilitySet::SYS_PTRACE)),
    ]
    .into_iter()
    .filter_map(|(name, has)| (!has).then_some(name))
    .collect();
    let root = machine.uid == 0;
    match (lacking.is_empty(), root) {
        (true, true) => ok("privileges", "root"),
        (true, false) => ok("privileges", "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE"),
        (false, true) if !machine.container => missing(
            "privileges",
            format!(
                "root has no {} here: what started rprof gave it away (a service's settings, capsh)",
                lacking.join(", ")
            ),
        )
        .next("grep ^CapBnd /proc/self/status /proc/1/status"),
        (false, true) => missing(
            "privileges",
            format!("root has no {} in this container", lacking.join(", ")),
        )
        .next("docker run --privileged --pid=host IMAGE rprof --all -d 10s"),
        (false, false) => missing(
            "privileges",
            format!("profiling needs root, or {}", lacking.join(", ")),
        )
        .next(as_root),
    }
}

fn namespaces(machine: &Machine) -> Option<Check> {
    if machine.user_namespace {
        return Some(
            missing(
                "namespaces",
                "in a user namespace (a rootless container) root is not the host's root",
            )
            .next("sudo rprof --all -d 10s    (on the host)"),
        );
    }
    machine.pid_namespace.then(|| {
        warning(
            "namespaces",
            "in a pid namespace: processes outside of it go by the host's pids (host_pid), and some of their files may \
             not be found",
        )
        .next("docker run --privileged --pid=host IMAGE rprof --all -d 10s")
    })
}

/// `man 7 kernel_lockdown`; which operations each level refuses: `include/linux/security.h`.
fn lockdown(machine: &Machine) -> Check {
    match machine.lockdown.as_deref() {
        Some("confidentiality") => missing(
            "lockdown",
            "the kernel is locked down for confidentiality: eBPF may not read memory. \
             Boot with lockdown=integrity",
        )
        .next("cat /sys/kernel/security/lockdown"),
        Some(level) => ok("lockdown", level),
        None => ok(
            "lockdown",
            "not known: /sys/kernel/security is not mounted, or has no lockdown",
        ),
    }
}

fn loads(machine: &Machine) -> Check {
    match machine.bpf {
        Probe::Works(()) => ok("eBPF", "the kernel loads programs"),
        Probe::Refused(error) => refused(
            "eBPF",
            "the kernel does not load eBPF programs",
            error,
            "grep -E 'CONFIG_BPF_(SYSCALL|EVENTS)='",
        ),
    }
}

fn opens(machine: &Machine) -> Check {
    match machine.perf_event {
        Probe::Works(()) => ok("perf events", "the kernel opens them"),
        // Debian's and Ubuntu's kernels have a level that gives events to CAP_SYS_ADMIN alone.
        Probe::Refused(libc::EACCES)
            if machine.paranoid > Some(2) && !machine.has(CapabilitySet::SYS_ADMIN) =>
        {
            let level = machine.paranoid.unwrap_or_default();
            let what = format!(
                "the kernel opens no perf event while perf_event_paranoid is {level}, but for CAP_SYS_ADMIN"
            );
            missing("perf events", what).next("sudo sysctl kernel.perf_event_paranoid=2")
        }
        Probe::Refused(error) => refused(
            "perf events",
            "the kernel opens no perf event",
            error,
            "grep CONFIG_PERF_EVENTS=",
        ),
    }
}

/// A system call that the kernel was built without, or that a seccomp filter keeps from us.
fn refused(name: &'static str, what: &str, error: i32, built: &str) -> Check {
    let why = words(error);
    missing(
        name,
        format!("{what}: {why}. Without {name}, or by a seccomp filter"),
    )
    .next(format!(
        "{built} /boot/config-$(uname -r); grep Seccomp /proc/self/status"
    ))
}

fn sample_rate(machine: &Machine) -> Check {
    let setting = "sudo sysctl kernel.perf_event_max_sample_rate=100000";
    match machine.max_sample_rate {
        Some(rate) if rate < 20 => missing(
            "sample rate",
            format!("the kernel allows {rate} samples a second, and rprof takes 20"),
        )
        .next(setting),
        Some(rate) if rate < 199 => warning(
            "sample rate",
            format!("{rate} samples a second at most: say -F {rate} with -p and commands"),
        )
        .next(setting),
        Some(rate) => ok("sample rate", format!("{rate} samples a second at most")),
        None => ok("sample rate", "not known"),
    }
}

fn event(machine: &Machine) -> Check {
    if machine.pmu {
        ok(
            "event",
            "cpu-clock, and a hardware counter for --event cycles",
        )
    } else {
        ok("event", "cpu-clock; no hardware counter for --event cycles")
    }
}

/// What to know of the default event, on any machine.
fn cpu_clock() -> Check {
    ok(
        "cpu-clock",
        "wakes idle CPUs, and sees code that runs with interrupts off only at its end",
    )
}

fn paranoid(machine: &Machine) -> Check {
    match (machine.paranoid, machine.perf_event) {
        (Some(level), Probe::Works(())) => ok(
            "paranoid",
            format!("perf_event_paranoid is {level}: no obstacle with the privileges above"),
        ),
        (Some(level), _) => ok("paranoid", format!("perf_event_paranoid is {level}")),
        (None, _) => ok("paranoid", "perf_event_paranoid is not known"),
    }
}

fn kernel_names(machine: &Machine) -> Check {
    let nameless = "kernel frames will have no names";
    match (machine.kernel_addresses, machine.kptr_restrict) {
        (Some(true), _) => ok("kernel names", "/proc/kallsyms"),
        (None, _) => warning(
            "kernel names",
            format!("cannot read /proc/kallsyms: {nameless}"),
        ),
        (Some(false), Some(2..)) => {
            warning("kernel names", format!("kptr_restrict is 2: {nameless}"))
                .next("sudo sysctl kernel.kptr_restrict=1")
        }
        (Some(false), _) => warning("kernel names", format!("without CAP_SYSLOG {nameless}")),
    }
}

fn files(machine: &Machine) -> Check {
    // A reader keeps this one alone: CAP_SYS_ADMIN, from which it was split off, it gives up.
    let links = machine.has(CapabilitySet::CHECKPOINT_RESTORE);
    match (machine.has(CapabilitySet::DAC_READ_SEARCH), links) {
        (true, true) => ok(
            "files",
            "binaries can be opened even when they are deleted or replaced",
        ),
        (true, false) => warning(
            "files",
            "without CAP_CHECKPOINT_RESTORE deleted and replaced binaries have names only where the file \
             system knows handles (overlays do not)",
        ),
        (false, _) => warning(
            "files",
            "without CAP_DAC_READ_SEARCH binaries that were deleted or replaced, or that not everybody may reach, have \
             no names, and stacks are cut there",
        ),
    }
}

/// What only some ask for: it is no obstacle to all else.
fn others(machine: &Machine) -> Check {
    let has = |name, capability| (name, machine.has(capability));
    let lacking = |all: &[(&'static str, bool)]| {
        let names = all.iter().filter_map(|&(name, has)| (!has).then_some(name));
        names.collect::<Vec<_>>().join(", ")
    };
    let commands = lacking(&[
        has("CAP_SETUID", CapabilitySet::SETUID),
        has("CAP_SETGID", CapabilitySet::SETGID),
        has("CAP_KILL", CapabilitySet::KILL),
    ]);
    let folders = lacking(&[
        has("CAP_DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
        has("CAP_CHOWN", CapabilitySet::CHOWN),
        has("CAP_FOWNER", CapabilitySet::FOWNER),
    ]);
    let found = match (commands.is_empty(), folders.is_empty()) {
        (true, true) => {
            "commands run as any of them, profiles are written to folders of theirs".into()
        }
        (false, true) => format!("without {commands} no --user"),
        (true, false) => format!("without {folders} no profile in folders of theirs"),
        (false, false) => {
            format!(
                "without {commands} no --user, without {folders} no profile in folders of theirs"
            )
        }
    };
    ok("other users", found)
}

fn names(machine: &Machine) -> Check {
    let flags = [
        ("PROCESS_VM_PIDFD", machine.process_vm_pidfd),
        ("PROCESS_VM_NOWAIT", machine.process_vm_nowait),
    ];
    let lacking: Vec<&str> = flags
        .iter()
        .filter_map(|&(flag, has)| (!has).then_some(flag))
        .collect();
    if lacking.is_empty() {
        ok(
            "names",
            "read in the sample's own context, then by process_vm_readv without waiting",
        )
    } else {
        // A patch of 2026, in no released kernel yet: nothing anyone could do about it.
        ok(
            "names",
            format!(
                "read in the sample's own context; the kernel has no {}, as most",
                lacking.join(" and no ")
            ),
        )
    }
}

fn memory_lock(machine: &Machine) -> Check {
    match machine.memory_lock {
        Some(limit) if !machine.has(CapabilitySet::IPC_LOCK) => warning(
            "memory lock",
            format!("{} KiB: while the machine swaps, so may rprof", limit >> 10),
        )
        // A shell may not raise its own, only root for it.
        .next("sudo prlimit --pid $$ --memlock=unlimited"),
        _ => ok("memory lock", "no limit"),
    }
}

fn isolated(machine: &Machine) -> Option<Check> {
    if machine.isolated.0.is_empty() {
        return None;
    }
    let mut rest = machine.online.clone();
    rest.0.retain(|cpu| !machine.isolated.0.contains(cpu));
    let isolated = machine.isolated.list();
    Some(
        warning(
            "isolated CPUs",
            format!("{isolated}: the sampling timer disturbs them; spare them"),
        )
        .next(format!("sudo rprof --all --cpus {}", rest.list())),
    )
}
