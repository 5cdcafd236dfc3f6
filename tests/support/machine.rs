//! The machine that the tests run on. Nothing here is changed for good.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::profile::Profile;

/// Fails the test with a sentence if it does not run as root: there is nothing to test then, and a
/// test that passes by skipping would hide it.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests sample the machine and need root: sudo -E cargo test -p rprof-tests"
    );
}

/// How many times slower this machine is than those that the tests are for: `RPROF_TESTS_SLOWER`, and 1
/// without it. An emulated processor is, and `cargo xtask vm` says so. What waits, and what bounds
/// wall-clock time, waits as many times longer ([`patience`]), and so may rprof's ticks
/// (`RPROF_FAULT=slow-machine`); nothing else that a test asks for is less.
///
/// # Panics
/// If it is no number from 1 to 50.
pub fn slower() -> u32 {
    let Some(said) = std::env::var_os("RPROF_TESTS_SLOWER") else {
        return 1;
    };
    let factor = said.to_str().and_then(|text| text.parse().ok());
    factor
        .filter(|factor| (1..=50).contains(factor))
        .expect("RPROF_TESTS_SLOWER: a number from 1 to 50")
}

/// A bound of wall-clock time, made for ordinary machines, on this one.
pub fn patience(ordinary: Duration) -> Duration {
    ordinary * slower()
}

/// How long something is to be looked at that takes so long on ordinary machines: a quarter of how much
/// slower this one is, and never less. What is paid once, as the start of an interpreter, has to be small
/// against it.
pub fn longer(ordinary: Duration) -> Duration {
    ordinary * (slower() / 4).max(1)
}

/// A rate of sampling, made for ordinary machines, on this one: an emulated processor delivers no more ticks.
pub fn rate(ordinary: f64) -> f64 {
    match slower() {
        1 => ordinary,
        _ => ordinary.min(99.0),
    }
}

/// Says, for `cargo xtask vm`, that a test's names were read by the kernel's flags.
///
/// # Panics
/// If there are none, or the profile was read in another way.
pub fn read_by_flags(test: &str, profile: &Profile) {
    let way = profile
        .comments
        .iter()
        .any(|comment| comment == "reads: process-vm");
    let names = profile.count(|stack| stack.interpreted().any(|f| !f.function.starts_with('[')));
    assert!(
        way && names > 0,
        "{names} samples with names: {:?}",
        profile.comments
    );
    println!("READ BY FLAGS: {test}: {names} samples with names");
}

/// The folder that this test was built into (`target/debug`).
pub fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a file");
    let folder = test
        .ancestors()
        .find(|f| f.file_name().is_some_and(|name| name == "deps"));
    folder
        .and_then(|deps| deps.parent())
        .expect("cargo puts tests into deps")
        .to_path_buf()
}

/// The machine for one test: held as long as the value lives. Tests of one file run at the same time
/// otherwise, and those of other builds too, and would take each other's CPU, or a CPU away altogether.
#[must_use = "the machine is shared again when this is dropped"]
pub struct Alone {
    #[expect(dead_code, reason = "locked while it is open")]
    lock: File,
}

/// Waits until no other test on this machine that asked for it has it.
pub fn alone() -> Alone {
    let lock = File::create("/run/rprof-tests.lock").expect("a lock file; these tests need root");
    lock.lock().expect("a lock");
    Alone { lock }
}

/// Online CPUs.
pub fn cpus() -> Vec<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").expect("online CPUs");
    let ranges = text.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().expect("a CPU")..=last.parse().expect("a CPU")
    });
    ranges.flatten().collect()
}

/// Looks again and again until `found` finds something. For what has no event to wait for.
///
/// # Panics
/// After [`patience`] of `bound`.
pub fn wait_for<T>(what: &str, bound: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let (start, patience) = (Instant::now(), patience(bound));
    loop {
        if let Some(it) = found() {
            return it;
        }
        assert!(
            start.elapsed() < patience,
            "waited {patience:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A cgroup of version 2 for a test; gone with it.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes it.
    ///
    /// # Panics
    /// If there is no such hierarchy.
    pub fn new(name: &str) -> Self {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        let root = mounts
            .into_iter()
            .find(|mount| mount.join("cgroup.procs").is_file());
        let folder = root.expect("a cgroup v2 hierarchy").join(name);
        std::fs::create_dir(&folder).expect("a cgroup");
        Self(folder)
    }

    /// Takes a process in, until the group or the process is gone.
    pub fn take(&self, pid: u32) {
        let taken = std::fs::write(self.0.join("cgroup.procs"), pid.to_string());
        taken.expect("a process that lives");
    }

    /// Has a command enter it before it becomes its program.
    pub fn enters(&self, command: &mut Command) {
        let members = File::options()
            .write(true)
            .open(self.0.join("cgroup.procs"));
        let members = members.expect("a cgroup");
        // SAFETY: only a system call, with a descriptor that stays open.
        unsafe {
            command.pre_exec(move || (&members).write_all(b"0"));
        }
    }

    /// Its directory.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Who is still in it goes on in the one above.
        let pids = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let _ = std::fs::write(self.0.join("../cgroup.procs"), pid);
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Those of some ways to read names (`--reads`) that this kernel has; if it lacks the one by flags, that is said.
pub fn ways_to_read(test: &str, ways: &[&'static str]) -> Vec<&'static str> {
    let mut ways = ways.to_vec();
    if !reads_without_waiting() {
        ways.retain(|way| *way != "process-vm");
        crate::skipped(test, "process-vm: this kernel cannot read without waiting");
    }
    ways
}

/// Whether this kernel reads other processes by pidfd and without waiting, as it says itself.
pub fn reads_without_waiting() -> bool {
    // `PROCESS_VM_PIDFD` and `PROCESS_VM_NOWAIT`; a kernel that has neither answers EINVAL to any flag.
    [1, 2].iter().all(|&flag| {
        // SAFETY: no vector is read or written.
        let n =
            unsafe { libc::process_vm_readv(0, std::ptr::null(), 0, std::ptr::null(), 0, flag) };
        n == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
    })
}
