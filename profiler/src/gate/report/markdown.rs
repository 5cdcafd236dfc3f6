//! A comparison as Markdown, for the summary of a job or a comment: what GitHub and GitLab both show. Names are code,
//! in which nothing is markup, and nobody is mentioned.

use std::fmt::Write;

use super::places::Places;
use super::sentences;
use super::text::place;
use super::told::{Row, Told};
use super::words::{self, percent, time};
use crate::cli::Failure;
use crate::gate::comparison::Comparison;
use crate::gate::config;
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;

/// Functions of each kind: GitHub takes comments of 65,536 characters.
const NAMED: usize = 20;
/// Characters of a name.
const NAME: usize = 120;
/// Callers of a function that are named.
const WAY: usize = 3;

/// It as text.
pub(super) fn text(of: &Comparison, told: &Told<'_>, places: &Places) -> String {
    let mut out = String::new();
    let (symbol, word) = match of.verdict {
        Verdict::Passed => ("✅", "passed"),
        Verdict::Regressed => ("❌", "regressed"),
        Verdict::Inconclusive => ("⚠️", "inconclusive"),
    };
    let headline = escaped(&sentences::headline(of));
    let counting = sentences::counting(of.verdict, told);
    let _ = writeln!(
        out,
        "### {symbol} rprof gate: {word}{counting}\n\n**{headline}**\n"
    );
    let list = |out: &mut String, sentences: &[String]| {
        for sentence in sentences {
            let _ = writeln!(out, "- {}", escaped(sentence));
        }
        if !sentences.is_empty() {
            out.push('\n');
        }
    };
    list(&mut out, &of.reasons);
    list(&mut out, &sentences::undecided(of));
    let (least, most) = sentences::interval(&of.judged);
    out.push_str("| | base | head | change | at least | at most |\n|---|--:|--:|--:|--:|--:|\n");
    let _ = writeln!(
        out,
        "| CPU time a run{} | {} | {} | **{}** | {} | {} |",
        match of.ruled.iter().any(|entry| entry.accepted.is_some()) {
            true => " (change: without what is accepted)",
            false => "",
        },
        time(sentences::middle(of, Side::Base)),
        time(sentences::middle(of, Side::Head)),
        percent(of.judged.change()),
        percent(least),
        percent(most)
    );
    entries(&mut out, of);
    let table = Table {
        places,
        of_run: of.mean(Side::Base),
    };
    table.rows(
        &mut out,
        "Dearer by what they do themselves",
        &told.guilty,
        WAY,
    );
    if let Some(why) = sentences::unexplained(of, told) {
        let _ = writeln!(out, "\n{why}");
    }
    if !told.moved.is_empty() {
        out.push_str("\n#### Moved rather than grew\n\n");
        for pair in told.moved.iter().take(NAMED) {
            let _ = writeln!(out, "- {}", sentences::moved(pair, &|name| code(name, 60)));
        }
    }
    folded(
        &mut out,
        "Their callers, dearer by what they call",
        told.callers.len(),
        |out| {
            table.rows(out, "", &told.callers, 0);
        },
    );
    folded(&mut out, "Cheaper", told.cheaper.len(), |out| {
        table.rows(out, "", &told.cheaper, WAY);
    });
    let _ = writeln!(
        out,
        "\n<sub>{}; {}</sub>",
        escaped(&sentences::basis(of)),
        sentences::bounds(of)
    );
    if !of.notes.is_empty() {
        out.push('\n');
        list(&mut out, &of.notes);
    }
    out
}

/// There is nothing to be compared.
pub(super) fn failure(why: &Failure) -> String {
    let mut out = format!(
        "### ⛔ rprof gate: failed\n\n**{}**\n",
        escaped(&why.what())
    );
    let mut code = |title: &str, lines: &[String]| {
        if lines.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{title}:\n");
        for line in lines {
            // Lines that begin with four blanks are code: nothing in them is markup.
            let _ = writeln!(out, "    {}", words::harmless(line));
        }
    };
    code("What it said", why.said_lines());
    code("Try", why.next_commands());
    out
}

