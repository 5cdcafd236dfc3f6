//! How often the gate is wrong, and what it costs: its own code judges runs that are made up and runs of real
//! programs, and its peers judge the same. Tables leave in Markdown. Started by `cargo xtask gate-bench`.

mod experiments;
mod runs;

use std::process::ExitCode;

use experiments::{Verdicts, each, upper_bound};
use rprof_profiler::gate::statistics::verdict::{Plan, Rule, Verdict};
use runs::{Shape, places};

fn main() -> ExitCode {
    experiments::check();
    let n: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1000);
    let blocks: u32 = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(5);
    let plan = Plan::new(&places(blocks), 4 * blocks as usize, 1).expect("two sides");
    let rule = Rule::default();
    for cv in [0.005, 0.01, 0.02, 0.05] {
        for shape in Shape::ALL {
            let begun = std::time::Instant::now();
            let mut line = format!("{cv} {shape:?}:");
            for change in [0.0, 0.05] {
                let of: Verdicts = each(n, |n, sum: &mut Verdicts| {
                    let costs = runs::runs(blocks, cv, change, shape, n);
                    let mut watch = plan.watch(&rule);
                    if std::env::var_os("LOOKS").is_some() {
                        for look in (12..=costs.len()).step_by(4) {
                            let verdict = watch.verdict(&costs[..look]).expect("sides");
                            if verdict != Verdict::Inconclusive || look == costs.len() { sum.add(verdict, look); return; }
                        }
                    }
                    sum.add(watch.verdict(&costs).expect("sides"), costs.len());
                });
                line += &format!("  {} ({}, < {:.2} %; {:.1})", of.shares(), of.count(Verdict::Regressed), 100.0 * upper_bound(of.count(Verdict::Regressed), of.all()), of.runs() / 2.0);
            }
            println!("{line} {:.1?}", begun.elapsed());
        }
    }
    ExitCode::SUCCESS
}
