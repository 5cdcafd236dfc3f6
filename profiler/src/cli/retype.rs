//! The command that was typed, typed again with one thing changed: what an error offers as the next
//! command keeps all that was right. Words come in, a line for a shell leaves; nothing is run.

use std::ffi::OsString;
use std::path::Path;

use crate::report::drives_a_terminal;

/// A command line that can be typed again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retype(Vec<String>);

impl Retype {
    /// From the words of the process; the first is rprof's own name.
    pub fn new(words: &[OsString]) -> Self {
        Retype(
            words
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
        )
    }

    /// The same.
    pub fn line(&self) -> String {
        line(&self.0)
    }

    /// The same without the command.
    pub fn options(&self) -> Self {
        Self(self.parts().0.to_vec())
    }

    /// The same as root. Under sudo the search path is another: a binary that is not in one of the
    /// system's folders needs its full name.
    pub fn as_root(&self) -> String {
        let system = [
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ];
        let typed = self.0.first().map_or("rprof", String::as_str);
        let found = std::env::current_exe().ok().filter(|path| {
            let folder = path.parent().unwrap_or(Path::new("/"));
            !typed.contains('/') && !system.iter().any(|s| folder == Path::new(s))
        });
        let name = found.map_or(typed.to_string(), |path| path.display().to_string());
        let mut words = vec!["sudo".to_string(), name];
        words.extend(self.0.iter().skip(1).cloned());
        line(&words)
    }

    /// The same with an option and its value instead of those typed (`names`: the short and the
    /// long form). Without a value the option is left out.
    pub fn with(&self, names: [&str; 2], value: Option<&str>) -> String {
        self.with_all(names, value.as_slice())
    }

    /// The same with an option several times.
    pub fn with_all(&self, names: [&str; 2], values: &[&str]) -> String {
        let (options, command) = self.parts();
        let mut kept = Vec::new();
        let mut options = options.iter().peekable();
        while let Some(word) = options.next() {
            match read(word, names) {
                Some((flags, value)) => {
                    if value.is_none() {
                        options.next_if(|next| !is_option(next));
                    }
                    kept.extend((!flags.is_empty()).then(|| format!("-{flags}")));
                }
                None => kept.push(word.clone()),
            }
        }
        let name = names.iter().find(|name| !name.is_empty());
        for (name, value) in name.into_iter().cycle().zip(values) {
            kept.extend([name.to_string(), value.to_string()]);
        }
        kept.extend(command.iter().cloned());
        line(&kept)
    }

    /// The same without a flag.
    pub fn without(&self, [short, long]: [&str; 2]) -> String {
        let (options, command) = self.parts();
        let letter = short.trim_start_matches('-');
        let mut kept = Vec::new();
        for word in options.iter().filter(|word| *word != long) {
            let (flags, rest) = flags(word).unwrap_or_default();
            if !letter.is_empty() && flags.contains(letter) {
                let left = flags.replace(letter, "") + rest;
                kept.extend((!left.is_empty()).then(|| format!("-{left}")));
            } else {
                kept.push(word.clone());
            }
        }
        kept.extend(command.iter().cloned());
        line(&kept)
    }

    /// The values that an option was given.
    pub fn values(&self, names: [&str; 2]) -> Vec<&str> {
        let (options, _) = self.parts();
        let next = options.iter().skip(1).map(Some).chain([None]);
        let pairs = options.iter().zip(next);
        let values = pairs.filter_map(|(word, next)| {
            let (_, value) = read(word, names)?;
            let next = next.filter(|next| !is_option(next));
            value.or(next.map(String::as_str))
        });
        values.collect()
    }

    /// What is for rprof, and what for the command that it runs.
    fn parts(&self) -> (&[String], &[String]) {
        let end = self.0.iter().position(|word| word == "--");
        self.0.split_at(end.unwrap_or(self.0.len()))
    }
}

/// Flags, which have no value: options may stand behind them in one word, as in `-aF99`.
const FLAGS: [char; 5] = ['a', 'q', 'v', 'g', 'h'];

/// The flags at the beginning of a word of short options, and the rest of it.
fn flags(word: &str) -> Option<(&str, &str)> {
    let word = word.strip_prefix('-').filter(|w| !w.starts_with('-'))?;
    let end = word.find(|c| !FLAGS.contains(&c)).unwrap_or(word.len());
    Some(word.split_at(end))
}

