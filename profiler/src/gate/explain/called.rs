//! Who calls more: a function that costs one of its callers more, and the others what it did, has not become slower. It
//! is called more often, or with more to do, and that is the caller's doing.

use super::{Asked, EXPLAINED, Explained, WAY};

/// Of what a function costs, other callers must have this share before they can speak for it.
const OTHERS: f64 = 0.25;

impl Asked<'_> {
    /// Puts the callers that call more before what they call.
    pub(super) fn blame_callers(&self, explained: &mut Explained) {
        let mut at = 0;
        while let Some(guilty) = explained.guilty.get(at) {
            let caller = self.calls_more(guilty.function);
            let place = caller.and_then(|caller| {
                let mut callers = explained.callers.iter();
                callers.position(|changed| changed.function == caller)
            });
            if let Some(place) = place {
                let caller = explained.callers.remove(place);
                explained.guilty.insert(at, caller);
                at += 1;
            }
            at += 1;
        }
    }

    /// The caller that a function costs more, if it costs others what it did.
    fn calls_more(&self, number: u32) -> Option<u32> {
        let mut way = vec![number];
        while way.len() < WAY {
            let at = *way.last()?;
            let mut callers: Vec<(u32, &Vec<f64>, f64)> = (self.of.calls.iter())
                .filter(|((callee, caller), _)| *callee == at && !way.contains(caller))
                .map(|((_, caller), costs)| (*caller, costs, self.growth(costs)))
                .collect();
            callers.sort_by(|(a, _, of_a), (b, _, of_b)| of_b.total_cmp(of_a).then(a.cmp(b)));
            let ((caller, costs, _), others) = callers.split_first()?;
            let mut sum = vec![0.0; self.design.runs()];
            for (_, costs, _) in others {
                sum.iter_mut()
                    .zip(*costs)
                    .for_each(|(sum, cost)| *sum += cost);
            }
            let (of_others, of_most) = (self.ends(&sum).0, self.ends(costs).0);
            let share = of_others / (of_others + of_most);
            if of_others == 0.0 || share < OTHERS {
                // Only one knows it: whether it is slower or called more is to be seen further up.
                way.push(*caller);
                continue;
            }
            let (most, others) = (self.amount(costs), self.amount(&sum));
            let growth = most.growth + others.growth;
            let is_of_caller = most.matters(self.least) && most.growth >= EXPLAINED * growth;
            // If it were slower, it would be so for them as well.
            return (is_of_caller && others.between.1 < share * growth).then_some(*caller);
        }
        None
    }
}
