//! What the words of the ledger mean: one line for each column, and for each reason why a stack is
//! truncated. A column or a reason comes in, its line leaves, for help and manual page and for the
//! summary; the compiler sees to it that none is without.

use rprof_ebpf::ledger::Column;
use rprof_ebpf::record::End;

/// What ticks in a column are.
pub const fn of_column(column: Column) -> &'static str {
    match column {
        Column::Idle => "the CPU had nothing to run",
        Column::NotSelected => "the CPU ran something that was not to be profiled",
        Column::Resolved => "in the profile, the stack whole",
        Column::ByFramePointer => "in the profile, whole, with callers found by frame pointer",
        Column::Truncated => "in the profile, but the stack ends early, in [truncated: reason]",
        Column::NotDelivered => "never came: a virtual machine's host was busy, or the CPU idle",
        Column::RateLowered => "skipped: more of them would cost over 1 % of a CPU",
        Column::RingFull => "came faster than rprof took them from the kernel",
        Column::QueueFull => "came faster than rprof could work on them",
        Column::WorkerLost => "a thread of rprof ended with them: a defect, please report it",
        Column::WouldFault => "a stack or a name was not in memory, and rprof waits for none",
        Column::SharedPage => "a name could not be read without a change to the program's memory",
        Column::Changed => "the code was replaced before its name was read",
        Column::TargetGone => "the process, or the sampled thread, ended before names were read",
        Column::RuntimeBeingLearned => "an interpreter was met for the first time",
        Column::MemoryFull => "--max-memory was used up, and so was the disk",
        Column::Quarantined => "a file or process did not answer, and is left alone for a while",
        Column::Unnamed => "a name that could not be asked for, or no name stands there",
        Column::NotPermitted => "a security module does not let rprof read the process's memory",
        Column::Malformed => "rprof did not understand its own record: a defect, please report it",
    }
}

/// Why a stack ends.
pub const fn of_end(end: End) -> &'static str {
    match end {
        End::Complete => "it does not: the outermost function was reached",
        End::Depth => "there are more than 1,024 frames; these are the innermost",
        End::Time => "the time that one tick may take was over",
        End::WouldFault => "the next part of the stack was not in memory",
        End::NoMapping => "a return address that no file or memory of the process holds",
        End::NoRow => "the file does not say how this function returns (no .eh_frame)",
        End::Unsupported => "the file says how in a way that rprof does not understand",
        End::Unlearned => "the file was met for the first time",
        End::NoProgress => "the stack leads back into itself",
        End::Compat => "a 32-bit program",
        End::LostRegister => "a register that leads to the caller was not saved",
        End::NoUser => "the thread was just beginning or ending",
        End::Native => "native frames end here; the interpreter's own follow",
        End::Runtime => "the interpreter's frames do not hang together",
        End::Slice => "a new file's first stacks are copied; the copy ended too early",
        End::Kernel => "the kernel's own stack is deeper than the kernel tells",
        End::UnknownRuntime => "an interpreter whose version or build is not known",
        End::Mappings => "the process maps more files than rprof lists while it learns them",
        End::Unanswered => "reading the file takes too long, or never ends",
        End::Held => "the file was just met; enough other stacks wait for it already",
        End::NoFile => "its file was not found, or is another by now",
        End::NotCopied => "copies of stacks are rationed: no time or room was left for this one",
        End::RuntimesFull => "more files of interpreters are in use than can be known",
    }
}

/// All words with their lines, as help and manual page show them.
pub fn listing() -> String {
    let row = |(name, line): (&str, &str)| format!("  {name:<27}  {line}\n");
    let columns = Column::ALL.iter().map(|&column| {
        let name = column.name();
        (name, of_column(column))
    });
    let ends = End::ALL.iter().filter(|&&end| end != End::Complete);
    let ends = ends.map(|&end| (end.reason(), of_end(end)));
    let mut text = String::from("Where each tick of each CPU ended:\n");
    text.extend(columns.map(row));
    text.push_str("Why a stack is truncated:\n");
    text.extend(ends.map(row));
    text.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_column_and_each_end_has_a_line_of_its_own() {
        let text = listing();
        let mut lines = BTreeSet::new();
        let columns = Column::ALL.iter().map(|&c| (c.name(), of_column(c)));
        let ends = End::ALL.iter().skip(1).map(|&e| (e.reason(), of_end(e)));
        for (name, line) in columns.chain(ends) {
            let row = format!("  {name:<27}  {line}");
            assert!(text.lines().any(|shown| shown == row), "{row}");
            assert!(row.chars().count() <= 100, "too long: {row}");
            assert!(lines.insert(line), "twice: {line}");
        }
        assert_eq!(lines.len(), Column::ALL.len() + End::ALL.len() - 1);
    }
}
