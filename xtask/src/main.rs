//! The project's chores: one module each, started as `cargo xtask CHORE`.
//!
//! What enters is a chore's name and its options; what leaves is the chore's work below the
//! workspace and the target directory, and an exit code: 0 done, 1 failed, 2 wrong usage. Nothing
//! here is part of `rprof`, and nothing `rprof` is built from depends on it.

mod bench;
mod ebpf;
mod full;
mod fuzz;
mod gate_bench;

mod licences;
mod vm;
mod workspace;

use std::process::ExitCode;

/// What a chore ends with: `Err` holds the sentence that is printed.
type Outcome = Result<(), String>;

/// A chore as `--help` shows it.
struct Chore {
    name: &'static str,
    options: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<Outcome, Usage>,
}

/// The options were not understood.
struct Usage;

const CHORES: &[Chore] = &[
    Chore {
        name: "bench",
        options: "[--quick] [--json FILE] [TRIAL…]",
        about: "measure rprof against its budgets and perf: tick steady start peak lives rows \
                ladder push stuck",
        run: bench::run,
    },
    Chore {
        name: "ebpf",
        options: "[--check]",
        about: "build ebpf/object/rprof.bpf.o from its sources, or prove that it is what they give",
        run: ebpf::run,
    },
    Chore {
        name: "full",
        options: "[--quick] [tests gate-small-changes gate-bench gate-real vm-6.1 vm-6.12 vm-7.2 vm-nowait fuzz bench soak]",
        about: "all that takes long, for hours; its last table is tests/RESULTS.md",
        run: full::run,
    },
    Chore {
        name: "fuzz",
        options: "[--seconds N] [TARGET…]",
        about: "hand hostile bytes to all that takes any, 10 minutes or as long as is said",
        run: fuzz::run,
    },
    Chore {
        name: "gate-bench",
        options: "[--quick] [--pool FOLDER] [TABLE…]",
        about: "how often is rprof gate wrong, and what does it cost: rates looks promises shares real cost",
        run: gate_bench::run,
    },
    Chore {
        name: "soak",
        options: "[--minutes N]",
        about: "run rprof as a service over churn, 20 minutes or as long as is said: does it grow?",
        run: bench::soak::run,
    },
    Chore {
        name: "vm",
        options: "[6.1 6.12 7.2 nowait …] [--tests FILE…]",
        about: "boot other kernels in an emulator: does rprof keep its promises there?",
        run: vm::run,
    },
    Chore {
        name: "licences",
        options: "",
        about: "check every dependency's licence against deny.toml",
        run: licences::run,
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, options)) = words.split_first() else {
        eprint!("{}", help());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "-h" | "--help" | "help") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(chore) = CHORES.iter().find(|chore| chore.name == name) else {
        eprint!("error: there is no chore `{name}`\n\n{}", help());
        return ExitCode::from(2);
    };
    match (chore.run)(options) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(sentence)) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
        Err(Usage) => {
            let usage = format!("usage: cargo xtask {} {}", chore.name, chore.options);
            eprintln!("{}", usage.trim_end());
            ExitCode::from(2)
        }
    }
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask CHORE\n\n");
    for Chore {
        name,
        options,
        about,
        ..
    } in CHORES
    {
        text.push_str(&format!("  {:<18} {about}\n", format!("{name} {options}")));
    }
    text
}
