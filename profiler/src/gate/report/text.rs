//! A comparison for people in a terminal: one table whose columns are the same from the total to the last function,
//! the verdict before it.

use super::places::Places;
use super::sentences;
use super::told::{Row, Told};
use super::words::{self, LONG, percent};
use crate::cli::args::Color;
use crate::cli::gate::Inconclusive;
use crate::cli::settings::colored;
use crate::gate::comparison::Comparison;
use crate::gate::config;
use crate::gate::costs::Function;
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;
use crate::report::paint::Paint;

pub use super::words::time;

/// Columns of a line.
const WIDTH: usize = 100;
/// Guilty functions that are named, and others.
const GUILTY: usize = 10;
const OTHERS: usize = 5;
/// Callers of a function that are named.
const WAY: usize = 3;

/// What it came to, as text for standard error.
pub fn text(of: &Comparison, inconclusive: Option<Inconclusive>) -> String {
    let paint = Paint {
        on: colored(Color::Auto),
    };
    painted(of, &Told::new(of, inconclusive), &Places::here(), paint)
}

/// The same without color, wherever it goes.
pub(super) fn plain(of: &Comparison, told: &Told<'_>, places: &Places) -> String {
    painted(of, told, places, Paint::default())
}

fn painted(of: &Comparison, told: &Told<'_>, places: &Places, paint: Paint) -> String {
    let mut table = Table {
        lines: Vec::new(),
        paint,
        places,
        of_run: of.mean(Side::Base),
    };
    let verdict = of.verdict.to_string().to_uppercase();
    let verdict = match of.verdict {
        Verdict::Passed => paint.green(&verdict),
        Verdict::Regressed => paint.red(&verdict),
        Verdict::Inconclusive => paint.yellow(&verdict),
    };
    let headline = sentences::headline(of);
    let counting = sentences::counting(of.verdict, told);
    // As if the verdict were the longest: lines end where they would with another.
    let width = WIDTH - 14 - counting.len();
    let mut lines = wrapped(&headline, width).into_iter();
    let first = lines.next().unwrap_or_default();
    table.text(&format!("{verdict}{counting}: {}", paint.bold(&first)));
    for line in lines {
        table.text(&format!("  {}", paint.bold(&line)));
    }
    for reason in &of.reasons {
        table.note(reason);
    }
    for more in sentences::undecided(of) {
        table.note(&more);
    }
    table.text("");
    table.line(
        ["base", "head", "of a run", "at least", "at most"].map(String::from),
        &format!("({})", sentences::bounds(of)),
    );
    let (least, most) = sentences::interval(&of.judged);
    table.line(
        [
            time(sentences::middle(of, Side::Base)),
            time(sentences::middle(of, Side::Head)),
            percent(of.judged.change()),
            percent(least),
            percent(most),
        ],
        "all CPU time of a run",
    );
    if of.ruled.iter().any(|entry| entry.accepted.is_some()) {
        table.under("the change is without what is accepted");
    }
    table.entries(of);
    table.functions(
        "dearer by what they do themselves",
        &told.guilty,
        (GUILTY, WAY),
    );
    if let Some(why) = sentences::unexplained(of, told) {
        table.text("");
        table.note(&why);
    }
    table.functions(
        "their callers, dearer by what they call",
        &told.callers,
        (OTHERS, 0),
    );
    if !told.moved.is_empty() {
        table.title("moved rather than grew");
        for pair in told.moved.iter().take(GUILTY) {
            let sentence = sentences::moved(pair, &|name| words::name(name, 30));
            table.note(&sentence);
        }
        table.rest(told.moved.len(), GUILTY);
    }
    table.functions("cheaper", &told.cheaper, (OTHERS, WAY));
    table.text("");
    table.note(&sentences::basis(of));
    for note in &of.notes {
        table.note(note);
    }
    table.text_of_all()
}

/// A line of the table, or one that is only text.
enum Line {
    Cells([String; 5], String),
    Under(String),
    Text(String),
}

struct Table<'a> {
    lines: Vec<Line>,
    paint: Paint,
    places: &'a Places,
    /// What a run of base took.
    of_run: f64,
}

