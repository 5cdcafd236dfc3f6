//! Real stacks of a program that knows its own call chain, walked from registers and a copy of the
//! stack: by the user-space unwinder alone, and by rows with the unwinder where rows end, as a
//! sample is.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::{Registers as All, Step, apply};
use rprof_ebpf::module::ModuleKey;
use rprof_ebpf::record::{End, Mapping, Registers};
use rprof_ebpf::rows::RuleKind;
use rprof_unwind::Table;
use rprof_unwind::slice::{Cache, Frame, FrameInfo, Stack, Unwinder};

/// What the program wrote.
#[derive(Default)]
struct Dump {
    registers: Registers,
    /// Return addresses, leaf first.
    chain: Vec<u64>,
    mappings: Vec<Mapping>,
    paths: Vec<String>,
    stacks: Vec<(u64, Vec<u8>)>,
}

fn hex(word: &str) -> u64 {
    u64::from_str_radix(word, 16).expect("hex")
}

impl Dump {
    fn parse(mut output: &[u8]) -> Self {
        let mut dump = Self::default();
        while let Some(end) = output.iter().position(|&b| b == b'\n') {
            let line = String::from_utf8_lossy(&output[..end]).into_owned();
            output = &output[end + 1..];
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[0] {
                "registers" => dump.registers(&words[1..]),
                "link" => dump.chain.push(hex(words[1])),
                "map" => dump.mapping(&words[1..]),
                "stack" => {
                    let length = hex(words[2]) as usize;
                    dump.stacks.push((hex(words[1]), output[..length].to_vec()));
                    output = &output[length..];
                }
                other => panic!("{other}"),
            }
        }
        // A handler on the interrupted stack: that stack was dumped twice, once in part.
        dump.stacks.sort();
        let end = |(start, bytes): &(u64, Vec<u8>)| start + bytes.len() as u64;
        dump.stacks.dedup_by(|b, a| end(a) == end(b));
        dump
    }

    fn registers(&mut self, words: &[&str]) {
        let values: Vec<u64> = words.iter().map(|word| hex(word)).collect();
        let &[pc, sp, bp, bx, r12, r13, r14, r15] = values.as_slice() else {
            panic!("{words:?}");
        };
        self.registers = Registers {
            pc,
            sp,
            bp,
            bx,
            r8: [0, 0, 0, 0, r12, r13, r14, r15],
            leaf: 1,
            ..Registers::default()
        };
    }

    fn mapping(&mut self, words: &[&str]) {
        let path = words.get(5).copied().unwrap_or_default();
        if !words[1].contains('x') || path == "[vsyscall]" {
            return;
        }
        let (start, end) = words[0].split_once('-').expect("a range");
        let vdso = path == "[vdso]";
        self.mappings.push(Mapping {
            start: hex(start),
            end: hex(end),
            offset: hex(words[2]),
            key: ModuleKey {
                ino: words[4].parse().expect("an inode"),
                ..ModuleKey::default()
            },
            vdso: vdso.into(),
        });
        self.paths.push(path.to_owned());
    }

    fn pieces(&self) -> Vec<(u64, &[u8])> {
        // In pieces of a page, as the eBPF program sends them.
        let pages = self.stacks.iter().flat_map(|(start, bytes)| {
            let starts = (*start..).step_by(4096);
            starts.zip(bytes.chunks(4096))
        });
        pages.collect()
    }

    fn address(&self, frame: &Frame) -> u64 {
        let mapping = &self.mappings[frame.mapping];
        frame.offset - mapping.offset + mapping.start
    }
}

/// A walk: addresses of callers, leaf first, which of them are exact, and the end.
struct Walked {
    addresses: Vec<u64>,
    exact: Vec<u64>,
    end: End,
    /// How often rows could not go on.
    handed_over: usize,
}

/// The unwinder alone.
fn walk(
    dump: &Dump,
    registers: &Registers,
    stack: &[(u64, &[u8])],
    unwinder: &mut Unwinder,
) -> Walked {
    let load = |mapping: &Mapping| {
        let at = dump
            .mappings
            .iter()
            .position(|m| m == mapping)
            .expect("one of ours");
        let data = std::fs::read(&dump.paths[at]).ok()?;
        Some(Arc::new(FrameInfo::from_elf(data.as_slice()).expect("CFI")))
    };
    let walk = unwinder.walk(registers, &dump.mappings, Stack(stack), 1024, load);
    let exact = walk.frames.iter().filter(|frame| frame.exact);
    Walked {
        addresses: walk
            .frames
            .iter()
            .map(|frame| dump.address(frame))
            .collect(),
        exact: exact.map(|frame| dump.address(frame)).collect(),
        end: walk.end,
        handed_over: 0,
    }
}

