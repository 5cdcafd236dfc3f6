//! From words to arguments. When the words make no sense, one sentence says why, and the next line
//! is what to type instead: clap's own messages are rewritten here, because they know the grammar
//! but not what the person wanted. Nothing here looks at the machine.

use std::ffi::OsString;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::{Args, SHORT_HELP};
use super::failure::{Failure, exit};
use super::place::Place;
use super::retype::{Retype, quoted};
use super::values::{LIST, Misread};

/// What the words come to.
#[derive(Debug)]
pub enum Parsed {
    /// Something to do.
    Args(Box<Args>),
    /// Help or version: for standard output, exit code 0.
    Answer(String),
    /// Nothing was typed: for standard error, exit code 2.
    Nothing(&'static str),
}

/// Words that the contract has and this version has not.
const LATER: [(&str, &str); 2] = [
    ("top", "sudo rprof --all -d 10s"),
    ("view", "go tool pprof -http=: rprof.pb.gz"),
];

/// What rprof does besides recording.
const TASKS: [&str; 5] = ["check", "completions", "gate", "man", "push"];

/// Reads a command line; the first word is rprof's own name.
///
/// # Errors
/// One sentence and what to type instead; exit code 2.
pub fn parse(words: &[OsString]) -> Result<Parsed, Failure> {
    if words.len() <= 1 {
        return Ok(Parsed::Nothing(SHORT_HELP));
    }
    match Args::try_parse_from(joined(words)) {
        Ok(args) => Ok(Parsed::Args(Box::new(args))),
        Err(error) if error.exit_code() == i32::from(exit::DONE) => {
            Ok(Parsed::Answer(error.render().to_string()))
        }
        Err(error) => Err(explain(&error, words)),
    }
}

/// The words with values like `-1s` joined to the option before: else they would be options.
fn joined(words: &[OsString]) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::with_capacity(words.len());
    let end = words.iter().position(|word| word == "--");
    let (options, command) = words.split_at(end.unwrap_or(words.len()));
    for word in options {
        let bytes = word.as_encoded_bytes();
        let negative = bytes.first() == Some(&b'-') && bytes.get(1).is_some_and(u8::is_ascii_digit);
        match joined.last_mut() {
            Some(last) if negative && NUMBERS.iter().any(|option| last == option) => {
                last.push("=");
                last.push(word);
            }
            _ => joined.push(word.clone()),
        }
    }
    joined.extend_from_slice(command);
    joined
}

/// Options whose values begin with a number.
const NUMBERS: [&str; 12] = [
    "-p",
    "--pid",
    "-F",
    "--freq",
    "-d",
    "--duration",
    "--cpus",
    "--max-memory",
    "--threshold",
    "--runs",
    "--budget",
    "--seed",
];

/// Says in our words what clap found.
fn explain(error: &clap::Error, words: &[OsString]) -> Failure {
    let get = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let again = Retype::new(words);
    let place = Place::of(words);
    let help = place.help();
    let argument = get(ContextKind::InvalidArg).unwrap_or_default();
    let value = get(ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            let word = get(ContextKind::InvalidSubcommand).unwrap_or(argument);
            let near = get(ContextKind::SuggestedArg);
            unknown(&word, near, words, &place)
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            needs_value(name_of(&argument), &again, help)
        }
        ErrorKind::InvalidValue => {
            let values = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) => values.as_slice(),
                _ => &[],
            };
            match name_of(&argument) {
                "<SHELL>" => Failure::usage(format!(
                    "no completions for '{value}', only {}",
                    values.join("|")
                ))
                .next("rprof completions bash"),
                name => {
                    let near = get(ContextKind::SuggestedValue);
                    let near = near.as_ref().or(values.first()).map(String::as_str);
                    Failure::usage(format!(
                        "'{value}' is not a value of {name}, only {}",
                        values.join("|")
                    ))
                    .next(again.with(names(name), near))
                }
            }
        }
        ErrorKind::ValueValidation => {
            let name = name_of(&argument);
            let misread = std::error::Error::source(error);
            let misread = misread.and_then(|source| source.downcast_ref::<Misread>());
            let why = misread.map_or(String::new(), |misread| format!(": {misread}"));
            let failure = Failure::usage(format!("{name} '{value}'{why}"));
            match misread.cloned() {
                Some(Misread {
                    instead: Some(value),
                    ..
                }) => failure.next(again.with(names(name), Some(&value))),
                Some(Misread {
                    look: Some(command),
                    ..
                }) => failure.next(command),
                _ => failure.next(help),
            }
        }
        ErrorKind::ArgumentConflict => Failure::usage(format!(
            "{} cannot stand together with {}",
            name_of(&argument),
            get(ContextKind::PriorArg).map_or("the rest".to_string(), |a| name_of(&a).to_string())
        ))
        .next(help),
        ErrorKind::MissingRequiredArgument => Failure::usage(format!("{argument} is missing"))
            .next(missing(words).map_or(help, String::from)),
        ErrorKind::InvalidUtf8 => Failure::usage("an option's value is not valid UTF-8").next(help),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let (name, tasks) = (place.name(), place.tasks());
            Failure::usage(format!("{name} needs one of {tasks}")).next(help)
        }
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            Failure::usage(first.trim_start_matches("error: ")).next(help)
        }
    }
}

