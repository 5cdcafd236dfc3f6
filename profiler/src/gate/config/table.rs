//! A table of `gate.toml`: text comes in, values leave. What is wrong is said with its line, its key and what is
//! expected there. The line itself is not shown: it may be of any file, if somebody made a link to it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::{Date, Datetime};

use crate::cli::values;

/// A table, and where it stands.
pub(super) struct Table<'a> {
    text: &'a str,
    begin: usize,
    entries: DeTable<'a>,
    keys: &'static [&'static str],
}

impl<'a> Table<'a> {
    /// The whole of a file, which may have these keys.
    pub(super) fn parse(text: &'a str, keys: &'static [&'static str]) -> Result<Self, String> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            match key_of_line(text, at) {
                Some(key) => format!("line {}: {key}: {}", line(text, at), error.message()),
                None => format!("line {}: {}", line(text, at), error.message()),
            }
        })?;
        Self::new(text, 0, table.into_inner(), keys)
    }

    fn new(
        text: &'a str,
        begin: usize,
        entries: DeTable<'a>,
        keys: &'static [&'static str],
    ) -> Result<Self, String> {
        if let Some(other) = entries
            .keys()
            .find(|key| !keys.contains(&key.get_ref().as_ref()))
        {
            return Err(format!(
                "line {}: there is no key {:?}, only {}",
                line(text, other.span().start),
                other.get_ref(),
                keys.join(", ")
            ));
        }
        Ok(Self {
            text,
            begin,
            entries,
            keys,
        })
    }

    /// The sentence about a key that is wrong.
    pub(super) fn wrong(&self, key: &str, why: &str) -> String {
        let at = self.get(key).map_or(self.begin, |value| value.span().start);
        format!("line {}: {key}: {why}", line(self.text, at))
    }

    /// What has to be there.
    pub(super) fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T, String> {
        value.ok_or_else(|| {
            format!(
                "line {}: this entry has no {key}; it has {}",
                line(self.text, self.begin),
                self.keys.join(", ")
            )
        })
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, String> {
        self.read(key, "a text in quotes is expected", |value| {
            value.as_str().map(String::from)
        })
    }

    /// `"5%"` or `0.05`.
    pub(super) fn share(&self, key: &str) -> Result<Option<f64>, String> {
        let expected = "a share is expected, like \"2%\" or 0.02";
        let text = self.read(key, expected, |value| match value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => Some(number.as_str().to_string()),
            DeValue::Float(number) => Some(number.as_str().to_string()),
            _ => None,
        })?;
        text.map(|text| values::share(&text).map_err(|why| self.wrong(key, &why.to_string())))
            .transpose()
    }

    /// A day, and no time of it.
    pub(super) fn day(&self, key: &str) -> Result<Option<Date>, String> {
        let expected = "a day is expected, like 2026-12-31: without quotes, and without a time";
        self.read(key, expected, |value| match value.as_datetime() {
            Some(Datetime {
                date,
                time: None,
                offset: None,
            }) => *date,
            _ => None,
        })
    }

    /// The tables `[[key]]`, each of which may have these keys.
    pub(super) fn tables(
        &self,
        key: &str,
        keys: &'static [&'static str],
    ) -> Result<Vec<Self>, String> {
        let expected = format!("[[{key}]] is expected, and what belongs to it on the lines below");
        let tables = self.read(key, &expected, |value| {
            let of = |of: &Spanned<DeValue<'a>>| {
                Some((of.span().start, of.get_ref().as_table()?.clone()))
            };
            value.as_array()?.iter().map(of).collect::<Option<Vec<_>>>()
        })?;
        let tables = tables.unwrap_or_default().into_iter();
        tables
            .map(|(begin, entries)| Self::new(self.text, begin, entries, keys))
            .collect()
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&DeValue<'a>) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let read = read(value.get_ref());
        read.map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    fn get(&self, key: &str) -> Option<&Spanned<DeValue<'a>>> {
        let mut entries = self.entries.iter();
        entries.find_map(|(of, value)| (of.get_ref() == key).then_some(value))
    }
}

/// The number of the line in which a byte is.
fn line(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.matches('\n').count() + 1
}

/// The key of the line in which a byte is, if it is one that we know: others may be anything.
fn key_of_line(text: &str, at: usize) -> Option<&'static str> {
    let line = text.lines().nth(line(text, at) - 1)?;
    let key = line.split_once('=')?.0.trim();
    super::KEYS
        .into_iter()
        .flatten()
        .copied()
        .find(|known| key == *known)
}