/// A word in which an option stands: the flags before it, and its value if that is in the same word.
fn read<'a>(word: &'a str, [short, long]: [&str; 2]) -> Option<(&'a str, Option<&'a str>)> {
    if let Some(rest) = word.strip_prefix(long).filter(|_| !long.is_empty()) {
        let joined = rest.strip_prefix('=');
        return (rest.is_empty() || joined.is_some()).then_some(("", joined));
    }
    let letter = short.strip_prefix('-')?;
    let (flags, rest) = flags(word)?;
    let value = rest.strip_prefix(letter)?;
    let value = value.strip_prefix('=').unwrap_or(value);
    Some((flags, (!value.is_empty()).then_some(value)))
}

/// Whether a word is an option: values may begin with a dash, too (`-1s`), and `-` is one.
fn is_option(word: &str) -> bool {
    let rest = word.strip_prefix('-').unwrap_or_default();
    rest.starts_with(|c: char| c == '-' || c.is_ascii_alphabetic())
}

/// Words as a shell reads them back.
fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word as a shell reads it back, and no terminal obeys it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else if word.contains(drives_a_terminal) {
        let escaped = word.chars().map(|c| match c {
            '\'' | '\\' => format!("\\{c}"),
            c if drives_a_terminal(c) && c.is_ascii() => format!("\\x{:02x}", u32::from(c)),
            c if drives_a_terminal(c) => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        });
        format!("$'{}'", escaped.collect::<String>())
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Retype {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        Retype::new(&words)
    }

    #[test]
    fn quotes_what_a_shell_would_change() {
        assert_eq!(quoted("--comm=py"), "--comm=py");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a\x1b[1m's"), r"$'a\x1b[1m\'s'");
        assert_eq!(quoted("a\n\u{202e}"), r"$'a\x0a\u202e'");
    }

    #[test]
    fn one_thing_changes_and_the_rest_stays() {
        let freq = ["-F", "--freq"];
        for (before, after) in [
            ("rprof -a -F 9 -o x", "rprof -a -o x -F 1"),
            ("rprof -a -F9", "rprof -a -F 1"),
            ("rprof --freq=9 -a", "rprof -a -F 1"),
            ("rprof --freq 9 -- x -F 9", "rprof -F 1 -- x -F 9"),
            ("rprof -aF9 -o x", "rprof -a -o x -F 1"),
            ("rprof -a -F -o x", "rprof -a -o x -F 1"),
            ("rprof -a -F -9", "rprof -a -F 1"),
            ("rprof --all", "rprof --all -F 1"),
        ] {
            assert_eq!(typed(before).with(freq, Some("1")), after, "{before}");
        }
        assert_eq!(typed("rprof -a -F 9").with(freq, None), "rprof -a");
        let cpus = ["", "--cpus"];
        assert_eq!(
            typed("rprof -a --cpus 9").with(cpus, Some("0-1")),
            "rprof -a --cpus 0-1"
        );
        assert_eq!(typed("rprof -a --cpus").with(cpus, None), "rprof -a");
    }

    #[test]
    fn flags_go_and_values_are_found() {
        let verbose = ["-v", "--verbose"];
        for (before, after) in [
            ("rprof -avq -o x", "rprof -aq -o x"),
            ("rprof -a --verbose -v -- x -v", "rprof -a -- x -v"),
            ("rprof -avd10s", "rprof -ad10s"),
        ] {
            assert_eq!(typed(before).without(verbose), after, "{before}");
        }
        let children = typed("rprof -a --children -q").without(["", "--children"]);
        assert_eq!(children, "rprof -a -q");
        let line = typed("rprof -ad1s --duration 2s --duration=3s -d -- x -d 4s");
        assert_eq!(line.values(["-d", "--duration"]), ["1s", "2s", "3s"]);
    }

    #[test]
    fn as_root() {
        assert_eq!(typed("./rprof -a").as_root(), "sudo ./rprof -a");
        // Tests do not lie in a folder that sudo searches.
        let line = typed("rprof -a --comm py*").as_root();
        assert!(line.starts_with("sudo /"), "{line}");
        assert!(line.ends_with(" -a --comm 'py*'"), "{line}");
    }
}
