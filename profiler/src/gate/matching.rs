//! Which function of one build is which of another: by name, file and module, whatever folders, hashes and
//! addresses have become.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use super::costs::Function;

/// Functions of two builds, each with a number that both have.
#[derive(Clone, Debug, Default)]
pub struct Matched {
    /// By number: as head has it, else as base has.
    pub functions: Vec<Function>,
    numbers: HashMap<Function, u32>,
}

impl Matched {
    /// Of the functions of base and head.
    pub fn new(base: &BTreeSet<Function>, head: &BTreeSet<Function>) -> Self {
        let mut matched = Self::default();
        let mut left: [Vec<&Function>; 2] = Default::default();
        for function in base.intersection(head) {
            matched.add(&[function]);
        }
        left[0].extend(base.difference(head));
        left[1].extend(head.difference(base));
        // Then by less and less.
        let keys: [fn(&Function) -> Key; 3] = [
            |f| (f.name.clone(), last_part(&f.file), f.module.clone()),
            |f| (f.name.clone(), last_part(&f.file), "".into()),
            |f| (f.name.clone(), "".into(), "".into()),
        ];
        for key in keys {
            left = matched.pair(left, key);
        }
        for function in left.into_iter().flatten() {
            matched.add(&[function]);
        }
        matched
    }

    /// The number of a function of either build.
    pub fn number(&self, function: &Function) -> Option<u32> {
        self.numbers.get(function).copied()
    }

    /// Pairs those of the two that have the same key, those first whose paths end alike; gives back the others.
    fn pair<'a>(
        &mut self,
        left: [Vec<&'a Function>; 2],
        key: fn(&Function) -> Key,
    ) -> [Vec<&'a Function>; 2] {
        let mut groups: BTreeMap<Key, [Vec<&Function>; 2]> = BTreeMap::new();
        for (side, functions) in left.into_iter().enumerate() {
            for function in functions {
                groups.entry(key(function)).or_default()[side].push(function);
            }
        }
        let mut rest: [Vec<&Function>; 2] = Default::default();
        for [mut base, mut head] in groups.into_values() {
            while !base.is_empty() && !head.is_empty() {
                // Groups are small: they have one name.
                let pairs = (0..base.len()).flat_map(|b| (0..head.len()).map(move |h| (b, h)));
                let best = pairs.max_by_key(|&(b, h)| {
                    let alike = alike(&base[b].file, &head[h].file);
                    (
                        alike,
                        base[b].module == head[h].module,
                        std::cmp::Reverse((b, h)),
                    )
                });
                let (b, h) = best.unwrap_or_default();
                let (of_base, of_head) = (base.remove(b), head.remove(h));
                self.add(&[of_head, of_base]);
            }
            rest[0].extend(base);
            rest[1].extend(head);
        }
        rest
    }

    fn add(&mut self, same: &[&Function]) {
        let number = self.functions.len() as u32;
        self.functions
            .extend(same.first().map(|first| (*first).clone()));
        for function in same {
            self.numbers.insert((*function).clone(), number);
        }
    }
}

type Key = (Arc<str>, Arc<str>, Arc<str>);

fn last_part(path: &str) -> Arc<str> {
    path.rsplit('/').next().unwrap_or(path).into()
}

/// How many parts at their ends two paths have in common.
fn alike(a: &str, b: &str) -> usize {
    let both = a.rsplit('/').zip(b.rsplit('/'));
    both.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, file: &str, module: &str) -> Function {
        Function {
            name: name.into(),
            file: file.into(),
            module: module.into(),
        }
    }

    fn are_one(base: &[&Function], head: &[&Function]) -> Vec<bool> {
        let set = |of: &[&Function]| of.iter().map(|f| (*f).clone()).collect();
        let matched = Matched::new(&set(base), &set(head));
        let pairs = base.iter().zip(head);
        pairs
            .map(|(a, b)| matched.number(a) == matched.number(b))
            .collect()
    }

    #[test]
    fn another_folder_and_another_name_of_the_program() {
        let base = function("work", "/build/base/src/a.c", "bench-base");
        let head = function("work", "/build/head/src/a.c", "bench-head");
        assert_eq!(are_one(&[&base], &[&head]), [true]);
    }

    #[test]
    fn the_same_name_in_two_files() {
        let base = [
            function("init", "/base/x/a.c", "p"),
            function("init", "/base/y/a.c", "p"),
            function("init", "/base/b.c", "p"),
        ];
        let head = [
            function("init", "/head/x/a.c", "p"),
            function("init", "/head/y/a.c", "p"),
            function("init", "/head/b.c", "p"),
        ];
        assert_eq!(are_one(&base.each_ref(), &head.each_ref()), [true; 3]);
    }

    #[test]
    fn one_build_knows_no_files() {
        let base = function("work", "", "p");
        let head = function("work", "/head/a.c", "p");
        assert_eq!(are_one(&[&base], &[&head]), [true]);
    }

    #[test]
    fn the_same_name_elsewhere_is_another_where_both_have_theirs() {
        let (a, b) = (
            function("free", "", "libc.so.6"),
            function("free", "", "libm.so.6"),
        );
        let matched = Matched::new(
            &[a.clone(), b.clone()].into(),
            &[a.clone(), b.clone()].into(),
        );
        assert_ne!(matched.number(&a), matched.number(&b));
    }
}
