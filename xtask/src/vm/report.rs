//! What a guest said: its sections, and the ledgers and stacks in them.
//!
//! The text of the second serial line enters; sections by name leave. Nothing is judged here.

use std::collections::HashMap;

/// A report, complete or not.
pub(super) struct Report {
    sections: HashMap<String, Section>,
}

/// What one program of the guest said, and how it ended.
#[derive(Default)]
pub(super) struct Section {
    pub(super) text: String,
    /// `None`: the report ends before it did.
    pub(super) status: Option<i32>,
}

impl Report {
    /// `None` if the guest never got so far.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // Each section is followed by its end, which is the same word for all.
        let mut sections = HashMap::new();
        let mut parts = text.split("@@ ").skip(1).peekable();
        while let Some(part) = parts.next() {
            let (name, body) = part.split_once('\n').unwrap_or((part, ""));
            let end = parts.next_if(|part| part.starts_with("exit "));
            let status = end.and_then(|end| end.split_whitespace().nth(1)?.parse().ok());
            let text = body.to_owned();
            sections.insert(name.to_owned(), Section { text, status });
        }
        (!sections.is_empty()).then_some(Self { sections })
    }

    /// A section; an empty one that did not end if there is none.
    pub(super) fn section(&self, name: &str) -> &Section {
        static NONE: Section = Section {
            text: String::new(),
            status: None,
        };
        self.sections.get(name).unwrap_or(&NONE)
    }
}

/// The ledger as a summary shows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) expected: u64,
    /// Columns in their order, with what is said of each behind its name.
    pub(super) columns: Vec<(String, u64)>,
    /// Why truncated stacks ended; within the column `truncated`.
    pub(super) reasons: Vec<(String, u64)>,
}

impl Ledger {
    /// The ledger in a summary: a line `N  ticks expected`, and one line `N  COLUMN` each; after
    /// `truncated` its reasons, `N at: REASON`. Ticks delivered beyond those expected count as
    /// expected here.
    pub(super) fn parse(summary: &str) -> Option<Self> {
        let row = |line: &str, between: &str| {
            let (number, name) = line.trim_start().split_once(between)?;
            let name = name.split("  ").next()?;
            Some((name.to_owned(), number.parse::<u64>().ok()?))
        };
        let numbered = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
        let mut lines = summary
            .lines()
            .skip_while(|line| !line.ends_with("  ticks expected"));
        let (_, expected) = row(lines.next()?, "  ")?;
        let mut ledger = Self {
            expected,
            ..Self::default()
        };
        for line in lines.take_while(numbered) {
            ledger.reasons.extend(row(line, " at: "));
            ledger.columns.extend(row(line, "  "));
        }
        // Ticks beyond those that time lets expect stand below them, and in some column too.
        let beyond = |(name, _): &mut (String, u64)| name == "delivered beyond those";
        let beyond = ledger.columns.extract_if(.., beyond);
        ledger.expected += beyond.map(|(_, n)| n).sum::<u64>();
        Some(ledger)
    }

    pub(super) fn get(&self, column: &str) -> u64 {
        let found = self.columns.iter().find(|(name, _)| name == column);
        found.map_or(0, |(_, n)| *n)
    }

    /// Stacks that were truncated for a reason.
    pub(super) fn truncated(&self, reason: &str) -> u64 {
        let found = self.reasons.iter().find(|(name, _)| name == reason);
        found.map_or(0, |(_, n)| *n)
    }

    pub(super) fn total(&self) -> u64 {
        self.columns.iter().map(|(_, n)| n).sum()
    }

    /// Ticks that met something to profile.
    pub(super) fn busy(&self) -> u64 {
        let spared = self.get("idle") + self.get("not selected");
        self.total().saturating_sub(spared)
    }

    /// What of the busy ticks did not come out resolved, most first.
    pub(super) fn losses(&self) -> Vec<&(String, u64)> {
        let good = ["idle", "not selected", "resolved"];
        let mut lost: Vec<_> = self.columns.iter().collect();
        lost.retain(|(name, n)| *n > 0 && !good.contains(&name.as_str()));
        lost.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        lost
    }
}

/// Stacks in the folded format: frames, root first (the process's name before it), and their count.
pub(super) fn stacks<'a>(folded: &'a str) -> Vec<(Vec<&'a str>, u64)> {
    let stack = |line: &'a str| {
        let (frames, count) = line.rsplit_once(' ')?;
        Some((frames.split(';').collect(), count.parse().ok()?))
    };
    folded.lines().filter_map(stack).collect()
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Report, stacks};

    #[test]
    fn sections_with_and_without_an_end() {
        let report = Report::parse("noise\n@@ kernel\n6.1\n@@ exit 0\n@@ all\nhalf").unwrap();
        assert_eq!(report.section("kernel").text, "6.1\n");
        assert_eq!(report.section("kernel").status, Some(0));
        assert_eq!(report.section("all").text, "half");
        assert_eq!(report.section("all").status, None);
        assert_eq!(report.section("other").status, None);
        assert!(Report::parse("BIOS").is_none());
    }

    #[test]
    fn the_ledger_of_a_summary() {
        let summary = "\
100.0 %       202  chain

      499  ticks expected
      239  idle
        7  not selected
      199  resolved
        3  truncated
             3 at: time
        6  not delivered by the kernel  (lost, 2.4 % of busy ticks)
       45  rate lowered  (lost, 17.8 % of busy ticks)
  chain (pid 151) lost 45 of 247: 45 rate lowered

5.0 s at 50 Hz on 2 CPUs; reads: context
";
        let ledger = Ledger::parse(summary).unwrap();
        assert_eq!(ledger.expected, 499);
        assert_eq!(ledger.total(), 499);
        assert_eq!(ledger.busy(), 253);
        assert_eq!(ledger.get("rate lowered"), 45);
        assert_eq!(ledger.truncated("time"), 3);
        assert_eq!(ledger.truncated("depth"), 0);
        assert_eq!(ledger.losses()[0].0, "rate lowered");
        assert_eq!(ledger.losses().len(), 3);
        assert_eq!(Ledger::parse("rprof: no"), None);
    }

    #[test]
    fn folded_stacks() {
        let folded = "chain;main;a b 12\nchain;[truncated: time] 1\nnoise\n";
        let expected = [
            (vec!["chain", "main", "a b"], 12),
            (vec!["chain", "[truncated: time]"], 1),
        ];
        assert_eq!(stacks(folded), expected);
    }
}
