//! What the tests of profiles share: a namer that answers by rule, stacks by chance from a fixed
//! seed, and decoded files.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file includes this module, and uses a part of it"
)]

use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pprof::protos::{self, Message};
use rprof_ebpf::module::ModuleId;
use rprof_ebpf::record::End;
use rprof_profiler::profile::{
    About, Added, Each, Frame, Function, Labels, Limits, Line, Module, Names, Profile, Symbols,
};

/// Names place by place, as tests say them.
pub trait PlaceNames {
    fn module(&self, id: ModuleId) -> Module;
    fn native(&self, module: ModuleId, offset: u64) -> Vec<Line>;
    fn kernel(&self, address: u64) -> Option<Line>;
}

struct All<'a>(&'a dyn PlaceNames);

impl Names for All<'_> {
    fn modules(&mut self, wanted: &[(ModuleId, Vec<u64>)], each: &mut Each<'_>) {
        for (n, (id, offsets)) in wanted.iter().enumerate() {
            let lines = offsets.iter().map(|&offset| self.0.native(*id, offset));
            each(n, self.0.module(*id), lines.collect());
        }
    }

    fn kernel(&mut self, addresses: &[u64]) -> Vec<Option<Line>> {
        addresses.iter().map(|&a| self.0.kernel(a)).collect()
    }
}

pub fn symbols(profile: &Profile, names: &dyn PlaceNames) -> Symbols {
    profile.symbols(&mut All(names))
}

/// Names by rule: an offset divisible by 16 has none, one divisible by 5 has an inlined callee.
pub struct ByRule;

impl PlaceNames for ByRule {
    fn module(&self, id: ModuleId) -> Module {
        Module {
            path: format!("/usr/lib/lib{id}.so"),
            build_id: format!("{id:040x}"),
            size: 1 << 20,
        }
    }

    fn native(&self, module: ModuleId, offset: u64) -> Vec<Line> {
        if offset.is_multiple_of(16) {
            return Vec::new();
        }
        let line = |name: &str| Line {
            function: format!("{name}{module}_{}", offset / 64).into(),
            file: format!("lib{module}.c").into(),
            line: offset as u32,
            first_line: (offset / 64) as u32,
        };
        match offset.is_multiple_of(5) {
            true => vec![line("inner"), line("outer")],
            false => vec![line("f")],
        }
    }

    fn kernel(&self, address: u64) -> Option<Line> {
        (!address.is_multiple_of(16)).then(|| Line {
            function: format!("k{}", address & 0xfff).into(),
            ..Line::default()
        })
    }
}

/// The frame's lines as [`ByRule`] and the contract say, innermost first.
pub fn expected(frame: &Frame) -> Vec<String> {
    let unknown = || vec!["[unknown]".to_owned()];
    match frame {
        Frame::Kernel(address) => ByRule
            .kernel(*address)
            .map_or_else(unknown, |l| vec![l.function.to_string()]),
        Frame::Native { module, offset } => {
            let lines = ByRule.native(*module, *offset);
            match lines.is_empty() {
                true => vec![format!("lib{module}.so+{offset:#x}")],
                false => lines.into_iter().map(|l| l.function.to_string()).collect(),
            }
        }
        Frame::Interpreted { function, .. } => vec![function.name.clone()],
        Frame::Unknown(_) => unknown(),
        Frame::Truncated(end) => vec![format!("[truncated: {}]", end.reason())],
        Frame::WouldFault => vec!["[would fault]".to_owned()],
    }
}

pub fn profile(max_memory: usize) -> Profile {
    Profile::new(Limits {
        max_memory,
        directory: std::env::temp_dir(),
    })
}

pub fn about(frequency: u32) -> About {
    About {
        frequency: NonZeroU32::new(frequency).unwrap(),
        start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        duration: Duration::from_secs(10),
        comments: vec!["rprof 0.1.0".into(), "host h, kernel 6.18".into()],
    }
}

