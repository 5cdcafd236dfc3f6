//! Files of profiles as files of the repository: what a profile calls `/build/job-17/src/parse.c` may be
//! `src/parse.c` here. A path comes in, one relative to the repository leaves, or none: of what is not in it nothing
//! can be shown beside its text.

use std::path::{Component, Path, PathBuf};

/// Folders of what others wrote. Ends of their paths, `src/lib.rs` say, may exist here and are other files.
const OTHERS: [&str; 11] = [
    "/rustc/",
    "/.rustup/",
    "/.cargo/registry/",
    "/.cargo/git/",
    "/usr/",
    "/nix/store/",
    "/pkg/mod/",
    "/go/src/runtime/",
    "/site-packages/",
    "/dist-packages/",
    "/node_modules/",
];

/// Where the repository is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    repository: PathBuf,
    here: PathBuf,
}

impl Places {
    /// As CI says, else above the current folder.
    pub(super) fn here() -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        let said = ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"].iter();
        let mut said = said.filter_map(|name| std::env::var_os(name).map(PathBuf::from));
        let above = || {
            let above = here.ancestors().find(|folder| folder.join(".git").exists());
            above.map(Path::to_path_buf)
        };
        let repository = said
            .find(|folder| folder.is_absolute() && here.starts_with(folder))
            .or_else(above)
            .unwrap_or_else(|| here.clone());
        Self { repository, here }
    }

    #[cfg(test)]
    pub(super) fn of(repository: &Path) -> Self {
        Self {
            repository: repository.to_path_buf(),
            here: repository.to_path_buf(),
        }
    }

    /// The path of a file of the repository, relative to it.
    pub(super) fn find(&self, file: &str) -> Option<String> {
        let path = Path::new(file);
        if file.is_empty() || path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        for folder in [&self.repository, &self.here] {
            if let Ok(rest) = path.strip_prefix(folder)
                && !rest.as_os_str().is_empty()
                && path.is_file()
                && !is_of_others(Path::new("/").join(rest).to_str()?)
            {
                return self.relative(path);
            }
        }
        if is_of_others(file) {
            return None;
        }
        let parts: Vec<Component<'_>> = (path.components())
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        // Of a whole path from elsewhere a name alone says too little.
        let least = if path.is_absolute() { 2 } else { 1 };
        for first in 0..(parts.len() + 1).saturating_sub(least) {
            let end: PathBuf = parts[first..].iter().collect();
            for folder in [&self.here, &self.repository] {
                let there = folder.join(&end);
                if there.is_file() {
                    return self.relative(&there);
                }
            }
            if !path.is_absolute() {
                break;
            }
        }
        None
    }

    fn relative(&self, path: &Path) -> Option<String> {
        let relative = path.strip_prefix(&self.repository).ok()?;
        relative.to_str().map(str::to_string)
    }
}

fn is_of_others(file: &str) -> bool {
    OTHERS.iter().any(|folder| file.contains(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        let here = repository.join("server");
        std::fs::create_dir_all(here.join("src")).unwrap();
        std::fs::create_dir_all(repository.join("vendor/node_modules/x")).unwrap();
        std::fs::write(here.join("src/lib.rs"), "").unwrap();
        std::fs::write(repository.join("main.c"), "").unwrap();
        std::fs::write(repository.join("vendor/node_modules/x/i.js"), "").unwrap();
        std::fs::write(folder.path().join("secret"), "").unwrap();
        let places = Places {
            repository: repository.clone(),
            here,
        };
        let inside = |name: &str| repository.join(name).display().to_string();
        for (file, found) in [
            // Where it is.
            (&*inside("server/src/lib.rs"), Some("server/src/lib.rs")),
            (&*inside("main.c"), Some("main.c")),
            // Relative to where it was compiled.
            ("src/lib.rs", Some("server/src/lib.rs")),
            ("./src/lib.rs", Some("server/src/lib.rs")),
            ("main.c", Some("main.c")),
            // Compiled elsewhere.
            ("/builds/17/server/src/lib.rs", Some("server/src/lib.rs")),
            ("/builds/17/src/lib.rs", Some("server/src/lib.rs")),
            ("/builds/17/main.c", None),
            // Others' files of the same name.
            (
                "/home/me/.cargo/registry/src/index/serde-1.0.0/src/lib.rs",
                None,
            ),
            ("/rustc/0123/library/std/src/lib.rs", None),
            (&*inside("vendor/node_modules/x/i.js"), None),
            // Not there.
            (&*inside("gone.c"), None),
            ("../secret", None),
            ("/x/../secret", None),
            ("<frozen importlib._bootstrap>", None),
            ("", None),
        ] {
            assert_eq!(places.find(file).as_deref(), found, "{file}");
        }
    }
}
