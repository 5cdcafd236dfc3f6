//! The command that was typed, typed again with one thing changed: what an error offers as the next
//! command keeps all that was right. Words come in, a line for a shell leaves; nothing is run.

use std::ffi::OsString;
use std::path::Path;

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
        let mut kept = Vec::new();
        let end = self.0.iter().position(|word| word == "--");
        let (options, command) = self.0.split_at(end.unwrap_or(self.0.len()));
        let mut options = options.iter();
        while let Some(word) = options.next() {
            if names.contains(&word.as_str()) {
                options.next();
            } else if !joined(word, names) {
                kept.push(word.clone());
            }
        }
        if let Some(value) = value {
            // The last one counts: right even where the typed one hides in `-aF99`.
            let name = names.iter().find(|name| !name.is_empty());
            kept.extend(name.map(|name| name.to_string()));
            kept.push(value.to_string());
        }
        kept.extend(command.iter().cloned());
        line(&kept)
    }
}

/// Whether a word is one of these options with its value in one: `-F99`, `--freq=99`.
fn joined(word: &str, [short, long]: [&str; 2]) -> bool {
    let after = |name: &str| {
        (!name.is_empty())
            .then(|| word.strip_prefix(name))
            .flatten()
    };
    after(short).is_some_and(|rest| !rest.is_empty() && !word.starts_with("--"))
        || after(long).is_some_and(|rest| rest.starts_with('='))
}

/// Words as a shell reads them back.
fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
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
    }

    #[test]
    fn one_thing_changes_and_the_rest_stays() {
        let freq = ["-F", "--freq"];
        for (before, after) in [
            ("rprof -a -F 9 -o x", "rprof -a -o x -F 1"),
            ("rprof -a -F9", "rprof -a -F 1"),
            ("rprof --freq=9 -a", "rprof -a -F 1"),
            ("rprof --freq 9 -- x -F 9", "rprof -F 1 -- x -F 9"),
            ("rprof -aF9", "rprof -aF9 -F 1"),
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
    fn as_root() {
        assert_eq!(typed("./rprof -a").as_root(), "sudo ./rprof -a");
        // Tests do not lie in a folder that sudo searches.
        let line = typed("rprof -a --comm py*").as_root();
        assert!(line.starts_with("sudo /"), "{line}");
        assert!(line.ends_with(" -a --comm 'py*'"), "{line}");
    }
}
