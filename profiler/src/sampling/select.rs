//! What of `--all` is wanted, as far as the programs do not see to it: processes by name.

use crate::cli::glob::Glob;

/// A narrowing of all processes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What the process's name must match.
    pub comm: Option<Glob>,
}

impl Selection {
    /// Nothing is left out.
    pub fn is_all(&self) -> bool {
        self.comm.is_none()
    }

    /// Whether a process of this name is wanted.
    pub fn wants(&self, comm: &str) -> bool {
        self.comm.as_ref().is_none_or(|glob| glob.matches(comm))
    }
}
