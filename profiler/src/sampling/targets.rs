//! What is profiled, as the programs and the session need it.

use std::os::fd::OwnedFd;
use std::path::Path;

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

/// What workers leave out.
pub(super) fn selection(settings: &Settings) -> Selection {
    match &settings.target {
        Target::All { comm, .. } => Selection { comm: comm.clone() },
        Target::Pids { .. } | Target::Command(_) => Selection::default(),
    }
}

/// The cgroup that was asked for: its directory, and its id.
pub(super) fn wanted_cgroup(settings: &Settings) -> Result<Option<(&Path, u64)>, Failure> {
    let Target::All {
        cgroup: Some(directory),
        ..
    } = &settings.target
    else {
        return Ok(None);
    };
    match cgroup::id_of(directory) {
        Ok(id) => Ok(Some((directory, id))),
        Err(error) => Err(Failure::new(format!(
            "cannot sample the cgroup {}: {error}",
            directory.display()
        ))
        .next("systemd-cgls")),
    }
}

/// What is to be said if the cgroup that was asked for is not there any more.
pub(super) fn removed_cgroup(wanted: (&Path, u64)) -> Option<String> {
    let (directory, id) = wanted;
    (cgroup::id_of(directory).ok() != Some(id)).then(|| {
        format!(
            "The cgroup {} was removed while it was sampled: what ran in another one of that name \
             is not in the profile.",
            directory.display()
        )
    })
}

/// Samples a second of a machine without an idle CPU.
pub(super) fn samples_a_second(settings: &Settings) -> u64 {
    settings.cpus.0.len() as u64 * u64::from(settings.frequency)
}