pub fn labels(pid: u32, comm: &str) -> Labels {
    Labels {
        pid,
        tid: pid + 1,
        host_pid: false,
        comm: comm.into(),
        thread: "worker".into(),
        cgroup: None,
    }
}

pub fn kernel() -> Frame {
    Frame::Kernel(0xffff_ffff_8100_0001)
}

pub fn native(module: u16, offset: u64) -> Frame {
    Frame::Native { module, offset }
}

pub fn python(name: &str, line: u32) -> Frame {
    Frame::Interpreted {
        function: Arc::new(Function {
            name: name.into(),
            file: "app.py".into(),
            first_line: 1,
        }),
        line,
    }
}

pub fn add(profile: &mut Profile, frames: &[Frame], labels: &Labels, count: u64) {
    assert_eq!(profile.add(frames, labels, count), Added::Counted);
}

/// The file that a profile becomes.
pub fn encode(profile: &Profile, names: &dyn PlaceNames, frequency: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let symbols = symbols(profile, names);
    rprof_profiler::profile::pprof::write(profile, &symbols, &about(frequency), &mut file).unwrap();
    file
}

/// Reads a file back.
pub fn decode(file: &[u8]) -> protos::Profile {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file)
        .read_to_end(&mut bytes)
        .unwrap();
    protos::Profile::decode(bytes.as_slice()).unwrap()
}

pub fn text(profile: &protos::Profile, id: i64) -> &str {
    &profile.string_table[usize::try_from(id).unwrap()]
}

/// Function names of a sample, leaf first, inlined ones included.
pub fn names(profile: &protos::Profile, sample: &protos::Sample) -> Vec<String> {
    let mut names = Vec::new();
    for &id in &sample.location_id {
        for line in &profile.location[id as usize - 1].line {
            let function = &profile.function[line.function_id as usize - 1];
            names.push(text(profile, function.name).to_owned());
        }
    }
    names
}

/// Labels of a sample, as text.
pub fn label_texts(profile: &protos::Profile, sample: &protos::Sample) -> BTreeMap<String, String> {
    let value = |l: &protos::Label| match l.str {
        0 => l.num.to_string(),
        id => text(profile, id).to_owned(),
    };
    let pairs = sample.label.iter();
    pairs
        .map(|l| (text(profile, l.key).to_owned(), value(l)))
        .collect()
}

/// What `go tool pprof` prints on standard output and on standard error, or how it fails.
pub fn go_pprof(arguments: &[&str], file: &Path) -> (String, String) {
    let output = Command::new("go")
        .args(["tool", "pprof"])
        .args(arguments)
        .arg(file)
        .env("PPROF_TMPDIR", std::env::temp_dir())
        .env("GOTOOLCHAIN", "local")
        .output()
        .expect("go is installed");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    (String::from_utf8(output.stdout).unwrap(), error)
}

/// A small generator with a fixed seed (splitmix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }

    pub fn frame(&mut self) -> Frame {
        match self.below(12) {
            0 => Frame::Kernel(0xffff_ffff_8100_0000 + self.below(3000)),
            1 => Frame::Unknown(self.below(u64::MAX)),
            2 => Frame::WouldFault,
            3 => Frame::Truncated(End::ALL[self.below(15) as usize]),
            4..=6 => python(&format!("C{}.run", self.below(40)), self.below(9) as u32),
            _ => native(1 + self.below(5) as u16, self.below(4000)),
        }
    }

    pub fn stack(&mut self) -> Vec<Frame> {
        let depth = match self.below(20) {
            0 => 1 + self.below(300),
            _ => 1 + self.below(40),
        };
        (0..depth).map(|_| self.frame()).collect()
    }

    pub fn labels(&mut self) -> Labels {
        let pid = 1 + self.below(4) as u32;
        Labels {
            pid,
            tid: pid + self.below(3) as u32,
            host_pid: self.below(5) == 0,
            comm: format!("program{pid}").into(),
            thread: format!("thread{}", self.below(3)).into(),
            cgroup: (self.below(2) == 0).then(|| format!("/system.slice/{pid}").into()),
        }
    }
}
