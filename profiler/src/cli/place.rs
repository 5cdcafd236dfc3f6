//! Where the words stand: at rprof itself, at one of its tasks, or at a task of a task. Words come in; a name and how
//! to get its help leave. Both are read from the one definition in [`args`](super::args).

use std::ffi::OsString;

use clap::{Command, CommandFactory};

use super::args::Args;

/// A command of rprof's that words lead to.
pub(super) struct Place {
    command: Command,
    name: String,
}

impl Place {
    /// Where these words lead; the first is rprof's own name.
    pub(super) fn of(words: &[OsString]) -> Self {
        let mut place = Self {
            command: Args::command(),
            name: "rprof".into(),
        };
        for word in words.iter().skip(1) {
            let Some(command) = place.command.find_subcommand(word).cloned() else {
                break;
            };
            place.name = format!("{} {}", place.name, command.get_name());
            place.command = command;
        }
        place
    }

    /// Whether it is a task, and not rprof itself.
    pub(super) fn is_task(&self) -> bool {
        self.name != "rprof"
    }

    /// As it is typed: `rprof gate run`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What shows its options.
    pub(super) fn help(&self) -> String {
        format!("{} --help", self.name)
    }

    /// Its own tasks: `run, compare, calibrate`; empty if it has none.
    pub(super) fn tasks(&self) -> String {
        let tasks = self.command.get_subcommands().map(Command::get_name);
        tasks.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_to_a_task_of_a_task() {
        for (line, help, tasks) in [
            ("rprof gate", "rprof gate --help", "run, compare, calibrate"),
            ("rprof gate run --base x", "rprof gate run --help", ""),
            ("rprof push gate", "rprof push --help", ""),
            (
                "rprof -a check",
                "rprof --help",
                "check, push, gate, completions, man",
            ),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let place = Place::of(&words);
            assert_eq!(
                (place.help().as_str(), place.tasks().as_str()),
                (help, tasks),
                "{line}"
            );
        }
    }
}
