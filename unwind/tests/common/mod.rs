//! What the tests of rows share: real binaries, synthetic memory, and what a rule does to registers.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use rprof_ebpf::rows::{LOST, Rule, RuleKind};

/// Large binaries of this machine: libraries that `ldconfig` knows, programs in PATH, and the
/// libraries of the Rust that builds this.
pub(crate) fn binaries() -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let known = output("/sbin/ldconfig", &["-p"]).unwrap_or_default();
    let wanted = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        ["libc.so.6", "ld-linux-x86-64.so.2"].contains(&name)
            || [
                "libpython3.",
                "libcrypto.so.",
                "libstdc++.so.",
                "libperl.so.",
            ]
            .iter()
            .any(|start| name.starts_with(start))
    };
    for line in known.lines().filter(|line| line.contains("x86-64")) {
        let path = line.rsplit("=> ").next().unwrap_or_default();
        if wanted(path) {
            found.insert(path.into());
        }
    }
    for directory in std::env::var("PATH").unwrap_or_default().split(':') {
        for program in ["node", "git", "python3.11", "python3.13", "perl"] {
            found.insert(PathBuf::from(directory).join(program));
        }
    }
    if let Some(root) = output("rustc", &["--print", "sysroot"]) {
        let libraries = PathBuf::from(root.trim()).join("lib");
        for entry in libraries.read_dir().into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(".so") {
                found.insert(entry.path());
            }
        }
    }
    found.insert(std::env::current_exe().expect("the test itself"));
    let real = found.iter().filter_map(|path| path.canonicalize().ok());
    let is_elf = |path: &PathBuf| {
        use std::io::Read;
        let mut magic = [0; 4];
        let file = std::fs::File::open(path);
        file.is_ok_and(|mut f| f.read_exact(&mut magic).is_ok()) && &magic == b"\x7fELF"
    };
    let distinct: BTreeSet<_> = real.filter(is_elf).collect();
    distinct.into_iter().collect()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Deterministic numbers.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// A word of synthetic memory: another one at each address, never 0, small enough to be an address.
pub(crate) fn memory(address: u64) -> u64 {
    (mixed(address) >> 18) | 1
}

fn mixed(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Registers by DWARF number; 16 is the pc.
pub(crate) type Registers = [u64; 17];

/// The registers of a caller that rows recover; `None`: not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) sp: u64,
    pub(crate) pc: u64,
    pub(crate) rbp: Option<u64>,
    pub(crate) rbx: Option<u64>,
}

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Caller(Caller),
    End,
    /// No CFI.
    None,
    /// CFI that is not of any kind a rule can say, or memory that is not there.
    Beyond,
}

/// What a rule says, as its documentation defines it.
pub(crate) fn apply(rule: Rule, registers: &Registers, read: &dyn Fn(u64) -> Option<u64>) -> Step {
    step(rule, registers, read).unwrap_or(Step::Beyond)
}

fn step(rule: Rule, registers: &Registers, read: &dyn Fn(u64) -> Option<u64>) -> Option<Step> {
    let is = |kind: RuleKind| rule.kind == kind as u8;
    let (rsp, rip) = (registers[7], registers[16]);
    let base = registers[usize::from(rule.register)].wrapping_add_signed(rule.offset.into());
    let cfa = if is(RuleKind::None) {
        return Some(Step::None);
    } else if is(RuleKind::End) || is(RuleKind::Clone) && registers[0] == 0 {
        return Some(Step::End);
    } else if is(RuleKind::Register) || is(RuleKind::Clone) {
        base
    } else if is(RuleKind::DerefRegister) {
        read(base)?.wrapping_add_signed(rule.offset2.into())
    } else if is(RuleKind::Plt) {
        let pushed = i64::from((rip & 15) as i32 >= rule.offset);
        rsp.wrapping_add_signed(8 + 8 * pushed)
    } else if is(RuleKind::Signal) {
        return Some(Step::Caller(Caller {
            sp: read(rsp + 160)?,
            pc: read(rsp + 168)?,
            rbp: read(rsp + 120),
            rbx: read(rsp + 128),
        }));
    } else {
        return None;
    };
    let at = |slot: i16| Rule::slot(slot, cfa, registers[6]);
    let saved = |words: i16, own: u64| match words {
        0 => Some(own),
        LOST => None,
        words => read(at(words)),
    };
    Some(Step::Caller(Caller {
        sp: cfa,
        pc: read(at(rule.ra))?,
        rbp: saved(rule.rbp, registers[6]),
        rbx: saved(rule.rbx, registers[3]),
    }))
}
