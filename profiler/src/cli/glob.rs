//! Patterns for names of processes: `*`, `?` and sets like `[a-c]` or `[!0-9]`. A pattern's text
//! comes in, and then names; nothing else is matched with it.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Any number of characters.
    Many,
    /// One character.
    One,
    /// This character.
    Is(char),
    /// One character within, or outside of, all of these ranges.
    Set(bool, Vec<(char, char)>),
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Many => false,
            Part::One => true,
            Part::Is(wanted) => *wanted == c,
            Part::Set(within, ranges) => {
                ranges.iter().any(|(from, to)| (from..=to).contains(&&c)) == *within
            }
        }
    }
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("an empty pattern matches no name");
        }
        let mut parts = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            parts.push(match c {
                '*' => Part::Many,
                '?' => Part::One,
                '[' => {
                    let within = !rest.as_str().starts_with(['!', '^']);
                    if !within {
                        rest.next();
                    }
                    // A bracket that comes first stands for itself.
                    let end = rest
                        .as_str()
                        .char_indices()
                        .skip(1)
                        .find(|(_, c)| *c == ']');
                    let (end, _) = end.ok_or("'[' has no ']'")?;
                    let (set, after) = rest.as_str().split_at(end);
                    rest = after.chars();
                    rest.next();
                    Part::Set(within, ranges(set))
                }
                c => Part::Is(c),
            });
        }
        Ok(Self {
            text: text.to_string(),
            parts,
        })
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Bytes of the shortest name that it can match.
    pub fn least_bytes(&self) -> usize {
        let bytes = self.parts.iter().map(|part| match part {
            Part::Many => 0,
            Part::One | Part::Set(..) => 1,
            Part::Is(c) => c.len_utf8(),
        });
        bytes.sum()
    }

    /// Whether all of a name matches.
    pub fn matches(&self, name: &str) -> bool {
        // Greedy with one step back to the last star.
        let (mut parts, mut rest) = (self.parts.as_slice(), name.chars());
        let mut star = None;
        loop {
            let mut after = rest.clone();
            match (parts.split_first(), after.next()) {
                (Some((Part::Many, more)), _) => {
                    star = Some((more, rest.clone()));
                    parts = more;
                }
                (Some((part, more)), Some(c)) if part.takes(c) => (parts, rest) = (more, after),
                (None, None) => return true,
                _ => {
                    // The star takes one character more.
                    let Some((more, from)) = &mut star else {
                        return false;
                    };
                    if from.next().is_none() {
                        return false;
                    }
                    (parts, rest) = (*more, from.clone());
                }
            }
        }
    }
}

/// `a-cx` as ranges.
fn ranges(set: &str) -> Vec<(char, char)> {
    let mut ranges = Vec::new();
    let mut rest = set.chars();
    while let Some(from) = rest.next() {
        let mut ahead = rest.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) => {
                ranges.push((from, to));
                rest = ahead;
            }
            _ => ranges.push((from, from)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("python*", "python3.11", true),
            ("*on3.1?", "python3.11", true),
            ("python", "python3", false),
            ("python3", "python", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "", true),
            ("?", "", false),
            ("kworker/[0-3]:*", "kworker/2:1", true),
            ("kworker/[0-3]:*", "kworker/u8:1", false),
            ("[!a-c]x", "dx", true),
            ("[^a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
        ] {
            let parsed = Glob::parse(glob).unwrap();
            assert_eq!(parsed.matches(name), expected, "{glob} {name}");
        }
        for bad in ["", "[", "[a", "x[!", "[]"] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Glob::parse("é[0-9]?*").unwrap().least_bytes(), 4);
    }
}
