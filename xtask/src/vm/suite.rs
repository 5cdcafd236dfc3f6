//! Which of the project's own tests run in a guest, and what they said there.
//!
//! The tests' programs, as cargo builds them, and a guest's report enter; results leave. What is not run
//! is in the tables here with its reason: a test in neither fails the chore, and so does one that skips itself
//! without being in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::report::Report;
use crate::workspace::{output, root};

/// A file of tests.
#[derive(Clone, Copy)]
pub(super) struct File {
    pub(super) name: &'static str,
    /// It hangs if it takes longer in a guest.
    seconds: u32,
    /// Tests that do not run in a guest, and why.
    left_out: &'static [(&'static str, &'static str)],
    /// Tests that skip themselves on a kernel with the flags.
    skips: &'static [&'static str],
    /// Tests that skip themselves on others: only that kernel has what they need.
    only_there: &'static [&'static str],
    /// It runs only there: what it is about is what user space reads.
    only_with_flags: bool,
    /// Tests that must say that they read by the flags, on a kernel that has them, and only there.
    by_flags: &'static [&'static str],
}

const FILE: File = File {
    name: "",
    seconds: 300,
    left_out: &[],
    skips: &[],
    only_there: &[],
    only_with_flags: false,
    by_flags: &[],
};

/// Run in each guest.
pub(super) const FILES: &[File] = &[
    File {
        name: "reads_process_vm",
        ..FILE
    },
    File {
        name: "reads_without_waiting",
        only_there: &["a_part_that_can_be_read_is_used"],
        by_flags: &["a_part_that_can_be_read_is_used"],
        ..FILE
    },
    File {
        name: "reads",
        skips: &["what_the_kernel_cannot_do_is_refused"],
        by_flags: &["whoever_reads_the_names_are_the_same"],
        ..FILE
    },
    File {
        name: "names_without_waiting",
        only_there: &[
            "a_name_that_is_brought",
            "names_of_a_process_without_its_first_thread",
        ],
        by_flags: &[
            "a_name_that_is_brought",
            "names_of_a_process_without_its_first_thread",
        ],
        ..FILE
    },
    File {
        name: "swaps",
        // Debian's kernels have zram as a module, that needs others.
        only_there: &["no_tick_is_lost_under_pressure"],
        ..FILE
    },
    File {
        name: "would_fault",
        left_out: &[(
            "who_lost_is_named_where_it_could_change_the_order",
            "compares a tenth of a second with what starting a program costs",
        )],
        ..FILE
    },
    File {
        name: "never_waits",
        seconds: 900,
        by_flags: &["a_name_that_nobody_brings"],
        ..FILE
    },
    File {
        name: "churn",
        ..FILE
    },
    File {
        name: "python_threads",
        ..FILE
    },
    File {
        name: "mixed_stacks",
        ..FILE
    },
    File {
        name: "deep_stacks",
        seconds: 600,
        left_out: &[(
            "in_the_usual_time",
            "asks what a tick holds in 250 µs of an ordinary processor",
        )],
        ..FILE
    },
    File {
        name: "pid",
        ..FILE
    },
    File {
        name: "own_memory",
        ..FILE
    },
    File {
        name: "least_privilege",
        ..FILE
    },
    File {
        name: "signals",
        ..FILE
    },
    File {
        name: "hostile_files",
        seconds: 600,
        ..FILE
    },
    File {
        name: "no_trace",
        seconds: 600,
        left_out: &[(
            "its_own_mapping_waits_for_nobody",
            "compares milliseconds of sleep with what emulation makes of them",
        )],
        only_with_flags: true,
        ..FILE
    },
    File {
        name: "identity",
        seconds: 900,
        // Only one of their ways to read is skipped elsewhere.
        only_there: &[
            "a_pid_that_is_given_to_another",
            "a_process_that_becomes_another",
            "a_process_that_becomes_its_twin",
            "code_made_where_other_code_was",
            "forked_children_have_their_own_names",
        ],
        ..FILE
    },
    File {
        name: "lies",
        seconds: 600,
        only_with_flags: true,
        ..FILE
    },
    File {
        name: "permission",
        // The last: what it forbids stays forbidden.
        only_with_flags: true,
        by_flags: &["a_process_of_anyone"],
        ..FILE
    },
];

