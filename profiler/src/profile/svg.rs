//! A flame graph as one SVG file, drawn by inferno. A profile and its symbols come in. It holds the
//! folded lines in memory while it draws.

use std::io::{self, Write};

use inferno::flamegraph;

use super::{About, Profile, Symbols, folded};

/// In the file's head; says that rprof wrote it.
pub const MARK: &str = "<!--NOTES: rprof-->";

/// Writes a profile.
///
/// # Errors
/// Those of `out` and of part files.
pub fn write(
    profile: &Profile,
    symbols: &Symbols,
    about: &About,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut lines = Vec::new();
    folded::write(profile, symbols, &mut lines)?;
    let mut text = String::from_utf8(lines).map_err(io::Error::other)?;
    let mut options = flamegraph::Options::default();
    options.title = "rprof".to_owned();
    options.subtitle = Some(format!(
        "{} samples in {:.1} s at {} Hz",
        profile.samples(),
        about.duration.as_secs_f64(),
        about.frequency
    ));
    options.notes = "rprof".to_owned();
    options.count_name = "samples".to_owned();
    options.hash = true;
    options.deterministic = true;
    if text.is_empty() {
        // inferno takes no input for an error; a run without a sample is none.
        text.push_str("[no samples] 1\n");
        options.count_name = "nothing".to_owned();
    }
    flamegraph::from_lines(&mut options, text.lines(), &mut *out)?;
    out.flush()
}