/// A value for each option that may have lost its own.
const VALUES: [(&str, &str); 12] = [
    ("--freq", "99"),
    ("--duration", "10s"),
    ("--event", "cpu-clock"),
    ("--cpus", "0"),
    ("--reads", "auto"),
    ("--on-fault", "mark"),
    ("--max-memory", "256MiB"),
    ("--output", "rprof.pb.gz"),
    ("--format", "pprof"),
    ("--label", "key=value"),
    ("--comm", "python*"),
    ("--color", "auto"),
];

fn needs_value(name: &str, again: &Retype, help: String) -> Failure {
    let failure = Failure::usage(format!("{name} needs a value"));
    match VALUES.iter().find(|(option, _)| *option == name) {
        Some((_, value)) => failure.next(again.with(names(name), Some(value))),
        None => failure.next(match name {
            "--pid" => LIST.into(),
            "--user" => "getent passwd | cut -d: -f1".into(),
            "--cgroup" => "systemd-cgls".into(),
            _ => help,
        }),
    }
}

/// An option's short form (empty if it has none) and its long form.
fn names(long: &str) -> [&str; 2] {
    let short = match long {
        "--pid" => "-p",
        "--freq" => "-F",
        "--duration" => "-d",
        "--output" => "-o",
        _ => "",
    };
    [short, long]
}

/// `--freq` of `--freq <HZ>`.
fn name_of(argument: &str) -> &str {
    argument.split([' ', '=']).next().unwrap_or(argument)
}

/// What to type when a word is missing after a subcommand, if there is an example.
fn missing(words: &[OsString]) -> Option<&'static str> {
    let typed = |task: &str| words.iter().any(|word| word == task);
    if typed("completions") {
        Some("rprof completions bash")
    } else if typed("push") {
        Some("rprof push rprof.pb.gz --to pyroscope+http://127.0.0.1:4040")
    } else {
        None
    }
}

