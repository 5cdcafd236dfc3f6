//! A folder of earlier runs, which a job of CI compares with and adds to.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use rprof_tests::rprof::binary;
use rprof_tests::scratch::Scratch;
use serde_json::Value;

use crate::answer::{Answer, FAILED, INCONCLUSIVE, PASSED, REGRESSED, gate};
use crate::profiles::{profile, written};
use crate::said::{self, REPORTS, read_json};

/// Runs that a job makes.
const RUNS: i64 = 10;
const UPDATE: &[&str] = &["--update"];

/// Jobs, one after the other, with a folder `store` that they share.
struct Jobs {
    scratch: Scratch,
    made: Cell<i64>,
}

impl Jobs {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            made: Cell::new(0),
        }
    }

    /// Runs of so many milliseconds, each a little more or less.
    fn runs(&self, millis: i64, by: i64) -> Vec<String> {
        let runs = (0..RUNS).map(|n| {
            let made = self.made.replace(self.made.get() + 1);
            let profile = profile(made, millis + by * (n * 7 % 5));
            written(&self.scratch, &format!("head-{made}.pb.gz"), &profile)
        });
        runs.map(|file| file.to_str().expect("a path").to_string())
            .collect()
    }

    /// `rprof gate compare --baseline store` of these.
    fn compare(&self, heads: &[String], more: &[&str]) -> Answer {
        let mut args = vec!["compare", "--baseline", "store"];
        args.extend(more);
        args.push("--head");
        args.extend(heads.iter().map(String::as_str));
        gate(self.scratch.path(), &args)
    }

    /// The same of runs that are made for it.
    fn against(&self, millis: i64, more: &[&str]) -> Answer {
        self.compare(&self.runs(millis, 1), more)
    }

    /// Files of the store.
    fn stored(&self) -> usize {
        let files = std::fs::read_dir(self.scratch.file("store"));
        files.into_iter().flatten().flatten().count()
    }
}

#[test]
fn it_grows_by_what_passed() {
    let jobs = Jobs::new();
    let against = |millis: i64, more: &[&str]| jobs.against(millis, more);
    against(500, &[])
        .expect(FAILED)
        .says("there is no baseline");
    assert_eq!(jobs.stored(), 0);
    against(500, UPDATE)
        .expect(PASSED)
        .says("Nothing to compare with yet.")
        .says("The baseline store holds 10 runs of 1 set now.");
    // To look is not to add.
    against(500, &[])
        .expect(INCONCLUSIVE)
        .says("of one time only");
    assert_eq!(jobs.stored(), 10);
    against(501, UPDATE)
        .expect(INCONCLUSIVE)
        .says("The baseline store holds 20 runs of 2 sets now.");
    // Two times are enough.
    against(500, &[]).expect(PASSED);
    assert_eq!(jobs.stored(), 20);
    // What regressed is not what the next is compared with.
    against(600, UPDATE)
        .expect(REGRESSED)
        .says("The baseline store was left as it is: what regressed is not what later runs")
        .blames("work");
    // Nor what nothing is known of.
    jobs.compare(&jobs.runs(440, 30), UPDATE)
        .expect(INCONCLUSIVE)
        .says("The baseline store was left as it is: of these runs too little is known")
        .says("begin it anew with them: rm store/set-*.pb.gz, ");
    assert_eq!(jobs.stored(), 20);
    // The newest sets stay.
    for _ in 0..5 {
        against(500, UPDATE).expect(PASSED);
    }
    assert_eq!(jobs.stored(), 50);
}

#[test]
fn days_that_differ_do_not_stay_for_ever() {
    let jobs = Jobs::new();
    jobs.against(500, UPDATE).expect(PASSED);
    jobs.against(508, UPDATE).expect(INCONCLUSIVE);
    jobs.against(530, UPDATE)
        .expect(INCONCLUSIVE)
        .says("2 sets differ by")
        .says("The baseline store was left as it is: what regressed is not");
    let mut answer = jobs.against(504, UPDATE);
    answer
        .expect(INCONCLUSIVE)
        .says("2 sets differ by")
        .says("The baseline store holds 30 runs of 3 sets now.");
    // The first, which differs, is let go.
    for _ in 0..5 {
        answer = jobs.against(504, UPDATE);
    }
    answer.expect(PASSED);
    assert_eq!(jobs.stored(), 50);
}

