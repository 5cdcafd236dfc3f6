//! The pprof file: what it says is what was added, by our own reading and by `go tool pprof`.

mod profile_support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use profile_support::*;
use rprof_ebpf::record::End;
use rprof_profiler::profile::{Frame, Labels, Line, Module};

fn on_disk(file: &[u8]) -> tempfile::NamedTempFile {
    let mut disk = tempfile::Builder::new()
        .suffix(".pb.gz")
        .tempfile()
        .unwrap();
    disk.write_all(file).unwrap();
    disk
}

/// A sample's names and labels.
type Content = (Vec<String>, BTreeMap<String, String>);

fn labels_as_text(labels: &Labels) -> BTreeMap<String, String> {
    let (pid, tid) = match labels.host_pid {
        true => ("host_pid", "host_tid"),
        false => ("pid", "tid"),
    };
    let mut texts = BTreeMap::from([
        (pid.to_owned(), labels.pid.to_string()),
        (tid.to_owned(), labels.tid.to_string()),
        ("comm".to_owned(), labels.comm.to_string()),
        ("thread".to_owned(), labels.thread.to_string()),
    ]);
    if let Some(cgroup) = &labels.cgroup {
        texts.insert("cgroup".to_owned(), cgroup.to_string());
    }
    texts
}

#[test]
fn random_profiles_come_back_whole() {
    for seed in 0..20 {
        let mut chance = Chance(seed);
        let mut profile = profile(64 << 20);
        let mut model: HashMap<Content, i64> = HashMap::new();
        let stacks: Vec<_> = (0..60).map(|_| chance.stack()).collect();
        for _ in 0..400 {
            let stack = &stacks[chance.below(60) as usize];
            let labels = chance.labels();
            let count = 1 + chance.below(3);
            add(&mut profile, stack, &labels, count);
            let names = stack.iter().flat_map(expected).collect();
            *model.entry((names, labels_as_text(&labels))).or_default() += count as i64;
        }
        let decoded = decode(&encode(&profile, &ByRule, 199));
        let mut found: HashMap<Content, i64> = HashMap::new();
        for sample in &decoded.sample {
            let content = (names(&decoded, sample), label_texts(&decoded, sample));
            *found.entry(content).or_default() += sample.value[0];
        }
        assert_eq!(found, model, "seed {seed}");
        check_form(&decoded);
    }
}

/// What readers demand: Parca dense ids, speedscope ids that differ in their low 32 bits and a
/// function in each location, Go consistent references.
fn check_form(p: &pprof::protos::Profile) {
    assert_eq!(p.string_table[0], "");
    let strings: HashSet<_> = p.string_table.iter().collect();
    assert!(strings.len() + 16 >= p.string_table.len(), "interned");
    let dense = |ids: Vec<u64>| assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    dense(p.location.iter().map(|l| l.id).collect());
    dense(p.function.iter().map(|f| f.id).collect());
    dense(p.mapping.iter().map(|m| m.id).collect());
    for sample in &p.sample {
        assert_eq!(sample.value.len(), p.sample_type.len());
        assert!(!sample.location_id.is_empty());
        let keys: HashSet<_> = sample.label.iter().map(|l| l.key).collect();
        assert_eq!(keys.len(), sample.label.len());
        assert!(sample.label.iter().all(|l| (l.num == 0) != (l.str == 0)));
    }
    for location in &p.location {
        assert!(location.id as u32 as u64 == location.id && !location.line.is_empty());
        for line in &location.line {
            let function = &p.function[line.function_id as usize - 1];
            assert_ne!(text(p, function.name), "");
        }
        if location.mapping_id != 0 {
            let mapping = &p.mapping[location.mapping_id as usize - 1];
            assert!(mapping.memory_start <= location.address);
            assert!(location.address < mapping.memory_limit);
        }
    }
    let mut end = 0;
    for mapping in &p.mapping {
        assert!(end <= mapping.memory_start && mapping.memory_start < mapping.memory_limit);
        end = mapping.memory_limit;
    }
}

#[test]
fn heads_and_units() {
    let mut profile = profile(1 << 20);
    add(&mut profile, &[native(1, 1)], &labels(7, "a"), 3);
    let p = decode(&encode(&profile, &ByRule, 20));
    let types: Vec<_> = p.sample_type.iter().collect();
    let types: Vec<_> = types
        .iter()
        .map(|t| (text(&p, t.ty), text(&p, t.unit)))
        .collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(text(&p, p.default_sample_type), "cpu");
    let period = p.period_type.as_ref().unwrap();
    assert_eq!(
        (text(&p, period.ty), text(&p, period.unit)),
        ("cpu", "nanoseconds")
    );
    assert_eq!(p.period, 50_000_000);
    assert_eq!(p.time_nanos, 1_800_000_000_000_000_000);
    assert_eq!(p.duration_nanos, 10_000_000_000);
    let comments: Vec<_> = p.comment.iter().map(|&c| text(&p, c)).collect();
    assert_eq!(comments, ["rprof 0.1.0", "host h, kernel 6.18"]);
    assert_eq!((p.drop_frames, p.keep_frames), (0, 0));
    assert_eq!(p.sample[0].value, [3, 150_000_000]);
}

