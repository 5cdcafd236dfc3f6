//! Small changes: a function that is dearer by 5, 10 and 20 % of a run, in three languages.

use std::path::PathBuf;

use rprof_tests::python::system;
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};

use crate::answer::{PASSED, REGRESSED, Versions};
use crate::builds::rust;

#[test]
#[ignore = "takes minutes, and a machine to itself: cargo xtask full"]
fn small_changes_in_three_languages() {
    let scratch = Scratch::new();
    let c = scratch.cc("gate.c", "gate-c", OPTIMIZED);
    let rust = rust(&scratch, "rust", "", &[]);
    let python = system();
    let words = |program: &PathBuf| program.display().to_string();
    let python = python.words(&source_file("gate.py"), &[]).join(" ");
    let languages = [
        ("C", words(&c), "beta"),
        ("Rust", words(&rust), "gate::beta"),
        ("Python", python, "beta"),
    ];
    let mut table = String::new();
    for (language, command, function) in languages {
        // Of a run of 2000 in all.
        for percent in [0, 5, 10, 20] {
            let versions = Versions {
                scratch: &scratch,
                commands: [
                    format!("{command} alpha 1000 beta 1000"),
                    format!("{command} alpha 1000 beta {}", 1000 + 20 * percent),
                ],
                more: &["--runs", "60"],
            };
            let (answer, truth) = versions.run();
            let (change, is) = (answer.change(), truth.growth("total"));
            let named = answer.list("guilty");
            let first = named.first().map_or("-", |first| first.name.as_str());
            let row = format!(
                "| {language} | {percent} % | {is:+.2} % | {:+.1} % | {:+.1} to {:+.1} % | {} | {first} |\n",
                change.by, change.least, change.most, answer.code,
            );
            println!("{row}");
            table += &row;
            // Where Python puts what it works on differs from run to run, and so does what a run takes: by 5 %.
            match (language, percent) {
                ("Python", 0) => assert_ne!(answer.code, REGRESSED, "{}", answer.said),
                ("Python", 5) => assert_ne!(answer.code, PASSED, "{}", answer.said),
                (_, 0) => {
                    answer.expect(PASSED).blames_nobody();
                }
                _ => {
                    answer.expect(REGRESSED).blames(function);
                }
            }
            assert!(change.has(is, 1.0), "{is:+.2} %: {}", answer.said);
        }
    }
    println!(
        "| language | made dearer by | true change | estimate | interval | exit code | first named |\n{table}"
    );
}