/// Rows as the eBPF program follows them, the unwinder where it cannot.
fn walk_by_rows(dump: &Dump, unwinder: &mut Unwinder) -> Walked {
    let pieces = dump.pieces();
    let memory = |address| Stack(&pieces).word(address);
    let mut tables = HashMap::new();
    let from = &dump.registers;
    let mut registers: All = [0; 17];
    (registers[16], registers[7], registers[6], registers[3]) =
        (from.pc, from.sp, from.bp, from.bx);
    let mut exact = true;
    let mut addresses = Vec::new();
    let mut exacts = Vec::new();
    loop {
        let pc = registers[16];
        let place = pc - u64::from(!exact);
        let at = dump
            .mappings
            .iter()
            .position(|m| (m.start..m.end).contains(&place));
        let at = at.unwrap_or_else(|| panic!("{pc:#x} in no mapping"));
        let table = tables.entry(dump.paths[at].clone()).or_insert_with(|| {
            let data = std::fs::read(&dump.paths[at]).expect("a file");
            Table::from_elf(data.as_slice(), 1 << 24).expect("rows")
        });
        let mapping = &dump.mappings[at];
        let rule = table.lookup(place - mapping.start + mapping.offset);
        match apply(rule, &registers, &memory) {
            Step::Caller(caller) => {
                let reachable = [3, 6, 7].contains(&rule.register) || rule.kind != 1;
                assert!(
                    reachable,
                    "{rule:?} at {pc:#x} needs a register that is not followed"
                );
                (registers[16], registers[7]) = (caller.pc, caller.sp);
                registers[6] = caller.rbp.expect("rbp is needed and lost");
                registers[3] = caller.rbx.expect("rbx is needed and lost");
                exact = rule.kind == RuleKind::Signal as u8;
                addresses.push(caller.pc);
                exacts.extend(exact.then_some(caller.pc));
            }
            Step::End => {
                return Walked {
                    addresses,
                    exact: exacts,
                    end: End::Complete,
                    handed_over: 0,
                };
            }
            Step::None => {
                return Walked {
                    addresses,
                    exact: exacts,
                    end: End::NoRow,
                    handed_over: 0,
                };
            }
            Step::Beyond => {
                let on = Registers {
                    pc,
                    sp: registers[7],
                    bp: registers[6],
                    bx: registers[3],
                    leaf: exact.into(),
                    ..Registers::default()
                };
                let mut rest = walk(dump, &on, &pieces, unwinder);
                addresses.append(&mut rest.addresses);
                exacts.append(&mut rest.exact);
                return Walked {
                    addresses,
                    exact: exacts,
                    end: rest.end,
                    handed_over: 1,
                };
            }
        }
    }
}

/// A program built from `programs/stack.c`.
fn build(name: &str, flags: &[&str]) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/stack.c");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    let compile = |arguments: &[&str]| {
        let status = Command::new("cc").args(arguments).args(flags).status();
        assert!(status.expect("cc").success(), "cc {arguments:?} {flags:?}");
    };
    let library = directory.join("libstack.so");
    let program = directory.join("stack");
    let at = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    compile(&[source, "-DLIBRARY", "-shared", "-fPIC", "-o", &at(&library)]);
    let found = format!("-Wl,-rpath,{}", directory.display());
    let (program_at, library_at) = (at(&program), at(&library));
    let linked = ["-Wl,-z,lazy", "-Wl,--export-dynamic", "-pthread"];
    let files = [source, &library_at, &found, "-o", &program_at];
    compile(&[linked.as_slice(), files.as_slice()].concat());
    program
}

fn run(program: &Path, depth: &str, mode: &str) -> Dump {
    let output = Command::new(program)
        .args([depth, mode])
        .env_remove("LD_BIND_NOW")
        .output()
        .expect("the program");
    assert!(output.status.success(), "{mode}: {:?}", output.status);
    Dump::parse(&output.stdout)
}

/// The walk found the program's own chain, and came to the outermost frame of a thread.
fn assert_chain(walked: &Walked, dump: &Dump, what: &str) {
    let found = &walked.addresses;
    if what.contains("lazy") {
        // Between the resolver and the function that binds stands the dynamic linker.
        let mut rest = found.iter();
        for link in &dump.chain {
            assert!(
                rest.any(|address| address == link),
                "{what}: {link:#x} not in {found:#x?}"
            );
        }
    } else {
        assert!(
            found.len() >= dump.chain.len(),
            "{what}: only {} frames",
            found.len()
        );
        assert_eq!(found[..dump.chain.len()], dump.chain[..], "{what}");
        // __libc_start_main and _start, or the thread's start.
        assert!(found.len() <= dump.chain.len() + 3, "{what}: {found:#x?}");
    }
    assert_eq!(walked.end, End::Complete, "{what}");
    let interrupted = usize::from(what.contains("signal") || what.contains("altstack"));
    assert_eq!(walked.exact.len(), interrupted, "{what}");
}

