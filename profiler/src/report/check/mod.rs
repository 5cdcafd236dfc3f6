//! What this machine allows: `rprof check` prints it line by line, and a recording that could not
//! work is refused with the same words before it begins. [`Machine`] comes in; [`Check`]s leave.
//! Reading the machine is [`machine`]'s, judging it is `rules`'.

pub mod machine;
mod rules;

pub use machine::{Machine, Probe};
pub use rules::checks;

use super::paint::Paint;
use crate::cli::failure::Failure;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Profiling works, but not as well as it could.
    Warning,
    /// Profiling cannot work.
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Missing => "missing",
        }
    }
}

/// One line of `rprof check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it went.
    pub state: State,
    /// What was found: a sentence without a full stop.
    pub found: String,
    /// What to type about it.
    pub next: Option<String>,
}

/// Whether all of this allows profiling; if not, the first reason.
///
/// # Errors
/// What is missing, and what to type; exit code 1.
pub fn allowed(checks: &[Check]) -> Result<(), Failure> {
    match checks.iter().find(|check| check.state == State::Missing) {
        None => Ok(()),
        Some(check) => {
            let failure = Failure::new(check.found.clone());
            Err(match &check.next {
                Some(next) => failure.next(next.clone()),
                None => failure.next("rprof check"),
            })
        }
    }
}

/// The lines of `rprof check`, and its verdict.
pub fn text(checks: &[Check], paint: Paint) -> String {
    let mut text = String::new();
    for check in checks {
        let state = format!("{:<7}", check.state.name());
        let state = match check.state {
            State::Ok => paint.green(&state),
            State::Warning => paint.yellow(&state),
            State::Missing => paint.red(&state),
        };
        text += &format!("{state}  {:<14}  {}\n", check.name, check.found);
        if let Some(next) = &check.next {
            text += &format!("{:25}try: {next}\n", "");
        }
    }
    let missing = checks
        .iter()
        .filter(|check| check.state == State::Missing)
        .count();
    text += &match missing {
        0 => "\nProfiling works here: rprof --all -d 10s\n".to_string(),
        1 => "\nProfiling cannot work here: one thing is missing.\n".to_string(),
        n => format!("\nProfiling cannot work here: {n} things are missing.\n"),
    };
    text
}

/// The same as JSON: `{"works": bool, "checks": [{"name", "state", "found", "next"}]}`.
pub fn json(checks: &[Check]) -> String {
    let lines: Vec<String> = checks
        .iter()
        .map(|check| {
            format!(
                "    {{\"name\": {}, \"state\": {}, \"found\": {}, \"next\": {}}}",
                string(check.name),
                string(check.state.name()),
                string(&check.found),
                check.next.as_deref().map_or("null".to_string(), string)
            )
        })
        .collect();
    format!(
        "{{\n  \"works\": {},\n  \"checks\": [\n{}\n  ]\n}}\n",
        allowed(checks).is_ok(),
        lines.join(",\n")
    )
}

/// A JSON string.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests;