#[test]
fn a_sample_is_worth_one_period_and_the_sum_is_exact() {
    // 199 and 997 do not divide a second: 5,025,125.6 ns and 1,003,009.03 ns.
    for (frequency, count) in [(199, 199_000_u64), (997, 9_970), (20, 77), (3, 10)] {
        let mut profile = profile(16 << 20);
        for i in 0..count {
            add(&mut profile, &[native(1, i % 1_000)], &labels(1, "a"), 1);
        }
        let p = decode(&encode(&profile, &ByRule, frequency));
        let exact = count as f64 * 1e9 / f64::from(frequency);
        let sum: i64 = p.sample.iter().map(|s| s.value[1]).sum();
        assert!((sum as f64 - exact).abs() <= 0.5, "{sum} {exact}");
        for sample in &p.sample {
            let worth = sample.value[0] as f64 * 1e9 / f64::from(frequency);
            assert!((sample.value[1] as f64 - worth).abs() <= 1.0);
        }
    }
}

#[test]
fn mappings_say_only_what_is_true() {
    struct Some1;
    impl PlaceNames for Some1 {
        fn module(&self, id: u16) -> Module {
            let path = ["", "/bin/named", "/bin/bare", "/bin/lines", "[vdso]", ""][id as usize];
            Module {
                path: path.into(),
                build_id: format!("{id:02x}"),
                size: 100,
            }
        }
        fn native(&self, module: u16, _: u64) -> Vec<Line> {
            let name = |n: &str| Line {
                function: n.into(),
                ..Line::default()
            };
            let full = Line {
                file: "x.c".into(),
                line: 4,
                first_line: 2,
                ..name("g")
            };
            match module {
                1 | 4 => vec![name("f")],
                3 => vec![name("inlined"), full],
                _ => vec![],
            }
        }
        fn kernel(&self, address: u64) -> Option<Line> {
            (address & 1 == 1).then(|| Line {
                function: "do_idle".into(),
                ..Line::default()
            })
        }
    }
    let mut profile = profile(1 << 20);
    let kernel = [
        Frame::Kernel(0xffff_ffff_8100_0001),
        Frame::Kernel(0xffff_ffff_c100_0000),
    ];
    let user = (1..=5).map(|m| native(m, 0x1234));
    let stack: Vec<_> = kernel
        .into_iter()
        .chain(user)
        .chain([python("m", 9)])
        .collect();
    add(&mut profile, &stack, &labels(1, "a"), 1);
    let p = decode(&encode(&profile, &Some1, 20));
    check_form(&p);
    let flags = |m: &pprof::protos::Mapping| {
        [
            m.has_functions,
            m.has_filenames,
            m.has_line_numbers,
            m.has_inline_frames,
        ]
    };
    let found: Vec<_> = p
        .mapping
        .iter()
        .map(|m| (text(&p, m.filename), text(&p, m.build_id), flags(m)))
        .collect();
    assert_eq!(
        found,
        [
            ("/bin/named", "01", [true, false, false, false]),
            ("/bin/bare", "02", [false; 4]),
            ("/bin/lines", "03", [true; 4]),
            ("[vdso]", "04", [true, false, false, false]),
            ("", "05", [false; 4]),
            ("[kernel.kallsyms]", "", [true, false, false, false]),
        ]
    );
    assert_eq!(
        names(&p, &p.sample[0]),
        [
            "do_idle",
            "[unknown]",
            "f",
            "bare+0x1234",
            "inlined",
            "g",
            "f",
            "[unknown]",
            "m"
        ]
    );
    let address = p.location[p.sample[0].location_id[0] as usize - 1].address;
    assert_eq!(address, 0xffff_ffff_8100_0001);
}

