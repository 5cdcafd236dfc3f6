//! The `rprof` binary: glue. Words go in, an exit code leaves; the work is in the library.

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::process::ExitCode;

use rustix::time::{ClockId, Timespec, clock_gettime};

use rprof_profiler::cli::args::{Color, Record, Task};
use rprof_profiler::cli::command::exit_code;
use rprof_profiler::cli::failure::exit;
use rprof_profiler::cli::parse::{Parsed, parse};
use rprof_profiler::cli::retype::Retype;
use rprof_profiler::cli::settings::{Target, Verbosity, colored};
use rprof_profiler::cli::{Failure, Settings, documents};
use rprof_profiler::gate;
use rprof_profiler::gate::tasks::orphan;
use rprof_profiler::profile::output::{Format, Output};
use rprof_profiler::profile::{self, About};
use rprof_profiler::push::gather::Run;
use rprof_profiler::push::publisher::{self, Outcomes, Publisher};
use rprof_profiler::push::{self, files::Push};
use rprof_profiler::reader;
use rprof_profiler::report::check::{self, Machine};
use rprof_profiler::report::command::OfCommand;
use rprof_profiler::report::comments::comments;
use rprof_profiler::report::paint::Paint;
use rprof_profiler::report::summary::{Rankings, SummaryData, summary};
use rprof_profiler::sampling::limits::Limits;
use rprof_profiler::sampling::{self, Recording, child};

fn main() -> ExitCode {
    let started = clock_gettime(ClockId::Monotonic);
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.first().is_some_and(|name| name == reader::NAME) {
        reader::serve(words.get(1).map(OsString::as_os_str));
        return ExitCode::SUCCESS;
    }
    Limits::raise();
    match run(&words, started) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&format!("{failure}\n"));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(words: &[OsString], started: Timespec) -> Result<u8, Failure> {
    let args = match parse(words)? {
        Parsed::Args(args) => *args,
        Parsed::Answer(text) => return answer(text.as_bytes()),
        Parsed::Nothing(help) => {
            say(help);
            return Ok(exit::USAGE);
        }
    };
    match args.task {
        None => record(&args.record, words, started),
        Some(Task::Check { json, color }) => checked(json, color, words),
        Some(Task::Push {
            files,
            to,
            label,
            server,
            quiet,
        }) => {
            let typed = Push {
                files,
                to,
                labels: label,
                server,
            };
            let tell = |line: &str| {
                if !quiet {
                    say(&format!("rprof: {line}\n"));
                }
            };
            push::files::push(&typed, &tell).map(|()| exit::DONE)
        }
        Some(Task::Gate { gate }) => gate::tasks::gate(&gate, &say),
        Some(Task::Completions { shell }) => answer(&documents::completions(shell)),
        Some(Task::Man) => {
            let page = documents::man();
            answer(&page.map_err(|error| Failure::new(format!("no manual page: {error}")))?)
        }
    }
}

/// Records a profile.
fn record(typed: &Record, words: &[OsString], started: Timespec) -> Result<u8, Failure> {
    let gate = orphan::gate(words);
    if let Some(gate) = gate {
        orphan::end_with(gate);
    }
    let again = Retype::new(words);
    let machine = Machine::read();
    let settings = Settings::resolve(typed, &machine, &again)?;
    check::allowed(&check::checks(&machine, &again.as_root()))?;
    let output = output(&settings, gate.is_some(), &again)?;
    let publisher = match &settings.push {
        Some(push) => Some(publisher(push, &settings)?),
        None => None,
    };
    let publish = publisher
        .map(|publisher| publisher.publish(run_of(&settings, &machine)))
        .transpose()?;
    let (publish, outcomes) = publish.unzip();
    if settings.kernel
        && settings.verbosity > Verbosity::Quiet
        && machine.kernel_addresses != Some(true)
    {
        say("rprof: kernel functions will have no names; `rprof check` says why\n");
    }
    let recording = sampling::record(&settings, &machine, publish)
        .map_err(|failure| failure.or_more_files(&again))?;
    if settings.verbosity >= Verbosity::Verbose
        && let Some(first) = recording.first_sample
    {
        let started = started.tv_sec as u64 * 1_000_000_000 + started.tv_nsec as u64;
        let after = first.saturating_sub(started) as f64 / 1e9;
        say(&format!("first sample after {after:.3} s\n"));
    }
    let mut code = finish(&settings, &machine, output.as_ref(), &again, recording);
    for outcome in outcomes.map(Outcomes::end).into_iter().flatten() {
        if settings.verbosity > Verbosity::Quiet {
            say(&format!("rprof: {outcome}\n"));
        }
        if outcome.has_nothing() {
            code = code.map(|code| {
                if code == exit::DONE {
                    exit::FAILED
                } else {
                    code
                }
            });
        }
    }
    code
}

/// Servers that profiles go to.
fn publisher(push: &publisher::Settings, settings: &Settings) -> Result<Publisher, Failure> {
    let quiet = settings.verbosity == Verbosity::Quiet;
    Publisher::new(push, &settings.labels, move |line| {
        if !quiet {
            say(&format!("rprof: {line}\n"));
        }
    })
}

