//! Which names are asked for and what is answered, as they go between rprof and a reader: each text
//! once, however many places have it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rprof_symbolize::module_names::Options;
use rprof_symbolize::{ErrorKind, ModuleNames};

use crate::profile::Line;

/// Which names are wanted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Places {
    /// The module's path, from where debug links start.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Inlined callees, too.
    #[prost(bool, tag = "2")]
    pub inlines: bool,
    /// File offsets.
    #[prost(uint64, repeated, tag = "3")]
    pub offsets: Vec<u64>,
    /// More than these: see [`Options::around`].
    #[prost(bool, tag = "4")]
    pub around: bool,
}

impl Places {
    /// How their names are looked up.
    pub fn options(&self) -> Options {
        Options {
            inlines: self.inlines,
            around: self.around,
            path: Some(self.path.clone().into()),
            ..Options::default()
        }
    }
}

/// The names of one module's places.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// The module's build id in hex, empty if it has none.
    #[prost(string, tag = "1")]
    pub build_id: String,
    /// Sources of names that could not be used, and why.
    #[prost(string, repeated, tag = "2")]
    pub left_out: Vec<String>,
    /// Names and files.
    #[prost(string, repeated, tag = "3")]
    texts: Vec<String>,
    /// For each place how many lines it has.
    #[prost(uint32, repeated, tag = "4")]
    counts: Vec<u32>,
    /// The lines of all places, each as number of its name, number of its file, line, first line.
    #[prost(uint32, repeated, tag = "5")]
    numbers: Vec<u32>,
    /// For each place how many offsets before it and after it have the same lines, in turn.
    #[prost(uint64, repeated, tag = "6")]
    alike: Vec<u64>,
    /// Places that were not asked for, which come after those in all of these lists.
    #[prost(uint64, repeated, tag = "7")]
    around: Vec<u64>,
}

/// What is known of a place.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Named {
    /// Innermost inlined callee first; empty: no name is known.
    pub lines: Vec<Line>,
    /// The offsets around it that have the same lines.
    pub alike: Range<u64>,
}

impl Answer {
    /// Asks a module.
    pub fn of(names: &ModuleNames, offsets: &[u64]) -> Self {
        let found = names.names(offsets);
        let build_id = names.build_id().map(ToString::to_string);
        let mut answer = Self {
            build_id: build_id.unwrap_or_default(),
            around: found.around,
            ..Self::default()
        };
        let left_out = found.left_out.iter();
        answer.left_out = left_out
            .filter(|error| error.kind() != ErrorKind::NotFound)
            .map(ToString::to_string)
            .collect();
        answer.alike = found
            .alike
            .iter()
            .flat_map(|&(before, after)| [before, after])
            .collect();
        let mut known = HashMap::new();
        for lines in found.lines {
            answer.counts.push(lines.len() as u32);
            for line in lines {
                let name = answer.text(&mut known, line.function);
                let file = answer.text(&mut known, line.file);
                let numbers = [name, file, line.line, line.first_line];
                answer.numbers.extend(numbers);
            }
        }
        answer
    }

    fn text(&mut self, known: &mut HashMap<String, u32>, text: String) -> u32 {
        *known.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            (self.texts.len() - 1) as u32
        })
    }

    /// What is known of each of the places that were asked for; and of others, with their offsets.
    pub fn named(&self, offsets: &[u64]) -> (Vec<Named>, Vec<(u64, Named)>) {
        let texts: Vec<Arc<str>> = self.texts.iter().map(|text| text.as_str().into()).collect();
        let text = |number: u32| texts.get(number as usize).cloned().unwrap_or_default();
        let line = |&[name, file, line, first_line]: &[u32; 4]| Line {
            function: text(name),
            file: text(file),
            line,
            first_line,
        };
        let (mut rest, _) = self.numbers.as_chunks::<4>();
        let (pairs, _) = self.alike.as_chunks::<2>();
        let counts = self.counts.iter().copied().chain(std::iter::repeat(0));
        let pairs = pairs.iter().copied().chain(std::iter::repeat([0, 0]));
        let all = offsets.iter().chain(&self.around);
        let mut named = all
            .zip(counts.zip(pairs))
            .map(|(&at, (count, [before, after]))| {
                let (lines, beyond) = rest.split_at(rest.len().min(count as usize));
                rest = beyond;
                let alike = at.saturating_sub(before)..at.saturating_add(after).saturating_add(1);
                let lines = lines.iter().map(line).collect();
                (at, Named { lines, alike })
            });
        let asked = named.by_ref().take(offsets.len());
        let asked = asked.map(|(_, named)| named).collect();
        (asked, named.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_do_not_fit_the_question() {
        let answer = Answer {
            texts: vec!["f".into()],
            counts: vec![1, 0, u32::MAX],
            numbers: vec![0, 9, 4, 2, 7, 7, 7, 7, 1],
            ..Answer::default()
        };
        let (named, more) = answer.named(&[10, 20, 30, 40]);
        let lines: Vec<_> = named.iter().map(|named| &named.lines[..]).collect();
        let f = Line {
            function: "f".into(),
            file: "".into(),
            line: 4,
            first_line: 2,
        };
        assert_eq!(lines[0], [f]);
        assert!(lines[1].is_empty() && lines[3].is_empty());
        assert_eq!(lines[2].len(), 1);
        assert_eq!((named[3].alike.clone(), more.len()), (40..41, 0));
        assert_eq!(answer.named(&[10]).0.len(), 1);
    }
}
