//! `gate.toml`: what a project's own functions may cost, and which regressions it has accepted.

use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use toml::value::Date;

use super::patterns::Pattern;
use crate::cli::Failure;
use crate::cli::glob::Glob;
use crate::cli::retype::quoted;

mod table;
use table::Table;

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

/// Keys of the file, of a function, and of what is accepted.
const KEYS: [&[&str]; 3] = [
    &["threshold", "function", "accepted"],
    &["name", "file", "threshold"],
    &["name", "file", "by", "reason", "until"],
];

impl Config {
    /// Reads the file that was named, or the one in this folder if there is one.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub fn find(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path.to_path_buf(),
            // A link that leads nowhere is there, too: what was agreed on must not be lost without a word.
            None => match Path::new(NAME).symlink_metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Self::default());
                }
                _ => PathBuf::from(NAME),
            },
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
        let [keys, of_function, of_accepted] = KEYS;
        let file = Table::parse(text, keys)?;
        let functions = file.tables("function", of_function)?;
        let accepted = file.tables("accepted", of_accepted)?;
        if functions.len() + accepted.len() > MOST {
            return Err(format!(
                "it has {} entries, and {MOST} are the most: each makes it likelier that chance is called a change",
                functions.len() + accepted.len()
            ));
        }
        let mut config = Self {
            threshold: file.share("threshold")?,
            ..Self::default()
        };
        for of in functions {
            let pattern = config.pattern(&of, false)?;
            let threshold = of.needed("threshold", of.share("threshold")?)?;
            config.functions.push((pattern, threshold));
        }
        for of in accepted {
            let name = of.needed("name", of.text("name")?)?;
            let by = of.needed("by", of.share("by")?)?;
            let reason = of.needed("reason", of.text("reason")?)?;
            let reason = reason.trim();
            if reason.is_empty() {
                return Err(of.wrong("reason", "a reason must be given"));
            }
            let Date { year, month, day } = of.needed("until", of.day("until")?)?;
            let until = format!("{year:04}-{month:02}-{day:02}");
            if (year, month, day) < today {
                config.over.push(format!(
                    "{name} is not accepted any more since {until} ({reason}): its entry in {NAME} is over."
                ));
                continue;
            }
            let pattern = config.pattern(&of, true)?;
            config.accepted.push(Accepted {
                pattern,
                by,
                reason: reason.to_string(),
                until,
            });
        }
        Ok(config)
    }

    fn pattern(&mut self, of: &Table<'_>, is_accepted: bool) -> Result<usize, String> {
        let glob = |key: &str| -> Result<Option<Glob>, String> {
            let text = of.text(key)?;
            text.map(|text| Glob::parse(&text).map_err(|why| of.wrong(key, why)))
                .transpose()
        };
        self.patterns.push(Pattern {
            name: of.needed("name", glob("name")?)?,
            file: glob("file")?,
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
        let accepted = |until: &str| {
            format!("[[accepted]]\nname = \"a\"\nby = \"5%\"\nreason = \"b\"\nuntil = {until}")
        };
        let no_day =
            "line 5: until: a day is expected, like 2026-12-31: without quotes, and without a time";
        for (text, why) in [
            (
                "threshold = \"-2%\"",
                "line 1: threshold: it is a share from 0.01 % to 1000 %, like 2% or 0.02",
            ),
            (
                "\nthreshold = true",
                "line 2: threshold: a share is expected, like \"2%\" or 0.02",
            ),
            ("threshold = nan", "line 1: threshold: it is a share"),
            ("threshold = 2%", "line 1: threshold: "),
            ("secret = 2%", "line 1: "),
            (
                "treshold = \"2%\"",
                "line 1: there is no key \"treshold\", only threshold, function, accepted",
            ),
            (
                "[[function]]\nname = \"a\"",
                "line 1: this entry has no threshold; it has name, file, threshold",
            ),
            (
                "[function]\nname = \"a\"",
                "line 1: function: [[function]] is expected, and what belongs to it on the lines below",
            ),
            ("function = 3", "line 1: function: [[function]] is expected"),
            (
                "[[function]]\nname = 3\nthreshold = 0.1",
                "line 2: name: a text in quotes is expected",
            ),
            (
                "[[function]]\nname = \"\"\nthreshold = 0.1",
                "line 2: name: an empty pattern",
            ),
            (
                "[[accepted]]\nname = \"a\"\nby = \"5%\"\nreason = \" \"\nuntil = 2026-12-31",
                "line 4: reason: a reason must be given",
            ),
            (&accepted("\"2026-13-99\""), no_day),
            (&accepted("\"2026-12-31\""), no_day),
            (&accepted("2026-12-31T00:00:00Z"), no_day),
            (&accepted("2026-12-31T00:00:00"), no_day),
            (&accepted("12:00:00"), no_day),
            (&accepted("2026"), no_day),
            (
                &accepted("2026-13-99"),
                "line 5: until: invalid date, expected month",
            ),
            (&accepted("2026-02-30"), "line 5: until: invalid date"),
            ("= 3", "line 1: "),
        ] {
            let said = Config::read(text, (2026, 7, 1)).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn so_many_entries() {
        let entries = |n: usize| "[[function]]\nname = \"a\"\nthreshold = 0.1\n".repeat(n);
        assert!(Config::read(&entries(MOST), (2026, 7, 1)).is_ok());
        let said = Config::read(&entries(MOST + 1), (2026, 7, 1)).unwrap_err();
        assert!(
            said.starts_with("it has 21 entries, and 20 are the most"),
            "{said}"
        );
    }

    #[test]
    fn days() {
        let (year, month, day) = today();
        assert!(year >= 2026 && (1..=12).contains(&month) && (1..=31).contains(&day));
    }
}
