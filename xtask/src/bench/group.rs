//! What an agent uses with all its helpers, those that ended included: the CPU time of its cgroup.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Outcome;

/// A cgroup: its CPU time has that of readers which ended meanwhile.
pub(super) struct Group(PathBuf);

impl Group {
    /// An empty one.
    pub(super) fn new() -> Result<Self, String> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = roots
            .into_iter()
            .find(|root| root.join("cgroup.procs").is_file() && root.join("cpu.stat").is_file());
        let group = root.ok_or("no cgroup v2 hierarchy")?;
        let group = group.join(format!("rprof-bench-{}", std::process::id()));
        fs::create_dir_all(&group).map_err(|e| format!("{}: {e}", group.display()))?;
        Ok(Self(group))
    }

    /// Takes a process in, and with it all that it starts from then on.
    pub(super) fn take(&self, pid: u32) -> Outcome {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
            .map_err(|e| format!("{}: {e}", self.0.display()))
    }

    /// CPU time of all that was in it.
    pub(super) fn used(&self) -> Result<Duration, String> {
        let text = fs::read_to_string(self.0.join("cpu.stat")).unwrap_or_default();
        let micros = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        let micros = micros.and_then(|n| n.parse().ok());
        micros
            .map(Duration::from_micros)
            .ok_or_else(|| format!("no CPU time in {}", self.0.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A reader that nothing ended yet goes with the file system.
        let start = Instant::now();
        while fs::remove_dir(&self.0).is_err() && start.elapsed() < Duration::from_secs(2) {
            sleep(Duration::from_millis(20));
        }
    }
}
