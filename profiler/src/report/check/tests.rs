//! What is said about made-up machines.

use rustix::thread::CapabilitySet;

use super::*;
use crate::cli::values::Cpus;

const ROOT: &str = "sudo rprof check";

/// A machine on which everything is as it should be.
fn good() -> Machine {
    Machine {
        release: "6.18.1".into(),
        version: (6, 18, 1),
        btf: Probe::Works(true),
        procfs: true,
        sysfs: true,
        uid: 0,
        capabilities: u64::MAX,
        lockdown: Some("none".into()),
        kptr_restrict: Some(0),
        kernel_addresses: Some(true),
        paranoid: Some(2),
        max_sample_rate: Some(100_000),
        pmu: true,
        process_vm_pidfd: true,
        process_vm_nowait: true,
        online: Cpus(vec![0, 1, 2, 3]),
        ..Machine::default()
    }
}

/// The only line that is not ok.
fn odd(machine: Machine) -> Check {
    let mut odd = checks(&machine, ROOT);
    odd.retain(|check| check.state != State::Ok);
    assert_eq!(odd.len(), 1, "{odd:#?}");
    odd.remove(0)
}

fn is(machine: Machine, state: State, name: &str, words: &str) {
    let check = odd(machine);
    assert_eq!((check.state, check.name), (state, name), "{check:?}");
    assert!(check.found.contains(words), "{check:?}");
}

#[test]
fn a_good_machine() {
    let checks = checks(&good(), ROOT);
    assert!(
        checks.iter().all(|check| check.state == State::Ok),
        "{checks:#?}"
    );
    assert_eq!(allowed(&checks), Ok(()));
    let text = text(&checks, Paint::default());
    assert!(
        text.starts_with("ok       kernel          Linux 6.18.1\n"),
        "{text}"
    );
    assert!(
        text.ends_with("\nProfiling works here: rprof --all -d 10s\n"),
        "{text}"
    );
}

#[test]
fn kernels() {
    let old = |version| Machine {
        version,
        release: "X".into(),
        ..good()
    };
    for (version, words) in [
        ((6, 16, 0), "6.17.8"),
        ((6, 17, 7), "6.17.8"),
        ((6, 1, 120), "6.4"),
        ((6, 3, 9), "6.4"),
    ] {
        is(old(version), State::Warning, "kernel", words);
    }
    for version in [(6, 4, 0), (6, 12, 3), (6, 15, 9), (6, 17, 8), (7, 0, 0)] {
        assert!(allowed(&checks(&old(version), ROOT)).is_ok());
        assert!(
            checks(&old(version), ROOT)
                .iter()
                .all(|c| c.state == State::Ok),
            "{version:?}"
        );
    }
    // The type decides, not the number: distributions carry features back, or leave them out.
    let without = Machine {
        btf: Probe::Works(false),
        ..old((6, 18, 0))
    };
    let failure = allowed(&checks(&without, ROOT)).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "rprof: Linux X is too old: rprof needs Linux 6.1\n  \
         try: sudo perf record -F 99 -a -g -- sleep 10"
    );
    assert!(allowed(&checks(&old((5, 14, 0)), ROOT)).is_ok());
}

#[test]
fn no_types() {
    let machine = Machine {
        btf: Probe::Refused(libc::ENOENT),
        ..good()
    };
    is(
        machine,
        State::Missing,
        "kernel types",
        "CONFIG_DEBUG_INFO_BTF",
    );
    let machine = Machine {
        btf: Probe::Refused(libc::EACCES),
        ..good()
    };
    is(machine, State::Missing, "kernel types", "Permission denied");
}

