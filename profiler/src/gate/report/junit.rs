//! A comparison as a test report, in the XML that JUnit's tasks of Ant made common: one test for all of a run, one for
//! each entry of the project's file. What regressed failed; what is inconclusive was skipped, for it neither passed
//! nor failed, and GitLab and Jenkins both show why, unless it counts as regressed. Where nothing could be compared
//! there is one test, with an error; where there is nothing to compare with yet, it was skipped.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::sentences;
use super::told::Told;
use super::words;
use crate::cli::Failure;
use crate::cli::failure::reason;
use crate::gate::comparison::Comparison;
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;

const SUITE: &str = "rprof gate";

const TOTAL: &str = "CPU time of a run";

/// A test.
struct Test {
    outcome: Outcome,
    name: String,
    /// What it came to.
    said: String,
    /// All that there is to be said.
    text: String,
}

/// How a test ended, in the words of JUnit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
    Error,
    Skipped,
}

/// It as text.
///
/// # Errors
/// None: it is written to memory.
pub(super) fn text(of: &Comparison, told: &Told<'_>, text: &str) -> Result<Vec<u8>, Failure> {
    let seconds = format!("{:.6}", sentences::middle(of, Side::Head) / 1e9);
    suite(&tests(of, told, text), &seconds).map_err(not_written)
}

/// There is nothing to be compared.
///
/// # Errors
/// None: it is written to memory.
pub(super) fn failure(why: &Failure) -> Result<Vec<u8>, Failure> {
    let next = why.next_commands().iter();
    let mut lines = vec![why.what()];
    lines.extend(why.said_lines().iter().cloned());
    lines.extend(next.map(|next| format!("try: {next}")));
    let test = Test {
        outcome: Outcome::Error,
        name: TOTAL.into(),
        said: why.what(),
        text: lines.join("\n"),
    };
    suite(&[test], "0").map_err(not_written)
}

/// There is nothing to compare with yet.
///
/// # Errors
/// None: it is written to memory.
pub(super) fn first(why: &str) -> Result<Vec<u8>, Failure> {
    let test = Test {
        outcome: Outcome::Skipped,
        name: TOTAL.into(),
        said: why.into(),
        text: String::new(),
    };
    suite(&[test], "0").map_err(not_written)
}

fn not_written(error: io::Error) -> Failure {
    Failure::new(format!("no test report: {}", reason(&error)))
}

fn suite(tests: &[Test], seconds: &str) -> io::Result<Vec<u8>> {
    let count = |outcome| {
        let such = tests.iter().filter(|test| test.outcome == outcome);
        such.count().to_string()
    };
    let all = tests.len().to_string();
    let failures = count(Outcome::Failure);
    let errors = count(Outcome::Error);
    let skipped = count(Outcome::Skipped);
    let counts = [
        ("name", SUITE),
        ("tests", &*all),
        ("failures", &*failures),
        ("errors", &*errors),
        ("skipped", &*skipped),
        ("time", seconds),
    ];
    let mut out = Writer::new_with_indent(Vec::new(), b' ', 2);
    out.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let suites = out.create_element("testsuites").with_attributes(counts);
    suites.write_inner_content(|out| {
        let suite = out.create_element("testsuite").with_attributes(counts);
        suite.write_inner_content(|out| {
            for (n, test) in tests.iter().enumerate() {
                // The first is the run.
                test.write(out, if n == 0 { seconds } else { "0" })?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    let mut text = out.into_inner();
    text.push(b'\n');
    Ok(text)
}

fn tests(of: &Comparison, told: &Told<'_>, text: &str) -> Vec<Test> {
    let mut reasons = of.reasons.clone();
    reasons.extend(sentences::undecided(of));
    // An entry's verdict is that entry's, and no figure counts if there are reasons not to believe it.
    let believed = |verdict| match of.reasons.is_empty() {
        true => verdict,
        false => Verdict::Inconclusive,
    };
    let outcome = |verdict| match verdict {
        Verdict::Passed => Outcome::Success,
        Verdict::Regressed => Outcome::Failure,
        Verdict::Inconclusive if told.counts_as == Some(Verdict::Regressed) => Outcome::Failure,
        Verdict::Inconclusive => Outcome::Skipped,
    };
    let counting = |verdict| match sentences::counting(verdict, told) {
        counting if counting.is_empty() => String::new(),
        counting => format!("{verdict}{counting}: "),
    };
    let verdict = believed(of.judged.verdict);
    let said = format!("{}{}", counting(verdict), sentences::total(of));
    let total = Test {
        outcome: outcome(verdict),
        name: TOTAL.into(),
        said: [vec![said], reasons].concat().join(" "),
        text: text.to_string(),
    };
    let mut tests = vec![total];
    for entry in &of.ruled {
        let (_, what) = sentences::entry(entry);
        let verdict = believed(entry.verdict());
        let (outcome, said) = match &entry.judged {
            None if verdict == Verdict::Passed => (Outcome::Skipped, "too few samples".into()),
            None => (outcome(verdict), "too few samples".into()),
            Some(judged) => (
                outcome(verdict),
                sentences::judgement(judged, entry.threshold),
            ),
        };
        tests.push(Test {
            outcome,
            name: words::name(&entry.name, words::LONG),
            said: format!("{}{said} ({what})", counting(verdict)),
            text: String::new(),
        });
    }
    tests
}

impl Test {
    fn write(&self, out: &mut Writer<Vec<u8>>, seconds: &str) -> io::Result<()> {
        let name = legal(&self.name);
        let said = legal(&self.said);
        let text = legal(&self.text);
        let case = out.create_element("testcase").with_attributes([
            ("classname", SUITE),
            ("name", &*name),
            ("time", seconds),
        ]);
        case.write_inner_content(|out| {
            let message = [("message", &*said)];
            let failed = match self.outcome {
                Outcome::Failure => Some(("failure", "regressed")),
                Outcome::Error => Some(("error", "failed")),
                Outcome::Skipped => {
                    let skipped = out.create_element("skipped").with_attributes(message);
                    skipped.write_empty()?;
                    None
                }
                Outcome::Success => None,
            };
            if let Some((element, kind)) = failed {
                let element = out.create_element(element).with_attributes(message);
                let element = element.with_attribute(("type", kind));
                let inner = if text.is_empty() { &said } else { &text };
                element.write_text_content(BytesText::new(inner))?;
            } else if !text.is_empty() {
                let system = out.create_element("system-out");
                system.write_text_content(BytesText::new(&text))?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Lines without the characters that XML 1.0 has no way to write.
fn legal(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(words::harmless).collect();
    lines.join("\n")
}
