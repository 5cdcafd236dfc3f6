//! Changes of programs that say themselves what each of their phases took: what is dearer is found, and named, and
//! what rprof says it grew by is what it did.

use std::path::Path;

use rprof_tests::scratch::{OPTIMIZED, Scratch};

use crate::answer::{Answer, PASSED, REGRESSED, Truth, Versions};

/// Of what changes here, less would be lost in the noise of a machine that others use; more than half of this is none.
pub(crate) const THRESHOLD: &[&str] = &["--threshold", "10%"];

/// A program of `gate.c` with two lists of phases.
fn phases(base: &str, head: &str) -> (Answer, Truth) {
    let scratch = Scratch::new();
    let program = scratch.cc("gate.c", "gate", OPTIMIZED);
    versions(&scratch, [&program, &program], [base, head])
}

/// Two programs with arguments.
pub(crate) fn versions(
    scratch: &Scratch,
    programs: [&Path; 2],
    args: [&str; 2],
) -> (Answer, Truth) {
    let command = |side: usize| format!("{} {}", programs[side].display(), args[side]);
    let versions = Versions {
        scratch,
        commands: [command(0), command(1)],
        more: THRESHOLD,
    };
    versions.run()
}

/// The change of a run is what its programs say.
///
/// # Panics
/// It is not.
pub(crate) fn is_true(answer: &Answer, truth: &Truth) {
    let (said, is) = (answer.change(), truth.growth("total"));
    println!("true change: {is:+.1} %");
    // Both are of the same runs; a far one counts less in one of them.
    assert!(said.has(is, 2.0), "{is:+.1} %: {}", answer.said);
}

/// It regressed, and this function comes first and grew as a phase did.
///
/// # Panics
/// It did not.
pub(crate) fn is_dearer(answer: &Answer, truth: &Truth, function: &str, phase: &str) {
    answer.expect(REGRESSED);
    is_true(answer, truth);
    let named = answer.blames(function);
    let is = truth.growth(phase);
    println!("true growth of {phase}: {is:+.1} % of a run");
    // Of some thousand samples.
    assert!(named.change.has(is, 3.0), "{is:+.1} %: {}", answer.said);
}

#[test]
fn a_function_is_dearer() {
    let (answer, truth) = phases("alpha 700 beta 700", "alpha 700 beta 1150");
    is_dearer(&answer, &truth, "beta", "beta");
    assert!(
        answer.list("callers").iter().any(|f| f.name == "main"),
        "{}",
        answer.said
    );
    assert_eq!(answer.list("guilty").len(), 1, "{}", answer.said);
}

#[test]
fn a_function_is_cheaper_and_nobody_is_blamed_for_the_larger_share() {
    let (answer, truth) = phases("alpha 900 beta 500", "alpha 300 beta 500");
    answer.expect(PASSED).blames_nobody();
    is_true(&answer, &truth);
    assert_eq!(answer.list("cheaper")[0].name, "alpha", "{}", answer.said);
}

#[test]
fn work_moves_from_one_function_to_another() {
    let (answer, truth) = phases("alpha 1000 beta 400", "alpha 500 beta 900");
    answer.expect(PASSED).has_moved("work", "alpha", "beta");
    is_true(&answer, &truth);
}

#[test]
fn a_function_is_called_more_often_by_one_of_its_callers() {
    let (answer, truth) = phases("once 600 often 500", "once 600 often 900");
    is_dearer(&answer, &truth, "often", "often");
    assert_eq!(answer.list("guilty")[1].name, "helper", "{}", answer.said);
}

#[test]
fn a_child_process_is_dearer() {
    let (answer, truth) = phases("alpha 700 child 500", "alpha 700 child 1000");
    is_dearer(&answer, &truth, "in_child", "child");
}

#[test]
fn a_child_that_nobody_waits_for_is_dearer() {
    let (answer, truth) = phases("alpha 700 unwaited 500", "alpha 700 unwaited 1000");
    is_dearer(&answer, &truth, "in_child", "unwaited");
    answer.says("by the kernel's task clock");
}

#[test]
fn the_kernel_is_dearer() {
    let (answer, truth) = phases("alpha 700 copies 300", "alpha 700 copies 1000");
    answer.expect(REGRESSED);
    is_true(&answer, &truth);
    // What copies is the kernel's, and the program's function on the way to it is named as well.
    let first = &answer.list("guilty")[0];
    assert!(first.module.contains("[kernel"), "{}", answer.said);
    assert!(first.callers.contains(&"copies".into()), "{}", answer.said);
    let callers = answer.list("callers");
    assert!(
        callers.iter().any(|f| f.name == "copies"),
        "{}",
        answer.said
    );
}

#[test]
fn the_same_instructions_wait_for_memory() {
    let (answer, truth) = phases("alpha 700 walk 80", "alpha 700 across 80");
    answer.expect(REGRESSED);
    is_true(&answer, &truth);
    let named = answer.blames("walk");
    let is = truth.growth("across") + truth.growth("walk");
    assert!(named.change.has(is, 3.0), "{is:+.1} %: {}", answer.said);
}

#[test]
fn a_function_that_calls_itself_counts_once() {
    let (answer, truth) = phases("alpha 700 tree 500", "alpha 700 tree 1000");
    is_dearer(&answer, &truth, "tree", "tree");
}

#[test]
fn a_library_is_dearer() {
    let scratch = Scratch::new();
    let [base, head] =
        [("base", "-DSTEPS=90000"), ("head", "-DSTEPS=190000")].map(|(side, steps)| {
            std::fs::create_dir(scratch.file(side)).expect("our own");
            let library = format!("{side}/libgate.so");
            let flags = ["-shared", "-fPIC", "-O2", "-g", steps];
            scratch.cc("gate_library.c", &library, &flags);
            let folder = scratch.file(side);
            let folder = format!("-L{}", folder.display());
            let origin = "-Wl,-rpath,$ORIGIN";
            let flags = ["-O2", "-g", "-DLIBRARY", &folder, origin, "-lgate"];
            scratch.cc("gate.c", &format!("{side}/gate"), &flags)
        });
    let phases = "alpha 700 library 500";
    let (answer, truth) = versions(&scratch, [&base, &head], [phases, phases]);
    is_dearer(&answer, &truth, "inside", "library");
}