/// Files of `tests/` that run in no guest, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("command", "tests the command line, which no kernel changes"),
    (
        "first_sample",
        "counts 30 ms of each process, and one needs 300 to start here",
    ),
    ("fuzz", "has no kernel in it"),
    ("gate", "compares CPU time of real processors"),
    ("ledger", "compares ticks of real processors"),
    ("listen", "compares ticks of real processors"),
    (
        "memory",
        "measures memory and time that its window does not hold here",
    ),
    ("native_names", "needs rustc, and has no kernel in it"),
    ("opened_by", "needs Go and Node.js"),
    ("outputs", "has no kernel in it"),
    ("push_faults", "has no kernel in it"),
    ("push_servers", "needs Go, and has no kernel in it"),
    ("readers", "not yet made to hold on an emulated processor"),
    (
        "silent_file",
        "not yet made to hold on an emulated processor",
    ),
    ("shares", "compares shares of a second of a real processor"),
    ("user_mistakes", "has no kernel in it"),
];

impl File {
    /// Whether it runs on a kernel with, or without, the flags.
    pub(super) fn runs(&self, flags: bool) -> bool {
        flags || !self.only_with_flags
    }

    /// Its line of the guest's list: name, seconds, program, arguments.
    pub(super) fn words(&self, program: &Path) -> String {
        let mut line = format!("{} {} {}", self.name, self.seconds, program.display());
        for (test, _) in self.left_out {
            line += &format!(" --skip {test}");
        }
        line + "\n"
    }
}

/// What is not run in a guest: file or `FILE::TEST`, and why.
pub(super) fn left_out() -> Vec<String> {
    let files = LEFT_OUT.iter().map(|(name, why)| format!("{name}: {why}"));
    let tests = FILES.iter().flat_map(|file| {
        let tests = file.left_out.iter();
        tests.map(|(test, why)| format!("{}::{test}: {why}", file.name))
    });
    files.chain(tests).collect()
}

/// The files that run: those of these names, whether they run in guests otherwise or not, or without names all
/// of [`FILES`].
pub(super) fn chosen(names: &[&str]) -> Result<Vec<File>, String> {
    if names.is_empty() {
        return Ok(FILES.to_vec());
    }
    let file = |name: &&str| {
        let left_out = LEFT_OUT.iter().map(|&(name, _)| File { name, ..FILE });
        let mut all = FILES.iter().copied().chain(left_out);
        let file = all.find(|file| file.name == *name);
        file.ok_or_else(|| format!("there is no file of tests `{name}`"))
    };
    names.iter().map(file).collect()
}

/// Builds the tests; the program of each file.
pub(super) fn build(files: &[File]) -> Result<Vec<(File, PathBuf)>, String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root()).args([
        "test",
        "--release",
        "--locked",
        "--package=rprof-tests",
        "--package=rprof-symbolize",
        "--no-run",
        "--message-format=json",
    ]);
    for file in files {
        cargo.args(["--test", file.name]);
    }
    let said = output(&mut cargo)?;
    let found = |file: &File| {
        let lines = said.lines().filter(|line| {
            line.contains(&format!("\"name\":\"{}\"", file.name))
                && line.contains("\"kind\":[\"test\"]")
        });
        let mut programs = lines.filter_map(|line| {
            let (_, rest) = line.split_once("\"executable\":\"")?;
            Some(PathBuf::from(rest.split('"').next()?))
        });
        programs.next_back()
    };
    let all = files.iter().map(|file| {
        let program = found(file);
        let program = program.ok_or_else(|| format!("cargo built no test {}", file.name))?;
        Ok((*file, program))
    });
    all.collect()
}

/// What the tests of a guest came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Results {
    pub(super) passed: usize,
    /// Tests that ran.
    pub(super) of: usize,
    pub(super) broken: Vec<String>,
}

