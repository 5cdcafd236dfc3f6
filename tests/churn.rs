//! Promise: a frame is at the place in the file that the processor was at, also while mappings are made,
//! moved, split, joined and removed around it without pause. The stack proves itself: each page of code is
//! called by a function that only calls this page of this file (see `targets/churn.c`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rprof_tests::machine;
use rprof_tests::profile::{Frame, Profile, Stack};
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{Scratch, finish};

const PAGES: usize = 64;
const FILES: [char; 2] = ['a', 'b'];
/// Lines of a function in a generated file; the [`CALL`]th of them calls on.
const LINES: usize = 4;
const CALL: usize = 3;
const SECONDS: &str = "4";
/// Two for each CPU of a small machine: whatever one does, another does something else meanwhile.
const THREADS: &str = "4";

/// What a page of code and its caller agree on.
const CHAIN: &str = "
    #define PAGES 64
    struct chain;
    typedef long page_function(struct chain *);
    struct chain {
        page_function *const (*calls)[PAGES], *at[2][PAGES], *churn;
        long spins;
        int left, ran;
    };";

/// The functions of one file, each on a page of its own.
fn pages(file: usize) -> String {
    let (letter, other) = (FILES[file], 1 - file);
    let functions = (0..PAGES).map(|page| {
        let (next, id) = ((page * 5 + 1) % PAGES, file * PAGES + page);
        format!(
            "__attribute__((aligned(4096))) long {letter}_{page}(struct chain *c) {{\n\
             for (volatile long n = c->spins; n > 0; n--) {{}}\n\
             long sum = c->left-- > 0 ? c->calls[{other}][{next}](c) : c->churn(c);\n\
             for (volatile long n = c->spins; n > 0; n--) {{}} c->ran = {id}; return sum + 1; }}\n"
        )
    });
    // The first line is line 1.
    format!("#include \"chain.h\"\n{}", functions.collect::<String>())
}

/// Their callers in the program.
fn calls() -> String {
    let mut text = String::new();
    let mut table = String::new();
    for (file, letter) in FILES.iter().enumerate() {
        table += "{";
        for page in 0..PAGES {
            let id = file * PAGES + page;
            text += &format!(
                "__attribute__((noinline)) static long from_{letter}_{page}(struct chain *c) {{\n\
                 long sum = c->at[{file}][{page}](c);\n\
                 if (c->ran != {id}) fail(\"another page ran\");\n\
                 return sum; }}\n"
            );
            table += &format!("from_{letter}_{page},");
        }
        table += "},";
    }
    format!("{text}static page_function *const calls[2][PAGES] = {{ {table} }};\n")
}

/// Builds a file of pages; its path and the file offset of page 0.
fn library(scratch: &Scratch, file: usize) -> (PathBuf, u64) {
    let letter = FILES[file];
    let source = scratch.write(&format!("{letter}.c"), &pages(file));
    // No room between addresses and offsets: then what `nm` says is an offset.
    let flags = [
        "-O2",
        "-g",
        "-shared",
        "-fPIC",
        "-fno-toplevel-reorder",
        "-fno-optimize-sibling-calls",
        "-fcf-protection=none",
        "-Wl,-z,noseparate-code",
    ];
    let library = scratch.cc_file(&source, &format!("pages-{letter}.so"), &flags);
    let segments = finish(Command::new("readelf").arg("-lW").arg(&library));
    let code = segments
        .lines()
        .find(|line| line.contains("LOAD") && line.contains(" R E "));
    let words: Vec<&str> = code
        .expect("a segment of code")
        .split_whitespace()
        .collect();
    assert_eq!(
        words[1..3],
        ["0x000000", "0x0000000000000000"],
        "{segments}"
    );
    let symbols = finish(Command::new("nm").arg(&library));
    let of = |page: usize| {
        let name = format!(" T {letter}_{page}");
        let line = symbols.lines().find(|line| line.ends_with(&name));
        let (address, _) = line
            .and_then(|line| line.split_once(' '))
            .expect("its symbol");
        u64::from_str_radix(address, 16).expect("an address")
    };
    for page in 0..PAGES {
        assert_eq!(of(page), of(0) + 4096 * page as u64, "{symbols}");
    }
    (library, of(0))
}

/// The file and page that a function's name tells, behind a prefix.
fn place(function: &str, prefix: &str) -> Option<(usize, usize)> {
    let (letter, page) = function.strip_prefix(prefix)?.split_once('_')?;
    let file = FILES.iter().position(|file| letter == file.to_string())?;
    Some((file, page.parse().ok()?))
}