#[test]
fn privileges() {
    let machine = Machine {
        uid: 1000,
        capabilities: 0,
        ..good()
    };
    let failure = allowed(&checks(&machine, "sudo rprof --all")).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "rprof: profiling needs root, or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE\n  \
         try: sudo rprof --all"
    );
    assert_eq!(failure.exit_code(), 1);

    let without = |capability: CapabilitySet| Machine {
        capabilities: !capability.bits(),
        ..good()
    };
    let no_admin = without(CapabilitySet::SYS_ADMIN | CapabilitySet::BPF);
    is(
        no_admin,
        State::Missing,
        "privileges",
        "root has no CAP_BPF here",
    );
    is(
        without(CapabilitySet::SYS_PTRACE),
        State::Missing,
        "privileges",
        "CAP_SYS_PTRACE",
    );
    is(
        without(CapabilitySet::DAC_READ_SEARCH),
        State::Warning,
        "files",
        "CAP_DAC_READ_SEARCH",
    );
    is(
        without(CapabilitySet::CHECKPOINT_RESTORE),
        State::Warning,
        "files",
        "CAP_CHECKPOINT_RESTORE",
    );
    let few = checks(
        &without(CapabilitySet::SETGID | CapabilitySet::FOWNER),
        ROOT,
    );
    let said = "without CAP_SETGID no --user, without CAP_FOWNER no profile in folders of theirs";
    assert!(few.iter().any(|check| check.found == said), "{few:#?}");
    for harmless in [
        // Root in many containers and virtual machines has it not.
        CapabilitySet::SYS_RESOURCE,
        CapabilitySet::BPF | CapabilitySet::PERFMON,
        CapabilitySet::SYS_ADMIN,
    ] {
        let checks = checks(&without(harmless), ROOT);
        assert!(
            checks.iter().all(|check| check.state == State::Ok),
            "{checks:#?}"
        );
    }
    let few = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::SYS_PTRACE;
    let user = Machine {
        uid: 1000,
        capabilities: few.bits(),
        ..good()
    };
    assert_eq!(allowed(&checks(&user, ROOT)), Ok(()));
}

#[test]
fn containers_and_lockdown() {
    let rootless = Machine {
        user_namespace: true,
        ..good()
    };
    is(rootless, State::Missing, "namespaces", "rootless");
    let inside = Machine {
        pid_namespace: true,
        ..good()
    };
    is(inside, State::Warning, "namespaces", "pid namespace");
    for (level, state) in [
        ("integrity", State::Ok),
        ("confidentiality", State::Missing),
    ] {
        let machine = Machine {
            lockdown: Some(level.into()),
            ..good()
        };
        let checks = checks(&machine, ROOT);
        let lockdown = checks
            .iter()
            .find(|check| check.name == "lockdown")
            .unwrap();
        assert_eq!(lockdown.state, state);
    }
}

#[test]
fn a_level_that_gives_events_to_the_administrator_alone() {
    let machine = Machine {
        perf_event: Probe::Refused(libc::EACCES),
        paranoid: Some(3),
        capabilities: !CapabilitySet::SYS_ADMIN.bits(),
        ..good()
    };
    let check = odd(machine);
    assert!(
        check.found.contains("perf_event_paranoid is 3"),
        "{check:?}"
    );
    assert_eq!(
        check.next.as_deref(),
        Some("sudo sysctl kernel.perf_event_paranoid=2")
    );
}

#[test]
fn what_the_kernel_refuses() {
    let filtered = Machine {
        bpf: Probe::Refused(libc::EPERM),
        ..good()
    };
    is(filtered, State::Missing, "eBPF", "Operation not permitted");
    let filtered = Machine {
        perf_event: Probe::Refused(libc::ENOSYS),
        ..good()
    };
    is(
        filtered,
        State::Missing,
        "perf events",
        "Function not implemented",
    );
}

#[test]
fn limits() {
    let rate = |rate| Machine {
        max_sample_rate: Some(rate),
        ..good()
    };
    is(rate(10), State::Missing, "sample rate", "10 samples");
    is(rate(100), State::Warning, "sample rate", "-F 100");
    let small = Machine {
        memory_lock: Some(8 << 20),
        capabilities: !CapabilitySet::IPC_LOCK.bits(),
        ..good()
    };
    is(small, State::Warning, "memory lock", "8192 KiB");
    let hidden = |kptr_restrict| Machine {
        kernel_addresses: Some(false),
        kptr_restrict: Some(kptr_restrict),
        ..good()
    };
    is(
        hidden(2),
        State::Warning,
        "kernel names",
        "kptr_restrict is 2",
    );
    is(hidden(1), State::Warning, "kernel names", "CAP_SYSLOG");
}

#[test]
fn isolated_cpus() {
    let machine = Machine {
        isolated: Cpus(vec![2, 3]),
        ..good()
    };
    let check = odd(machine);
    assert_eq!(check.next.as_deref(), Some("sudo rprof --all --cpus 0-1"));
}

#[test]
fn json_is_escaped() {
    assert_eq!(string("a\"b\\c\n\u{1b}é"), "\"a\\\"b\\\\c\\u000a\\u001bé\"");
    let json = json(&checks(&good(), ROOT));
    assert!(json.starts_with("{\n  \"works\": true,\n  \"checks\": [\n    {\"name\": \"kernel\""));
}
