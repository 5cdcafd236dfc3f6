//! A comparison as a test report, in the XML that JUnit's tasks of Ant made common: one test for all of a run, one for
//! each entry of the project's file. What regressed failed; what is inconclusive was skipped, for it neither passed
//! nor failed, and GitLab and Jenkins both show why.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::sentences;
use super::words;
use crate::gate::comparison::Comparison;
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;

const SUITE: &str = "rprof gate";

/// A test.
struct Test {
    name: String,
    verdict: Verdict,
    /// Whether there are too few samples for an answer.
    is_unknown: bool,
    /// What it came to.
    said: String,
    /// All that there is to be said.
    text: String,
}

/// It as text.
///
/// # Errors
/// None: it is written to memory.
pub(super) fn text(of: &Comparison, text: &str) -> io::Result<String> {
    let tests = tests(of, text);
    let seconds = format!("{:.6}", sentences::middle(of, Side::Head) / 1e9);
    let count = |wanted: &dyn Fn(&Test) -> bool| tests.iter().filter(|test| wanted(test)).count();
    let all = tests.len().to_string();
    let failures = count(&|test| test.verdict == Verdict::Regressed).to_string();
    let skipped = count(&Test::is_skipped).to_string();
    let counts = [
        ("name", SUITE),
        ("tests", &*all),
        ("failures", &*failures),
        ("errors", "0"),
        ("skipped", &*skipped),
        ("time", &*seconds),
    ];
    let mut out = Writer::new_with_indent(Vec::new(), b' ', 2);
    out.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let suites = out.create_element("testsuites").with_attributes(counts);
    suites.write_inner_content(|out| {
        let suite = out.create_element("testsuite").with_attributes(counts);
        suite.write_inner_content(|out| {
            for (n, test) in tests.iter().enumerate() {
                // The first is the run.
                test.write(out, if n == 0 { &seconds } else { "0" })?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    let mut text = String::from_utf8(out.into_inner()).map_err(io::Error::other)?;
    text.push('\n');
    Ok(text)
}

fn tests(of: &Comparison, text: &str) -> Vec<Test> {
    let mut reasons = of.reasons.clone();
    reasons.extend(sentences::undecided(of));
    // An entry's verdict is that entry's, and no figure counts if there are reasons not to believe it.
    let believed = |verdict| match of.reasons.is_empty() {
        true => verdict,
        false => Verdict::Inconclusive,
    };
    let total = Test {
        name: "CPU time of a run".into(),
        verdict: believed(of.judged.verdict),
        is_unknown: false,
        said: [vec![sentences::total(of)], reasons].concat().join(" "),
        text: text.to_string(),
    };
    let mut tests = vec![total];
    for entry in &of.ruled {
        let (_, what) = sentences::entry(entry);
        let said = match &entry.judged {
            None => "too few samples".into(),
            Some(judged) => sentences::judgement(judged, entry.threshold),
        };
        tests.push(Test {
            name: words::name(&entry.name, words::LONG),
            verdict: believed(entry.verdict()),
            is_unknown: entry.judged.is_none(),
            said: format!("{said} ({what})"),
            text: String::new(),
        });
    }
    tests
}

impl Test {
    fn is_skipped(&self) -> bool {
        self.verdict == Verdict::Inconclusive
            || (self.is_unknown && self.verdict == Verdict::Passed)
    }

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
            if self.verdict == Verdict::Regressed {
                let failure = out.create_element("failure").with_attributes(message);
                let failure = failure.with_attribute(("type", "regressed"));
                let inner = if text.is_empty() { &said } else { &text };
                failure.write_text_content(BytesText::new(inner))?;
            } else if self.is_skipped() {
                let skipped = out.create_element("skipped").with_attributes(message);
                skipped.write_empty()?;
            }
            if !text.is_empty() && self.verdict != Verdict::Regressed {
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