/// What is wrong with a stack, if something is.
fn wrong(stack: &Stack, folder: &Path) -> Option<String> {
    let mut frames: Vec<&Frame> = stack.user().filter(|f| !f.is_truncation()).collect();
    // Where a stack is cut, its last place may be one of which nothing is known.
    if !stack.is_complete() && frames.last().is_some_and(|f| f.function == "[unknown]") {
        frames.pop();
    }
    let program = folder.join("churn").display().to_string();
    let files = FILES.map(|letter| {
        folder
            .join(format!("pages-{letter}.so"))
            .display()
            .to_string()
    });
    for (n, frame) in frames.iter().enumerate() {
        let callee = n.checked_sub(1).map(|n| frames[n]);
        let caller = frames.get(n + 1);
        let complain = |what: &str| Some(format!("{what}: {frame:?}, frame {n}"));
        if let Some(of) = files.iter().position(|file| *file == frame.module) {
            let Some((file, page)) = place(&frame.function, "") else {
                return complain("not where a function is");
            };
            if file != of {
                return complain("another file's name");
            }
            // Line 1 includes the header.
            let first = 2 + page * LINES;
            let lines = match callee {
                Some(_) => first + CALL - 1..first + CALL,
                None => first..first + LINES,
            };
            if !lines.contains(&usize::try_from(frame.line).unwrap_or(0)) {
                return complain("not its line");
            }
            if let Some(callee) = callee {
                let next = format!("from_{}_{}", FILES[1 - file], (page * 5 + 1) % PAGES);
                if callee.function != "churn" && callee.function != next {
                    return complain("does not call what it called");
                }
            }
            let called = format!("from_{}_{page}", FILES[file]);
            if caller.is_some_and(|caller| caller.function != called) {
                return complain("was not called by its caller");
            }
        } else if let Some((file, page)) = place(&frame.function, "from_") {
            let calls = format!("{}_{page}", FILES[file]);
            if callee.is_some_and(|callee| callee.function != calls || callee.module != files[file])
            {
                return complain("calls another page or file");
            }
        } else if frame.module != program
            && !["/libc.so.6", "/ld-linux-x86-64.so.2"]
                .iter()
                .any(|end| frame.module.ends_with(end))
            && frame.module != "[vdso]"
        {
            return complain("a file that is not mapped");
        }
    }
    None
}

#[test]
fn every_frame_is_at_its_place_in_its_file() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    scratch.write("chain.h", CHAIN);
    scratch.write("calls.h", &calls());
    let [a, b] = [0, 1].map(|file| library(&scratch, file));
    let include = format!("-I{}", scratch.path().display());
    let program = scratch.cc(
        "churn.c",
        "churn",
        &["-O2", "-g", "-fno-optimize-sibling-calls", &include],
    );
    // Ten times the usual time: at 999 Hz in a program without two ticks alike, the 1 % of a CPU that
    // ticks may take is not enough on any machine, and the rate would be lowered.
    let run = Rprof::new(&scratch, ["-F", "999", "--"])
        .arg(program)
        .args([SECONDS, THREADS])
        .args([a.0.display().to_string(), a.1.to_string()])
        .args([b.0.display().to_string(), b.1.to_string()])
        .env("RPROF_FAULT", "slow-machine:10")
        .run()
        .expect(0);
    let text = run.text();
    let rounds = text
        .strip_prefix("rounds ")
        .and_then(|n| n.trim().parse::<u64>().ok());
    let profile = run.profile();
    let paged = |stack: &Stack| stack.frames.iter().any(|f| f.module.contains("/pages-"));
    let through = profile.count(paged);
    println!(
        "{text}{through} of {} samples lead through pages",
        profile.samples()
    );
    check(&profile, scratch.path());
    // It did what it is there for: thousands of mappings a second, and many samples have some of them (the
    // others are in the calls that map).
    let enough = 5_000 / u64::from(machine::slower());
    assert!(rounds.is_some_and(|rounds| rounds > enough), "{text}");
    assert!(
        through * 3 > profile.samples() && through > 1_000,
        "{:?}",
        profile.ledger
    );
}

fn check(profile: &Profile, folder: &Path) {
    let mut bad = Vec::new();
    let (mut complete, mut all) = (0, 0);
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for stack in profile.named("churn") {
        all += stack.count;
        if let Some(why) = wrong(stack, folder) {
            bad.push((stack.count, format!("{why}\n{}", stack.text())));
        }
        let last = stack.frames.last().map_or("", |frame| &frame.function);
        if stack.is_complete() {
            complete += stack.count;
        } else {
            *ends.entry(last).or_default() += stack.count;
        }
    }
    println!("{complete} of {all} complete; others end in {ends:?}");
    let n: u64 = bad.iter().map(|(n, _)| n).sum();
    let shown: String = bad.iter().take(5).map(|(_, text)| text.as_str()).collect();
    assert_eq!(n, 0, "wrong samples of {all}:\n{shown}");
    // A tick may interrupt a thread in the middle of splitting the very mapping that its stack leads
    // through: until it goes on no mapping holds that pc. Measured here: 5 to 9 of 1,000. And one may interrupt
    // the program's end, when its memory is given back.
    // Where a tick takes long it may end at its time.
    let known = [
        "[truncated: no mapping]",
        "[truncated: no user registers]",
        "[truncated: time]",
    ];
    let known = &known[..if machine::slower() > 1 { 3 } else { 2 }];
    let other = ends.keys().find(|end| !known.contains(end));
    assert_eq!(other, None, "{ends:?}");
    // Linux 6.1 has more such places, and an emulated processor is in them for longer: 40 of 1,000.
    let least = if machine::slower() > 1 { 93 } else { 98 };
    assert!(
        complete * 100 >= all * least,
        "{complete} of {all} are complete; others end in {ends:?}"
    );
}
