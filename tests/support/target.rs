//! Programs that run while they are profiled. They say `ready` on standard output when there is
//! something to see, and go on until their standard input ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running program, killed and waited for when dropped.
pub struct Target {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it said before `ready`.
    pub said: Vec<String>,
}

impl Target {
    /// Starts a program and waits for its `ready`.
    ///
    /// # Panics
    /// If it ends without saying so.
    pub fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut target = Self {
            child,
            stdout,
            said: Vec::new(),
        };
        loop {
            let mut line = String::new();
            let n = target.stdout.read_line(&mut line).expect("readable output");
            assert!(
                n > 0,
                "{command:?} ended before it was ready: {:?}",
                target.said
            );
            match line.trim_end() {
                "ready" => return target,
                other => target.said.push(other.to_string()),
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child");
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        // In one piece: it may not wait for the rest of a line.
        let line = format!("{line}\n");
        stdin.write_all(line.as_bytes()).expect("it listens");
    }

    /// Says a line to it; the line that it answers.
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).expect("readable output");
        answer
    }

    /// Ends its standard input; gives what else it said, and how it ended.
    pub fn end(mut self) -> (String, ExitStatus) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.stdout
            .read_to_string(&mut rest)
            .expect("readable output");
        let status = self.child.wait().expect("our own child");
        (rest, status)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
