//! Every option: its name, its documentation and, at the end of this file, its test. Help, manual
//! page and completions are made from this one definition. What is here is what was typed, and no
//! more: defaults that depend on other options, and checks against the machine, are
//! [`settings`](super::settings).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use super::gate::Gate;
use super::values::{self, Cpus, Pids};
use crate::report::words;

/// What is shown when nothing was typed.
pub const SHORT_HELP: &str = "\
rprof shows where the CPU time of this machine goes.

  sudo rprof --all -d 10s       every process, for ten seconds
  sudo rprof -p 1234            one process, until Ctrl-C
  sudo rprof -- ./server        a command and all its children

rprof --help lists all options; rprof check says what this machine allows.
";

/// Examples, for help and manual page.
pub const EXAMPLES: &str =
    "  sudo rprof --all -d 10s                 every process, for ten seconds
  sudo rprof -p 1234,5678 --children      two processes and their children, until Ctrl-C
  sudo rprof -o out.svg -- ./server       a command, as a flame graph for the browser
  sudo rprof --all --push http://HOST     a profile each ten seconds, to a dashboard
  rprof push out.pb.gz --to http://HOST   a profile that exists, to a dashboard
  rprof check                             what this machine allows";

/// Exit codes, for help and manual page.
pub const EXIT_CODES: &str = "  0    done
  1    failed
  2    wrong usage
  3    rprof gate: regressed
  4    rprof gate: inconclusive
  126  the command could not be run
  127  the command was not found
  else the command's own; 128 + N if signal N killed it";

/// What is read from the environment, for the manual page.
pub const ENVIRONMENT: &str =
    "  RPROF_PUSH_AUTH   who we are to servers: user:password or a token; for several, a line
                    HOST:PORT SECRET each. What a line names goes nowhere else. --auth-file goes
                    before it
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
                    for what is pushed by HTTP; gRPC knows no proxy
  STATE_DIRECTORY   of systemd: the spool is below it
  NO_COLOR          no color";

/// Files, for the manual page.
pub const FILES: &str = "  /var/lib/rprof/spool   profiles that wait for a server, a folder each";

/// What stands below the options: the long form explains the ledger, too.
fn below(ledger: Option<String>) -> String {
    let ledger = ledger.map_or_else(
        || "rprof --help explains the words of the ledger.".to_string(),
        |words| format!("The ledger in the summary:\n{words}"),
    );
    format!("Examples:\n{EXAMPLES}\n\nExit codes:\n{EXIT_CODES}\n\n{ledger}")
}

/// Shows where the CPU time of this machine goes
///
/// Samples every process, or some, and writes a profile in which native, kernel and interpreted
/// frames stand in one stack. It never stops or changes what it samples, never waits for it, and
/// accounts for every sample that is missing.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "rprof",
    bin_name = "rprof",
    version,
    override_usage = "rprof --all [OPTIONS]\n       rprof --all --push URL [OPTIONS]\n       rprof --all --listen ADDRESS:PORT [OPTIONS]\n       rprof -p PID,… [OPTIONS]\n       rprof [OPTIONS] -- CMD…\n       rprof push FILE… --to URL\n       rprof gate run --base CMD --head CMD\n       rprof gate compare --base FILE… --head FILE…\n       rprof gate calibrate --cmd CMD\n       rprof check | completions SHELL | man",
    after_help = below(None),
    after_long_help = below(Some(words::listing())),
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Args {
    /// What to do, if it is not to record.
    #[command(subcommand)]
    pub task: Option<Task>,
    /// What to record.
    #[command(flatten)]
    pub record: Record,
}

/// What rprof does besides recording.
#[derive(Clone, Debug, Subcommand)]
pub enum Task {
    /// Say what this machine allows: one line each, with what to do where something is missing
    Check {
        /// Write the answer as JSON to standard output
        #[arg(long)]
        json: bool,
        /// When to use color
        #[arg(long, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
        color: Color,
    },
    /// Send profiles that exist to dashboards: Pyroscope, Parca, OpenTelemetry
    Push {
        /// Profiles, of rprof or of anything that writes pprof
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// A server: pyroscope+http://…, parca+http://…, otlp+http://…, otlp+grpc://…, with an s at its end for
        /// TLS; http://… is asked what it is. Can be given several times
        #[arg(long, required = true, value_name = "URL", value_hint = ValueHint::Url)]
        to: Vec<String>,
        /// A label for every series; can be given several times
        #[arg(long, value_name = "K=V", value_parser = values::label)]
        label: Vec<(String, String)>,
        /// Who we are to the server.
        #[command(flatten)]
        server: Server,
        /// Say nothing but errors
        #[arg(short, long)]
        quiet: bool,
    },
    /// Compare what two versions of a program cost, for CI: exit code 0 passed, 3 regressed, 4 inconclusive
    Gate {
        /// What to do.
        #[command(subcommand)]
        gate: Box<Gate>,
    },
    /// Write completions for a shell to standard output
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual page to standard output
    Man,
}

