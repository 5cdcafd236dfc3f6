//! Least privilege: who runs as root can do far more than sampling needs. Each of our threads gives up the
//! rest once the command has been started, which is to have all of it; and a reader, which parses what
//! targets wrote, keeps what it takes to open their files, for reading.

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_no_new_privs};

/// What sampling goes on to need, and why:
/// - new chunks of rows (`BPF`), events of CPUs that come back (`PERFMON`), pages that stay (`IPC_LOCK`);
/// - readers that may do as much (below);
/// - kernel functions' addresses at the end (`SYSLOG`);
/// - signals for a command that is another user's (`KILL`);
/// - a profile in somebody's folder, owned by them (`CHOWN`, `DAC_OVERRIDE`, `FOWNER`).
const SAMPLING: CapabilitySet = READING
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYSLOG)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER);

/// What a reader needs: files by handle, and of folders that are not ours (`DAC_READ_SEARCH`), those of
/// other users' processes, their memory and `pagemap` (`SYS_PTRACE`), `map_files` (`CHECKPOINT_RESTORE`),
/// and pages that stay.
const READING: CapabilitySet = CapabilitySet::DAC_READ_SEARCH
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::IPC_LOCK);

/// What a thread of ours needs from the first tick on. `SYS_ADMIN` stays where it stands for what was split
/// off from it, and where nothing else opens events (of a CPU that comes back): Debian's and Ubuntu's kernels
/// at their highest `perf_event_paranoid`.
pub fn sample_only() {
    let mut kept = SAMPLING;
    let split = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let level: i32 = level.map_or(0, |text| text.trim().parse().unwrap_or(0));
    if level > 2 || !capabilities(None).is_ok_and(|sets| sets.effective.contains(split)) {
        kept |= CapabilitySet::SYS_ADMIN;
    }
    keep(kept);
}

/// What a reader needs: it starts nothing that may do more, and writes no file.
pub fn read_only() {
    let _ = set_no_new_privs(true);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Fsize, none);
    keep(READING);
}

/// Gives up all but these. It may be refused; then nothing has changed, and all works as before.
fn keep(kept: CapabilitySet) {
    if let Ok(mut sets) = capabilities(None) {
        sets.effective &= kept;
        sets.permitted &= kept;
        // Who is not root gives them to readers by those.
        sets.inheritable &= kept;
        let _ = set_capabilities(None, sets);
    }
}
