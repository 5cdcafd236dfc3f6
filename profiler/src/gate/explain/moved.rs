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
        moved.extend(self.joined(explained, &moved));
        let is_free = |changed: &&Changed| !is_told(&moved, changed.function);
        let mut left: Vec<&Changed> = explained.cheaper.iter().filter(is_free).collect();
        let dearer: Vec<&Changed> = explained.guilty.iter().filter(is_free).collect();
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
        // One that is dearer with its parts than it was stands among callers.
        for cheaper in explained.cheaper.iter().chain(&explained.callers) {
            let from = cheaper.function;
            let is_part = |to: &&Changed| {
                let is_called = self.of.calls.contains_key(&(to.function, from));
                let takes_its_place = self.is_gone(from) && self.alike(&cheaper.way, &to.way);
                let is_free = to.own.growth > 0.0 && !is_told(&split, to.function);
                is_free && self.is_new(to.function) && (is_called || takes_its_place)
            };
            let parts: Vec<&Changed> = explained.guilty.iter().filter(is_part).collect();
            // One that takes the place of one that is gone has another name, and that is all.
            let is_renamed = parts.len() == 1 && self.is_gone(from);
            let came: f64 = parts.iter().map(|part| part.own.growth).sum();
            let went = -cheaper.own.growth;
            if !is_renamed && likeness(went, came) >= 1.0 - ABOUT {
                split.extend(parts.iter().map(|part| Move {
                    how: Moved::Split(from, part.function),
                    went: went * part.own.growth / came,
                    came: part.own.growth,
                }));
            }
        }
        split
    }

    /// Functions that have several in them now that they called.
    fn joined(&self, explained: &Explained, split: &[Move]) -> Vec<Move> {
        let mut joined: Vec<Move> = Vec::new();
        for dearer in &explained.guilty {
            let to = dearer.function;
            let is_part = |from: &&Changed| {
                let number = from.function;
                let is_free = !is_told(split, number) && !is_told(&joined, number);
                let is_called = self.of.calls.contains_key(&(number, to));
                is_free && from.own.growth < 0.0 && self.is_gone(number) && is_called
            };
            let parts: Vec<&Changed> = explained.cheaper.iter().filter(is_part).collect();
            let went = -parts.iter().map(|part| part.own.growth).sum::<f64>();
            let came = dearer.own.growth;
            if parts.len() > 1 && !is_told(split, to) && likeness(went, came) >= 1.0 - ABOUT {
                joined.extend(parts.iter().map(|part| Move {
                    how: Moved::Inlined(part.function, to),
                    went: -part.own.growth,
                    came: came * -part.own.growth / went,
                }));
            }
        }
        joined
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
        // The one that stays, and those that are it.
        let mut wholes: Vec<(u32, Vec<u32>)> = Vec::new();
        for moved in &explained.moved {
            let (whole, part) = match moved.how {
                Moved::Renamed(from, to) | Moved::Inlined(from, to) => (to, from),
                Moved::Split(from, to) => (from, to),
                // That one did it instead of the other is a guess.
                Moved::Work(..) => continue,
            };
            match wholes.iter_mut().find(|(of, _)| *of == whole) {
                Some((_, parts)) => parts.push(part),
                None => wholes.push((whole, vec![part])),
            }
        }
        for (whole, parts) in wholes {
            let sum = |costs: &[Vec<f64>]| -> Vec<f64> {
                let mut sum = costs[whole as usize].clone();
                for &part in &parts {
                    let part = costs[part as usize].iter();
                    sum.iter_mut()
                        .zip(part)
                        .for_each(|(sum, part)| *sum += part);
                }
                sum
            };
            let is_of = |changed: &mut Changed| {
                changed.function == whole || parts.contains(&changed.function)
            };
            let Explained {
                guilty,
                callers,
                cheaper,
                ..
            } = &mut *explained;
            let mut lists = [guilty, callers, cheaper];
            let lists = lists.iter_mut();
            let were: Vec<Changed> = lists.flat_map(|list| list.extract_if(.., is_of)).collect();
            // Who calls its parts had, or has, their cost already.
            let calls = |&part: &u32| self.of.calls.contains_key(&(part, whole));
            let is_whole = !self.is_gone(whole);
            let own = self.amount(&sum(&self.of.own));
            let all = match is_whole && parts.iter().all(calls) {
                true => self.amount(&self.of.all[whole as usize]),
                false => self.amount(&sum(&self.of.all)),
            };
            let Some(amount) = [all, own].into_iter().find(|of| of.matters(self.least)) else {
                continue;
            };
            // What is gone is told by the largest that took its place, which is the first.
            let function = match (is_whole, parts.first()) {
                (false, Some(&first)) => first,
                _ => whole,
            };
            let p = were.iter().map(|were| were.p).fold(1.0, f64::min);
            let list = match amount.growth > 0.0 {
                true => &mut explained.guilty,
                false => &mut explained.cheaper,
            };
            list.push(Changed {
                function,
                all,
                own,
                p,
                way: self.way(function),
            });
        }
    }
}

/// Whether it is known how this function moved.
fn is_told(moved: &[Move], function: u32) -> bool {
    moved.iter().any(|one| {
        let (Moved::Renamed(from, to)
        | Moved::Inlined(from, to)
        | Moved::Split(from, to)
        | Moved::Work(from, to)) = one.how;
        [from, to].contains(&function)
    })
}

/// 1: just as much.
fn likeness(went: f64, came: f64) -> f64 {
    if went <= 0.0 || came <= 0.0 {
        return 0.0;
    }
    (went / came).min(came / went)
}
