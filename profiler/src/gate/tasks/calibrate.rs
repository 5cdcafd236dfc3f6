//! `rprof gate calibrate`: a command against itself. Whatever differs is the machine.

use crate::cli::Failure;
use crate::cli::gate::Calibrate;

/// Runs it.
///
/// # Errors
/// The command failed, or its profile cannot be compared.
pub(super) fn calibrate(_typed: &Calibrate, _say: &dyn Fn(&str)) -> Result<u8, Failure> {
    Err(Failure::new("not yet"))
}
