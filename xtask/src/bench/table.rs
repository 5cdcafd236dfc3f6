//! The figures, as a table for people and as JSON.
//!
//! Values come in, one for each round, agent and row, with the weather they were taken in. Out come
//! the median and the range of each, beside the budget. Where at least one round was undisturbed
//! only such rounds count; else the disturbed ones do, and are marked.

use std::fmt::Write;

use super::agent::Agent;
use super::weather::Weather;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// What it is, unit included.
    pub(super) name: &'static str,
    /// What rprof may take.
    pub(super) budget: Option<Budget>,
}

/// A bound from the design.
#[derive(Clone, Copy, Debug)]
pub(super) enum Budget {
    /// No more than this.
    Most(f64),
    /// No less than this.
    Least(f64),
}

impl Row {
    /// A row without a budget.
    pub(super) const fn plain(name: &'static str) -> Self {
        Self { name, budget: None }
    }

    /// A row whose figure is to stay at or below `most`.
    pub(super) const fn at_most(name: &'static str, most: f64) -> Self {
        let budget = Some(Budget::Most(most));
        Self { name, budget }
    }

    /// A row whose figure is to reach `least`.
    pub(super) const fn at_least(name: &'static str, least: f64) -> Self {
        let budget = Some(Budget::Least(least));
        Self { name, budget }
    }
}

#[derive(Clone, Copy)]
struct Value {
    value: f64,
    weather: Weather,
}

struct Line {
    row: Row,
    values: Vec<(Agent, Value)>,
}

/// All figures of a run.
#[derive(Default)]
pub(super) struct Table {
    lines: Vec<Line>,
}

/// Median and range.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
    rounds: usize,
    disturbed: bool,
}

impl Table {
    /// Adds one round's figure. Rows stand in the order of their first figure.
    pub(super) fn add(&mut self, row: Row, agent: Agent, value: f64, weather: Weather) {
        let value = (agent, Value { value, weather });
        match self.lines.iter_mut().find(|line| line.row.name == row.name) {
            Some(line) => line.values.push(value),
            None => self.lines.push(Line {
                row,
                values: vec![value],
            }),
        }
    }

    /// The table in Markdown.
    pub(super) fn text(&self) -> String {
        let mut cells = Vec::new();
        let mut header = Vec::from(["what".to_string(), "budget".into(), "".into()]);
        header.extend(Agent::ALL.map(|agent| agent.name().to_string()));
        cells.push(header);
        for line in &self.lines {
            let rprof = line.spread(Agent::Rprof);
            let (budget, verdict) = match line.row.budget {
                None => (String::new(), ""),
                Some(budget) => (budget.text(), budget.verdict(rprof.as_ref())),
            };
            let mut row = vec![line.row.name.to_string(), budget, verdict.into()];
            row.extend(Agent::ALL.map(|agent| match line.spread(agent) {
                Some(spread) => spread.text(),
                None => "–".into(),
            }));
            cells.push(row);
        }
        let widths: Vec<usize> = (0..cells[0].len())
            .map(|column| {
                cells
                    .iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (number, row) in cells.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(text, "| {cell:<width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                for width in &widths {
                    let _ = write!(text, "|{}", "-".repeat(width + 2));
                }
                text.push_str("|\n");
            }
        }
        text.push_str(
            "\nMedian (least – most) of the undisturbed rounds; `~`: every round was disturbed.\n",
        );
        text
    }