/// Who we are to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Server {
    /// The server's tenant (X-Scope-OrgID)
    #[arg(long, value_name = "NAME", help_heading = DASHBOARDS)]
    pub tenant: Option<String>,

    /// A file that holds user:password or a token, or a line HOST:PORT SECRET for each of several servers;
    /// else RPROF_PUSH_AUTH is looked at
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = DASHBOARDS)]
    pub auth_file: Option<PathBuf>,

    /// Certificates (PEM) to trust instead of the machine's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = DASHBOARDS)]
    pub ca: Option<PathBuf>,
}

/// The options of a recording.
#[derive(Clone, Debug, clap::Args)]
pub struct Record {
    /// Every process on this machine
    #[arg(short, long, help_heading = WHAT)]
    pub all: bool,

    /// These processes
    #[arg(short, long, value_name = "PID,…", value_parser = values::pids, help_heading = WHAT)]
    pub pid: Vec<Pids>,

    /// This command and all its children, from its first instruction to its end
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments, help_heading = WHAT)]
    pub command: Vec<OsString>,

    /// With -p: also the processes' children
    #[arg(long, help_heading = WHAT)]
    pub children: bool,

    /// With a command: go on until all its descendants have ended
    #[arg(long, help_heading = WHAT)]
    pub wait_all: bool,

    /// With a command: run it as this user, by name or number
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Username, help_heading = WHAT)]
    pub user: Option<String>,

    /// With --all: only the processes in this cgroup and below
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath, help_heading = WHAT)]
    pub cgroup: Option<PathBuf>,

    /// With --all: only processes with such a name, like 'python*'
    #[arg(long, value_name = "GLOB", help_heading = WHAT)]
    pub comm: Option<String>,

    /// Samples a second on each CPU [default: 20 with --all, 199 otherwise]
    #[arg(short = 'F', long, value_name = "HZ", value_parser = values::frequency, help_heading = HOW)]
    pub freq: Option<u32>,

    /// How long: 500ms, 10s, 5m, 1h [default: until Ctrl-C, or the command's end]
    #[arg(short, long, value_name = "TIME", value_parser = values::duration, help_heading = HOW)]
    pub duration: Option<Duration>,

    /// What makes a sample: cycles needs a hardware counter, which many virtual machines lack
    #[arg(long, value_enum, default_value_t = Event::CpuClock, help_heading = HOW)]
    pub event: Event,

    /// Only these CPUs, like 0-3,5 [default: all]
    #[arg(long, value_name = "LIST", value_parser = values::cpus, help_heading = HOW)]
    pub cpus: Option<Cpus>,

    /// Who reads the names of interpreted code: the sampled thread itself and then rprof (auto), or
    /// only one of them
    #[arg(long, value_enum, default_value_t = Reads::Auto, help_heading = HOW)]
    pub reads: Reads,

    /// What becomes of a sample that could not be read without a page fault: left out and counted,
    /// or kept with a [would fault] frame
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnFault::Drop, help_heading = HOW)]
    pub on_fault: OnFault,

    /// Leave out the kernel's frames
    #[arg(long, help_heading = HOW)]
    pub no_kernel: bool,

    /// Leave out inlined functions
    #[arg(long, help_heading = HOW)]
    pub no_inline: bool,

    /// How much memory the profile may take while it grows; the rest goes to disk
    #[arg(long, value_name = "SIZE", value_parser = values::memory, default_value = "256MiB", help_heading = HOW)]
    pub max_memory: u64,

    /// Where to; - is standard output [default: rprof.pb.gz; with --push none]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    pub output: Option<PathBuf>,

    /// Format of the profile [default: by FILE's ending: .pb.gz, .folded, .svg, .json]
    #[arg(long, value_enum, help_heading = OUTPUT)]
    pub format: Option<Format>,

    /// A label for every sample; can be given several times
    #[arg(long, value_name = "K=V", value_parser = values::label, help_heading = OUTPUT)]
    pub label: Vec<(String, String)>,

    /// Send a profile each interval to this server: pyroscope+http://…, parca+http://…, otlp+http://…,
    /// otlp+grpc://…, with an s at its end for TLS; http://… is asked what it is. Can be given several times
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = DASHBOARDS)]
    pub push: Vec<String>,

    /// How long an interval is, from 1s to 1h [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = values::duration, help_heading = DASHBOARDS)]
    pub interval: Option<Duration>,

    /// Wait here for Parca, Pyroscope, go tool pprof or Prometheus to come: /debug/pprof/profile, /metrics,
    /// /healthz. A port alone is on the loopback interface
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = values::listen, help_heading = DASHBOARDS)]
    pub listen: Option<SocketAddr>,

    /// Where profiles wait until a server has them [default: $STATE_DIRECTORY/spool, /var/lib/rprof/spool]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, help_heading = DASHBOARDS)]
    pub spool: Option<PathBuf>,

    /// How much may wait for each server [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size, help_heading = DASHBOARDS)]
    pub spool_size: Option<u64>,

    /// How long it may wait [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = values::duration, help_heading = DASHBOARDS)]
    pub spool_age: Option<Duration>,

    /// Who we are to the servers.
    #[command(flatten)]
    pub server: Server,

    /// Say nothing but errors
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,

    /// Say more; -vv says most
    #[arg(short, long, action = ArgAction::Count, help_heading = OUTPUT)]
    pub verbose: u8,

    /// When to use color; NO_COLOR is respected
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Color::Auto, help_heading = OUTPUT)]
    pub color: Color,

    /// Accepted because perf's users type it: stacks are always on.
    #[arg(short = 'g', hide = true, action = ArgAction::Count)]
    pub stacks: u8,
}

