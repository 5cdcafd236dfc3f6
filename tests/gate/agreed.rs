//! What a project has agreed on: `gate.toml`, and a folder of earlier runs.

use std::path::PathBuf;

use rprof_tests::scratch::Scratch;

use crate::answer::{Answer, FAILED, INCONCLUSIVE, PASSED, REGRESSED, compare, gate};
use crate::profiles::{profile, sides, written};

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

#[test]
fn a_baseline() {
    let scratch = Scratch::new();
    let store = scratch.file("store");
    let stored = || {
        let files = std::fs::read_dir(&store).into_iter().flatten().flatten();
        files.count()
    };
    let mut made = 0;
    let mut against = |millis: i64, more: &[&str]| {
        let heads = (0..RUNS).map(|n| {
            made += 1;
            let file = written(
                &scratch,
                &format!("head-{made}.pb.gz"),
                &profile(made, millis + n * 7 % 5),
            );
            file.to_str().expect("a path").to_string()
        });
        let heads: Vec<String> = heads.collect();
        let mut args = vec!["compare", "--baseline", "store"];
        args.extend(more);
        args.push("--head");
        args.extend(heads.iter().map(String::as_str));
        gate(scratch.path(), &args)
    };
    let update = &["--update"][..];
    against(500, &[])
        .expect(FAILED)
        .says("there is no baseline");
    assert_eq!(stored(), 0);
    against(500, update)
        .expect(PASSED)
        .says("nothing to compare with yet");
    assert_eq!(stored(), 10);
    // To look is not to add.
    against(500, &[])
        .expect(INCONCLUSIVE)
        .says("of one time only");
    assert_eq!(stored(), 10);
    against(501, update).expect(INCONCLUSIVE);
    // Two times are enough.
    against(500, &[]).expect(PASSED);
    assert_eq!(stored(), 20);
    // What regressed is not what the next is compared with.
    against(600, update)
        .expect(REGRESSED)
        .says("The baseline was left as it is.")
        .blames("work");
    assert_eq!(stored(), 20);
    // The newest sets stay.
    for _ in 0..5 {
        against(500, update).expect(PASSED);
    }
    assert_eq!(stored(), 50);
}