/// What a profile says of the run while it goes on.
fn run_of(settings: &Settings, machine: &Machine) -> Run {
    let mut comments = vec![
        format!("rprof: {}", env!("CARGO_PKG_VERSION")),
        format!("host: {}", machine.host),
        format!("kernel: {}", machine.release),
        format!(
            "frequency: {} Hz on {} CPUs",
            settings.frequency,
            settings.cpus.0.len()
        ),
    ];
    comments.extend(label_comments(settings));
    Run {
        frequency: frequency(settings),
        comments,
        limits: profile::Limits {
            max_memory: usize::try_from(settings.max_memory).unwrap_or(usize::MAX),
            directory: std::env::temp_dir(),
        },
        keep: settings.output.is_some(),
    }
}

fn frequency(settings: &Settings) -> NonZeroU32 {
    NonZeroU32::new(settings.frequency).unwrap_or(NonZeroU32::MIN)
}

/// The labels that were asked for, as comments.
fn label_comments(settings: &Settings) -> impl Iterator<Item = String> {
    let labels = settings.labels.iter();
    labels.map(|(key, value)| format!("label: {key}={value}"))
}

/// Writes the profile and says what is in it.
fn finish(
    settings: &Settings,
    machine: &Machine,
    output: Option<&Output>,
    again: &Retype,
    mut recording: Recording,
) -> Result<u8, Failure> {
    let symbols = recording.profile.symbols(&mut recording.names);
    let mut notes: Vec<String> = recording.names.silent();
    let rankings = recording.profile.totals(&symbols).map(Rankings::of);
    let rankings = rankings.unwrap_or_else(|error| {
        // What was sampled is written all the same.
        notes.push(format!("No rankings: cannot read the part file: {error}"));
        Rankings::default()
    });
    let mut data = SummaryData {
        duration: recording.duration,
        frequency: settings.frequency,
        cpus: recording.cpus,
        reads: recording.reads.into(),
        rankings,
        notes,
        ledger: recording.ledger,
        comm: match &settings.target {
            Target::All {
                comm: Some(comm), ..
            } => Some(comm.text().into()),
            _ => None,
        },
        again: again.clone(),
        output: output.and_then(Output::path).map(Into::into),
        format: output.map_or(Format::Pprof, Output::format),
    };
    let of_command = recording.ended.zip(recording.command);
    let of_command = of_command.map(|(ended, ran)| OfCommand::new(ended, &ran).lines());
    let about = About {
        frequency: frequency(settings),
        start: recording.start,
        duration: recording.duration,
        comments: comments(machine, &data)
            .into_iter()
            .chain(of_command.into_iter().flatten())
            .chain(label_comments(settings))
            .collect(),
    };
    let written = output.map_or(Ok(()), |output| {
        output.write(&recording.profile, &symbols, &about)
    });
    if written.is_ok() {
        sampling::ending::note_written();
    }
    if written.is_err() || !output.is_some_and(Output::is_file) {
        // Nothing is there to be opened.
        data.output = None;
    }
    if settings.verbosity >= Verbosity::Verbose {
        for line in recording.names.left_out() {
            say(&format!("{line}\n"));
        }
    }
    if settings.verbosity > Verbosity::Quiet {
        for note in &recording.notes {
            say(&format!("rprof: {note}\n"));
        }
        say(&summary(&data, Paint { on: settings.color }));
    }
    let ended =
        match recording.running {
            // Its end is rprof's, even when sampling ended first.
            Some(command) => {
                if settings.verbosity > Verbosity::Quiet {
                    say(&format!(
                        "rprof: waiting for the command (pid {command}) to end; Ctrl-C ends it\n"
                    ));
                }
                let ended = child::wait(command);
                Some(ended.map_err(|error| {
                    Failure::new(format!("cannot wait for the command: {error}"))
                })?)
            }
            None => recording.ended,
        };
    written.map_err(|error| Failure::not_written(&error, again))?;
    Ok(ended.map_or(exit::DONE, exit_code))
}

/// Says what this machine allows: text for people to standard error, JSON to standard output.
fn checked(json: bool, color: Color, words: &[OsString]) -> Result<u8, Failure> {
    let checks = check::checks(&Machine::read(), &Retype::new(words).as_root());
    if json {
        answer(check::json(&checks).as_bytes())?;
    } else {
        let paint = Paint { on: colored(color) };
        say(&check::text(&checks, paint));
    }
    Ok(match check::allowed(&checks) {
        Ok(()) => exit::DONE,
        Err(_) => exit::FAILED,
    })
}

/// The profile's output, looked at before sampling: an hour of it must not end in "no such folder".
fn output(settings: &Settings, of_gate: bool, again: &Retype) -> Result<Option<Output>, Failure> {
    let Some(path) = &settings.output else {
        return Ok(None);
    };
    let mut output = Output::new(path, settings.format.map(Into::into));
    if of_gate {
        output = output.of_gate();
    }
    let checked = output.check_writable_before_sampling();
    checked.map_err(|error| Failure::output(&error, again))?;
    Ok(Some(output))
}

/// Writes to standard error. That nobody listens there is no reason to fail, or to panic as
/// `eprint!` would: the exit code still tells.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes what was asked for to standard output.
///
/// Rust ignores SIGPIPE, so `rprof --help | head -1` meets EPIPE here. The reader has what it
/// wanted and left: that is no failure of ours. Making SIGPIPE deadly instead, as is usual for such
/// tools, would kill a recording, and its profile with it, because of a closed pipe.
fn answer(bytes: &[u8]) -> Result<u8, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(exit::DONE),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit::DONE),
        Err(error) => Err(Failure::file(
            "write to",
            "standard output".as_ref(),
            &error,
        )),
    }
}
