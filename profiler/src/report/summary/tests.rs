//! The exact text of summaries.

use rprof_ebpf::record::End;

use super::*;
use crate::ledger::{ProcessCounts, ProcessRow};
use crate::profile::totals::{FunctionTotal, ProcessTotal};

fn ranked(name: &str, place: &str, samples: u64) -> Ranked {
    Ranked {
        name: name.into(),
        place: place.into(),
        samples,
    }
}

fn counts(columns: &[(Column, u64)]) -> Counts {
    let mut counts = Counts::default();
    for &(column, n) in columns {
        counts.add(column, n);
    }
    counts
}

fn process(ledger: &mut Ledger, pid: u32, comm: &str, columns: &[(Column, u64)]) {
    ledger.processes.insert(
        ProcessRow { pid, start: 1 },
        ProcessCounts {
            comm: comm.into(),
            counts: counts(columns),
        },
    );
}

fn data() -> SummaryData {
    let mut ledger = Ledger {
        expected: 400,
        machine: counts(&[
            (Column::Idle, 197),
            (Column::Resolved, 190),
            (Column::Truncated, 10),
            (Column::WouldFault, 3),
        ]),
        ..Ledger::default()
    };
    ledger.truncated.insert(End::NoRow, 10);
    process(
        &mut ledger,
        12,
        "python3",
        &[(Column::Resolved, 150), (Column::WouldFault, 3)],
    );
    process(
        &mut ledger,
        13,
        "node",
        &[(Column::Resolved, 40), (Column::Truncated, 10)],
    );
    SummaryData {
        duration: Duration::from_millis(10_040),
        frequency: 20,
        cpus: 2,
        reads: "context".into(),
        rankings: Rankings {
            programs: vec![ranked("python3", "", 150), ranked("node", "", 50)],
            functions: vec![
                ranked("fib", "/srv/app.py", 120),
                ranked("evil\x1b[2J", "", 50),
                ranked("memcpy", "libc.so.6", 30),
            ],
        },
        notes: Vec::new(),
        ledger,
        comm: None,
        again: Retype::new(&["rprof".into(), "-a".into()]),
        output: Some("rprof.pb.gz".into()),
        format: Format::Pprof,
    }
}