    /// Everything, each round's value with its weather.
    pub(super) fn json(&self, about: &[(&str, String)]) -> String {
        let mut text = String::from("{");
        for (name, value) in about {
            let _ = write!(text, "{}:{},", quoted(name), quoted(value));
        }
        text.push_str("\"rows\":[");
        for (number, line) in self.lines.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let _ = write!(text, "{comma}\n{{\"name\":{}", quoted(line.row.name));
            match line.row.budget {
                Some(Budget::Most(most)) => {
                    let _ = write!(text, ",\"at_most\":{most}");
                }
                Some(Budget::Least(least)) => {
                    let _ = write!(text, ",\"at_least\":{least}");
                }
                None => {}
            }
            text.push_str(",\"agents\":[");
            let agents = Agent::ALL
                .into_iter()
                .filter_map(|agent| Some((agent, line.spread(agent)?)));
            for (number, (agent, spread)) in agents.enumerate() {
                let comma = if number > 0 { "," } else { "" };
                let _ = write!(
                    text,
                    "{comma}{{\"agent\":{},\"median\":{},\"least\":{},\"most\":{},\"rounds\":[",
                    quoted(agent.name()),
                    spread.median,
                    spread.least,
                    spread.most
                );
                for (number, value) in line.values_of(agent).enumerate() {
                    let comma = if number > 0 { "," } else { "" };
                    let Weather {
                        others,
                        stolen,
                        load,
                    } = value.weather;
                    let _ = write!(
                        text,
                        "{comma}{{\"value\":{},\"others_cpus\":{others:.3},\"stolen\":{stolen:.4},\
                         \"load\":{load},\"disturbed\":{}}}",
                        value.value,
                        value.weather.disturbs()
                    );
                }
                text.push_str("]}");
            }
            text.push_str("]}");
        }
        text.push_str("\n]}\n");
        text
    }
}

impl Line {
    fn values_of(&self, agent: Agent) -> impl Iterator<Item = &Value> {
        let values = self.values.iter().filter(move |(of, _)| *of == agent);
        values.map(|(_, value)| value)
    }

    fn spread(&self, agent: Agent) -> Option<Spread> {
        let calm = || {
            self.values_of(agent)
                .filter(|value| !value.weather.disturbs())
        };
        let disturbed = calm().next().is_none();
        let mut values: Vec<f64> = match disturbed {
            true => self.values_of(agent).map(|value| value.value).collect(),
            false => calm().map(|value| value.value).collect(),
        };
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => return None,
            n if n % 2 == 1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Spread {
            median,
            least: values[0],
            most: values[values.len() - 1],
            rounds: values.len(),
            disturbed,
        })
    }
}

impl Spread {
    fn text(&self) -> String {
        let mark = if self.disturbed { "~" } else { "" };
        if self.rounds == 1 {
            return format!("{mark}{}", digits(self.median));
        }
        let (median, least, most) = (digits(self.median), digits(self.least), digits(self.most));
        format!("{mark}{median} ({least} – {most})")
    }
}

impl Budget {
    fn text(self) -> String {
        match self {
            Self::Most(most) => format!("≤ {}", digits(most)),
            Self::Least(least) => format!("≥ {}", digits(least)),
        }
    }

    fn verdict(self, spread: Option<&Spread>) -> &'static str {
        let Some(spread) = spread else {
            return "–";
        };
        match self {
            Self::Most(most) if spread.median <= most => "ok",
            Self::Most(_) => "over",
            // Less than half a percent is the sampling's own noise.
            Self::Least(least) if spread.median.round() >= least => "ok",
            Self::Least(_) => "below",
        }
    }
}

/// Three significant digits, all digits before the point.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather(others: f64) -> Weather {
        Weather {
            others,
            stolen: 0.0,
            load: 2.0,
        }
    }

    #[test]
    fn undisturbed_rounds_count_alone() {
        let mut table = Table::default();
        let row = Row::at_most("a", 2.0);
        for (value, others) in [(9.0, 0.5), (1.0, 0.0), (3.0, 0.0), (2.0, 0.0)] {
            table.add(row, Agent::Rprof, value, weather(others));
        }
        table.add(row, Agent::PerfFp, 7.25, weather(0.5));
        let text = table.text();
        let line = text.lines().nth(2).unwrap_or_default();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells, ["", "a", "≤ 2", "ok", "2 (1 – 3)", "–", "~7.25", ""]);
    }

    #[test]
    fn three_digits() {
        let shown = [1234.5, 99.94, 12.0, 2.345, 0.0321, 0.0].map(digits);
        assert_eq!(shown, ["1234", "99.9", "12", "2.35", "0.032", "0"]);
    }

    #[test]
    fn json_quotes() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }
}
