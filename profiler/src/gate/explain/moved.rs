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
            let list = match amount.growth > 0.0 {
                true => &mut explained.guilty,
                false => &mut explained.cheaper,
            };
            list.push(changed);
        }
    }
}