fn entries(out: &mut String, of: &Comparison) {
    if of.ruled.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "\n#### {}\n\n| | allowed | change | at least | at most | |\n|---|--:|--:|--:|--:|---|\n",
        config::NAME
    );
    for entry in &of.ruled {
        let symbol = match entry.verdict() {
            Verdict::Regressed => "❌",
            Verdict::Inconclusive => "⚠️",
            Verdict::Passed if entry.judged.is_none() => "❔",
            Verdict::Passed => "✅",
        };
        let (allowed, what) = sentences::entry(entry);
        let figures = match &entry.judged {
            None => ["too few samples".to_string(), String::new(), String::new()],
            Some(judged) => {
                let (least, most) = sentences::interval(judged);
                [judged.change(), least, most].map(percent)
            }
        };
        let _ = writeln!(
            out,
            "| {symbol} {} | {allowed} | {} | {} |",
            code(&entry.name, NAME),
            figures.join(" | "),
            escaped(&what)
        );
    }
}

/// What is shown on a click.
fn folded(out: &mut String, title: &str, rows: usize, inner: impl Fn(&mut String)) {
    if rows == 0 {
        return;
    }
    let _ = writeln!(out, "\n<details><summary>{title}: {rows}</summary>");
    inner(out);
    out.push_str("\n</details>\n");
}

struct Table<'a> {
    places: &'a Places,
    of_run: f64,
}

impl Table<'_> {
    fn rows(&self, out: &mut String, title: &str, rows: &[Row<'_>], way: usize) {
        if rows.is_empty() {
            return;
        }
        if !title.is_empty() {
            let _ = write!(out, "\n#### {title}\n");
        }
        out.push_str(
            "\n| function | base | head | of a run | at least | at most |\n|---|--:|--:|--:|--:|--:|\n",
        );
        for row in rows.iter().take(NAMED) {
            let share = |nanos: f64| percent(nanos / self.of_run);
            let amount = row.amount;
            let _ = writeln!(
                out,
                "| {} | {} | {} | **{}** | {} | {} |",
                self.function(row, way),
                time(amount.base),
                time((amount.base + amount.growth).max(0.0)),
                share(amount.growth),
                share(amount.between.0),
                share(amount.between.1),
            );
        }
        if rows.len() > NAMED {
            let _ = writeln!(out, "\nand {} more", rows.len() - NAMED);
        }
    }

    fn function(&self, row: &Row<'_>, way: usize) -> String {
        let place = place(row.function, row.line, self.places);
        let mut said = format!(
            "{}<br>{}",
            code(&row.function.name, NAME),
            code(&place, NAME)
        );
        let callers = row.called_by(self.places, way, &|name| code(name, 60));
        if !callers.is_empty() {
            let _ = write!(said, " called by {callers}");
        }
        if row.is_accepted {
            said.push_str(" (accepted)");
        }
        if let Some(pair) = &row.moved {
            let moved = sentences::moved(pair, &|name| code(name, 40));
            let _ = write!(said, "<br>{moved}");
        }
        said
    }
}

/// A name as code, which a table may hold.
fn code(name: &str, width: usize) -> String {
    let mut code = String::from("`");
    for c in words::name(name, width).chars() {
        match c {
            // No other character ends code, and none ends a cell.
            '`' => code.push('\''),
            '|' => code.push_str("\\|"),
            // Before a bar it would be taken for what escapes it.
            '\\' => code.push('∖'),
            c => code.push(c),
        }
    }
    code.push('`');
    code
}

/// Text without markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in words::harmless(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // Whoever is called like that is not meant: a space without width.
            '@' => escaped.push_str("@\u{200b}"),
            '`' => escaped.push_str("&#96;"),
            '\\' | '*' | '_' | '[' | ']' | '|' | '~' | '$' | '!' | '#' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(code("operator||(T)", 40), "`operator\\|\\|(T)`");
        assert_eq!(code("a`<img src=x>`@all", 40), "`a'<img src=x>'@all`");
        assert_eq!(code("a\\|b\n| c", 40), "`a∖\\|b?\\| c`");
        assert_eq!(
            escaped("@all <b>&*a* | [x](y)\r\n"),
            "@\u{200b}all &lt;b&gt;&amp;\\*a\\* \\| \\[x\\](y)??"
        );
    }
}
