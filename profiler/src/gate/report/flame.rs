//! A flame graph of the average run of head, colored by what became of it since base. Profiles are read once more, one
//! after the other, for their stacks; an SVG file leaves.
//!
//! Widths are microseconds of CPU. A frame is red or blue by what the function itself takes more or less, in this
//! stack: so the guilty one is red, and not all its callers. Head has no width for what it does not do any more: such
//! stacks stand beside it below a frame of their own, as wide as they were, and blue.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use hashbrown::HashMap;
use inferno::flamegraph;
use pprof::protos::Profile;

use super::sentences;
use super::told::Told;
use super::words;
use crate::cli::Failure;
use crate::cli::failure::reason;
use crate::gate::comparison::Comparison;
use crate::gate::runs::{self, Runs};
use crate::gate::statistics::design::Side;
use crate::gate::{costs, names};

/// Characters of a name.
const NAME: usize = 400;
/// Frames of a stack.
const DEEP: usize = 1000;
/// The root of what only base has.
const GONE: &str = "[only in base]";
/// The root of what head has.
const HEAD: &str = "[head]";
/// What head has less than this share of is gone.
const LITTLE: f64 = 0.05;
/// The color is full from a change of so many thresholds on, or what changed most: chance must not look like much.
const FULL: f64 = 2.0;
/// What had less than this share of such a change is not missed.
const MISSED: f64 = 0.125;

/// Stacks of both sides: names, root first, and nanoseconds of an average run of base and head.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    names: Names,
    of: HashMap<Vec<u32>, [f64; 2]>,
}

#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.texts.len() as u32;
        self.texts.push(name.to_string());
        self.numbers.insert(name.to_string(), number);
        number
    }
}

impl Stacks {
    /// Reads the profiles of all runs.
    ///
    /// # Errors
    /// One cannot be read any more.
    pub(super) fn read(runs: &Runs) -> Result<Self, Failure> {
        let mut stacks = Self::default();
        let sides = runs.sides.iter().zip(&runs.files).zip(&runs.costs);
        for ((&side, file), costs) in sides {
            let profile = runs::profile(Path::new(file))?;
            let of_side = runs.sides.iter().filter(|of| **of == side).count();
            let scale = costs.scale() / of_side.max(1) as f64;
            stacks.add(&profile, side, scale);
        }
        Ok(stacks)
    }

    /// Adds a profile whose nanoseconds stand for so many each.
    fn add(&mut self, profile: &Profile, side: Side, scale: f64) {
        let Ok((value, to_nanos, _)) = costs::time::value(profile) else {
            return;
        };
        let text = |id: i64| {
            let text = usize::try_from(id)
                .ok()
                .and_then(|id| profile.string_table.get(id));
            text.map_or("", String::as_str)
        };
        let modules: HashMap<u64, &str> = (profile.mapping.iter())
            .map(|mapping| (mapping.id, text(mapping.filename)))
            .collect();
        let functions: HashMap<u64, u32> = (profile.function.iter())
            .map(|function| {
                let name = frame(&names::plain(text(function.name)));
                (function.id, self.names.number(&name))
            })
            .collect();
        let locations: HashMap<u64, Vec<u32>> = (profile.location.iter())
            .map(|location| {
                let lines = location.line.iter();
                let mut names: Vec<u32> = lines
                    .filter_map(|line| functions.get(&line.function_id).copied())
                    .collect();
                if names.is_empty() {
                    let module = modules.get(&location.mapping_id).unwrap_or(&"");
                    let module = module.rsplit('/').next().unwrap_or_default();
                    let module = if module.is_empty() { "unknown" } else { module };
                    names.push(self.names.number(&frame(&format!("[{module}]"))));
                }
                (location.id, names)
            })
            .collect();
        for sample in &profile.sample {
            let nanos = sample.value.get(value).copied().unwrap_or(0) as f64 * to_nanos;
            let mut stack: Vec<u32> = (sample.location_id.iter())
                .filter_map(|location| locations.get(location))
                .flatten()
                .copied()
                .take(DEEP)
                .collect();
            let comm = sample.label.iter().find(|label| text(label.key) == "comm");
            if let Some(comm) = comm {
                stack.push(self.names.number(&frame(text(comm.str))));
            }
            if stack.is_empty() {
                continue;
            }
            stack.reverse();
            let of = self.of.entry(stack).or_default();
            of[usize::from(side == Side::Head)] += nanos * scale;
        }
    }

    /// Lines of inferno: a stack, what it is compared with, and its width. `full`: the change that has the full color.
    fn lines(&self, full: f64) -> Vec<String> {
        // By each beginning of stacks: what it had and has.
        let mut beginnings: HashMap<&[u32], [f64; 2]> = HashMap::new();
        for (stack, both) in &self.of {
            for end in 1..=stack.len() {
                let of = beginnings.entry(&stack[..end]).or_default();
                of[0] += both[0];
                of[1] += both[1];
            }
        }
        let is_gone = |beginning: &[u32]| {
            let [was, is] = beginnings.get(beginning).copied().unwrap_or_default();
            is < LITTLE * was && was >= MISSED * full
        };
        let has_gone = self
            .of
            .keys()
            .any(|stack| (1..=stack.len()).any(|end| is_gone(&stack[..end])));
        let micros = |nanos: f64| (nanos / 1e3).round().max(0.0) as u64;
        let mut lines: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        for (stack, &[was, is]) in &self.of {
            let names = stack.iter().map(|&name| &*self.names.texts[name as usize]);
            let names = names.collect::<Vec<&str>>().join(";");
            let mut add = |root: &str, first: u64, second: u64| {
                let line = match has_gone {
                    true => format!("{root};{names}"),
                    false => names.clone(),
                };
                lines.insert(line, [first, second]);
            };
            if (1..=stack.len()).any(|end| is_gone(&stack[..end])) {
                // Half of twice as much: less by all that it is.
                add(GONE, 2 * micros(was), micros(was));
            }
            add(HEAD, micros(was), micros(is));
        }
        let mut lines: Vec<String> = (lines.into_iter())
            .filter(|(_, [first, second])| *first > 0 || *second > 0)
            .map(|(stack, [first, second])| format!("{stack} {first} {second}"))
            .collect();
        // Of no width, and so not drawn: how much is much.
        lines.push(format!("[scale] {} 0", micros(full)));
        lines
    }
}

