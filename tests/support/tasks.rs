//! Threads of other processes, as the kernel shows them: in which state they are, and stopping them as a
//! debugger does.

use std::ffi::c_void;
use std::ptr::null_mut;

/// A thread.
#[derive(Clone, Debug)]
pub struct Task {
    /// Thread id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// One letter, as in proc(5): `D` waits beyond every signal.
    pub state: char,
    /// Parent process.
    parent: u32,
    /// Process group.
    group: u32,
}

/// The threads of a process.
pub fn of_process(pid: u32) -> Vec<Task> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = folder.into_iter().flatten().flatten();
    threads
        .filter_map(|thread| parse(&std::fs::read_to_string(thread.path().join("stat")).ok()?))
        .collect()
}

/// The threads of all processes of a group.
pub fn of_group(group: u32) -> Vec<Task> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_group = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        stat.and_then(|stat| parse(&stat))
            .is_some_and(|task| task.group == group)
    };
    pids.filter(of_group).flat_map(of_process).collect()
}

/// The threads of all children of a process.
pub fn of_children(parent: u32) -> Vec<Task> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let tasks = pids.flat_map(of_process);
    tasks.filter(|task| task.parent == parent).collect()
}

/// Whether a thread still runs, or waits: what has ended may wait for init to notice.
pub fn lives(task: &Task) -> bool {
    let now = of_process(task.tid);
    now.iter()
        .any(|other| other.name == task.name && other.state != 'Z')
}

/// Functions of the kernel that a thread waits in, innermost first, a line each; empty if it is gone.
pub fn waits_in(task: &Task) -> String {
    let stack = std::fs::read_to_string(format!("/proc/{}/stack", task.tid));
    stack.unwrap_or_default()
}

/// The state of a process's thread of this name.
pub fn state_of_thread(pid: u32, name: &str) -> Option<char> {
    let threads = of_process(pid);
    let thread = threads.iter().find(|task| task.name == name)?;
    Some(thread.state)
}

fn parse(stat: &str) -> Option<Task> {
    let (tid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some(Task {
        tid: tid.parse().ok()?,
        name: name.into(),
        state: words.next()?.chars().next()?,
        parent: words.next()?.parse().ok()?,
        group: words.next()?.parse().ok()?,
    })
}

/// Threads that this one traces, stopped; they run on when it is dropped.
pub struct Stopped(Vec<libc::pid_t>);

impl Stopped {
    /// Stops all threads of a process.
    ///
    /// # Panics
    /// If it may not.
    pub fn all_threads(pid: u32) -> Self {
        let mut stopped = Self(Vec::new());
        for task in of_process(pid) {
            let tid = task.tid as libc::pid_t;
            for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
                // SAFETY: neither request reads or writes our memory.
                let done = unsafe { libc::ptrace(request, tid, null_mut::<c_void>(), 0usize) };
                assert_eq!(done, 0, "ptrace: {}", std::io::Error::last_os_error());
            }
            stopped.0.push(tid);
            // SAFETY: no status is wanted.
            let waited = unsafe { libc::waitpid(tid, null_mut(), libc::__WALL) };
            assert_eq!(waited, tid, "wait: {}", std::io::Error::last_os_error());
        }
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for &tid in &self.0 {
            // SAFETY: the request reads and writes none of our memory.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, null_mut::<c_void>(), 0usize) };
        }
    }
}
