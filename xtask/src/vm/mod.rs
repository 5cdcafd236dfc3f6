//! `cargo xtask vm`: does rprof load, work and keep its promises on other kernels than this machine's?
//!
//! What enters is a list of kernels: release series that Debian has (`6.1`, `6.12`, `7.2`, …), and
//! `nowait`, a kernel built here with the flags of `process_vm_readv` that no release has yet; and, if not all
//! tests are wanted, `--tests` and the names of their files. What
//! leaves is a table on standard output, and for each kernel its console and its report below the
//! target directory; the chore fails if a promise is broken, or one of the project's own tests fails, on any.
//! The guests are emulated, so that neither KVM nor a kernel of one's own choice is needed, and so slow
//! that figures of time mean nothing. The machine's own kernel and package lists are not touched;
//! programs it lacks are installed.
//!
//! | module | what it does |
//! |---|---|
//! | [`packages`] | what comes from Debian |
//! | [`nowait`] | builds the kernel with the flags |
//! | [`disk`] | the guest's root file system |
//! | [`suite`] | which tests run in a guest |
//! | [`guest`] | boots, waits, reads the report |
//! | [`report`] | sections, ledgers and stacks of a report |
//! | [`verdict`] | what must hold, and the table |

mod disk;
mod guest;
mod nowait;
mod packages;
mod report;
mod suite;
mod verdict;

use std::fs;
use std::path::Path;

use crate::workspace::{say, scratch};
use crate::{Outcome, Usage};
use verdict::Verdict;

/// The kernels of a run without arguments: the oldest supported, Debian's stable, the newest
/// release, and the one with the flags.
const DEFAULT: [&str; 4] = ["6.1", "6.12", "7.2", NOWAIT];
const NOWAIT: &str = "nowait";

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    let words: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut parts = words.split(|word| *word == "--tests");
    let (names, tests) = (parts.next().unwrap_or_default(), parts.next());
    let known = |name: &&str| *name == NOWAIT || packages::series(name).is_some();
    if !names.iter().all(known) || tests.is_some_and(<[_]>::is_empty) || parts.next().is_some() {
        return Err(Usage);
    }
    let names = if names.is_empty() { &DEFAULT } else { names };
    Ok(vm(names, tests.unwrap_or_default()))
}

fn vm(names: &[&str], tests: &[&str]) -> Outcome {
    let files = suite::chosen(tests)?;
    let folder = scratch().join("vm");
    make(&folder)?;
    packages::install(packages::GUESTS)?;
    packages::install(disk::PACKAGES)?;
    let tree = disk::Tree::new(&folder, &files)?;
    for what in suite::left_out().iter().filter(|_| tests.is_empty()) {
        say(&format!("not run in guests: {what}"));
    }
    let mut verdicts = Vec::new();
    for name in names {
        let own = folder.join(name);
        make(&own)?;
        // One kernel that cannot be had or does not boot says nothing about the others.
        let verdict = kernel(name, &own)
            .and_then(|kernel| {
                let disk = tree.image(&own.join("modules"), &own, *name == NOWAIT)?;
                let report = guest::boot(&kernel, &disk, &own);
                let _ = fs::remove_file(&disk);
                report
            })
            .map(|report| Verdict::of(&report, *name == NOWAIT, &files));
        match &verdict {
            Ok(verdict) => say(&format!("{name}: {verdict}")),
            Err(error) => say(&format!("{name}: {error}")),
        }
        verdicts.push((*name, verdict));
    }
    print!("{}", verdict::table(&verdicts));
    let failed = |(_, verdict): &&(&str, Result<Verdict, String>)| {
        !verdict
            .as_ref()
            .is_ok_and(|verdict| verdict.broken.is_empty())
    };
    match verdicts.iter().filter(failed).count() {
        0 => Ok(()),
        n => Err(format!(
            "{n} of {} kernels failed; reports and consoles are in {}",
            names.len(),
            folder.display()
        )),
    }
}

/// The image of a kernel: kept, since neither a download nor a build is soon done again.
fn kernel(name: &str, folder: &Path) -> Result<std::path::PathBuf, String> {
    let kept = match name {
        NOWAIT => folder.join(format!("vmlinuz-{}", nowait::content())),
        _ => folder.join("vmlinuz"),
    };
    if !kept.exists() {
        let fresh = if name == NOWAIT {
            nowait::build(folder)?
        } else {
            packages::kernel(name, folder)?
        };
        fs::rename(&fresh, &kept)
            .map_err(|error| format!("cannot move {}: {error}", fresh.display()))?;
        let _ = fs::remove_dir_all(folder.join("unpacked"));
    }
    Ok(kept)
}

fn make(folder: &Path) -> Outcome {
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}
