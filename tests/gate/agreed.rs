//! What a project has agreed on: `gate.toml`.

use std::path::PathBuf;

use rprof_tests::machine;
use rprof_tests::scratch::{OPTIMIZED, Scratch};

use crate::answer::{Answer, PASSED, REGRESSED, compare, gate};
use crate::profiles::sides;

/// Runs a side.
const RUNS: i64 = 10;

/// A config for these files.
fn with(scratch: &Scratch, files: &[Vec<PathBuf>; 2], config: &str) -> Answer {
    std::fs::write(scratch.file("gate.toml"), config).expect("a file");
    compare(scratch, files, &[])
}

#[test]
fn thresholds_of_the_project() {
    let scratch = Scratch::new();
    let files = sides(&scratch, RUNS, [500, 540]);
    with(&scratch, &files, "").expect(REGRESSED).blames("work");
    with(&scratch, &files, "threshold = \"20%\"").expect(PASSED);
    // What is typed counts.
    compare(&scratch, &files, &["--threshold", "3%"]).expect(REGRESSED);
    // A function may be held to more than a run.
    let function = |name: &str, threshold: &str| {
        format!("threshold = \"20%\"\n[[function]]\nname = \"{name}\"\nthreshold = \"{threshold}\"")
    };
    with(&scratch, &files, &function("work", "4%")).expect(REGRESSED);
    with(&scratch, &files, &function("w*", "4%")).expect(REGRESSED);
    with(&scratch, &files, &function("work", "20%")).expect(PASSED);
    with(&scratch, &files, &function("other", "4%"))
        .expect(PASSED)
        .says("other is no function that was sampled");
}

#[test]
fn an_accepted_regression() {
    let scratch = Scratch::new();
    let files = sides(&scratch, RUNS, [500, 540]);
    let accepted = |name: &str, by: &str, until: &str| {
        let reason = "reason = \"checks what it reads\"";
        format!("[[accepted]]\nname = \"{name}\"\nby = \"{by}\"\n{reason}\nuntil = {until}\n")
    };
    with(&scratch, &files, &accepted("work", "12%", "2999-12-31")).expect(PASSED);
    // Of few runs nothing is sure; that is no reason to pass five times as much.
    let few = sides(&scratch, 4, [500, 600]);
    let answer = with(&scratch, &few, &accepted("work", "4%", "2999-12-31"));
    assert_ne!(answer.code, PASSED, "{}", answer.said);
    // By more than was accepted.
    with(&scratch, &files, &accepted("work", "4%", "2999-12-31")).expect(REGRESSED);
    // Of another function.
    with(&scratch, &files, &accepted("other", "12%", "2999-12-31")).expect(REGRESSED);
    // It is over.
    with(&scratch, &files, &accepted("work", "12%", "2020-12-31"))
        .expect(REGRESSED)
        .says("work is not accepted any more since 2020-12-31 (checks what it reads)");
}

/// Two commands, the second twice as dear, as `gate.c` runs them.
fn twice_as_dear(scratch: &Scratch) -> Answer {
    let program = scratch.cc("gate.c", "gate", OPTIMIZED);
    let [base, head] = ["alpha 200 beta 200", "alpha 200 beta 600"]
        .map(|phases| format!("{} {phases}", program.display()));
    let args = ["run", "--base", &base, "--head", &head, "--runs", "60"];
    gate(scratch.path(), &args)
}

#[test]
fn what_was_agreed_on_counts_while_commands_run() {
    let scratch = Scratch::new();
    let agreed = |text: &str| {
        std::fs::write(scratch.file("gate.toml"), text).expect("a file");
        let _alone = machine::alone();
        twice_as_dear(&scratch)
    };
    // Of a run all is allowed, of a function not.
    let run = "threshold = \"900%\"\n";
    let function = "[[function]]\nname = \"beta\"\nthreshold = \"20%\"\n";
    agreed(run).expect(PASSED);
    agreed(&format!("{run}{function}"))
        .expect(REGRESSED)
        .says("beta by gate.toml");
    let accepted = |by: &str| {
        format!(
            "threshold = \"20%\"\n[[accepted]]\nname = \"beta\"\nby = \"{by}\"\nreason = \"checks what it reads\"\n\
             until = 2999-12-31\n"
        )
    };
    agreed(&accepted("300%")).expect(PASSED).says("2999-12-31");
    agreed(&accepted("20%")).expect(REGRESSED).blames("beta");
}