#[test]
fn containers_hosts_and_empty_labels() {
    let mut profile = profile(1 << 20);
    let id = "4f0c".repeat(16);
    for (cgroup, thread, host_pid) in [
        (Some("/a.slice"), "t", false),
        (Some(id.as_str()), "", true),
        (None, "t", false),
    ] {
        let labels = Labels {
            cgroup: cgroup.map(Arc::from),
            thread: thread.into(),
            host_pid,
            ..labels(5, "sh")
        };
        add(&mut profile, &[native(1, 1)], &labels, 1);
    }
    let p = decode(&encode(&profile, &ByRule, 20));
    let found: Vec<String> = p
        .sample
        .iter()
        .map(|s| format!("{:?}", label_texts(&p, s)))
        .collect();
    assert_eq!(
        found,
        [
            r#"{"cgroup": "/a.slice", "comm": "sh", "pid": "5", "thread": "t", "tid": "6"}"#
                .to_owned(),
            format!(
                r#"{{"comm": "sh", "container_id": "{id}", "host_pid": "5", "host_tid": "6"}}"#
            ),
            r#"{"comm": "sh", "pid": "5", "thread": "t", "tid": "6"}"#.to_owned(),
        ]
    );
}

#[test]
fn deep_stacks_and_hostile_names() {
    struct Hostile;
    impl PlaceNames for Hostile {
        fn module(&self, _: u16) -> Module {
            Module {
                path: "/tmp/\u{1b}]0;x\u{7}\n.so".into(),
                size: u64::MAX,
                ..Module::default()
            }
        }
        fn native(&self, _: u16, offset: u64) -> Vec<Line> {
            let function = match offset {
                0 => String::new(),
                1 => "a\nb;c\u{1b}[31m".into(),
                2 => "x".repeat(1 << 20),
                3 => String::from_utf8_lossy(b"caf\xe9\xff").into_owned(),
                4 => "é".repeat(1 << 14),
                n => format!("f{n}"),
            };
            vec![
                Line {
                    function: function.into(),
                    ..Line::default()
                };
                if offset == 5 { 100_000 } else { 1 }
            ]
        }
        fn kernel(&self, _: u64) -> Option<Line> {
            None
        }
    }
    let mut profile = profile(4 << 20);
    let mut stack: Vec<_> = (0..1024).map(|n| native(1, n)).collect();
    stack.push(native(2, (1 << 45) - 1));
    stack.push(native(2, u64::MAX));
    stack.push(Frame::Kernel(0));
    stack.push(Frame::Truncated(End::Depth));
    let comm = String::from_utf8_lossy(b"bad\xff\nname").into_owned();
    add(&mut profile, &stack, &labels(1, &comm), 1);
    add(&mut profile, &[], &labels(1, &comm), 1);
    let file = encode(&profile, &Hostile, 20);
    let p = decode(&file);
    check_form(&p);
    assert_eq!(p.sample[0].location_id.len(), 1028);
    let found = names(&p, &p.sample[0]);
    assert_eq!(found[0], "\u{fffd}]0;x\u{fffd}\u{fffd}.so+0x0");
    assert_eq!(found[1], "a\u{fffd}b;c\u{fffd}[31m");
    assert_eq!(found[2], "x".repeat(4096));
    assert_eq!(found[3], "caf\u{fffd}\u{fffd}");
    assert_eq!(found[4], "é".repeat(2048));
    assert_eq!(found.len(), 1028 - 1 + 256);
    assert_eq!(found[found.len() - 4], format!("f{}", (1u64 << 45) - 1));
    assert_eq!(
        found[found.len() - 3..],
        ["[unknown]", "[unknown]", "[truncated: depth]"]
    );
    assert_eq!(names(&p, &p.sample[1]), ["[unknown]"]);
    assert_eq!(
        label_texts(&p, &p.sample[0])["comm"],
        "bad\u{fffd}\u{fffd}name"
    );
    for text in &p.string_table {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let disk = on_disk(&file);
    let (traces, _) = go_pprof(&["-traces", "-sample_index=samples"], disk.path());
    assert!(traces.contains("[truncated: depth]"));
}

/// Flat and cumulative values by name, of `go tool pprof -top`.
fn top(file: &std::path::Path, index: &str) -> HashMap<String, (u64, u64)> {
    let index = format!("-sample_index={index}");
    let all = [
        "-top",
        "-nodecount=100000",
        "-nodefraction=0",
        "-edgefraction=0",
    ];
    // `-unit=ns` and counts: whole numbers, nothing rounded.
    let arguments = [&all[..], &["-symbolize=none", "-unit=ns", &index]].concat();
    let (out, _) = go_pprof(&arguments, file);
    let table = out.split("flat%").nth(1).unwrap().lines().skip(1);
    let number = |text: &str| text.trim_end_matches("ns").parse().unwrap();
    table
        .map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let name = columns[5..]
                .join(" ")
                .trim_end_matches(" (inline)")
                .to_owned();
            (name, (number(columns[0]), number(columns[3])))
        })
        .collect()
}

