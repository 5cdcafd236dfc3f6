//! What is profiled, as the programs and the session need it.

use std::os::fd::OwnedFd;

use rprof_ebpf::select::target;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cgroup;
use super::select::Selection;
use crate::cli::Failure;
use crate::cli::settings::{Settings, Target};

/// The processes that were asked for, by pid, with bits of [`target`].
pub(super) fn wanted_processes(settings: &Settings) -> Vec<(u32, u32)> {
    match &settings.target {
        Target::All { .. } => Vec::new(),
        Target::Pids { pids, children } => {
            let descendants = if *children { target::DESCENDANTS } else { 0 };
            pids.iter()
                .map(|&pid| (pid, target::ITSELF | descendants))
                .collect()
        }
        // Orphans of the command become our children: the chain of parents always meets us.
        Target::Command(_) => vec![(std::process::id(), target::DESCENDANTS)],
    }
}

/// The processes that were asked for, with descriptors that become readable when they end.
pub(super) fn pidfds(settings: &Settings) -> Vec<(u32, OwnedFd)> {
    let Target::Pids { pids, .. } = &settings.target else {
        return Vec::new();
    };
    pids.iter()
        .filter_map(|&pid| {
            let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
            Some((pid, pidfd_open(raw, PidfdFlags::empty()).ok()?))
        })
        .collect()
}

pub(super) fn selection(settings: &Settings) -> Result<Selection, Failure> {
    let Target::All { cgroup, comm } = &settings.target else {
        return Ok(Selection::default());
    };
    let cgroup = match cgroup {
        None => None,
        Some(directory) => Some(cgroup::below_root(directory).ok_or_else(|| {
            Failure::new(format!(
                "{} is not in the cgroup v2 hierarchy",
                directory.display()
            ))
            .next("rprof --all")
        })?),
    };
    Ok(Selection {
        cgroup,
        comm: comm.clone(),
    })
}

/// Samples a second of a machine without an idle CPU.
pub(super) fn samples_a_second(settings: &Settings) -> u64 {
    settings.cpus.0.len() as u64 * u64::from(settings.frequency)
}
