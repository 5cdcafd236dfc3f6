//! `rprof gate compare`: profiles that exist.

use std::path::PathBuf;

use super::baseline::Baseline;
use super::{Reporter, judging};
use crate::cli::Failure;
use crate::cli::gate::Compare;
use crate::gate::comparison;
use crate::gate::runs::Runs;
use crate::gate::statistics::verdict::Verdict;

/// Compares them.
///
/// # Errors
/// A file that cannot be read, or that is no profile of CPU time; too few; profiles that do not go together.
pub(super) fn compare(
    typed: &Compare,
    reporter: &Reporter<'_>,
    say: &dyn Fn(&str),
) -> Result<u8, Failure> {
    let judging = judging(&typed.judging, reporter)?;
    let baseline = typed
        .baseline
        .as_deref()
        .map(|folder| Baseline::open(folder, typed.update))
        .transpose()?;
    let base = match &baseline {
        Some(baseline) => baseline.files()?,
        None => typed.base.clone(),
    };
    enough("--head", &typed.head)?;
    if let (Some(baseline), true) = (&baseline, base.is_empty()) {
        if !typed.update {
            return Err(Failure::new(format!(
                "the baseline {} is empty: there is nothing to compare with yet",
                baseline.folder().display()
            ))
            .next(format!(
                "rprof gate compare --baseline {} --update --head …",
                baseline.folder().display()
            )));
        }
        // What cannot be compared later must not be kept.
        Runs::read(&[], &typed.head, &judging.config.patterns)?;
        baseline.add(&typed.head)?;
        say(&format!(
            "The baseline {} was empty, and holds these {} runs now: nothing to compare with yet.\n",
            baseline.folder().display(),
            typed.head.len()
        ));
        return Ok(crate::cli::failure::exit::DONE);
    }
    let side = match &baseline {
        Some(_) => "--baseline",
        None => "--base",
    };
    enough(side, &base)?;
    let runs = Runs::read(&base, &typed.head, &judging.config.patterns)?;
    let mut comparison = comparison::compare(&runs, &judging)?;
    if let Some(baseline) = &baseline {
        baseline.look(&runs, &mut comparison);
    }
    let code = reporter.tell(&comparison, &runs)?;
    if let (Some(baseline), true) = (&baseline, typed.update) {
        // What nothing is known of is kept only to know it.
        let is_needed = comparison.verdict == Verdict::Inconclusive
            && comparison.judged.verdict != Verdict::Regressed
            && comparison.reasons.len() == 1
            && baseline.is_young();
        if comparison.verdict == Verdict::Passed || is_needed {
            baseline.add(&typed.head)?;
        } else {
            say("The baseline was left as it is.\n");
        }
    }
    Ok(code)
}

fn enough(side: &str, files: &[PathBuf]) -> Result<(), Failure> {
    if files.len() >= 2 {
        return Ok(());
    }
    let (runs, are) = match files.len() {
        0 => ("no run", "any"),
        _ => ("one run", "two"),
    };
    Err(Failure::usage(format!(
        "{side} has {runs}: how much runs differ by chance is not known from less than two, and 10 are better than {are}"
    ))
    .next("rprof gate compare --base a1.pb.gz a2.pb.gz … --head b1.pb.gz b2.pb.gz …"))
}