#[test]
fn go_ranks_as_we_do() {
    let mut chance = Chance(99);
    let mut profile = profile(16 << 20);
    let mut model: HashMap<String, (u64, u64)> = HashMap::new();
    for _ in 0..300 {
        let stack = chance.stack();
        add(&mut profile, &stack, &chance.labels(), 2);
        let names: Vec<_> = stack.iter().flat_map(expected).collect();
        model.entry(names[0].clone()).or_default().0 += 2;
        for name in names.into_iter().collect::<HashSet<_>>() {
            model.entry(name).or_default().1 += 2;
        }
    }
    let disk = on_disk(&encode(&profile, &ByRule, 20));
    assert_eq!(top(disk.path(), "samples"), model);
    let nanos = model
        .iter()
        .map(|(name, v)| (name.clone(), (v.0 * 50_000_000, v.1 * 50_000_000)));
    assert_eq!(top(disk.path(), "cpu"), nanos.collect());

    let totals = profile.totals(&symbols(&profile, &ByRule)).unwrap();
    assert_eq!(totals.samples, 600);
    assert_eq!(totals.processes.iter().map(|p| p.samples).sum::<u64>(), 600);
    let mut ours: HashMap<String, (u64, u64)> = HashMap::new();
    for f in &totals.functions {
        // `[unknown]` is one row a module; Go counts by name alone.
        if f.name != "[unknown]" {
            ours.insert(f.name.clone(), (f.self_samples, f.total_samples));
        }
    }
    model.remove("[unknown]");
    assert_eq!(ours, model);
}

#[test]
fn go_reads_raw_traces_and_tags() {
    let mut profile = profile(1 << 20);
    let stack = [
        Frame::Kernel(0xffff_ffff_8100_0001),
        native(1, 65),
        native(2, 32),
        python("App.run", 12),
        Frame::Truncated(End::NoRow),
    ];
    add(&mut profile, &stack, &labels(42, "python3"), 4);
    let disk = on_disk(&encode(&profile, &ByRule, 20));
    let (traces, _) = go_pprof(&["-traces"], disk.path());
    let rows: Vec<_> = traces.lines().map(str::trim).collect();
    let at = rows
        .iter()
        .position(|r| r.starts_with("200ms"))
        .expect(&traces);
    assert_eq!(
        rows[at..at + 6],
        [
            "200ms   k1",
            "inner1_1 (inline)",
            "outer1_1",
            "lib2.so+0x20",
            "App.run",
            "[truncated: no unwind row]"
        ]
    );
    assert!(
        rows.contains(&"comm:  python3") && rows.contains(&"thread:  worker"),
        "{traces}"
    );
    assert!(
        rows.contains(&"pid:  42") && rows.contains(&"tid:  43"),
        "{traces}"
    );
    let (raw, _) = go_pprof(&["-raw"], disk.path());
    assert!(raw.contains("samples/count cpu/nanoseconds[dflt]"), "{raw}");
    assert!(raw.contains("lib1.c:65:0 s=1"), "{raw}");
    assert!(raw.contains("[kernel.kallsyms]"), "{raw}");
    assert!(
        raw.contains("/usr/lib/lib1.so 0000000000000000000000000000000000000001"),
        "{raw}"
    );
    let (tree, _) = go_pprof(&["-top", "-tagroot=comm"], disk.path());
    assert!(tree.contains("python3"), "{tree}");
}

#[test]
fn go_keeps_our_names() {
    /// Names a real file's places, falsely; module 2 it does not name.
    struct False(String);
    impl PlaceNames for False {
        fn module(&self, _: u16) -> Module {
            Module {
                path: self.0.clone(),
                build_id: String::new(),
                size: 1 << 30,
            }
        }
        fn native(&self, module: u16, offset: u64) -> Vec<Line> {
            let function = format!("named_by_us_{offset}");
            match module {
                1 => vec![Line {
                    function: function.into(),
                    ..Line::default()
                }],
                _ => vec![],
            }
        }
        fn kernel(&self, _: u64) -> Option<Line> {
            None
        }
    }
    let exe = std::env::current_exe().unwrap();
    let names = False(exe.to_str().unwrap().into());
    let mut profile = profile(1 << 20);
    for n in 0..50 {
        add(
            &mut profile,
            &[native(1, 0x10_0000 + n * 64)],
            &labels(1, "a"),
            1,
        );
    }
    let disk = on_disk(&encode(&profile, &names, 20));
    let (top, said) = go_pprof(&["-top", "-nodecount=1000"], disk.path());
    assert_eq!(top.matches("named_by_us_").count(), 50, "{top}");
    assert!(!said.contains("symboliz"), "{said}");
}
