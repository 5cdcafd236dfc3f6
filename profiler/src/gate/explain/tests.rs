//! Runs that are made up, of programs of a few functions.

use hashbrown::HashMap;

use super::*;
use crate::gate::costs::Function;
use crate::gate::statistics::design::Design;
use crate::gate::statistics::design::Side::{Base, Head};

const MAIN: u32 = 0;
const RUNS: usize = 20;

/// Runs of `main` and what it calls: names, callers, and what each costs by itself, in base and in head.
fn explained(of: &[(&str, u32, [f64; 2])]) -> (Explained, Functions) {
    let block = |n| [(Base, n), (Head, n), (Head, n), (Base, n)];
    let runs: Vec<_> = (0..RUNS as u32 / 4).flat_map(block).collect();
    let design = Design::new(&runs).unwrap();
    let costs = |number: usize, [base, head]: [f64; 2]| -> Vec<f64> {
        let noise = |run: usize| 1.0 + 0.001 * ((run * (7 + number) + number) % 5) as f64;
        let side = |run: usize| if runs[run].0 == Base { base } else { head };
        (0..RUNS).map(|run| side(run) * noise(run)).collect()
    };
    let sum = |to: &mut Vec<f64>, of: &[f64]| {
        to.iter_mut().zip(of).for_each(|(to, of)| *to += of);
    };
    let rows: Vec<Vec<f64>> = (of.iter().enumerate())
        .map(|(number, (_, _, sides))| costs(number, *sides))
        .collect();
    let none = || vec![vec![0.0; RUNS]; of.len()];
    let (mut own, mut all, mut with_callees) = (none(), none(), rows.clone());
    let mut calls: HashMap<(u32, u32), Vec<f64>> = HashMap::new();
    // Two of one name are one.
    let number = |at: usize| of.iter().position(|row| row.0 == of[at].0).unwrap();
    // Who is called comes after who calls it.
    for at in (0..of.len()).rev() {
        let (cost, caller) = (with_callees[at].clone(), of[at].1 as usize);
        sum(&mut own[number(at)], &rows[at]);
        sum(&mut all[number(at)], &cost);
        if at > 0 {
            sum(&mut with_callees[caller], &cost);
            let call = calls.entry((number(at) as u32, number(caller) as u32));
            sum(call.or_insert_with(|| vec![0.0; RUNS]), &cost);
        }
    }
    let functions = of.iter().map(|(name, ..)| Function {
        name: (*name).into(),
        file: "".into(),
        module: "".into(),
    });
    let functions = Functions {
        functions: functions.collect(),
        own,
        calls,
        lines: vec![0; of.len()],
        all,
    };
    let total = functions.all[0].clone();
    let exchanges = design.exchanges(1000, 1);
    let explained = explain(&functions, &total, 1.0, &design, &exchanges);
    (explained, functions)
}

fn names(list: &[Changed], functions: &Functions) -> Vec<String> {
    let name = |changed: &Changed| {
        functions.functions[changed.function as usize]
            .name
            .to_string()
    };
    list.iter().map(name).collect()
}

fn moved(of: &Explained) -> Vec<Moved> {
    of.moved.iter().map(|one| one.how).collect()
}

#[test]
fn a_renamed_function_is_one() {
    let (found, _) = explained(&[
        ("main", MAIN, [5.0, 5.0]),
        ("alpha", MAIN, [60.0, 0.0]),
        ("alef", MAIN, [0.0, 60.0]),
    ]);
    assert_eq!(moved(&found), [Moved::Renamed(1, 2)]);
    assert!(
        found.guilty.is_empty() && found.cheaper.is_empty(),
        "{found:?}"
    );
    assert_eq!(found.likely, None);
}

#[test]
fn a_renamed_function_that_is_dearer_as_well() {
    let (found, of) = explained(&[
        ("main", MAIN, [5.0, 5.0]),
        ("alpha", MAIN, [60.0, 0.0]),
        ("alef", MAIN, [0.0, 75.0]),
    ]);
    assert_eq!(moved(&found), [Moved::Renamed(1, 2)]);
    assert_eq!(names(&found.guilty, &of), ["alef"]);
    let by = found.guilty[0].own.growth;
    assert!((14.0..16.0).contains(&by), "{by}");
    assert!(found.cheaper.is_empty(), "{found:?}");
}

#[test]
fn an_inlined_function_is_its_caller_now() {
    let (found, _) = explained(&[
        ("main", MAIN, [5.0, 5.0]),
        ("outer", MAIN, [10.0, 70.0]),
        ("inner", 1, [60.0, 0.0]),
    ]);
    assert_eq!(moved(&found), [Moved::Inlined(2, 1)]);
    assert!(
        found.guilty.is_empty() && found.cheaper.is_empty(),
        "{found:?}"
    );
}

