//! Names: of a file of a target, of its debug file, of the kernel's list of symbols.

use std::cell::Cell;
use std::fs;

use rprof_symbolize::demangle::demangle;
use rprof_symbolize::kernel;
use rprof_symbolize::module_names::Options;
use rprof_symbolize::{BuildId, ModuleNames};
use rprof_tests::scratch::Scratch;

use crate::engine::fuzz;
use crate::mutate::Seed;
use crate::seeds::{Program, program, programs, replace};

/// Places in the text, and beside it.
fn offsets(text: &std::ops::Range<u64>) -> Vec<u64> {
    let inside = text.clone().step_by(7);
    inside.chain([0, 1, 1 << 20, u64::MAX]).collect()
}

fn ask(names: &ModuleNames, offsets: &[u64]) -> usize {
    let found = names.names(offsets);
    assert_eq!(found.lines.len(), offsets.len() + found.around.len());
    assert_eq!(found.lines.len(), found.alike.len());
    let lines = found.lines.iter().flatten();
    lines.filter(|line| !line.function.is_empty()).count()
}

#[test]
fn files() {
    let scratch = Scratch::new();
    let options = |inlines| Options {
        inlines,
        around: inlines,
        root: scratch.path().into(),
        path: Some("/lib/seed".into()),
        ..Options::default()
    };
    let named = programs().iter().filter(|program| program.name != "debug");
    let seeds: Vec<Seed> = named.clone().map(|program| program.seed.clone()).collect();
    let places = offsets(&program("c").text);
    for Program { name, seed, text } in named {
        let names = ModuleNames::of_bytes(seed.bytes.as_slice(), options(true)).expect("ELF");
        assert!(
            ask(&names, &offsets(text)) > 0 || ["stripped", "program"].contains(name),
            "{name}"
        );
    }
    fuzz("names::files", &seeds, |bytes| {
        BuildId::of_head(&bytes[..bytes.len().min(1024)]);
        for inlines in [true, false] {
            if let Ok(names) = ModuleNames::of_bytes(bytes, options(inlines)) {
                ask(&names, &places);
            }
        }
    });
}

/// The debug file that a module's build id leads to.
#[test]
fn debug_files() {
    let scratch = Scratch::new();
    let module = &program("stripped");
    let options = Options {
        around: true,
        root: scratch.path().into(),
        path: Some("/lib/seed".into()),
        ..Options::default()
    };
    let names = ModuleNames::of_bytes(module.seed.bytes.as_slice(), options).expect("ELF");
    let id = names.build_id().expect("it was asked for").to_string();
    let folder = scratch.file(&format!("usr/lib/debug/.build-id/{}", &id[..2]));
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join(format!("{}.debug", &id[2..]));
    let places = offsets(&module.text);
    let found = Cell::new(0);
    fuzz(
        "names::debug_files",
        &[program("debug").seed.clone()],
        |bytes| {
            replace(&file, bytes);
            found.set(found.get() + u64::from(ask(&names, &places) > 0));
        },
    );
    assert!(found.get() > 0, "no debug file was ever read");
}

#[test]
fn mangled() {
    let seeds = [
        "_ZNSt6vectorIiSaIiEE9push_backERKi",
        "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
        "_RNvCs15kBYyAo9fc_7mycrate7example",
        "_RNvMsr_NtCs3ssYzQotkvD_3std4pathNtB5_7PathBuf3newCs15kBYyAo9fc_7mycrate",
        "_ZN6shapes3BoxIdE2asIiEET_S3_",
        "_ZZN1fEvENKUlT_E_clIiEEDaS_",
        "_Z1fSt4pairIiiESt4pairIS_S_ESt4pairIS0_S0_E",
        "_ZNKSt3__110__function6__funcIZ4mainE3$_0NS_9allocatorIS2_EEFvvEEclEv",
        "_ZSt16forward_as_tupleIJRKSsEESt5tupleIJDpOT_EES4_",
        "_RINvNtC3std3mem8align_ofNtNtC3foo3bar3BazKj7b_E",
    ];
    fuzz("names::mangled", &seeds.map(Seed::stream), |bytes| {
        let name = String::from_utf8_lossy(bytes);
        assert!(demangle(&name).len() <= name.len().max(16 << 10));
    });
}

#[test]
fn kernel_symbols() {
    let text = "\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000040 t do_one_initcall
ffffffff81000040 W __weak_alias
ffffffff81002000 D some_data
ffffffff81e00000 T _etext
ffffffff82000000 T _sinittext
ffffffff82010000 T _einittext
ffffffffc0000000 t ext4_write_begin\t[ext4]
ffffffffc0001000 t ext4_da_write_end\t[ext4]
ffffffffc0003000 t bpf_prog_6deef7357e7b4530\t[bpf]
";
    let addresses = [
        0,
        0xffff_ffff_8100_0000,
        0xffff_ffff_8100_0044,
        0xffff_ffff_81ff_ffff,
        0xffff_ffff_c000_0004,
        0xffff_ffff_c000_3000,
        u64::MAX,
    ];
    fuzz("names::kernel_symbols", &[Seed::stream(text)], |bytes| {
        if let Ok(names) = kernel::names_from(bytes, &addresses) {
            assert_eq!(names.len(), addresses.len());
            assert!(names.iter().flatten().all(|line| !line.function.is_empty()));
        }
    });
}