impl Table<'_> {
    fn line(&mut self, cells: [String; 5], what: &str) {
        self.lines.push(Line::Cells(cells, what.to_string()));
    }

    fn text(&mut self, text: &str) {
        self.lines.push(Line::Text(text.to_string()));
    }

    /// A sentence, in as many lines as it needs.
    fn note(&mut self, sentence: &str) {
        for (n, line) in wrapped(&words::harmless(sentence), WIDTH - 4)
            .iter()
            .enumerate()
        {
            let begin = if n == 0 { "  -" } else { "   " };
            self.text(&format!("{begin} {line}"));
        }
    }

    /// More of the line before it.
    fn under(&mut self, text: &str) {
        self.lines.push(Line::Under(text.to_string()));
    }

    fn title(&mut self, title: &str) {
        self.text("");
        self.text(&format!("  {}", self.paint.bold(title)));
    }

    fn rest(&mut self, all: usize, shown: usize) {
        if all > shown {
            let rest = format!("  - and {} more", all - shown);
            self.text(&self.paint.dim(&rest));
        }
    }

    /// What the project's file says. Its entries have no times.
    fn entries(&mut self, of: &Comparison) {
        if of.ruled.is_empty() {
            return;
        }
        self.title(config::NAME);
        for entry in &of.ruled {
            let (allowed, what) = sentences::entry(entry);
            let (change, (least, most)) = match &entry.judged {
                None => (None, (None, None)),
                Some(judged) => {
                    let (least, most) = sentences::interval(judged);
                    (Some(judged.change()), (Some(least), Some(most)))
                }
            };
            let figure = |share: Option<f64>| share.map_or("?".into(), percent);
            let verdict = match entry.verdict() {
                Verdict::Regressed => "REGRESSED",
                Verdict::Inconclusive => "inconclusive",
                Verdict::Passed if entry.judged.is_none() => "not known",
                Verdict::Passed => "passed",
            };
            self.line(
                [
                    verdict.into(),
                    format!("≤ {allowed}"),
                    figure(change),
                    figure(least),
                    figure(most),
                ],
                &words::name(&entry.name, LONG),
            );
            self.under(&what);
        }
    }

    /// So many functions at most, with so many of their callers.
    fn functions(&mut self, title: &str, rows: &[Row<'_>], (most, way): (usize, usize)) {
        if rows.is_empty() {
            return;
        }
        self.title(title);
        for row in rows.iter().take(most) {
            let share = |nanos: f64| percent(nanos / self.of_run);
            let amount = row.amount;
            self.line(
                [
                    time(amount.base),
                    time((amount.base + amount.growth).max(0.0)),
                    share(amount.growth),
                    share(amount.between.0),
                    share(amount.between.1),
                ],
                &row.function.name,
            );
            if let Some(pair) = &row.moved {
                let moved = sentences::moved(pair, &|name| words::name(name, 20));
                self.under(&moved);
            }
            self.under(&self.place(row, way));
        }
        self.rest(rows.len(), most);
    }

    /// Where a function is, and who calls it.
    fn place(&self, row: &Row<'_>, way: usize) -> String {
        let mut said = place(row.function, row.line, self.places);
        if row.is_accepted {
            said.push_str(", accepted");
        }
        if row.is_with_callees {
            said.push_str(", with what it calls");
        }
        let callers = row.called_by(self.places, way, &|name| words::name(name, 36));
        if !callers.is_empty() {
            said.push_str(", called by ");
            said.push_str(&callers);
        }
        said
    }

    fn text_of_all(self) -> String {
        let mut widths = [0; 5];
        for line in &self.lines {
            if let Line::Cells(cells, _) = line {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.chars().count());
                }
            }
        }
        // Two columns before each, and before names.
        let indent: usize = widths.iter().map(|width| width + 2).sum::<usize>() + 2;
        let left = WIDTH.saturating_sub(indent).max(20);
        let mut out = String::new();
        let mut end_line = |line: &str| {
            out.push_str(line.trim_end_matches(' '));
            out.push('\n');
        };
        let mut lines = self.lines.into_iter().peekable();
        while let Some(line) = lines.next() {
            match line {
                Line::Text(text) => end_line(&text),
                Line::Cells(cells, what) => {
                    let mut line = String::new();
                    for (width, cell) in widths.iter().zip(cells) {
                        let blanks = width + 2 - cell.chars().count();
                        line.extend(std::iter::repeat_n(' ', blanks));
                        line.push_str(&cell);
                    }
                    let what = words::name(&what, left);
                    line.push_str("  ");
                    line.push_str(&what);
                    // What fits stands beside it.
                    let fits = |text: &str| what.chars().count() + 3 + text.chars().count() <= left;
                    let short =
                        lines.next_if(|next| matches!(next, Line::Under(text) if fits(text)));
                    if let Some(Line::Under(text)) = short {
                        line.push_str("  ");
                        line.push_str(&self.paint.dim(&format!("({text})")));
                    }
                    end_line(&line);
                }
                Line::Under(text) => {
                    for text in wrapped(&words::harmless(&text), left - 2) {
                        let blanks = " ".repeat(indent + 2);
                        end_line(&format!("{blanks}{}", self.paint.dim(&text)));
                    }
                }
            }
        }
        out
    }
}

/// Text as lines of this width at most, but for words that are longer: they are cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        // With room for what may come before it.
        let word = words::name(word, width.saturating_sub(2));
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        } else if !lines.is_empty() && word.starts_with("::") {
            // A line that begins so is a command to GitHub's runner.
            line.push_str("… ");
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

/// Where a function is: `src/parse.c:12`, or its module.
pub(super) fn place(function: &Function, line: u32, places: &Places) -> String {
    if function.file.is_empty() {
        return match &*function.module {
            "" => "(no file known)".into(),
            module => words::path(module, 40),
        };
    }
    let here = places.find(&function.file);
    let file = words::path(here.as_deref().unwrap_or(&function.file), 40);
    match line {
        0 => file,
        line => format!("{file}:{line}"),
    }
}