const WHAT: &str = "What to profile (exactly one of --all, -p and -- CMD)";
const HOW: &str = "How";
const OUTPUT: &str = "What comes out";
const DASHBOARDS: &str = "Dashboards";

/// What becomes of a sample that could not be read without a page fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnFault {
    /// Out of the profile and into the ledger
    #[default]
    Drop,
    /// Kept, with a [would fault] frame
    Mark,
}

/// Who reads what names a code object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Reads {
    /// The sample's own context first, then user space
    #[default]
    Auto,
    /// Only the sample's own context
    Context,
    /// Only user space
    ProcessVm,
}

/// What makes a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Event {
    /// A timer on each CPU
    #[default]
    CpuClock,
    /// The hardware's cycle counter
    Cycles,
}

/// The format of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// profile.proto, compressed
    #[default]
    Pprof,
    /// One line for each stack
    Folded,
    /// A flame graph
    Svg,
    /// The format of profiler.firefox.com
    Firefox,
}

impl From<Format> for crate::profile::output::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Pprof => Self::Pprof,
            Format::Folded => Self::Folded,
            Format::Svg => Self::Svg,
            Format::Firefox => Self::Firefox,
        }
    }
}

/// When to use color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: &str) -> Record {
        let words = std::iter::once("rprof").chain(line.split_whitespace());
        Args::try_parse_from(words).unwrap().record
    }

    fn refused(line: &str) {
        let words = std::iter::once("rprof").chain(line.split_whitespace());
        assert!(Args::try_parse_from(words).is_err(), "{line}");
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn all() {
        assert!(record("--all").all && record("-a").all && !record("-p 1").all);
    }

    #[test]
    fn pid() {
        assert_eq!(
            record("-p 1,2 --pid 3").pid,
            [Pids(vec![1, 2]), Pids(vec![3])]
        );
        refused("-p x");
        refused("-p 1,,2");
        refused("-p");
    }

    #[test]
    fn command() {
        assert_eq!(
            record("-- ./server --port 1").command,
            ["./server", "--port", "1"]
        );
        assert_eq!(record("-- check").command, ["check"]);
        refused("./server");
        refused("--all check");
    }

    #[test]
    fn selections() {
        assert!(record("-p 1 --children").children);
        assert!(record("--wait-all -- x").wait_all);
        assert_eq!(record("--user web -- x").user.as_deref(), Some("web"));
        assert_eq!(
            record("-a --cgroup /a/b").cgroup,
            Some(PathBuf::from("/a/b"))
        );
        assert_eq!(record("-a --comm py*").comm.as_deref(), Some("py*"));
    }

    #[test]
    fn freq() {
        assert_eq!(record("-a -F 99").freq, Some(99));
        assert_eq!(record("-a --freq 1 --freq=2").freq, Some(2));
        assert_eq!(record("-a").freq, None);
        refused("-a -F 0");
        refused("-a -F=-5");
    }

    #[test]
    fn duration() {
        assert_eq!(record("-a -d 10s").duration, Some(Duration::from_secs(10)));
        refused("-a -d 10");
    }

    #[test]
    fn event_cpus_and_memory() {
        assert_eq!(record("-a").event, Event::CpuClock);
        assert_eq!(record("-a --event cycles").event, Event::Cycles);
        assert_eq!(record("-a --cpus 0-1,3").cpus, Some(Cpus(vec![0, 1, 3])));
        assert_eq!(record("-a").max_memory, 256 << 20);
        assert_eq!(record("-a --max-memory 1GiB").max_memory, 1 << 30);
        refused("-a --max-memory 7");
        refused("-a --event instructions");
    }

    #[test]
    fn reads_and_on_fault() {
        assert_eq!(record("-a").reads, Reads::Auto);
        assert_eq!(record("-a --reads context").reads, Reads::Context);
        assert_eq!(record("-a --reads process-vm").reads, Reads::ProcessVm);
        assert_eq!(record("-a").on_fault, OnFault::Drop);
        assert_eq!(record("-a --on-fault mark").on_fault, OnFault::Mark);
        assert!(record("-a --no-kernel").no_kernel && record("-a --no-inline").no_inline);
    }

    #[test]
    fn output_and_format() {
        assert_eq!(record("-a -o -").output, Some(PathBuf::from("-")));
        assert_eq!(
            record("-a --output x.svg").output,
            Some(PathBuf::from("x.svg"))
        );
        for (name, format) in [
            ("pprof", Format::Pprof),
            ("folded", Format::Folded),
            ("svg", Format::Svg),
            ("firefox", Format::Firefox),
        ] {
            assert_eq!(record(&format!("-a --format {name}")).format, Some(format));
        }
        let label = record("-a --label a=b --label c=d,e").label;
        assert_eq!(
            label,
            [("a".into(), "b".into()), ("c".into(), "d,e".into())]
        );
    }

    #[test]
    fn push() {
        let push = |line: &str| Args::try_parse_from(line.split(' ')).map(|args| args.task);
        let Ok(Some(Task::Push {
            files, to, label, ..
        })) = push("rprof push a b --to x://1 --to y://2 --label k=v")
        else {
            panic!();
        };
        assert_eq!((files.len(), to.len(), label.len()), (2, 2, 1));
        assert!(push("rprof push a").is_err() && push("rprof push --to x").is_err());
    }

    #[test]
    fn what_is_said() {
        assert!(record("-a -q").quiet);
        assert_eq!(record("-a -vv").verbose, 2);
        assert_eq!(record("-a --color never").color, Color::Never);
        assert!(record("-ag").all && record("-a -g -g").all);
    }

    #[test]
    fn what_is_for_later_is_not_there() {
        for line in ["top", "view x", "gate"] {
            refused(line);
        }
    }

    #[test]
    fn dashboards() {
        let typed = record("-a --push http://a --push http://b --interval 5s --listen 7071");
        assert_eq!(typed.push, ["http://a", "http://b"]);
        assert_eq!(typed.interval, Some(Duration::from_secs(5)));
        assert_eq!(typed.listen, Some(SocketAddr::from(([127, 0, 0, 1], 7071))));
        let typed = record("-a --push u --spool /s --spool-size 1GiB --spool-age 1h");
        assert_eq!(typed.spool, Some(PathBuf::from("/s")));
        assert_eq!(typed.spool_size, Some(1 << 30));
        assert_eq!(typed.spool_age, Some(Duration::from_secs(3600)));
        let server = record("-a --push u --tenant t --auth-file f --ca c").server;
        assert_eq!(server.tenant.as_deref(), Some("t"));
        assert_eq!(server.auth_file, Some(PathBuf::from("f")));
        assert_eq!(server.ca, Some(PathBuf::from("c")));
        refused("push x");
        refused("push --to u");
        refused("-a --listen x");
    }
}
