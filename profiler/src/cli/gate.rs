//! The command line of `rprof gate`, as it was typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum, ValueHint};

use super::values;

const REPORTS: &str = "Reports";
const VERDICT: &str = "Verdict";

/// What `rprof gate` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Gate {
    /// Run two commands in turn, profile each, and compare
    Run(Run),
    /// Compare profiles that exist, of rprof or of anything that writes pprof: one of each run
    Compare(Compare),
    /// Run one command against itself: how small a change could be seen on this machine?
    Calibrate(Calibrate),
}

/// `rprof gate run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// The command that was there before; what a shell would have to read is given to sh. Its input is empty, and what
    /// it says is shown if it fails
    #[arg(long, value_name = "CMD", value_parser = values::command, value_hint = ValueHint::CommandString)]
    pub base: String,
    /// The command that is to take its place
    #[arg(long, value_name = "CMD", value_parser = values::command, value_hint = ValueHint::CommandString)]
    pub head: String,
    /// How they are run.
    #[command(flatten)]
    pub runs: Runs,
    /// End after this time, with the answer that there is by then [default: when --runs are made]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub budget: Option<Duration>,
    /// Keep the profiles in this folder: base-01.pb.gz, head-01.pb.gz, …
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub keep: Option<PathBuf>,
    /// How the verdict is found.
    #[command(flatten)]
    pub judging: Judging,
    /// What is written.
    #[command(flatten)]
    pub reports: Reports,
}

/// How commands are run.
#[derive(Clone, Debug, clap::Args)]
pub struct Runs {
    /// Runs a side, at most, from 8 to 500; it ends sooner when the answer is clear
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = values::runs)]
    pub runs: u32,
    /// Samples a second on each CPU
    #[arg(short = 'F', long, value_name = "HZ", value_parser = values::frequency, default_value = "999")]
    pub freq: u32,
    /// Run the commands as this user, by name or number
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// Say nothing until the answer
    #[arg(short, long)]
    pub quiet: bool,
}

/// `rprof gate compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct Compare {
    /// Profiles of what was there before
    #[arg(long, required_unless_present = "baseline", num_args = 1.., value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub base: Vec<PathBuf>,
    /// Profiles of what is to take its place
    #[arg(long, required = true, num_args = 1.., value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub head: Vec<PathBuf>,
    /// A folder of earlier runs, in the cache of CI say, to compare with
    #[arg(long, conflicts_with = "base", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub baseline: Option<PathBuf>,
    /// Add head's profiles to the baseline if they passed, or if only what days differ by keeps them from it
    #[arg(long, requires = "baseline", conflicts_with = "base")]
    pub update: bool,
    /// How the verdict is found.
    #[command(flatten)]
    pub judging: Judging,
    /// What is written.
    #[command(flatten)]
    pub reports: Reports,
}

/// `rprof gate calibrate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Calibrate {
    /// The command
    #[arg(long, value_name = "CMD", value_parser = values::command, value_hint = ValueHint::CommandString)]
    pub cmd: String,
    /// How it is run.
    #[command(flatten)]
    pub runs: Runs,
    /// The smallest change that is to be seen
    #[arg(long, value_name = "SHARE", value_parser = values::share, default_value = "2%")]
    pub threshold: f64,
    /// Where chance begins, the order of runs for one [default: anywhere]
    #[arg(long, value_name = "N", value_parser = values::seed)]
    pub seed: Option<u64>,
}

/// How a verdict is found.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Judging {
    /// How much dearer is too much [default: 2%, or what gate.toml says]
    #[arg(long, value_name = "SHARE", value_parser = values::share, help_heading = VERDICT)]
    pub threshold: Option<f64>,

    /// Thresholds of functions, and accepted regressions [default: gate.toml, if it is there]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = VERDICT)]
    pub config: Option<PathBuf>,

    /// What an inconclusive answer counts as, for those who must have one of two [default: exit code 4]
    #[arg(long, value_enum, value_name = "ANSWER", help_heading = VERDICT)]
    pub inconclusive: Option<Inconclusive>,

    /// Where chance begins: with the same files, the same seed gives the same answer [default: 1; for run anywhere,
    /// and said]
    #[arg(long, value_name = "N", value_parser = values::seed, help_heading = VERDICT)]
    pub seed: Option<u64>,
}

/// What an inconclusive answer counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Inconclusive {
    /// As passed.
    Pass,
    /// As regressed.
    Fail,
}

/// What is written besides the answer on standard error; `-` is standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Reports {
    /// Markdown, for a comment or a job summary: added to the end of the file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = REPORTS)]
    pub markdown: Option<PathBuf>,
    /// All of it as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = REPORTS)]
    pub json: Option<PathBuf>,
    /// A test report, as JUnit writes it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = REPORTS)]
    pub junit: Option<PathBuf>,
    /// A flame graph of what became dearer and cheaper, as SVG
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = REPORTS)]
    pub flamegraph: Option<PathBuf>,
    /// Dearer functions as annotations of GitHub Actions, on standard output
    #[arg(long, help_heading = REPORTS)]
    pub github: bool,
    /// Dearer functions as a code quality report of GitLab CI
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = REPORTS)]
    pub gitlab: Option<PathBuf>,
}