/// A name as a part of a line, where `;` separates.
fn frame(name: &str) -> String {
    words::name(name, NAME).replace(';', ":")
}

/// It as text.
///
/// # Errors
/// A profile is gone before its stacks were read.
pub(super) fn text(of: &Comparison, runs: &Runs, told: &Told<'_>) -> Result<Vec<u8>, Failure> {
    let not_drawn = |why: &str| Failure::new(format!("no flame graph: {why}"));
    let stacks = Stacks::read(runs).map_err(|failure| {
        let next = failure.next_commands().iter();
        next.fold(not_drawn(&failure.what()), |failure, next| {
            failure.next(next)
        })
    })?;
    let mut svg = Vec::new();
    write(of, &stacks, told, &mut svg).map_err(|error| not_drawn(&reason(&error)))?;
    Ok(svg)
}

/// Draws it.
fn write(of: &Comparison, stacks: &Stacks, told: &Told<'_>, out: &mut dyn Write) -> io::Result<()> {
    let full = FULL * of.rule.threshold * of.mean(Side::Base);
    let lines = stacks.lines(full);
    let mut options = flamegraph::Options::default();
    let counting = sentences::counting(of.verdict, told);
    options.title = format!(
        "rprof gate: {}{counting}: {}",
        of.verdict,
        sentences::headline(of)
    );
    let gone = match lines.iter().any(|line| line.starts_with(GONE)) {
        true => format!(" {GONE}: gone in head."),
        false => String::new(),
    };
    options.subtitle = Some(format!(
        "Widths: CPU of an average run of head. Red: the function itself takes more than in base; blue: less.{gone}"
    ));
    options.notes = "rprof".to_owned();
    options.count_name = "µs".to_owned();
    options.deterministic = true;
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut *out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks(of: &[(&str, f64, f64)]) -> Stacks {
        let mut stacks = Stacks::default();
        for &(names, base, head) in of {
            let stack = names.split(';').map(|name| stacks.names.number(name));
            let stack = stack.collect();
            stacks.of.insert(stack, [base, head]);
        }
        stacks
    }

    /// The color of a frame, and its title.
    fn frame_of(svg: &str, name: &str) -> Option<(String, String)> {
        let at = svg.find(&format!("<title>{name} ("))?;
        let title = svg[at + 7..].split("</title>").next()?.to_string();
        let color = svg[at..].split("fill=\"").nth(1)?;
        Some((color.split('"').next()?.to_string(), title))
    }

    fn drawn(stacks: &Stacks) -> String {
        let mut svg = Vec::new();
        let of = super::super::tests::comparison();
        write(&of, stacks, &Told::new(&of, None), &mut svg).unwrap();
        String::from_utf8(svg).unwrap()
    }

    #[test]
    fn the_guilty_one_is_red() {
        let svg = drawn(&stacks(&[
            ("main;alpha", 40e6, 50e6),
            ("main;beta", 50e6, 50.2e6),
            ("main;gamma", 10e6, 8e6),
        ]));
        assert!(svg.contains(crate::profile::svg::MARK));
        let (color, title) = frame_of(&svg, "alpha").unwrap();
        assert_eq!(color, "rgb(255,100,100)");
        assert!(title.starts_with("alpha (50,000 µs"), "{title}");
        // Pale.
        let (color, _) = frame_of(&svg, "beta").unwrap();
        assert_eq!(color, "rgb(255,247,247)");
        let (color, _) = frame_of(&svg, "gamma").unwrap();
        assert!(color.ends_with(",255)"), "{color}");
        let (color, _) = frame_of(&svg, "main").unwrap();
        assert_eq!(color, "rgb(250,250,250)");
        assert!(!svg.contains("[only in base]"));
    }

    #[test]
    fn chance_does_not_look_like_much() {
        // 0.1 % of a run, where 2 % is the threshold.
        let svg = drawn(&stacks(&[("main;alpha", 100e6, 100.1e6)]));
        let (color, _) = frame_of(&svg, "alpha").unwrap();
        assert_eq!(color, "rgb(255,246,246)");
    }

    #[test]
    fn what_is_gone_is_there() {
        let svg = drawn(&stacks(&[
            ("main;old;deep", 10e6, 0.0),
            ("main;new", 0.0, 10e6),
            ("main;beta", 90e6, 90e6),
        ]));
        let (color, title) = frame_of(&svg, "deep").unwrap();
        assert_eq!(color, "rgb(100,100,255)");
        assert!(title.starts_with("deep (10,000 µs"), "{title}");
        let (color, _) = frame_of(&svg, "new").unwrap();
        assert_eq!(color, "rgb(255,100,100)");
        assert!(frame_of(&svg, "[only in base]").is_some());
        let (_, title) = frame_of(&svg, "[head]").unwrap();
        assert!(title.starts_with("[head] (100,000 µs"), "{title}");
    }
}