#[test]
fn a_run() {
    assert_eq!(
        summary(&data(), Paint::default()),
        "  share   samples  Programs
 75.0 %       150  python3
 25.0 %        50  node

  share   samples  Functions, themselves
 60.0 %       120  fib  /srv/app.py
 25.0 %        50  evil?[2J
 15.0 %        30  memcpy  libc.so.6

      400  ticks expected
      197  idle
      190  resolved
       10  truncated
             10 at: no unwind row
        3  would fault  (lost, 1.5 % of busy ticks)
  python3 (pid 12) lost 3 of 153: 3 would fault

10.0 s at 20 Hz on 2 CPUs; reads: context

rprof.pb.gz can be opened with:
  go tool pprof -http=: rprof.pb.gz
  https://www.speedscope.app   (drop the file there)
  https://ui.perfetto.dev      (drop the file there)
"
    );
}

#[test]
fn colors_add_escape_codes_and_nothing_else() {
    let plain = summary(&data(), Paint::default());
    let painted = summary(&data(), Paint { on: true });
    assert!(!plain.contains('\x1b') && painted.contains("\x1b[1m"));
    let mut stripped = painted;
    for code in ["0", "1", "2", "31", "32", "33"] {
        stripped = stripped.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn losses_that_could_change_the_order_are_said() {
    let said = |data: &SummaryData| {
        summary(data, Paint::default())
            .lines()
            .find(|line| line.starts_with("The losses"))
            .map(str::to_string)
    };
    assert_eq!(said(&data()), None);

    // Lost by the process that is behind, and enough to overtake.
    let mut behind = data();
    behind.rankings.programs = vec![ranked("python3", "", 100), ranked("node", "", 98)];
    process(&mut behind.ledger, 13, "node", &[(Column::WouldFault, 3)]);
    process(&mut behind.ledger, 12, "python3", &[]);
    assert_eq!(
        said(&behind).as_deref(),
        Some(
            "The losses could change this order: node is 2 samples behind python3, and may have lost 3."
        )
    );
    // Lost by the one that leads: the order stays.
    process(&mut behind.ledger, 13, "node", &[]);
    process(
        &mut behind.ledger,
        12,
        "python3",
        &[(Column::WouldFault, 3)],
    );
    assert_eq!(said(&behind), None);
    // Nobody knows whose it was: it counts for everyone.
    process(&mut behind.ledger, 12, "python3", &[]);
    assert!(said(&behind).is_some());

    // One that lost all of its samples, and might have been the first or the last.
    let mut hidden = data();
    process(&mut hidden.ledger, 14, "gone", &[(Column::WouldFault, 51)]);
    assert_eq!(
        said(&hidden).as_deref(),
        Some(
            "The losses could change this order: gone is 50 samples behind node, and may have lost 51."
        )
    );
    process(&mut hidden.ledger, 14, "gone", &[(Column::WouldFault, 50)]);
    hidden.rankings.functions.truncate(1);
    assert_eq!(said(&hidden), None);

    let mut functions = data();
    functions.rankings.functions = vec![ranked("a", "", 10), ranked("b", "", 9)];
    assert_eq!(
        said(&functions).as_deref(),
        Some("The losses could change this order: b is 1 sample behind a, and may have lost 3.")
    );
}

#[test]
fn an_account_that_does_not_add_up_is_said() {
    let mut data = data();
    data.ledger.expected = 405;
    assert!(summary(&data, Paint::default()).contains("        5  without account: a defect"));
    data.ledger.expected = 390;
    assert!(summary(&data, Paint::default()).contains("       10  more than there were: a defect"));
    data.ledger.surplus = 10;
    let text = summary(&data, Paint::default());
    assert!(
        text.contains("       10  delivered beyond those\n"),
        "{text}"
    );
    assert!(!text.contains("defect"), "{text}");
}

#[test]
fn long_rankings_and_paths_are_cut() {
    let mut data = data();
    data.rankings.programs = (0..13u64)
        .map(|n| ranked(&format!("p{n}"), "", 100 - n))
        .collect();
    data.rankings.functions = vec![ranked("f", &format!("/{}/end.py", "x".repeat(80)), 5)];
    let text = summary(&data, Paint::default());
    assert!(text.contains(" 21.8 %       267  in 3 more\n"), "{text}");
    assert!(
        text.contains("xx/end.py\n") && text.contains("f  …xxx"),
        "{text}"
    );
}

#[test]
fn no_samples() {
    let mut data = data();
    data.rankings = Rankings::default();
    data.ledger = Ledger::default();
    assert!(summary(&data, Paint::default()).starts_with("No tick fell into this time"));
    data.ledger.expected = 10;
    data.ledger.machine = counts(&[(Column::NotSelected, 10)]);
    let text = |data: &SummaryData| summary(data, Paint::default());
    assert!(text(&data).starts_with("No samples: what was profiled did not run on a CPU.\n"));
    data.comm = Some("x\x1b*".into());
    let unmatched = "No samples: no process that ran on a CPU was called 'x?*'.\n";
    assert!(text(&data).starts_with(unmatched));
    data.comm = None;

    // An idle machine, whose host lets some ticks pass: nothing is known to be lost.
    data.ledger.machine = counts(&[(Column::Idle, 6), (Column::NotDelivered, 4)]);
    let idle = text(&data);
    assert!(idle.starts_with(
        "No samples: what was profiled did not run on a CPU at any tick that was delivered.\n"
    ));
    assert!(
        idle.contains(
            "        4  not delivered by the kernel  (lost unless idle, 40.0 % of all ticks)\n"
        ),
        "{idle}"
    );
    data.ledger.machine = counts(&[(Column::NotDelivered, 4), (Column::RingFull, 6)]);
    let lost = text(&data);
    assert!(
        lost.starts_with("No samples: of 6 taken all were lost.\n"),
        "{lost}"
    );
    assert!(
        lost.contains("ring full  (lost, 100.0 % of busy ticks)\n"),
        "{lost}"
    );

    // There are samples, and only their order is not known.
    data.ledger.machine = counts(&[(Column::Resolved, 10)]);
    data.notes = vec!["No rankings: cannot read the part file: gone".into()];
    let unranked = text(&data);
    assert!(!unranked.contains("No samples"), "{unranked}");
    assert!(
        unranked.contains("\nNo rankings: cannot read the part file: gone\n"),
        "{unranked}"
    );
}

#[test]
fn a_large_loss_comes_with_what_helps() {
    let mut data = data();
    data.frequency = 5000;
    let said = |data: &SummaryData| {
        let text = summary(data, Paint::default());
        let mut lines = text.lines().skip_while(|line| !line.starts_with("  try: "));
        (
            text.lines().next().unwrap().to_string(),
            lines.next().map(str::to_string),
        )
    };
    data.ledger.machine = counts(&[(Column::Resolved, 900), (Column::RateLowered, 100)]);
    assert_eq!(said(&data).1, None);
    data.ledger.machine = counts(&[(Column::Resolved, 123), (Column::RateLowered, 877)]);
    let (first, next) = said(&data);
    assert_eq!(first, "87.7 % of the busy ticks are not in these tables.");
    assert_eq!(next.as_deref(), Some("  try: rprof -a -F 610"));
    assert!(summary(&data, Paint::default()).contains("\nrate lowered: skipped: "));
    data.ledger.machine = counts(&[(Column::Resolved, 80), (Column::WouldFault, 20)]);
    assert_eq!(
        said(&data).1.as_deref(),
        Some("  try: rprof -a --on-fault mark")
    );
    // Nobody can give back what never came.
    data.ledger.machine = counts(&[(Column::Resolved, 50), (Column::TargetGone, 50)]);
    assert_eq!(said(&data).1, None);
    assert_eq!(
        [0.5, 7.0, 99.9, 123.0, 61_500.0].map(round),
        [1, 7, 99, 120, 61_000]
    );
}

#[test]
fn a_process_without_a_name_is_called_so() {
    let mut data = data();
    process(&mut data.ledger, 14, "", &[(Column::WouldFault, 3)]);
    let text = summary(&data, Paint::default());
    assert!(
        text.contains("  (no name) (pid 14) lost 3 of 3: 3 would fault\n"),
        "{text}"
    );
}

#[test]
fn ticks_that_were_not_delivered_may_be_anyones_or_nobodys() {
    let mut data = data();
    data.ledger.machine = counts(&[(Column::Resolved, 200), (Column::NotDelivered, 101)]);
    data.ledger.processes.clear();
    let said = |data: &SummaryData| {
        let text = summary(data, Paint::default());
        let line = text.lines().find(|line| line.starts_with("The losses"));
        line.unwrap_or_default().to_string()
    };
    assert_eq!(
        said(&data),
        "The losses could change this order: node is 100 samples behind python3, and may have lost \
         101 if no CPU was idle at the ticks not delivered."
    );
    data.ledger.machine.add(Column::RingFull, 7);
    assert_eq!(
        said(&data),
        "The losses could change this order: node is 100 samples behind python3, and may have lost \
         108: 7, and 101 if no CPU was idle at the ticks not delivered."
    );
}

#[test]
fn each_format_has_its_ways() {
    let mut data = data();
    data.output = Some("a b.svg".into());
    data.format = Format::Svg;
    assert!(summary(&data, Paint::default()).contains("\n  xdg-open 'a b.svg'\n"));
    data.output = None;
    assert!(summary(&data, Paint::default()).ends_with("reads: context\n"));
}

#[test]
fn a_program_is_all_processes_of_one_name() {
    let process = |pid, comm: &str, samples| ProcessTotal {
        pid,
        host_pid: false,
        comm: comm.into(),
        samples,
    };
    let totals = Totals {
        samples: 9,
        processes: vec![
            process(1, "sh", 4),
            process(2, "cc", 3),
            process(3, "sh", 2),
        ],
        functions: vec![FunctionTotal {
            name: "f".into(),
            place: "libc.so.6".into(),
            self_samples: 5,
            total_samples: 9,
        }],
    };
    let rankings = Rankings::of(totals);
    assert_eq!(
        rankings.programs,
        [ranked("sh", "", 6), ranked("cc", "", 3)]
    );
    assert_eq!(rankings.functions, [ranked("f", "libc.so.6", 5)]);
}
