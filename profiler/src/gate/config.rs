//! `gate.toml`: what a project's own functions may cost, and which regressions it has accepted.

use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use toml::value::{Date, Datetime};

use super::patterns::Pattern;
use crate::cli::glob::Glob;
use crate::cli::retype::quoted;
use crate::cli::{Failure, values};

/// What is looked for where nothing else is said.
pub const NAME: &str = "gate.toml";
/// Entries at most: each has a part of the chance to be wrong.
const MOST: usize = 20;
/// Bytes of a file at most.
const MAX_FILE: u64 = 64 << 10;

/// What a project has agreed on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// How much dearer a run may be.
    pub threshold: Option<f64>,
    /// How much dearer functions may be, by themselves: an index in `patterns` and a share of what they cost.
    pub functions: Vec<(usize, f64)>,
    /// What is accepted.
    pub accepted: Vec<Accepted>,
    /// Entries that are over: sentences.
    pub over: Vec<String>,
    /// Patterns of functions.
    pub patterns: Vec<Pattern>,
}

/// A regression that is known, and wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Index in the patterns.
    pub pattern: usize,
    /// How much more of a run it may take.
    pub by: f64,
    /// Why.
    pub reason: String,
    /// The last day on which it is accepted: `2026-12-31`.
    pub until: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    threshold: Option<Share>,
    #[serde(default)]
    function: Vec<OfFunction>,
    #[serde(default)]
    accepted: Vec<OfAccepted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfFunction {
    name: String,
    file: Option<String>,
    threshold: Share,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfAccepted {
    name: String,
    file: Option<String>,
    by: Share,
    reason: String,
    until: Datetime,
}

/// `"5%"` or `0.05`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Share {
    Text(String),
    Number(f64),
}

impl Share {
    fn read(&self) -> Result<f64, String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        };
        values::share(&text).map_err(|error| error.to_string())
    }
}

impl Config {
    /// Reads the file that was named, or the one in this folder if there is one.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub fn find(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path.to_path_buf(),
            None if Path::new(NAME).exists() => PathBuf::from(NAME),
            None => return Ok(Self::default()),
        };
        let shown = quoted(&path.to_string_lossy());
        let text = read_small(&path)
            .map_err(|error| Failure::file("read", &path, &error).next(format!("ls -l {shown}")))?;
        Self::read(&text, today()).map_err(|why| {
            Failure::usage(format!("{}: {why}", path.display())).next(format!("cat {shown}"))
        })
    }

    /// Reads a file's text, as of a day.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str, today: (u16, u8, u8)) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| {
            // The line itself is not shown: it may be of any file, if somebody made a link to it.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        })?;
        if file.function.len() + file.accepted.len() > MOST {
            return Err(format!("it has more than {MOST} entries"));
        }
        let mut config = Self {
            threshold: file.threshold.as_ref().map(Share::read).transpose()?,
            ..Self::default()
        };
        for of in file.function {
            let threshold = of
                .threshold
                .read()
                .map_err(|why| in_entry(&of.name, &why))?;
            let pattern = config.pattern(&of.name, of.file.as_deref(), false)?;
            config.functions.push((pattern, threshold));
        }
        for of in file.accepted {
            let wrong = |why: &str| in_entry(&of.name, why);
            let by = of.by.read().map_err(|why| wrong(&why))?;
            let reason = of.reason.trim();
            if reason.is_empty() {
                return Err(wrong("a reason must be given"));
            }
            let Datetime {
                date: Some(Date { year, month, day }),
                time: None,
                ..
            } = of.until
            else {
                return Err(wrong("its end is a day, like until = 2026-12-31"));
            };
            let until = format!("{year:04}-{month:02}-{day:02}");
            if (year, month, day) < today {
                config.over.push(format!(
                    "{} is not accepted any more since {until} ({reason}): its entry in {NAME} is over.",
                    of.name
                ));
                continue;
            }
            let pattern = config.pattern(&of.name, of.file.as_deref(), true)?;
            config.accepted.push(Accepted {
                pattern,
                by,
                reason: reason.to_string(),
                until,
            });
        }
        Ok(config)
    }

    fn pattern(
        &mut self,
        name: &str,
        file: Option<&str>,
        is_accepted: bool,
    ) -> Result<usize, String> {
        let glob = |text: &str| Glob::parse(text).map_err(|why| in_entry(name, why));
        self.patterns.push(Pattern {
            name: glob(name)?,
            file: file.map(glob).transpose()?,
            is_accepted,
        });
        Ok(self.patterns.len() - 1)
    }
}

fn read_small(path: &Path) -> io::Result<String> {
    let mut open = std::fs::OpenOptions::new();
    // Who opens a FIFO without that waits for somebody to write.
    let file = open.read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_FILE {
        true => Err(io::Error::other("it is too large")),
        false => Ok(text),
    }
}

fn in_entry(name: &str, why: &str) -> String {
    format!("the entry of {name:?}: {why}")
}

/// The day it is, in UTC.
fn today() -> (u16, u8, u8) {
    // `Sun, 06 Nov 1994 08:49:37 GMT` has all that is asked for, and its months are letters.
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let now = httpdate::fmt_http_date(SystemTime::now());
    let mut words = now.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (day, month, year) = (word(), word(), word());
    let month = MONTHS.find(month).map_or(1, |at| at as u8 / 3 + 1);
    (year.parse().unwrap_or(0), month, day.parse().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
threshold = "3%"

[[function]]
name = "parse::*"
file = "src/parse.rs"
threshold = 0.05

[[accepted]]
name = "render"
by = "4%"
reason = "anti-aliasing"
until = 2026-12-31

[[accepted]]
name = "load"
by = "4%"
reason = "checksums"
until = 2026-06-30
"#;

    #[test]
    fn a_whole_one() {
        let config = Config::read(WHOLE, (2026, 7, 1)).unwrap();
        assert_eq!(config.threshold, Some(0.03));
        assert_eq!(config.functions, [(0, 0.05)]);
        assert_eq!(config.accepted.len(), 1);
        assert_eq!(config.accepted[0].until, "2026-12-31");
        assert_eq!(config.over.len(), 1);
        assert!(config.over[0].contains("load") && config.over[0].contains("2026-06-30"));
        assert_eq!(config.patterns.len(), 2);
        assert!(config.patterns[1].is_accepted && !config.patterns[0].is_accepted);
        // The last day counts.
        let config = Config::read(WHOLE, (2026, 6, 30)).unwrap();
        assert_eq!(config.accepted.len(), 2);
    }

    #[test]
    fn what_makes_no_sense() {
        for (text, why) in [
            ("threshold = \"-2%\"", "from 0.01 %"),
            ("treshold = \"2%\"", "unknown field `treshold`"),
            ("[[function]]\nname = \"a\"", "missing field `threshold`"),
            (
                "[[function]]\nname = \"\"\nthreshold = 0.1",
                "an empty pattern",
            ),
            (
                "[[accepted]]\nname = \"a\"\nby = \"5%\"\nreason = \" \"\nuntil = 2026-12-31",
                "the entry of \"a\": a reason must be given",
            ),
            (
                "[[accepted]]\nname = \"a\"\nby = \"5%\"\nreason = \"b\"\nuntil = 12:00:00",
                "its end is a day",
            ),
            ("= 3", "line 1: "),
        ] {
            let said = Config::read(text, (2026, 7, 1)).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn days() {
        let (year, month, day) = today();
        assert!(year >= 2026 && (1..=12).contains(&month) && (1..=31).contains(&day));
    }
}
