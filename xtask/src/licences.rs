//! `cargo xtask licences`: every dependency's licence is one that `deny.toml` allows.
//!
//! What enters is `cargo tree` and the `[licenses]` section of `deny.toml`; what leaves is the
//! dependencies that fail. It is cargo-deny's licence check for a machine without cargo-deny, which
//! takes minutes to build; advisories and bans stay with cargo-deny.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::workspace::{output, root, say};
use crate::{Outcome, Usage};

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    if options.is_empty() {
        Ok(check())
    } else {
        Err(Usage)
    }
}

fn check() -> Outcome {
    let policy = fs::read_to_string(root().join("deny.toml"))
        .map_err(|error| format!("cannot read deny.toml: {error}"))?;
    let policy = Policy::parse(&policy)?;
    let mut tree = Command::new("cargo");
    tree.current_dir(root())
        .args(["tree", "--workspace", "--locked", "--target", "all"]);
    tree.args([
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--no-dedupe",
    ]);
    let tree = output(tree.args(["--format", "{p}|{l}"]))?;
    let packages: BTreeSet<&str> = tree.lines().filter(|line| !line.is_empty()).collect();
    let refused: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !policy.allows(package))
        .collect();
    if !refused.is_empty() {
        let refused = refused.join("\n  ");
        return Err(format!(
            "deny.toml does not allow the licence of:\n  {refused}"
        ));
    }
    say(&format!(
        "the licences of {} packages are allowed",
        packages.len()
    ));
    Ok(())
}

/// What `deny.toml` allows: for every package, and for one package alone.
struct Policy {
    allowed: Vec<String>,
    exceptions: Vec<(String, Vec<String>)>,
}

impl Policy {
    /// Reads `allow = […]` and `exceptions = [{ allow = […], crate = "…" }]`, which is all of TOML
    /// that the section uses.
    fn parse(text: &str) -> Result<Self, String> {
        let lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        let lines: Vec<&str> = lines
            .skip_while(|line| line.trim() != "[licenses]")
            .skip(1)
            .collect();
        let end = lines
            .iter()
            .position(|line| line.starts_with('['))
            .unwrap_or(lines.len());
        let section = lines[..end].join("\n");
        let (plain, exceptions) = section.split_once("exceptions").unwrap_or((&section, ""));
        let list = |text: &str| {
            let (_, list) = text.split_once("allow = [")?;
            Some(quoted(list.split_once(']')?.0))
        };
        let allowed = list(plain).ok_or("deny.toml has no `allow = [` in [licenses]")?;
        let exceptions = exceptions.split('{').skip(1).map(|entry| {
            let name = entry
                .split_once("crate = ")
                .and_then(|(_, name)| quoted(name).pop());
            name.zip(list(entry))
                .ok_or("an exception in deny.toml has no `allow` or no `crate`")
        });
        Ok(Self {
            allowed,
            exceptions: exceptions.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a line `name vVERSION…|LICENCE` passes.
    fn allows(&self, package: &str) -> bool {
        let (package, licence) = package.split_once('|').unwrap_or((package, ""));
        let name = package.split(' ').next().unwrap_or_default();
        let own = self.exceptions.iter().filter(|(exempt, _)| exempt == name);
        let allowed: Vec<&String> = own.flat_map(|(_, own)| own).chain(&self.allowed).collect();
        satisfied(licence, &|id| allowed.iter().any(|&one| one == id)).unwrap_or(false)
    }
}

/// The strings between double quotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Whether an SPDX expression can be met with licences that are allowed; `None` if it is none.
/// `A/B` is how `A OR B` was written once; `A WITH B` gives more rights than `A`.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let met = either(&mut words, allowed)?;
    words.is_empty().then_some(met)
}

fn either(words: &mut Vec<&str>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut met = both(words, allowed)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        met |= both(words, allowed)?;
    }
    Some(met)
}

fn both(words: &mut Vec<&str>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut met = one(words, allowed)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        met &= one(words, allowed)?;
    }
    Some(met)
}

fn one(words: &mut Vec<&str>, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let word = words.pop()?;
    if word == "(" {
        let met = either(words, allowed)?;
        return (words.pop()? == ")").then_some(met);
    }
    if words.pop_if(|word| *word == "WITH").is_some() {
        words.pop()?;
    }
    (!matches!(word, ")" | "OR" | "AND" | "WITH")).then(|| allowed(word))
}

#[cfg(test)]
mod tests {
    use super::{Policy, satisfied};

    #[test]
    fn expressions() {
        let met = |expression| satisfied(expression, &|id| id == "MIT" || id == "Zlib");
        assert_eq!(met("MIT"), Some(true));
        assert_eq!(met("Unlicense/MIT"), Some(true));
        assert_eq!(met("GPL-2.0 OR (MIT AND Zlib)"), Some(true));
        assert_eq!(met("MIT AND GPL-2.0"), Some(false));
        assert_eq!(met("MIT AND (GPL-2.0 OR BSD-3-Clause)"), Some(false));
        assert_eq!(met("Zlib WITH LLVM-exception"), Some(true));
        assert_eq!(met(""), None);
        assert_eq!(met("MIT OR"), None);
        assert_eq!(met("MIT Zlib"), None);
    }

    #[test]
    fn an_exception_is_for_its_crate_alone() {
        let text = "[licenses]\nallow = [\n  \"MIT\", # reason\n]\nexceptions = [\n  \
                    { allow = [\"CDDL-1.0\"], crate = \"inferno\" },\n]\n[bans]\n";
        let policy = Policy::parse(text).unwrap();
        assert!(policy.allows("inferno v0.12.8|CDDL-1.0"));
        assert!(!policy.allows("other v0.1.0|CDDL-1.0"));
        assert!(!policy.allows("other v0.1.0|"));
        assert!(policy.allows("other v0.1.0 (proc-macro)|MIT"));
    }
}
