//! Functions that somebody has named in `gate.toml`, by patterns.

use super::costs::Function;
use crate::cli::glob::Glob;

/// Names a function, or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What its name must match.
    pub name: Glob,
    /// What its file must match; `None`: any.
    pub file: Option<Glob>,
    /// What it costs more is accepted.
    pub is_accepted: bool,
}

impl Pattern {
    /// Whether a function is one of those that are meant.
    pub fn is_of(&self, function: &Function) -> bool {
        let of_file = |glob: &Glob| {
            // A path may begin anywhere: builds have folders of their own.
            let path = &*function.file;
            let starts = path.match_indices('/').map(|(at, _)| at + 1);
            std::iter::once(0)
                .chain(starts)
                .any(|at| glob.matches(&path[at..]))
        };
        self.name.matches(&function.name) && self.file.as_ref().is_none_or(of_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files() {
        let glob = |text: &str| Glob::parse(text).unwrap();
        let function = |name: &str, file: &str| Function {
            name: name.into(),
            file: file.into(),
            module: "".into(),
        };
        let parse = Pattern {
            name: glob("parse::*"),
            file: Some(glob("src/*.rs")),
            is_accepted: false,
        };
        assert!(parse.is_of(&function("parse::number", "/build/a/src/parse.rs")));
        assert!(parse.is_of(&function("parse::number", "src/parse.rs")));
        assert!(!parse.is_of(&function("parse::number", "/build/a/lib.c")));
        assert!(!parse.is_of(&function("render", "src/parse.rs")));
    }
}
