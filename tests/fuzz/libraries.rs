//! The files that a program maps when it starts: what its headers, the loader's cache and the first
//! line of a script lead to.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rprof_symbolize::beneath;
use rprof_symbolize::libraries::{Environment, MAX_FILES, of_path};
use rprof_tests::scratch::Scratch;

use crate::engine::fuzz;
use crate::mutate::Seed;
use crate::seeds::{program, replace};

/// A root directory with a program, a loader, and libraries where only the cache leads to.
fn root() -> Scratch {
    let scratch = Scratch::new();
    for folder in ["etc", "bin", "lib64", "odd/place", "lib"] {
        fs::create_dir_all(scratch.file(folder)).expect("a folder");
    }
    let library = &program("program").seed.bytes;
    for file in [
        "lib64/ld-linux-x86-64.so.2",
        "odd/place/libc.so.6",
        "bin/program",
    ] {
        fs::write(scratch.file(file), library).expect("a file");
    }
    let all = PermissionsExt::from_mode(0o755);
    fs::set_permissions(scratch.file("bin/program"), all).expect("our own");
    scratch
}

/// How many files the program maps.
fn files(scratch: &Scratch, environment: &Environment) -> usize {
    let root = beneath::root(scratch.path()).expect("a folder");
    let files = of_path(root, Path::new("/bin/program"), environment);
    let files = files.map_or(0, |files| files.len());
    assert!(files <= MAX_FILES);
    files
}

#[test]
fn programs() {
    let scratch = root();
    let seeds = [
        program("stripped").seed.clone(),
        program("program").seed.clone(),
        Seed::stream("#!/usr/bin/env -S NAME=value program\n"),
        Seed::stream("#! /bin/program argument\nexit\n"),
    ];
    let environment = Environment {
        path: "/bin:/lib:relative::$ORIGIN".into(),
        library_path: "/lib:$ORIGIN/../odd/${LIB}:odd/place;/x".into(),
        preload: "libc.so.6 /odd/place/libc.so.6:none".into(),
        directory: Some("/".into()),
    };
    fuzz("libraries::programs", &seeds, |bytes| {
        let file = scratch.file("bin/program");
        replace(&file, bytes);
        fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("our own");
        files(&scratch, &environment);
        files(&scratch, &Environment::default());
    });
}

#[test]
fn loader_cache() {
    let scratch = root();
    let cache = scratch.file("etc/ld.so.cache");
    let best = Cell::new(0);
    let seeds = [cache_bytes(false), cache_bytes(true)].map(Seed::stream);
    fuzz("libraries::loader_cache", &seeds, |bytes| {
        replace(&cache, bytes);
        best.set(best.get().max(files(&scratch, &Environment::default())));
    });
    assert!(best.get() >= 2, "the cache never led to the library");
}

/// A cache that knows where `libc.so.6` is, alone and for an instruction set level (layout:
/// glibc 2.36, sysdeps/generic/dl-cache.h); `old`: behind one of the older format.
fn cache_bytes(old: bool) -> Vec<u8> {
    let text = b"libc.so.6\0/odd/place/libc.so.6\0x86-64-v2\0\0\0\0";
    let entries = [[0x303, 0, 0, 0, 0, 0u32], [0x303, 0, 0, 0, 0, 1 << 30]];
    let strings = 48 + 24 * entries.len() as u32;
    let extensions = (strings + text.len() as u32).next_multiple_of(4);
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    let mut put = |words: &[u32]| bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    put(&[
        entries.len() as u32,
        text.len() as u32,
        2,
        extensions,
        0,
        0,
        0,
    ]);
    for [flags, _, _, _, low, high] in entries {
        put(&[flags, strings, strings + 10, 0, low, high]);
    }
    bytes.extend(text);
    bytes.resize(extensions as usize, 0);
    // One section: the names of instruction set levels.
    let section = [0xeaa4_2174, 1, 1, 0, extensions + 24, 4, strings + 31];
    bytes.extend(section.iter().flat_map(|word: &u32| word.to_le_bytes()));
    match old {
        false => bytes,
        true => [b"ld.so-1.7.0\0\0\0\0\0".as_slice(), &bytes].concat(),
    }
}
