//! Profiles that `rprof gate` is given, and `gate.toml`.

use std::path::PathBuf;

use pprof::protos::Message;
use rprof_profiler::cli::glob::Glob;
use rprof_profiler::gate::comparison::compare;
use rprof_profiler::gate::config::Config;
use rprof_profiler::gate::costs;
use rprof_profiler::gate::judging::Judging;
use rprof_profiler::gate::patterns::Pattern;
use rprof_profiler::gate::report::text::text;
use rprof_profiler::gate::runs::Runs;
use rprof_profiler::gate::statistics::design::Side::{Base, Head};
use rprof_profiler::push::pprof_file;

use crate::engine::fuzz;
use crate::mutate::Seed;
use crate::push::profile;

#[test]
fn profiles() {
    let plain = profile();
    let mut clocked = profile();
    for line in [
        "command exit: 0",
        "command cpu ns: 400000000",
        "machine steal ns: 5",
        "ledger: process 7 a: 3 resolved, 1 would fault",
    ] {
        clocked.comment.push(clocked.string_table.len() as i64);
        clocked.string_table.push(line.into());
    }
    let seeds = [plain, clocked].map(|profile| Seed::stream(profile.encode_to_vec()));
    let patterns = [Pattern {
        name: Glob::parse("ma*").expect("a pattern"),
        file: None,
        is_accepted: false,
    }];
    let known = pprof_file::read(&seeds[0].bytes).expect("a profile");
    let known = costs::of(&known, &patterns).expect("costs");
    fuzz("gate::profiles", &seeds, |bytes| {
        let Ok(profile) = pprof_file::read(bytes) else {
            return;
        };
        let Ok(costs) = costs::of(&profile, &patterns) else {
            return;
        };
        let sides = [Base, Head, Head, Base, Head, Base, Base, Head];
        let mut runs = Runs {
            sides: sides.to_vec(),
            blocks: vec![0, 0, 0, 0, 1, 1, 1, 1],
            costs: sides
                .map(|side| if side == Base { &known } else { &costs })
                .map(Clone::clone)
                .to_vec(),
            files: vec![PathBuf::new(); sides.len()],
            interleaved: true,
            ..Runs::default()
        };
        runs.set_totals();
        if let Ok(comparison) = compare(&runs, &Judging::default()) {
            assert!(comparison.judged.p > 0.0 && comparison.judged.p <= 1.0);
            assert!(!comparison.judged.change().is_nan());
            assert!(
                !text(&comparison, None).contains("NaN"),
                "{}",
                text(&comparison, None)
            );
        }
    });
}

#[test]
fn config() {
    let whole = "threshold = \"3%\"\n\n[[function]]\nname = \"parse::*\"\nfile = \"src/[a-z].rs\"\nthreshold = 0.05\n\n\
                 [[accepted]]\nname = \"render\"\nby = \"4%\"\nreason = \"why\"\nuntil = 2026-12-31\n";
    fuzz("gate::config", &[Seed::stream(whole)], |bytes| {
        if let Ok(config) = Config::read(&String::from_utf8_lossy(bytes), (2026, 7, 1)) {
            for (pattern, threshold) in config.functions {
                assert!(threshold > 0.0 && config.patterns.len() > pattern);
            }
        }
    });
}
