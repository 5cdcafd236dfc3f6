//! What a profile of a command says of it in its comments: how it ended, what it took by its own clock, and what the
//! machine was like. Lines leave, and are read back where profiles are compared ([`crate::gate`]).

use std::process::ExitStatus;
use std::time::Duration;

use crate::cli::command::exit_code;
use crate::sampling::Ran;
use crate::sampling::conditions::Conditions;

const EXIT: &str = "command exit";
const CPU: &str = "command cpu ns";
const COUNTED: &str = "command task clock ns";
const INSTRUCTIONS: &str = "command instructions";
const BUSY: &str = "machine busy ns";
const STEAL: &str = "machine steal ns";
const THROTTLED: &str = "machine throttled ns";
const SLOWED: &str = "machine slowed";
const MODEL: &str = "machine cpu";

/// A command's run. What a profile does not tell is `None`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfCommand {
    /// Its exit code, or 128 + N if signal N killed it.
    pub exit: Option<u8>,
    /// CPU time of the command and its descendants that were waited for.
    pub cpu: Option<Duration>,
    /// That of all of them, by a counter: where a hypervisor takes CPUs away it counts that, too.
    pub counted: Option<Duration>,
    /// Their instructions, where the machine counts them.
    pub instructions: Option<u64>,
    /// The machine meanwhile.
    pub conditions: Conditions,
    /// The processor's name.
    pub model: Option<String>,
}

impl OfCommand {
    /// Of one that ended here.
    pub fn new(ended: ExitStatus, ran: &Ran) -> Self {
        Self {
            exit: Some(exit_code(ended)),
            cpu: Some(ran.cpu),
            counted: ran.counted,
            instructions: ran.instructions,
            conditions: ran.conditions,
            model: model(),
        }
    }

    /// As comments, `name: value`.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut add = |name: &str, value: String| lines.push(format!("{name}: {value}"));
        if let Some(exit) = self.exit {
            add(EXIT, exit.to_string());
        }
        if let Some(cpu) = self.cpu {
            add(CPU, cpu.as_nanos().to_string());
        }
        if let Some(counted) = self.counted {
            add(COUNTED, counted.as_nanos().to_string());
        }
        if let Some(instructions) = self.instructions {
            add(INSTRUCTIONS, instructions.to_string());
        }
        let Conditions {
            busy,
            steal,
            throttled,
            slowed,
        } = self.conditions;
        add(BUSY, busy.as_nanos().to_string());
        add(STEAL, steal.as_nanos().to_string());
        add(THROTTLED, throttled.as_nanos().to_string());
        add(SLOWED, slowed.to_string());
        if let Some(model) = &self.model {
            add(MODEL, model.clone());
        }
        lines
    }

    /// Reads comments, whoever wrote them.
    pub fn read<'a>(comments: impl Iterator<Item = &'a str>) -> Self {
        let mut of = Self::default();
        for comment in comments {
            let Some((name, value)) = comment.split_once(": ") else {
                continue;
            };
            let number = || value.parse().ok();
            let time = || number().map(Duration::from_nanos);
            match name {
                EXIT => of.exit = value.parse().ok(),
                CPU => of.cpu = time().filter(|cpu| !cpu.is_zero()),
                COUNTED => of.counted = time().filter(|counted| !counted.is_zero()),
                INSTRUCTIONS => of.instructions = number().filter(|number| *number > 0),
                BUSY => of.conditions.busy = time().unwrap_or_default(),
                STEAL => of.conditions.steal = time().unwrap_or_default(),
                THROTTLED => of.conditions.throttled = time().unwrap_or_default(),
                SLOWED => of.conditions.slowed = number().unwrap_or_default(),
                MODEL => of.model = Some(value.to_string()),
                _ => {}
            }
        }
        of
    }
}

/// `/proc/cpuinfo` has it on x86; elsewhere numbers that mean little.
fn model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let of = OfCommand {
            exit: Some(3),
            cpu: Some(Duration::from_micros(1_234_567)),
            counted: Some(Duration::from_nanos(1_334_567_001)),
            instructions: Some(9_876_543_210),
            conditions: Conditions {
                busy: Duration::from_secs(2),
                steal: Duration::from_millis(30),
                throttled: Duration::from_micros(5),
                slowed: 4,
            },
            model: Some("A CPU: fast".into()),
        };
        let lines = of.lines();
        assert_eq!(OfCommand::read(lines.iter().map(String::as_str)), of);
    }

    #[test]
    fn what_others_write() {
        let others = [
            "command cpu ns: -3",
            "command exit",
            "machine slowed: x",
            "",
        ];
        assert_eq!(OfCommand::read(others.into_iter()), OfCommand::default());
    }
}