#[test]
fn a_part_of_a_function_is_one_of_its_own_now() {
    let (found, _) = explained(&[
        ("main", MAIN, [5.0, 5.0]),
        ("outer", MAIN, [70.0, 10.0]),
        ("inner", 1, [0.0, 60.0]),
    ]);
    assert_eq!(moved(&found), [Moved::Split(1, 2)]);
    assert!(
        found.guilty.is_empty() && found.cheaper.is_empty(),
        "{found:?}"
    );
}

#[test]
fn a_function_that_is_two_now() {
    let halves = |second: f64| {
        explained(&[
            ("main", MAIN, [5.0, 5.0]),
            ("both", MAIN, [60.0, 0.0]),
            ("first", MAIN, [0.0, 30.0]),
            ("second", MAIN, [0.0, second]),
        ])
    };
    let (found, _) = halves(29.0);
    assert_eq!(moved(&found), [Moved::Split(1, 2), Moved::Split(1, 3)]);
    assert!(
        found.guilty.is_empty() && found.cheaper.is_empty(),
        "{found:?}"
    );
    // Which is dearer than the one it was.
    let (found, of) = halves(42.0);
    assert_eq!(moved(&found), [Moved::Split(1, 3), Moved::Split(1, 2)]);
    let (went, came) = (found.moved[1].went, found.moved[1].came);
    assert!((24.0..26.0).contains(&went) && (29.0..31.0).contains(&came));
    assert_eq!(names(&found.guilty, &of), ["second"]);
    let by = found.guilty[0].own.growth;
    assert!((11.0..13.0).contains(&by), "{by}");
}

#[test]
fn a_part_of_its_own_and_all_of_it_dearer() {
    let (found, of) = explained(&[
        ("main", MAIN, [5.0, 5.0]),
        ("outer", MAIN, [70.0, 10.0]),
        ("inner", 1, [0.0, 70.0]),
    ]);
    assert_eq!(moved(&found), [Moved::Split(1, 2)]);
    // Which was there before, and is where the part is called.
    assert_eq!(names(&found.guilty, &of), ["outer"]);
    let grown = &found.guilty[0];
    assert!((9.0..11.0).contains(&grown.own.growth), "{grown:?}");
    assert!((9.0..11.0).contains(&grown.all.growth), "{grown:?}");
}

#[test]
fn two_that_are_in_their_caller_now() {
    let joined = |more: f64| {
        explained(&[
            ("main", MAIN, [5.0, 5.0]),
            ("outer", MAIN, [10.0, 70.0 + more]),
            ("one", 1, [25.0, 0.0]),
            ("other", 1, [35.0, 0.0]),
        ])
    };
    let (found, _) = joined(0.0);
    let told = [Moved::Inlined(3, 1), Moved::Inlined(2, 1)];
    assert_eq!(moved(&found), told);
    assert!(
        found.guilty.is_empty() && found.cheaper.is_empty(),
        "{found:?}"
    );
    let (found, of) = joined(12.0);
    assert_eq!(moved(&found), told);
    assert_eq!(names(&found.guilty, &of), ["outer"]);
    let by = found.guilty[0].own.growth;
    assert!((11.0..13.0).contains(&by), "{by}");
    assert!(found.cheaper.is_empty());
}

#[test]
fn one_that_is_gone_and_one_that_is_new_elsewhere_are_two() {
    let (found, of) = explained(&[
        ("main", MAIN, [5.0, 5.0]),
        ("parse", MAIN, [20.0, 20.0]),
        ("render", MAIN, [20.0, 20.0]),
        ("alpha", 1, [60.0, 0.0]),
        ("beta", 2, [0.0, 60.0]),
    ]);
    assert_eq!(moved(&found), [Moved::Work(3, 4)]);
    assert_eq!(names(&found.guilty, &of), ["beta"]);
    assert_eq!(names(&found.cheaper, &of), ["alpha"]);
}

#[test]
fn who_calls_more_comes_before_what_is_called() {
    let calls = |of_alpha: [f64; 2], of_beta: [f64; 2]| {
        let (found, of) = explained(&[
            ("main", MAIN, [5.0, 5.0]),
            ("alpha", MAIN, [1.0, 1.0]),
            ("beta", MAIN, [1.0, 1.0]),
            ("helper", 1, of_alpha),
            ("helper", 2, of_beta),
        ]);
        names(&found.guilty, &of)
    };
    assert_eq!(calls([30.0, 30.0], [30.0, 50.0]), ["beta", "helper"]);
    assert_eq!(calls([30.0, 40.0], [30.0, 40.0]), ["helper"]);
    // Of the others there is too little to tell.
    assert_eq!(calls([5.0, 5.0], [30.0, 50.0]), ["helper"]);
}

#[test]
fn of_several_the_one_that_is_most_like_it() {
    let (found, _) = explained(&[
        ("main", MAIN, [5.0, 5.0]),
        ("alpha", MAIN, [60.0, 20.0]),
        ("beta", MAIN, [60.0, 30.0]),
        ("gamma", MAIN, [10.0, 51.0]),
    ]);
    assert_eq!(moved(&found), [Moved::Work(1, 3)]);
}
