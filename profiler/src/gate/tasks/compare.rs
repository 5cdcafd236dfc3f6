//! `rprof gate compare`: profiles that exist.

use std::path::PathBuf;

use super::baseline::{self, Baseline};
use super::{Reporter, judging};
use crate::cli::Failure;
use crate::cli::failure::exit;
use crate::cli::gate::Compare;
use crate::cli::retype::quoted;
use crate::gate::comparison;
use crate::gate::judging::Judging;
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
    let judging = judging(&typed.judging)?;
    let baseline = typed
        .baseline
        .as_deref()
        .map(|folder| Baseline::open(folder, typed.update))
        .transpose()?;
    let [base, new] = match &baseline {
        Some(baseline) => baseline.apart(&typed.head)?,
        None => [typed.base.clone(), Vec::new()],
    };
    no_folder("--base", &typed.base)?;
    no_folder("--head", &typed.head)?;
    enough("--head", &typed.head)?;
    if let Some(baseline) = &baseline {
        if base.is_empty() {
            return first(baseline, typed, &new, &judging, reporter, say);
        }
        let strangers = baseline.strangers()?;
        if strangers > 0 {
            let folder = baseline.folder().display();
            say(&format!(
                "Profiles in {folder} that were not put there by --update do not count: {strangers}.\n"
            ));
        }
    }
    let side = match &baseline {
        Some(_) => "--baseline",
        None => "--base",
    };
    enough(side, &base)?;
    let runs = Runs::read(&base, &typed.head, &judging.config.patterns)?;
    let mut comparison = comparison::compare(&runs, &judging)?;
    let (alone, has_reasons) = (comparison.verdict, !comparison.reasons.is_empty());
    if baseline.is_some() {
        baseline::look(&runs, &mut comparison);
    }
    let code = reporter.tell(&comparison, &runs)?;
    if let (Some(baseline), true) = (&baseline, typed.update) {
        // That too little is known of days, or that they differ, is no reason to leave them out: without new ones the
        // next comparison would know no more, and those that differ would stay for ever.
        let is_of_days =
            !has_reasons && !comparison.reasons.is_empty() && alone != Verdict::Regressed;
        if comparison.verdict == Verdict::Passed || is_of_days {
            add(baseline, &new, say)?;
        } else {
            say(&left(baseline, alone));
        }
    }
    Ok(code)
}

/// Runs that are not added: why, and what to do if they should be.
fn left(baseline: &Baseline, verdict: Verdict) -> String {
    let folder = baseline.folder();
    let why = match verdict {
        Verdict::Regressed => "what regressed is not what later runs are to be compared with",
        _ => "of these runs too little is known for later ones to be compared with them",
    };
    format!(
        "The baseline {} was left as it is: {why}. If they are as they should be, begin it anew with them: \
         rm {}/set-*.pb.gz, and then the same command.\n",
        folder.display(),
        quoted(&folder.to_string_lossy())
    )
}

/// There is nothing to compare with yet.
fn first(
    baseline: &Baseline,
    typed: &Compare,
    new: &[PathBuf],
    judging: &Judging,
    reporter: &Reporter<'_>,
    say: &dyn Fn(&str),
) -> Result<u8, Failure> {
    let folder = baseline.folder().display();
    let strangers = baseline.strangers()?;
    if !typed.update {
        let shown = quoted(&baseline.folder().to_string_lossy());
        let again = format!("rprof gate compare --baseline {shown} --update --head");
        return Err(if new.len() < typed.head.len() {
            Failure::new(format!(
                "the baseline {folder} holds only these runs: there is nothing to compare with yet"
            ))
            .next(format!("{again} …"))
        } else if strangers > 0 {
            Failure::new(format!(
                "the baseline {folder} has no runs that count: the profiles there, {strangers}, were not put there by --update"
            ))
            .next(format!("{again} {shown}/*.pb.gz"))
        } else {
            Failure::new(format!(
                "the baseline {folder} is empty: there is nothing to compare with yet"
            ))
            .next(format!("{again} …"))
        });
    }
    // What cannot be compared later must not be kept.
    Runs::read(&[], &typed.head, &judging.config.patterns)?;
    say("Nothing to compare with yet.\n");
    add(baseline, new, say)?;
    reporter.first()?;
    Ok(exit::DONE)
}

/// Adds runs, unless they are there.
fn add(baseline: &Baseline, new: &[PathBuf], say: &dyn Fn(&str)) -> Result<(), Failure> {
    let folder = baseline.folder().display();
    if new.is_empty() {
        say(&format!(
            "The baseline {folder} holds these runs already, and was left as it is.\n"
        ));
        return Ok(());
    }
    baseline.add(new)?;
    say(&format!(
        "The baseline {folder} holds {} now.\n",
        baseline.size()?
    ));
    Ok(())
}

/// A folder is no run, and no runs.
fn no_folder(side: &str, files: &[PathBuf]) -> Result<(), Failure> {
    let Some(folder) = files.iter().find(|file| file.is_dir()) else {
        return Ok(());
    };
    let name = folder.to_string_lossy();
    let shown = quoted(name.trim_end_matches('/'));
    Err(Failure::usage(format!(
        "{} is a folder; {side} takes files: {side} {shown}/*.pb.gz",
        folder.display()
    ))
    .next("rprof gate compare --base a/*.pb.gz --head b/*.pb.gz"))
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