#[test]
fn the_first_runs_are_reported() {
    let jobs = Jobs::new();
    let heads = jobs.runs(500, 1);
    let args = ["compare", "--baseline", "store", "--update", "--github"];
    let mut command = said::gate(jobs.scratch.path(), &[&args[..], &REPORTS[..]].concat());
    let said = said::said(command.arg("--head").args(&heads));
    assert_eq!(said.code, Some(PASSED), "{}", said.stderr);
    let why = "Nothing to compare with yet: the next runs are compared with these";
    let title = "::notice title=rprof gate%3A nothing was compared::";
    assert_eq!(said.stdout, format!("{title}{why}\n"));
    let read = |name: &str| said::read(&jobs.scratch, name);
    let json = read_json(&read("a.json"));
    assert_eq!(
        (&json["verdict"], &json["headline"]),
        (&"none".into(), &why.into())
    );
    let junit = read("a.xml");
    assert!(
        junit.contains("skipped=\"1\"") && junit.contains(why),
        "{junit}"
    );
    assert!(read("a.md").contains(why));
    assert_eq!(read_json(&read("g.json")), Value::Array(Vec::new()));
    assert!(!jobs.scratch.file("a.svg").exists());
}

#[test]
fn a_job_that_is_run_again_adds_nothing_and_gets_the_same_answer() {
    let jobs = Jobs::new();
    let already = "The baseline store holds these runs already, and was left as it is.";
    let first = jobs.runs(500, 1);
    jobs.compare(&first, UPDATE).expect(PASSED);
    jobs.compare(&first, UPDATE).expect(PASSED).says(already);
    jobs.compare(&first, &[])
        .expect(FAILED)
        .says("the baseline store holds only these runs");
    jobs.against(500, UPDATE).expect(INCONCLUSIVE);
    let third = jobs.runs(501, 1);
    let answer = jobs.compare(&third, UPDATE);
    answer.expect(PASSED);
    assert_eq!(jobs.stored(), 30);
    // Of the same files under other names, too.
    let copies: Vec<String> = third.iter().map(|file| format!("{file}.copy")).collect();
    for (file, copy) in third.iter().zip(&copies) {
        std::fs::copy(file, copy).expect("a copy");
    }
    for heads in [&third, &copies] {
        let again = jobs.compare(heads, UPDATE);
        again.expect(PASSED).says(already);
        assert_eq!(again.told["total"], answer.told["total"], "{}", again.said);
        assert_eq!(jobs.stored(), 30);
    }
}

#[test]
fn profiles_that_somebody_put_there() {
    let jobs = Jobs::new();
    let store = jobs.scratch.file("store");
    std::fs::create_dir(&store).expect("our own");
    for n in 0..3 {
        written(
            &jobs.scratch,
            &format!("store/mine-{n}.pb.gz"),
            &profile(1000 + n, 500),
        );
    }
    jobs.against(500, &[])
        .expect(FAILED)
        .says("has no runs that count: the profiles there, 3, were not put there by --update")
        .says("try: rprof gate compare --baseline store --update --head store/*.pb.gz");
    let mine = [0, 1, 2].map(|n| format!("store/mine-{n}.pb.gz"));
    jobs.compare(&mine, UPDATE)
        .expect(PASSED)
        .says("The baseline store holds 3 runs of 1 set now.");
    jobs.against(500, &[])
        .expect(INCONCLUSIVE)
        .says("Profiles in store that were not put there by --update do not count: 3.");
}

#[test]
fn under_sudo_it_belongs_to_the_caller() {
    let jobs = Jobs::new();
    let heads = jobs.runs(500, 1);
    let output = Command::new(binary())
        .args([
            "gate",
            "compare",
            "--baseline",
            "cache/store",
            "--update",
            "--head",
        ])
        .args(&heads)
        .current_dir(jobs.scratch.path())
        .env("SUDO_UID", "65534")
        .env("SUDO_GID", "65533")
        .stdin(Stdio::null())
        .output()
        .expect("rprof runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(PASSED), "{said}");
    let cache = jobs.scratch.file("cache");
    let store = cache.join("store");
    let files = std::fs::read_dir(&store).expect("a folder").flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    assert_eq!(paths.len(), 10);
    paths.extend([cache, store]);
    for path in paths {
        let about = path.metadata().expect("it is there");
        assert_eq!(
            (about.uid(), about.gid()),
            (65534, 65533),
            "{}",
            path.display()
        );
    }
}