/// A word or an option that means nothing here.
fn unknown(word: &str, near: Option<String>, words: &[OsString], place: &Place) -> Failure {
    if let Some((_, instead)) = LATER.iter().find(|(later, _)| name_of(word) == *later) {
        return Failure::usage(format!("{} is not in this version yet", name_of(word)))
            .next(*instead);
    }
    if TASKS.contains(&word) {
        return Failure::usage(format!(
            "{word} stands alone, without options of a recording"
        ))
        .next(format!("rprof {word}"));
    }
    let option = word.starts_with('-');
    if place.is_task() {
        let kind = if option { "option " } else { "" };
        let only = match place.tasks() {
            tasks if tasks.is_empty() || option => String::new(),
            tasks => format!(", only {tasks}"),
        };
        let name = place.name();
        return Failure::usage(format!("{name} knows no {kind}{word}{only}")).next(place.help());
    }
    if option {
        let failure = Failure::usage(format!("there is no option {word}"));
        return failure.next(near.map_or("rprof --help".into(), |near| format!("rprof {near}")));
    }
    if word.split(',').all(|part| part.parse::<u32>().is_ok()) {
        return Failure::usage(format!("pids are given with -p: '{word}'"))
            .next(format!("rprof -p {word}"));
    }
    let mut line = String::from("rprof");
    let mut seen = false;
    for typed in words.iter().skip(1).map(|w| w.to_string_lossy()) {
        if !seen && typed == word {
            seen = true;
            line.push_str(" --");
        }
        line.push(' ');
        line.push_str(&quoted(&typed));
    }
    Failure::usage(format!(
        "'{word}' is no task of rprof; a command to run stands after --"
    ))
    .next(line)
    .next("rprof --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        let words: Vec<OsString> = std::iter::once("rprof")
            .chain(line.split_whitespace())
            .map(OsString::from)
            .collect();
        match parse(&words) {
            Err(failure) => {
                assert_eq!(failure.exit_code(), 2, "{line}");
                failure.to_string()
            }
            Ok(other) => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn mistakes() {
        let cases = [
            (
                "top",
                "top is not in this version yet\n  try: sudo rprof --all -d 10s",
            ),
            (
                "view x.pb.gz",
                "view is not in this version yet\n  try: go tool pprof -http=: rprof.pb.gz",
            ),
            (
                "gate --max 5%",
                "rprof gate knows no option --max\n  try: rprof gate --help",
            ),
            (
                "gate nonsense",
                "rprof gate knows no nonsense, only run, compare, calibrate\n  try: rprof gate --help",
            ),
            (
                "gate",
                "rprof gate needs one of run, compare, calibrate\n  try: rprof gate --help",
            ),
            (
                "gate run --max 5%",
                "rprof gate run knows no option --max\n  try: rprof gate run --help",
            ),
            (
                "gate compare",
                "--head <FILE>... is missing\n  try: rprof gate compare --help",
            ),
            (
                "gate calibrate --cmd",
                "--cmd needs a value\n  try: rprof gate calibrate --help",
            ),
            (
                "./server --port 1",
                "'./server' is no task of rprof; a command to run stands after --\n  try: rprof -- ./server --port 1\n  try: rprof --help",
            ),
            (
                "-F 99 ./a",
                "'./a' is no task of rprof; a command to run stands after --\n  try: rprof -F 99 -- ./a\n  try: rprof --help",
            ),
            (
                "1234",
                "pids are given with -p: '1234'\n  try: rprof -p 1234",
            ),
            (
                "chek",
                "'chek' is no task of rprof; a command to run stands after --\n  try: rprof -- chek\n  try: rprof --help",
            ),
            ("--al", "there is no option --al\n  try: rprof --all"),
            ("--zzz", "there is no option --zzz\n  try: rprof --help"),
            (
                "-a -d 10",
                "--duration '10': a time is a number and a unit: 500ms, 10s, 5m or 1h\n  try: rprof -a -d 10s",
            ),
            (
                "-a -F 0",
                "--freq '0': at 0 samples a second there is no profile\n  try: rprof -a -F 99",
            ),
            (
                "-a --format png",
                "'png' is not a value of --format, only pprof|folded|svg|firefox\n  try: rprof -a --format pprof",
            ),
            (
                "-a -o",
                "--output needs a value\n  try: rprof -a -o rprof.pb.gz",
            ),
            (
                "-a -d -o x",
                "--duration needs a value\n  try: rprof -a -o x -d 10s",
            ),
            (
                "-a -d -1s",
                "--duration '-1s': time does not run backwards\n  try: rprof -a -d 1s",
            ),
            (
                "-p 1, -q",
                "--pid '1,': a comma is too many\n  try: rprof -q -p 1",
            ),
            (
                "-p -1",
                "--pid '-1': a pid is a positive number; several are written 12,34\n  \
                 try: ps -eo pid,pcpu,comm --sort=-pcpu | head",
            ),
            (
                "-a --format=folder",
                "'folder' is not a value of --format, only pprof|folded|svg|firefox\n  \
                 try: rprof -a --format folded",
            ),
            (
                "-a check",
                "check stands alone, without options of a recording\n  try: rprof check",
            ),
            ("man x", "rprof man knows no x\n  try: rprof man --help"),
            (
                "check --foo",
                "rprof check knows no option --foo\n  try: rprof check --help",
            ),
            (
                "completions tcsh",
                "no completions for 'tcsh', only bash|elvish|fish|powershell|zsh\n  try: rprof completions bash",
            ),
            (
                "completions",
                "<SHELL> is missing\n  try: rprof completions bash",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(said(line), format!("rprof: {expected}"), "{line}");
        }
    }

    #[test]
    fn what_the_command_is_given_stays() {
        let words = ["rprof", "-d", "-1s", "--", "x", "-d", "-1s"].map(OsString::from);
        assert_eq!(joined(&words), ["rprof", "-d=-1s", "--", "x", "-d", "-1s"]);
    }

    #[test]
    fn answers() {
        let answer = |word: &str| match parse(&["rprof".into(), word.into()]) {
            Ok(Parsed::Answer(text)) => text,
            other => panic!("{word}: {other:?}"),
        };
        assert!(answer("--version").starts_with("rprof "));
        for word in ["-h", "--help"] {
            let help = answer(word);
            assert!(help.contains("--on-fault"), "{help}");
            for later in ["top", "view"] {
                let listed = help.split_whitespace().any(|word| word == later);
                assert!(!listed, "{later}: {help}");
            }
        }
        assert!(matches!(parse(&["rprof".into()]), Ok(Parsed::Nothing(_))));
        assert!(matches!(parse(&[]), Ok(Parsed::Nothing(_))));
    }
}
