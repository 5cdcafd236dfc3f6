//! Whether runs that are said to decide do: an inconclusive answer says how many more, they are made, and all are judged
//! anew.

use std::sync::OnceLock;

use rprof_profiler::gate::statistics::more::{More, more};
use rprof_profiler::gate::statistics::verdict::{Rule, Verdict};
use rprof_profiler::gate::statistics::watch::Plan;

use crate::experiments::{each, percent};
use crate::runs::{self, Shape, places};
use crate::{BLOCKS, VARIES};

/// More blocks than these are not made here.
const MOST_BLOCKS: usize = 50;

pub(crate) fn table(experiments: u64) {
    println!(
        "\n## What it would take\n\nOf {experiments} comparisons of {} runs a side: those that are inconclusive; of \
         them those that are told how many more runs would decide, {} at most; of these those that were decided when \
         so many more had been made, and those that were decided wrongly. 8 of 10 are aimed at, if the change is what \
         it seems to be.\n",
        2 * BLOCKS,
        2 * MOST_BLOCKS - 2 * BLOCKS as usize
    );
    println!(
        "| runs vary by | head is dearer by | inconclusive | told how many more | decided by them | wrongly |\n\
         |---|---|---|---|---|---|"
    );
    let plans: Vec<OnceLock<Plan>> = (0..=MOST_BLOCKS).map(|_| OnceLock::new()).collect();
    let plan = |blocks: usize| {
        let plan = || Plan::new(&places(blocks as u32), 4 * blocks, 1).expect("both sides");
        plans[blocks].get_or_init(plan)
    };
    let rule = Rule::default();
    for cv in VARIES.into_iter().filter(|cv| *cv >= 0.01) {
        for change in [0.0, 0.01, 0.03, 0.05] {
            let [inconclusive, told, decided, wrongly] =
                each(experiments, |n, sum: &mut [u64; 4]| {
                    let costs =
                        |blocks: usize| runs::runs(blocks as u32, cv, change, Shape::Normal, n);
                    let there = BLOCKS as usize;
                    let judged = plan(there)
                        .watch(&rule)
                        .judge(&costs(there))
                        .expect("both sides");
                    if judged.verdict != Verdict::Inconclusive {
                        return;
                    }
                    sum[0] += 1;
                    let runs = match more(&judged, &rule, 2 * there) {
                        Some(More::Find(runs, _) | More::Pass(runs, _)) => runs,
                        _ => return,
                    };
                    let blocks = there + runs.div_ceil(2);
                    if blocks > MOST_BLOCKS {
                        return;
                    }
                    sum[1] += 1;
                    let verdict = plan(blocks).watch(&rule).verdict(&costs(blocks));
                    let is_right = match verdict {
                        Some(Verdict::Regressed) => change > 0.0,
                        Some(Verdict::Passed) => change < rule.threshold,
                        _ => return,
                    };
                    sum[2] += 1;
                    sum[3] += u64::from(!is_right);
                });
            println!(
                "| {} % | {} % | {} % | {} % | {} % | {} % |",
                100.0 * cv,
                100.0 * change,
                percent(inconclusive, experiments),
                percent(told, inconclusive),
                percent(decided, told),
                percent(wrongly, told)
            );
        }
    }
}
