//! The functions of a profile, by what tells one from another in every build.

use std::sync::Arc;

use hashbrown::HashMap;
use pprof::protos::Profile;

use super::{Function, text};
use crate::gate::names::plain;

/// Name, file, and, where a converter made one text of them, the line.
type Named = (Arc<str>, Arc<str>, Option<i64>);

/// The functions of a profile.
pub(super) struct Table {
    pub(super) functions: Vec<Function>,
    /// For each location the functions in it, innermost first: a range of `lines`.
    pub(super) locations: HashMap<u64, (usize, usize)>,
    /// Functions and line numbers.
    pub(super) lines: Vec<(u32, u32)>,
}

impl Table {
    pub(super) fn new(profile: &Profile) -> Self {
        let text = |id: i64| text(profile, id);
        let mut table = Self {
            functions: Vec::new(),
            locations: HashMap::new(),
            lines: Vec::new(),
        };
        let modules: HashMap<u64, Arc<str>> = profile
            .mapping
            .iter()
            .map(|mapping| (mapping.id, last_part(text(mapping.filename)).into()))
            .collect();
        let no_module: Arc<str> = "".into();
        let named: HashMap<u64, Named> = profile
            .function
            .iter()
            .map(|function| {
                let (name, file) = (text(function.name), text(function.filename));
                let place = Some(name).filter(|_| file.is_empty()).and_then(with_place);
                let (name, file, line) = match place {
                    Some((name, file, line)) => (name, file, Some(line)),
                    None => (name, file, None),
                };
                (function.id, (plain(name).into(), file.into(), line))
            })
            .collect();
        let mut numbers: HashMap<Function, u32> = HashMap::new();
        for location in &profile.location {
            let module = modules.get(&location.mapping_id).unwrap_or(&no_module);
            let first = table.lines.len();
            let mut add = |name: Arc<str>, file: Arc<str>, line: i64| {
                let function = Function {
                    name,
                    file,
                    module: module.clone(),
                };
                let next = table.functions.len() as u32;
                let number = *numbers.entry(function.clone()).or_insert_with(|| {
                    table.functions.push(function);
                    next
                });
                table.lines.push((number, u32::try_from(line).unwrap_or(0)));
            };
            for line in &location.line {
                if let Some((name, file, of_name)) = named.get(&line.function_id) {
                    let line = of_name.filter(|_| line.line == 0).unwrap_or(line.line);
                    add(name.clone(), file.clone(), line);
                }
            }
            if location.line.is_empty() {
                // Addresses change from build to build: what has no name is one function.
                let module = if module.is_empty() { "unknown" } else { module };
                add(format!("[{module}]").into(), "".into(), 0);
            }
            table
                .locations
                .insert(location.id, (first, table.lines.len()));
        }
        table
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `parse (src/parse.py:17)`, as py-spy's raw format has it: name, file and line.
fn with_place(name: &str) -> Option<(&str, &str, i64)> {
    let (name, place) = name.strip_suffix(')')?.rsplit_once(" (")?;
    let (file, line) = place.rsplit_once(':')?;
    let is_place = !name.is_empty() && !file.is_empty();
    Some((name, file, line.parse().ok()?)).filter(|_| is_place)
}

#[cfg(test)]
mod tests {
    use super::super::of;
    use super::super::tests::profile;
    use super::*;

    #[test]
    fn a_place_in_a_name() {
        assert_eq!(
            with_place("parse (src/a.py:17)"),
            Some(("parse", "src/a.py", 17))
        );
        assert_eq!(
            with_place("<module> (<string>:1)"),
            Some(("<module>", "<string>", 1))
        );
        for name in [
            "parse",
            "operator()(int)",
            "parse (int)",
            " (a:1)",
            "f (a:b)",
        ] {
            assert_eq!(with_place(name), None, "{name}");
        }
        // Lines are no functions.
        let mut lines = profile(&[(&[2], 3), (&[3], 4)]);
        lines.string_table[4] = "work (a.py:1)".into();
        lines.string_table[5] = "work (a.py:2)".into();
        lines
            .function
            .iter_mut()
            .for_each(|function| function.filename = 0);
        let costs = of(&lines, &[]).unwrap();
        let (function, cost) = &costs
            .functions
            .iter()
            .find(|(_, cost)| cost.all > 0.0)
            .unwrap();
        assert_eq!(
            (&*function.name, &*function.file, cost.own),
            ("work", "a.py", 7.0)
        );
    }
}
