//! What did not become more, but is somewhere else: of the functions that are dearer and those that are cheaper, which
//! are two names of one thing.

use super::{Asked, Changed, Explained, Move, Moved};

/// What has less than this share of what it had is gone.
const GONE: f64 = 0.05;
/// What moved from one function to another is as much at both, but for this share.
const ABOUT: f64 = 0.4;

impl Asked<'_> {
    /// Pairs of a dearer and a cheaper function that are about as much.
    pub(super) fn moved(&self, explained: &Explained) -> Vec<Move> {
        let mut moved = self.split(explained);
        let is_split = |changed: &&Changed| {
            let mut split = moved.iter().map(|one| one.how);
            let is_one = |how| matches!(how, Moved::Split(from, to) if [from, to].contains(&changed.function));
            split.any(is_one)
        };
        let mut left: Vec<&Changed> = explained.cheaper.iter().collect();
        let mut dearer: Vec<&Changed> = explained.guilty.iter().collect();
        for list in [&mut left, &mut dearer] {
            list.retain(|changed| !is_split(changed));
        }
        for dearer in dearer {
            let likeness = |cheaper: &Changed| likeness(-cheaper.own.growth, dearer.own.growth);
            let known = |cheaper: &Changed| match self.kind(cheaper, dearer) {
                Moved::Renamed(..) => 2,
                Moved::Inlined(..) => 1,
                Moved::Split(..) | Moved::Work(..) => 0,
            };
            let best = (0..left.len())
                .filter(|&at| likeness(left[at]) >= 1.0 - ABOUT)
                .max_by(|&a, &b| {
                    let known = known(left[a]).cmp(&known(left[b]));
                    known.then(likeness(left[a]).total_cmp(&likeness(left[b])))
                });
            if let Some(at) = best {
                let cheaper = left.remove(at);
                moved.push(Move {
                    how: self.kind(cheaper, dearer),
                    went: -cheaper.own.growth,
                    came: dearer.own.growth,
                });
            }
        }
        moved
    }

    /// Functions parts of which are functions of their own now: new ones that they call, or, if they are gone, that
    /// are called as they were.
    fn split(&self, explained: &Explained) -> Vec<Move> {
        let mut split: Vec<Move> = Vec::new();
        for cheaper in &explained.cheaper {
            let from = cheaper.function;
            let is_part = |to: &Changed| {
                let is_called = self.of.calls.contains_key(&(to.function, from));
                let is_free = !(split.iter())
                    .any(|one| matches!(one.how, Moved::Split(_, part) if part == to.function));
                let takes_its_place = self.is_gone(from) && self.alike(&cheaper.way, &to.way);
                is_free && self.is_new(to.function) && (is_called || takes_its_place)
            };
            let parts = explained.guilty.iter().filter(|to| is_part(to));
            let parts: Vec<&Changed> = parts.collect();
            let all: f64 = parts.iter().map(|part| part.own.growth).sum();
            // One that takes the place of one that is gone has another name, and that is all.
            let is_renamed = parts.len() == 1 && self.is_gone(from);
            if !is_renamed && likeness(-cheaper.own.growth, all) >= 1.0 - ABOUT {
                split.extend(parts.iter().map(|part| Move {
                    how: Moved::Split(from, part.function),
                    went: -cheaper.own.growth * part.own.growth / all,
                    came: part.own.growth,
                }));
            }
        }
        split
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

    /// What has another name, or is a part of another, is no work more or less: of all that were one thing, or are one
    /// now, that is told which is left when they are taken together.
    pub(super) fn merge(&self, explained: &mut Explained) {
        let mut merged: Vec<u32> = Vec::new();
        for moved in &explained.moved {
            let (from, parts): (u32, Vec<u32>) = match moved.how {
                Moved::Renamed(from, to) | Moved::Inlined(from, to) => (from, vec![to]),
                Moved::Split(from, _) if merged.contains(&from) => continue,
                Moved::Split(from, _) => (from, parts(&explained.moved, from)),
                // That one did it instead of the other is a guess.
                Moved::Work(..) => continue,
            };
            merged.push(from);
            let sum = |costs: &[Vec<f64>]| -> Vec<f64> {
                let mut sum = costs[from as usize].clone();
                for &part in &parts {
                    let part = costs[part as usize].iter();
                    sum.iter_mut()
                        .zip(part)
                        .for_each(|(sum, part)| *sum += part);
                }
                sum
            };
            let own = self.amount(&sum(&self.of.own));
            let all = match moved.how {
                // Its caller had it before.
                Moved::Inlined(_, to) => self.amount(&self.of.all[to as usize]),
                // It has its parts still.
                Moved::Split(from, _) if !self.is_gone(from) => {
                    self.amount(&self.of.all[from as usize])
                }
                _ => self.amount(&sum(&self.of.all)),
            };
            explained.cheaper.retain(|changed| changed.function != from);
            let is_part = |changed: &mut Changed| parts.contains(&changed.function);
            let of_parts: Vec<Changed> = explained.guilty.extract_if(.., is_part).collect();
            let Some(mut changed) = of_parts.into_iter().next() else {
                continue;
            };
            (changed.own, changed.all) = (own, all);
            let Some(amount) = [all, own].into_iter().find(|of| of.matters(self.least)) else {
                continue;
            };
            let list = match amount.growth > 0.0 {
                true => &mut explained.guilty,
                false => &mut explained.cheaper,
            };
            list.push(changed);
        }
    }
}

/// What a function was split into.
fn parts(moved: &[Move], from: u32) -> Vec<u32> {
    let part = |one: &Move| match one.how {
        Moved::Split(of, part) if of == from => Some(part),
        _ => None,
    };
    moved.iter().filter_map(part).collect()
}

/// 1: just as much.
fn likeness(went: f64, came: f64) -> f64 {
    let ratio = went / came;
    ratio.min(1.0 / ratio)
}
