//! What did not become more, but is somewhere else: of the functions that are dearer and those that are cheaper, which
//! are two names of one thing.

use super::{Asked, Changed, Explained, Moved};

/// What has less than this share of what it had is gone.
const GONE: f64 = 0.05;
/// What moved from one function to another is as much at both, but for this share.
const ABOUT: f64 = 0.4;

impl Asked<'_> {
    /// Pairs of a dearer and a cheaper function that are about as much.
    pub(super) fn moved(&self, explained: &Explained) -> Vec<Moved> {
        let mut left: Vec<&Changed> = explained.cheaper.iter().collect();
        let mut moved = Vec::new();
        for dearer in &explained.guilty {
            // 1: just as much.
            let likeness = |cheaper: &Changed| {
                let ratio = -cheaper.own.growth / dearer.own.growth;
                ratio.min(1.0 / ratio)
            };
            let known = |cheaper: &Changed| match self.kind(cheaper, dearer) {
                Moved::Renamed(..) => 2,
                Moved::Inlined(..) => 1,
                Moved::Work(..) => 0,
            };
            let best = (0..left.len())
                .filter(|&at| likeness(left[at]) >= 1.0 - ABOUT)
                .max_by(|&a, &b| {
                    let known = known(left[a]).cmp(&known(left[b]));
                    known.then(likeness(left[a]).total_cmp(&likeness(left[b])))
                });
            if let Some(at) = best {
                moved.push(self.kind(left.remove(at), dearer));
            }
        }
        moved
    }

    fn kind(&self, cheaper: &Changed, dearer: &Changed) -> Moved {
        let (from, to) = (cheaper.function, dearer.function);
        if self.is_gone(from) && self.is_new(to) && self.alike(&cheaper.way, &dearer.way) {
            Moved::Renamed(from, to)
        } else if self.is_gone(from) && self.of.calls.contains_key(&(from, to)) {
            Moved::Inlined(from, to)
        } else {
            Moved::Work(from, to)
        }
    }

    fn is_gone(&self, number: u32) -> bool {
        let (base, head) = self.ends(&self.of.all[number as usize]);
        head < GONE * base
    }

    fn is_new(&self, number: u32) -> bool {
        let (base, head) = self.ends(&self.of.all[number as usize]);
        base < GONE * head
    }

    /// Whether two functions are called by the same; or by one that is gone, and one that is new.
    fn alike(&self, from: &[u32], to: &[u32]) -> bool {
        match (from.first(), to.first()) {
            (Some(&from), Some(&to)) => from == to || self.is_gone(from) && self.is_new(to),
            (from, to) => from == to,
        }
    }

    /// What has another name, or is a part of its caller, is no work more or less: of both that is told which is
    /// left when one is taken from the other.
    pub(super) fn merge(&self, explained: &mut Explained) {
        for moved in &explained.moved {
            let (from, to, together) = match *moved {
                Moved::Renamed(from, to) => (from, to, true),
                Moved::Inlined(from, to) => (from, to, false),
                // That one did it instead of the other is a guess.
                Moved::Work(..) => continue,
            };
            let sum = |costs: &[Vec<f64>]| -> Vec<f64> {
                let both = costs[from as usize].iter().zip(&costs[to as usize]);
                both.map(|(from, to)| from + to).collect()
            };
            let own = self.amount(&sum(&self.of.own));
            let all = match together {
                true => self.amount(&sum(&self.of.all)),
                // Its caller had it before.
                false => self.amount(&self.of.all[to as usize]),
            };
            explained.cheaper.retain(|changed| changed.function != from);
            let at = (explained.guilty.iter()).position(|changed| changed.function == to);
            let Some(at) = at else { continue };
            let mut changed = explained.guilty.remove(at);
            (changed.own, changed.all) = (own, all);
            let Some(amount) = [all, own].into_iter().find(|of| of.matters(self.least)) else {
                continue;
            };
            changed.is_dearer = amount.growth > 0.0;
            let list = match changed.is_dearer {
                true => &mut explained.guilty,
                false => &mut explained.cheaper,
            };
            list.push(changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use hashbrown::HashMap;

    use super::super::{Explained, Functions, explain};
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
        let own: Vec<Vec<f64>> = (of.iter().enumerate())
            .map(|(number, (_, _, sides))| costs(number, *sides))
            .collect();
        let mut all = own.clone();
        let mut calls: HashMap<(u32, u32), Vec<f64>> = HashMap::new();
        // Who is called comes after who calls it.
        for (number, (_, caller, _)) in of.iter().enumerate().skip(1).rev() {
            let cost = all[number].clone();
            let sum = |to: &mut Vec<f64>| to.iter_mut().zip(&cost).for_each(|(to, of)| *to += of);
            sum(&mut all[*caller as usize]);
            sum((calls.entry((number as u32, *caller))).or_insert_with(|| vec![0.0; RUNS]));
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

    #[test]
    fn a_renamed_function_is_one() {
        let (found, _) = explained(&[
            ("main", MAIN, [5.0, 5.0]),
            ("alpha", MAIN, [60.0, 0.0]),
            ("alef", MAIN, [0.0, 60.0]),
        ]);
        assert_eq!(found.moved, [Moved::Renamed(1, 2)]);
        assert!(
            found.guilty.is_empty() && found.cheaper.is_empty(),
            "{found:?}"
        );
    }

    #[test]
    fn a_renamed_function_that_is_dearer_as_well() {
        let (found, of) = explained(&[
            ("main", MAIN, [5.0, 5.0]),
            ("alpha", MAIN, [60.0, 0.0]),
            ("alef", MAIN, [0.0, 75.0]),
        ]);
        assert_eq!(found.moved, [Moved::Renamed(1, 2)]);
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
        assert_eq!(found.moved, [Moved::Inlined(2, 1)]);
        assert!(
            found.guilty.is_empty() && found.cheaper.is_empty(),
            "{found:?}"
        );
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
        assert_eq!(found.moved, [Moved::Work(3, 4)]);
        assert_eq!(names(&found.guilty, &of), ["beta"]);
        assert_eq!(names(&found.cheaper, &of), ["alpha"]);
    }

    #[test]
    fn of_several_the_one_that_is_most_like_it() {
        let (found, _) = explained(&[
            ("main", MAIN, [5.0, 5.0]),
            ("alpha", MAIN, [60.0, 20.0]),
            ("beta", MAIN, [60.0, 30.0]),
            ("gamma", MAIN, [10.0, 51.0]),
        ]);
        assert_eq!(found.moved, [Moved::Work(1, 3)]);
    }
}
