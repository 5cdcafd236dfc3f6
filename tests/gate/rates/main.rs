//! How often the gate is wrong, and what it costs: its own code judges runs that are made up and runs of real
//! programs, and its peers judge the same. Tables leave in Markdown. Started by `cargo xtask gate-bench`.

mod cost;
mod experiments;
mod peers;
mod promises;
mod real;
mod runs;
mod shares;

use std::path::PathBuf;
use std::process::ExitCode;

use experiments::{Sum, Verdicts, each, percent, upper_bound};
use rprof_profiler::gate::statistics::verdict::{Rule, Verdict};
use rprof_profiler::gate::statistics::watch::Plan;
use runs::{Shape, places};

/// How much a run varies.
const VARIES: [f64; 4] = [0.005, 0.01, 0.02, 0.05];
/// How much dearer head is.
const CHANGES: [f64; 4] = [0.0, 0.03, 0.05, 0.1];
/// Blocks of four of a comparison; of one that is looked at, at most, and before the first look.
const BLOCKS: u32 = 5;
const LOOKED_AT: (u32, u32) = (10, 3);

/// What the gate and others say of the same runs.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) gate: Verdicts,
    pub(crate) single: u64,
    pub(crate) benchstat: u64,
}

impl Tally {
    /// Costs are in the order of [`runs::places`].
    pub(crate) fn add(&mut self, verdict: Verdict, costs: &[f64]) {
        self.gate.add(verdict, costs.len());
        let side = |first: usize| -> Vec<f64> {
            let blocks = costs.chunks(runs::BLOCK.len());
            let of_block = |block: &[f64]| [block[first], block[first + 1]];
            blocks.flat_map(of_block).collect()
        };
        let (base, head) = (side(0), side(2));
        self.single += u64::from(peers::single(base[0], head[0]));
        self.benchstat += u64::from(peers::benchstat(&base, &head));
    }
}

impl Sum for Tally {
    fn sum(&mut self, other: Self) {
        self.gate.sum(other.gate);
        self.single += other.single;
        self.benchstat += other.benchstat;
    }
}

fn main() -> ExitCode {
    experiments::check();
    peers::check();
    let (mut parts, mut pool, mut is_quick) = (Vec::new(), None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {}
            "--quick" => is_quick = true,
            "--pool" => pool = words.next().map(PathBuf::from),
            "rates" | "looks" | "promises" | "shares" | "real" | "cost" => parts.push(word),
            _ => return ExitCode::from(2),
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|one| one == part);
    let least = if is_quick { 10 } else { 1 };
    if wanted("rates") {
        rates(10_000 / least, 2_000 / least);
    }
    if wanted("looks") {
        looks(2_000 / least, 500 / least);
    }
    if wanted("promises") {
        promises::table(1_000 / least);
    }
    if wanted("shares") {
        shares::table(2_000 / least);
    }
    if wanted("real") {
        let Some(folder) = &pool else {
            eprintln!("real programs need --pool FOLDER");
            return ExitCode::from(2);
        };
        real::table(folder, 1_000 / least);
    }
    if wanted("cost") {
        cost::table();
    }
    ExitCode::SUCCESS
}

/// What is made up: the gate, and others on the same runs.
fn rates(same: u64, dearer: u64) {
    let rule = Rule::default();
    let plan = Plan::new(&places(BLOCKS), 4 * BLOCKS as usize, 1).expect("both sides");
    println!(
        "## Made-up runs\n\n10 runs a side in blocks of four, threshold {} %: percent passed / regressed / \
         inconclusive, of {same} experiments where nothing changed and {dearer} of each change. Alarms are \"regressed\" \
         where nothing changed, with the rate that the true one is below with 95 % (Clopper and Pearson).\n",
        100.0 * rule.threshold
    );
    println!(
        "| runs vary by | and | nothing changed | 3 % dearer | 5 % | 10 % | alarms |\n|---|---|---|---|---|---|---|"
    );
    let mut others = Vec::new();
    for cv in VARIES {
        for shape in Shape::ALL {
            let of = CHANGES.map(|change| {
                let many = if change == 0.0 { same } else { dearer };
                each(many, |n, sum: &mut Tally| {
                    let costs = runs::runs(BLOCKS, cv, change, shape, n);
                    let verdict = plan.watch(&rule).verdict(&costs);
                    sum.add(verdict.expect("both sides"), &costs);
                })
            });
            let alarms = of[0].gate.count(Verdict::Regressed);
            let shares: Vec<String> = of.iter().map(|of| of.gate.shares()).collect();
            let place = format!("| {} % | {} |", 100.0 * cv, shape.name());
            println!(
                "{place} {} | {alarms}, < {:.2} % |",
                shares.join(" | "),
                100.0 * upper_bound(alarms, same)
            );
            let share = |count: u64, of: &Tally| percent(count, of.gate.all());
            let of_all = |count: fn(&Tally) -> u64| {
                let [same, _, dearer, _] = &of;
                format!(
                    "{} | {}",
                    share(count(same), same),
                    share(count(dearer), dearer)
                )
            };
            others.push(format!(
                "{place} {} | {} | {} |",
                of_all(|of| of.gate.count(Verdict::Regressed)),
                of_all(|of| of.single),
                of_all(|of| of.benchstat)
            ));
        }
    }
    println!(
        "\n## Others on the same runs\n\nPercent of comparisons in which head is said to be dearer, where nothing changed \
         and where it is 5 % dearer: by the gate; by one run against one, threshold {} %; by benchstat's test (Mann and \
         Whitney's U, two-sided, at 0.05).\n",
        100.0 * peers::THRESHOLD
    );
    println!(
        "| runs vary by | and | gate: alarms | found | one run: alarms | found | benchstat: alarms | found \
         |\n|---|---|---|---|---|---|---|---|"
    );
    println!("{}", others.join("\n"));
}

/// What is looked at after each block, until it is decided.
fn looks(same: u64, dearer: u64) {
    let rule = Rule::default();
    let (blocks, first) = LOOKED_AT;
    let plan = Plan::new(&places(blocks), 4 * blocks as usize, 1).expect("both sides");
    println!(
        "\n## Looking after each block\n\nUp to {} runs a side, looked at from {} on after each block of four until it is \
         decided: percent passed / regressed / inconclusive, and runs a side that it took on average. {same} experiments \
         where nothing changed, {dearer} of each change.\n",
        2 * blocks,
        2 * first
    );
    println!(
        "| runs vary by | and | nothing changed | 3 % dearer | 5 % | 10 % | alarms |\n|---|---|---|---|---|---|---|"
    );
    for cv in VARIES {
        for shape in [Shape::Normal, Shape::Outliers] {
            let of = CHANGES.map(|change| {
                let many = if change == 0.0 { same } else { dearer };
                each(many, |n, sum: &mut Verdicts| {
                    let costs = runs::runs(blocks, cv, change, shape, n);
                    let mut watch = plan.watch(&rule);
                    for look in first..=blocks {
                        let there = 4 * look as usize;
                        let verdict = watch.verdict(&costs[..there]).expect("both sides");
                        if verdict != Verdict::Inconclusive || look == blocks {
                            return sum.add(verdict, there);
                        }
                    }
                })
            });
            let alarms = of[0].count(Verdict::Regressed);
            let shares: Vec<String> = (of.iter())
                .map(|of| format!("{}; {:.1} runs", of.shares(), of.runs() / 2.0))
                .collect();
            println!(
                "| {} % | {} | {} | {alarms}, < {:.2} % |",
                100.0 * cv,
                shape.name(),
                shares.join(" | "),
                100.0 * upper_bound(alarms, same)
            );
        }
    }
}
