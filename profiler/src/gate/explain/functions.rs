//! Functions of all runs, by what is the same in both builds: what each cost in each run.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::gate::costs::Function;
use crate::gate::matching::Matched;
use crate::gate::runs::Runs;
use crate::gate::statistics::design::Side;

/// What functions cost in each run, in the order of runs.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    /// By number.
    pub functions: Vec<Function>,
    /// By number: by itself.
    pub own: Vec<Vec<f64>>,
    /// By number: with all that it called.
    pub all: Vec<Vec<f64>>,
    /// What a function (the first) cost below another.
    pub calls: HashMap<(u32, u32), Vec<f64>>,
    /// By number: the line that cost most; 0: not known.
    pub lines: Vec<u32>,
}

impl Functions {
    /// Those of all runs.
    pub fn of(runs: &Runs) -> Self {
        let of = |wanted: Side| -> BTreeSet<Function> {
            let of = runs.sides.iter().zip(&runs.costs);
            of.filter(|(side, _)| **side == wanted)
                .flat_map(|(_, run)| run.functions.iter().map(|(function, _)| function.clone()))
                .collect()
        };
        let matched = Matched::new(&of(Side::Base), &of(Side::Head));
        let count = runs.costs.len();
        let none = || vec![vec![0.0; count]; matched.functions.len()];
        let (mut own, mut all) = (none(), none());
        let mut calls: HashMap<(u32, u32), Vec<f64>> = HashMap::new();
        // What of a line is head's comes first.
        let mut of_lines: HashMap<(u32, u32), (f64, f64)> = HashMap::new();
        for (n, (run, side)) in runs.costs.iter().zip(&runs.sides).enumerate() {
            let scale = run.scale();
            let numbers: Vec<u32> = (run.functions.iter())
                .map(|(function, _)| matched.number(function).unwrap_or(0))
                .collect();
            for (&number, (_, cost)) in numbers.iter().zip(&run.functions) {
                own[number as usize][n] += scale * cost.own;
                all[number as usize][n] += scale * cost.all;
            }
            for (&(callee, caller), &cost) in &run.calls {
                let call = (numbers[callee as usize], numbers[caller as usize]);
                calls.entry(call).or_insert_with(|| vec![0.0; count])[n] += scale * cost;
            }
            for (&(function, line), &cost) in &run.lines {
                let of = of_lines
                    .entry((numbers[function as usize], line))
                    .or_default();
                match side {
                    Side::Head => of.0 += cost,
                    Side::Base => of.1 += cost,
                }
            }
        }
        let mut lines = vec![(0, (0.0, 0.0)); matched.functions.len()];
        for ((function, line), costs) in of_lines {
            let best = &mut lines[function as usize];
            // The lower of two equals, so that the same files give the same answer.
            if line > 0 && (costs > best.1 || (costs == best.1 && line < best.0)) {
                *best = (line, costs);
            }
        }
        Self {
            functions: matched.functions,
            own,
            all,
            calls,
            lines: lines.into_iter().map(|(line, _)| line).collect(),
        }
    }
}