fn check(name: &str, flags: &[&str], modes: &[&str]) {
    let program = build(name, flags);
    let mut unwinder = Unwinder::new(Cache::new(64 << 20));
    let mut handed_over = 0;
    for mode in modes {
        let what = format!("{name} {mode}");
        let dump = run(&program, "40", mode);
        assert!(dump.chain.len() > 10, "{what}");
        let pieces = dump.pieces();
        assert_chain(
            &walk(&dump, &dump.registers, &pieces, &mut unwinder),
            &dump,
            &what,
        );
        let by_rows = walk_by_rows(&dump, &mut unwinder);
        handed_over += by_rows.handed_over;
        assert_chain(&by_rows, &dump, &format!("{what} by rows"));
    }
    println!(
        "{name}: {handed_over} of {} walks by rows were handed over",
        modes.len()
    );
}

const ALL: [&str; 5] = ["plain", "signal", "altstack", "thread", "lazy"];

#[test]
fn without_frame_pointers() {
    check("optimized", &["-O2", "-fomit-frame-pointer"], &ALL);
}

#[test]
fn with_frame_pointers() {
    check("framed", &["-O0", "-fno-omit-frame-pointer"], &ALL);
}

#[test]
fn by_debug_frame_only() {
    let flags = [
        "-O2",
        "-g",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
    ];
    check("debug-frame", &flags, &["plain", "signal"]);
    let compressed = [flags.as_slice(), &["-gz=zlib"]].concat();
    check("debug-frame-zlib", &compressed, &["plain"]);
}

#[test]
fn without_a_search_table() {
    check(
        "no-header",
        &["-O2", "-Wl,--no-eh-frame-hdr"],
        &["plain", "signal"],
    );
}

#[test]
fn a_stack_that_is_cut_is_not_complete() {
    let program = build("cut", &["-O2"]);
    let dump = run(&program, "200", "plain");
    let mut unwinder = Unwinder::new(Cache::new(64 << 20));
    let pieces = dump.pieces();
    let mut lengths = Vec::new();
    for keep in 1..pieces.len() {
        let walked = walk(&dump, &dump.registers, &pieces[..keep], &mut unwinder);
        if walked.end == End::Complete {
            break;
        }
        assert_eq!(walked.end, End::Slice, "{keep} pages");
        assert_eq!(walked.addresses[..], dump.chain[..walked.addresses.len()]);
        lengths.push(walked.addresses.len());
    }
    assert!(lengths.len() > 2 && lengths.is_sorted(), "{lengths:?}");

    // What is missing is told apart.
    let few = |mappings: &[Mapping], max| {
        let data = std::fs::read(&program).expect("the program");
        let info = Arc::new(FrameInfo::from_elf(data.as_slice()).expect("CFI"));
        let load = |mapping: &Mapping| (mapping.offset < 1 << 20).then(|| info.clone());
        let mut unwinder = Unwinder::new(Cache::new(0));
        let walk = unwinder.walk(&dump.registers, mappings, Stack(&pieces), max, load);
        (walk.frames.len(), walk.end)
    };
    let own = dump.mappings.iter().zip(&dump.paths);
    let own: Vec<Mapping> = own
        .filter(|(_, path)| Path::new(path) == program)
        .map(|(mapping, _)| *mapping)
        .collect();
    assert_eq!(few(&own, 1024).1, End::NoMapping);
    assert_eq!(few(&own, 7), (7, End::Depth));
    assert_eq!(few(&[], 7), (0, End::NoMapping));
    let anonymous = Mapping {
        key: ModuleKey::default(),
        ..own[0]
    };
    assert_eq!(few(&[anonymous], 7), (0, End::NoRow));
}

#[test]
fn modules_are_kept_within_bounds() {
    let program = build("cache", &["-O2"]);
    let dump = run(&program, "20", "plain");
    let pieces = dump.pieces();
    let loads = |max_bytes| {
        let mut unwinder = Unwinder::new(Cache::new(max_bytes));
        let mut loads = 0;
        for _ in 0..3 {
            let load = |mapping: &Mapping| {
                loads += 1;
                let at = dump.mappings.iter().position(|m| m == mapping)?;
                let data = std::fs::read(&dump.paths[at]).ok()?;
                FrameInfo::from_elf(data.as_slice()).ok().map(Arc::new)
            };
            let walk = unwinder.walk(&dump.registers, &dump.mappings, Stack(&pieces), 1024, load);
            assert_eq!(walk.end, End::Complete);
        }
        (loads, unwinder.cache().bytes())
    };
    // The program and libc; then room for neither, so that each of three walks reads the program,
    // libc, and the program again for its outermost frame.
    let (once, bytes) = loads(64 << 20);
    assert_eq!(once, 2);
    assert!(bytes > 10_000);
    let (again, last) = loads(0);
    assert_eq!(again, 7, "the last module used is kept from walk to walk");
    assert!(last < bytes);
}
