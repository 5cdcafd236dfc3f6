//! Which processes see the same mounts: where the file of one that is gone may be found through
//! another. Filled by the reader from samples, asked by the learner.

use std::collections::HashMap;
use std::sync::Mutex;

/// Processes remembered of one mount namespace.
const EACH: usize = 4;
/// Mount namespaces remembered at most.
const MAX_NAMESPACES: usize = 1024;

/// Processes by mount namespace.
#[derive(Debug, Default)]
pub struct Neighbours(Mutex<HashMap<u32, Vec<u32>>>);

impl Neighbours {
    /// Remembers that a process (its pid as we see it) is in a namespace. The latest are kept.
    pub fn saw(&self, mount_ns: u32, pid: u32) {
        let Ok(mut namespaces) = self.0.lock() else {
            return;
        };
        if namespaces.len() >= MAX_NAMESPACES && !namespaces.contains_key(&mount_ns) {
            namespaces.clear();
        }
        let pids = namespaces.entry(mount_ns).or_default();
        if !pids.contains(&pid) {
            if pids.len() >= EACH {
                pids.remove(0);
            }
            pids.push(pid);
        }
    }

    /// The processes last seen in a namespace.
    pub fn of(&self, mount_ns: u32) -> Vec<u32> {
        let namespaces = self.0.lock();
        let pids = namespaces.map(|n| n.get(&mount_ns).cloned());
        pids.ok().flatten().unwrap_or_default()
    }
}