/// What a report says of the tests. `flags`: the kernel has both flags of `process_vm_readv`.
pub(super) fn results(files: &[File], report: &Report, flags: bool) -> Results {
    let mut results = Results::default();
    for file in files.iter().filter(|file| file.runs(flags)) {
        let said = report.section(&format!("test {}", file.name));
        let mut broken = |what: String| results.broken.push(format!("{}::{what}", file.name));
        // What tests print stands between a test's name and how it ended; the end has both again.
        match end(&said.text) {
            Some((passed, failed)) => {
                results.passed += passed;
                results.of += passed + failed.len();
                failed
                    .iter()
                    .for_each(|name| broken(format!("{name} failed")));
            }
            None => {
                let names = said
                    .text
                    .lines()
                    .filter_map(|line| line.strip_prefix("test "));
                let last = names.filter_map(|line| line.split(' ').next()).next_back();
                results.of += 1;
                broken(format!(
                    "{} did not come to its end",
                    last.unwrap_or("start")
                ));
            }
        }
        let names = |word: &'static str| {
            let rest = said
                .text
                .lines()
                .filter_map(move |line| line.split_once(word));
            rest.filter_map(|(_, rest)| rest.split(':').next())
                .collect::<BTreeSet<&str>>()
        };
        let expected = |of: &'static [&'static str], there: bool| {
            of.iter()
                .filter(|_| flags == there)
                .copied()
                .collect::<BTreeSet<&str>>()
        };
        let skips = &expected(file.skips, true) | &expected(file.only_there, false);
        let by_flags = expected(file.by_flags, true);
        let skipped = names("SKIPPED: ");
        if skipped != skips {
            broken(format!("skipped {skipped:?}, and {skips:?} do"));
        }
        if names("READ BY FLAGS: ") != by_flags {
            broken(format!(
                "read by flags {:?}, and {by_flags:?} must",
                names("READ BY FLAGS: ")
            ));
        }
    }
    results
}

/// The end of a test program's output: how many passed, and who failed.
fn end(said: &str) -> Option<(usize, Vec<&str>)> {
    let (list, result) = said.rsplit_once("test result: ")?;
    let (_, counts) = result.split_once(". ")?;
    let passed = counts.split(' ').next()?.parse().ok()?;
    let failed = match list.rsplit_once("\nfailures:\n") {
        Some((_, names)) => names
            .lines()
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect(),
        None => Vec::new(),
    };
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::{FILE, File, LEFT_OUT, Report, results};

    #[test]
    fn each_file_of_tests_is_run_or_left_out() {
        let manifest = include_str!("../../../tests/Cargo.toml");
        let tests = manifest.split("[[test]]").skip(1);
        for test in tests.filter_map(|part| part.split('"').nth(1)) {
            let run = super::FILES.iter().filter(|file| file.name == test).count();
            let left_out = LEFT_OUT.iter().filter(|(name, _)| *name == test).count();
            assert_eq!(run + left_out, 1, "{test}");
        }
    }

    #[test]
    fn what_a_guest_said() {
        const FILES: &[File] = &[File {
            name: "reads",
            skips: &["refused"],
            by_flags: &["same"],
            ..FILE
        }];
        let of = |text: &str, flags| {
            let text = format!("@@ test reads\n{text}\n@@ exit 0 7\n");
            results(FILES, &Report::parse(&text).unwrap(), flags)
        };
        let end = "test result: ok. 2 passed; 0 failed";
        let plain =
            format!("running 2 tests\ntest same ... 12 names\nok\ntest refused ... ok\n{end}");
        let good = of(&plain, false);
        assert_eq!((good.passed, good.of, good.broken.len()), (2, 2, 0));
        // On the other kernel it has to say two things more.
        assert_eq!(of(&plain, true).broken.len(), 2);
        let said = format!("SKIPPED: refused: can do all\nREAD BY FLAGS: same: 12 names\n{plain}");
        assert_eq!(of(&said, true).broken.len(), 0);
        assert_eq!(of(&said, false).broken.len(), 2);
        // A test that fails; one that ends the program, or hangs.
        let end = "failures:\n    same\n\ntest result: FAILED. 1 passed; 1 failed";
        let bad = of(
            &format!("test same ... \nFAILED\ntest refused ... ok\n\n{end}"),
            false,
        );
        assert_eq!((bad.passed, bad.of), (1, 2));
        assert_eq!(bad.broken, ["reads::same failed"]);
        let hung = of("test refused ... ok\ntest same ... ", false);
        assert_eq!(hung.broken, ["reads::same did not come to its end"]);
    }
}
