//! Kernel names against the whole of `/proc/kallsyms`, and against texts in its form.

use std::collections::BTreeMap;
use std::fs;

use rprof_symbolize::ErrorKind;
use rprof_symbolize::kernel::{KernelLine, names, names_from};

/// All symbols by address: kinds and names with their modules.
fn kallsyms() -> BTreeMap<u64, Vec<(char, String)>> {
    let mut all: BTreeMap<u64, Vec<(char, String)>> = BTreeMap::new();
    for line in fs::read_to_string("/proc/kallsyms").unwrap().lines() {
        let mut fields = line.split_whitespace();
        let address = u64::from_str_radix(fields.next().unwrap(), 16).unwrap();
        let kind = fields.next().unwrap().chars().next().unwrap();
        let name = fields.next().unwrap().to_owned();
        all.entry(address).or_default().push((kind, name));
    }
    all
}

fn functions(names: &[Option<KernelLine>]) -> Vec<Option<&str>> {
    names
        .iter()
        .map(|n| n.as_ref().map(|n| &*n.function))
        .collect()
}

#[test]
fn every_seventh_function_by_first_and_last_byte() {
    let all = kallsyms();
    if all.keys().all(|&address| address == 0) {
        assert_eq!(
            names(&[1]).unwrap_err().kind(),
            ErrorKind::KernelAddressesHidden
        );
        return;
    }
    let end = all
        .iter()
        .find(|(_, s)| s.iter().any(|(_, n)| n == "_etext"));
    let end = *end.unwrap().0;
    let text: Vec<_> = all.range(..end).collect();
    let mut places = Vec::new();
    let mut expected: Vec<&Vec<(char, String)>> = Vec::new();
    for pair in text.windows(2).step_by(7) {
        let [(start, symbols), (next, _)] = pair else {
            unreachable!()
        };
        if symbols.iter().all(|(kind, _)| "tTwW".contains(*kind)) {
            places.extend([**start, **next - 1]);
            expected.extend([symbols, symbols]);
        }
    }
    assert!(places.len() > 10_000);
    // Unsorted and repeated, as samples come.
    let half = places.len() / 2;
    places.rotate_left(half);
    expected.rotate_left(half);
    let found = names(&places).unwrap();
    for ((place, symbols), found) in places.iter().zip(expected).zip(&found) {
        let found = found.as_ref().unwrap_or_else(|| panic!("{place:#x}"));
        let candidates: Vec<_> = symbols
            .iter()
            .filter(|(_, n)| *n == found.function)
            .collect();
        assert!(!candidates.is_empty(), "{place:#x}: {found:?}, {symbols:?}");
        let has_global = symbols.iter().any(|(kind, _)| kind.is_uppercase());
        let is_global = candidates.iter().any(|(kind, _)| kind.is_uppercase());
        assert!(is_global || !has_global, "{found:?}, {symbols:?}");
        assert_eq!(found.module, None);
    }
    let beyond = names(&[0, 0x1000, end, end + 64, u64::MAX]).unwrap();
    assert_eq!(functions(&beyond), [None; 5]);
}

const TEXT: &str = "\
ffffffff81000000 T _stext
ffffffff81000000 t local_alias
ffffffff81000000 T global_alias
ffffffff81000100 t static_one
ffffffff81000200 W weak_one
ffffffff81001000 T _etext
ffffffff82000000 D some_data
ffffffff83000000 T _sinittext
ffffffff83000040 t early
ffffffff83000100 T _einittext
ffffffffc0000000 t mod_first\t[mod]
ffffffffc0000100 t mod_last\t[mod]
ffffffffc0001000 d mod_data\t[mod]
ffffffffc0100000 t other_first\t[other]
ffffffffc0200000 t bpf_prog_0123456789abcdef_tick\t[bpf]
";

#[test]
fn modules_aliases_and_ends() {
    let cases = [
        (0xffffffff80ffffff, None),
        (0xffffffff81000000, Some(("global_alias", None))),
        (0xffffffff810000ff, Some(("global_alias", None))),
        (0xffffffff81000100, Some(("static_one", None))),
        (0xffffffff81000fff, Some(("weak_one", None))),
        (0xffffffff81001000, None),
        (0xffffffff82000010, None),
        (0xffffffff83000050, Some(("early", None))),
        (0xffffffff83000100, None),
        (0xffffffffc0000010, Some(("mod_first", Some("mod")))),
        (0xffffffffc0000180, Some(("mod_last", Some("mod")))),
        (0xffffffffc0001010, None),
        (0xffffffffc0100010, Some(("other_first", Some("other")))),
        (0xffffffffc0101000, None),
        (
            0xffffffffc0200010,
            Some(("bpf_prog_0123456789abcdef_tick", Some("bpf"))),
        ),
        (0xffffffffc0300000, None),
    ];
    let places: Vec<u64> = cases.iter().map(|c| c.0).collect();
    let found = names_from(TEXT.as_bytes(), &places).unwrap();
    for ((place, expected), found) in cases.iter().zip(&found) {
        let found = found.as_ref().map(|f| (&*f.function, f.module.as_deref()));
        assert_eq!(found, *expected, "{place:#x}");
    }
}

#[test]
fn hidden_addresses_are_an_error_of_their_own() {
    let hidden = "0000000000000000 T _stext\n0000000000000000 T _etext\n";
    let error = names_from(hidden.as_bytes(), &[0xffffffff81000000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KernelAddressesHidden);
    assert!(error.to_string().contains("kptr_restrict"));
}

#[test]
fn lines_that_make_no_sense_are_passed_over() {
    let garbage = format!("x\n\n12 \n{TEXT}ffffffff81000300\nzz t q\n\u{fffd}\n");
    let found = names_from(garbage.as_bytes(), &[0xffffffff81000110]).unwrap();
    assert_eq!(functions(&found), [Some("static_one")]);
    let endless = vec![b'a'; 1 << 20];
    assert!(names_from(&endless[..], &[1]).is_err());
}
