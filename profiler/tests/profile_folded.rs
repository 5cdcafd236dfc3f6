//! The folded format and the flame graph drawn from it.

mod profile_support;

use std::collections::HashMap;

use profile_support::*;
use rprof_profiler::profile::{Profile, folded, svg};

fn lines(profile: &Profile) -> HashMap<String, u64> {
    let mut out = Vec::new();
    folded::write(profile, &symbols(profile, &ByRule), &mut out).unwrap();
    let mut found = HashMap::new();
    for line in String::from_utf8(out).unwrap().lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        let before = found.insert(stack.to_owned(), count.parse().unwrap());
        assert_eq!(before, None, "{stack} twice");
    }
    found
}

#[test]
fn equal_looking_stacks_are_one_line() {
    for max_memory in [256 << 20, 600 << 10] {
        let mut chance = Chance(3);
        let mut profile = profile(max_memory);
        let mut model: HashMap<String, u64> = HashMap::new();
        let stacks: Vec<_> = (0..700).map(|_| chance.stack()).collect();
        for _ in 0..3000 {
            let stack = &stacks[chance.below(700) as usize];
            let labels = chance.labels();
            add(&mut profile, stack, &labels, 2);
            let mut names: Vec<_> = stack.iter().flat_map(expected).collect();
            names.push(labels.comm.to_string());
            names.reverse();
            *model.entry(names.join(";")).or_default() += 2;
        }
        assert_eq!(profile.size().parts > 0, max_memory < 1 << 20);
        assert_eq!(lines(&profile), model);
    }
}

#[test]
fn names_cannot_break_lines() {
    let mut profile = profile(1 << 20);
    let stack = [
        python("a;b\nc 7", 1),
        python(" ", 2),
        python("operator() const", 3),
    ];
    add(&mut profile, &stack, &labels(1, "x;y\n"), 1);
    add(&mut profile, &stack, &labels(2, ""), 1);
    let root = "operator() const;[unknown];a:b\u{fffd}c 7";
    let expected = [format!("x:y\u{fffd};{root}"), format!("[unknown];{root}")];
    assert_eq!(lines(&profile), expected.map(|line| (line, 1)).into());
}

fn draw(profile: &Profile) -> String {
    let mut out = Vec::new();
    let symbols = symbols(profile, &ByRule);
    svg::write(profile, &symbols, &about(20), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_flame_graph_shows_all_samples() {
    let mut profile = profile(1 << 20);
    let caller = native(2, 3);
    add(
        &mut profile,
        &[native(1, 65), caller.clone()],
        &labels(1, "sh<&>"),
        3,
    );
    add(
        &mut profile,
        &[python("<module>", 1), caller],
        &labels(1, "sh<&>"),
        1,
    );
    let drawn = draw(&profile);
    for title in [
        "all (4 samples, 100%)",
        "sh&lt;&amp;&gt; (4 samples, 100.00%)",
        "f2_0 (4 samples, 100.00%)",
        "outer1_1 (3 samples, 75.00%)",
        "inner1_1 (3 samples, 75.00%)",
        "&lt;module&gt; (1 samples, 25.00%)",
    ] {
        assert!(
            drawn.contains(&format!("<title>{title}</title>")),
            "{title}\n{drawn}"
        );
    }
    assert!(drawn.contains(svg::MARK) && drawn.contains("4 samples in 10.0 s at 20 Hz"));
    assert!(drawn.trim_end().ends_with("</svg>"));
}

#[test]
fn no_samples_are_a_graph_too() {
    let drawn = draw(&profile(1 << 20));
    assert!(drawn.contains("[no samples]") && drawn.trim_end().ends_with("</svg>"));
}
