//! What a stack is labelled with, from what the kernel says of its task.

use std::collections::HashMap;
use std::sync::Arc;

use rprof_ebpf::identity::{COMM_LEN, Task};

/// Names kept at most; threads can be renamed at will.
const MAX_NAMES: usize = 16 << 10;

/// Process and thread id as rprof sees them, or the host's and `true`, where it sees none.
pub fn ids(task: &Task) -> (u32, u32, bool) {
    if task.own.tgid != 0 {
        (task.own.tgid, task.own.tid, false)
    } else {
        (task.host.tgid, task.host.tid, true)
    }
}

/// Names of processes and threads, each kept once.
#[derive(Debug, Default)]
pub struct Comms(HashMap<[u8; COMM_LEN], Arc<str>>);

impl Comms {
    /// The text of a `comm`.
    pub fn get(&mut self, comm: &[u8; COMM_LEN]) -> Arc<str> {
        if let Some(name) = self.0.get(comm) {
            return name.clone();
        }
        if self.0.len() >= MAX_NAMES {
            self.0.clear();
        }
        let text = comm.split(|&b| b == 0).next().unwrap_or_default();
        let name: Arc<str> = String::from_utf8_lossy(text).into();
        self.0.insert(*comm, name.clone());
        name
    }
}
