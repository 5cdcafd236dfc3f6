//! What the ledger promises of every run: each expected tick is in exactly one column, on the machine and
//! in its process's row.

use crate::machine;
use crate::profile::Profile;

/// What each run has to keep to, whatever happens in it.
///
/// # Panics
/// If it does not.
pub fn adds_up(profile: &Profile) {
    let ledger = &profile.ledger;
    assert_eq!(
        ledger.total(),
        ledger.expected + ledger.beyond,
        "{ledger:?}"
    );
    // Expected are whole periods of each of the four events of a CPU, and the kernel counts their time by
    // another clock than the one that ticks; NTP lets clocks differ by a two-thousandth.
    let bound = 4 * machine::cpus().len() as u64 + ledger.expected / 2000;
    assert!(ledger.beyond <= bound, "{ledger:?}");
    let kept = ["resolved", "resolved by frame pointer", "truncated"].map(|name| ledger.get(name));
    assert_eq!(kept.iter().sum::<u64>(), profile.samples(), "{ledger:?}");
    let truncated = profile.count(|stack| !stack.is_complete());
    assert_eq!(ledger.get("truncated"), truncated, "{ledger:?}");
    assert_eq!(
        ledger.truncated.values().sum::<u64>(),
        truncated,
        "{ledger:?}"
    );
    processes_add_up(profile);
    // A sample is worth exactly 1/frequency: the file's nanoseconds say the same as its counts.
    let nanos: i64 = profile.stacks.iter().map(|stack| stack.nanos).sum();
    let worth = profile.samples() as i64 * profile.period;
    assert!(
        (nanos - worth).abs() <= profile.samples() as i64,
        "{nanos} ns of {worth}"
    );
}

/// What a process kept is what the profile has of it; and in each column that has samples of
/// processes, they add up to the machine's.
fn processes_add_up(profile: &Profile) {
    let ledger = &profile.ledger;
    let kept = ["resolved", "resolved by frame pointer", "truncated"];
    for (pid, name, _) in &ledger.processes {
        let rows = ledger.processes.iter().filter(|(other, ..)| other == pid);
        let ticks = rows.map(|(.., row)| kept.iter().filter_map(|&c| row.get(c)).sum::<u64>());
        let ticks: u64 = ticks.sum();
        let samples: u64 = profile.of(*pid).map(|stack| stack.count).sum();
        assert_eq!(ticks, samples, "{name}, pid {pid}: {ledger:?}");
    }
    // Nobody's: the CPU had nothing to run, nobody asked, the kernel did not say.
    let nobodys = ["idle", "not selected", "not delivered by the kernel"];
    for (column, &machine) in &ledger.columns {
        let rows = ledger
            .processes
            .iter()
            .filter_map(|(.., row)| row.get(column));
        let sum: u64 = rows.sum();
        let fits = if nobodys.contains(&column.as_str()) {
            sum == 0
        } else if ledger.not_listed == 0 {
            sum == machine
        } else {
            sum <= machine
        };
        assert!(
            fits,
            "{column}: processes have {sum} of {machine}: {ledger:?}"
        );
    }
}
