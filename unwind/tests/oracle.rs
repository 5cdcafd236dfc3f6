//! Rows against two oracles at real pcs of real binaries: framehop's step, where framehop can say
//! it, and a plain reading of the CFI through `.eh_frame_hdr` with gimli, everywhere.

mod common;

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use common::{Caller, Random, Registers, Step, apply, binaries, memory};
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, FrameAddress, Module, UnwindRegsNative, Unwinder,
    UnwinderNative,
};
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, Evaluation, EvaluationResult,
    LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection,
    Value, X86_64,
};
use object::read::elf::ElfFile64;
use object::read::{Object, ObjectSection, ReadCache};
use rprof_ebpf::rows::{Rule, RuleKind};
use rprof_unwind::Table;

/// Row boundaries looked at in one binary; each with the bytes before and after it.
const BOUNDARIES: usize = 4000;
/// Further pcs, anywhere in the text.
const ANYWHERE: u64 = 3000;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The sections that both oracles need.
struct Sections {
    bases: BaseAddresses,
    eh_frame: Vec<u8>,
    eh_frame_hdr: Vec<u8>,
    explicit: ExplicitModuleSectionInfo<Vec<u8>>,
}

impl Sections {
    fn read(path: &Path) -> Option<Self> {
        let cache = ReadCache::new(File::open(path).ok()?);
        let file = ElfFile64::<LittleEndianElf, _>::parse(&cache).ok()?;
        let section = |name| file.section_by_name(name);
        let data = |name| Some(section(name)?.data().ok()?.to_vec());
        let range = |name| section(name).map(|s| s.address()..s.address() + s.size());
        let start = |name| range(name).map_or(0, |r| r.start);
        let (eh_frame, eh_frame_hdr) = (data(".eh_frame")?, data(".eh_frame_hdr")?);
        Some(Self {
            bases: BaseAddresses::default()
                .set_eh_frame(start(".eh_frame"))
                .set_eh_frame_hdr(start(".eh_frame_hdr"))
                .set_text(start(".text"))
                .set_got(start(".got")),
            explicit: ExplicitModuleSectionInfo {
                text_svma: range(".text"),
                got_svma: range(".got"),
                eh_frame_svma: range(".eh_frame"),
                eh_frame: Some(eh_frame.clone()),
                eh_frame_hdr_svma: range(".eh_frame_hdr"),
                eh_frame_hdr: Some(eh_frame_hdr.clone()),
                ..Default::default()
            },
            eh_frame,
            eh_frame_hdr,
        })
    }
}

type LittleEndianElf = object::LittleEndian;

/// What gimli reads at an address: the step, or `Beyond` where the CFI computes something that the
/// oracle does not.
struct Cfi<'a> {
    sections: &'a Sections,
    hdr: gimli::ParsedEhFrameHdr<Bytes<'a>>,
    eh_frame: EhFrame<Bytes<'a>>,
    context: UnwindContext<usize>,
}

impl<'a> Cfi<'a> {
    fn new(sections: &'a Sections) -> Self {
        let hdr = EhFrameHdr::new(&sections.eh_frame_hdr, LittleEndian);
        Self {
            hdr: hdr.parse(&sections.bases, 8).expect("header"),
            eh_frame: EhFrame::new(&sections.eh_frame, LittleEndian),
            context: UnwindContext::new(),
            sections,
        }
    }

    fn step(&mut self, registers: &Registers) -> Step {
        let bases = &self.sections.bases;
        let table = self.hdr.table().expect("search table");
        let fde = table.fde_for_address(&self.eh_frame, bases, registers[16], |s, b, o| {
            s.cie_from_offset(b, o)
        });
        let Ok(fde) = fde else { return Step::None };
        let encoding = fde.cie().encoding();
        let row = fde
            .unwind_info_for_address(&self.eh_frame, bases, &mut self.context, registers[16])
            .expect("a row in each function");
        let evaluate = |expression: &UnwindExpression<usize>, initial: Option<u64>| {
            let bytes = expression.get(&self.eh_frame).expect("in the section");
            let mut evaluation: Evaluation<Bytes<'_>> = bytes.evaluation(encoding);
            if let Some(initial) = initial {
                evaluation.set_initial_value(initial);
            }
            let mut state = evaluation.evaluate().expect("valid");
            loop {
                state = match state {
                    EvaluationResult::Complete => break,
                    EvaluationResult::RequiresRegister { register, .. } => evaluation
                        .resume_with_register(Value::Generic(registers[register.0 as usize])),
                    EvaluationResult::RequiresMemory { address, .. } => {
                        evaluation.resume_with_memory(Value::Generic(memory(address)))
                    }
                    other => panic!("{other:?} in CFI"),
                }
                .expect("valid");
            }
            match evaluation.as_result() {
                [piece] => match piece.location {
                    Location::Address { address } => address,
                    ref other => panic!("{other:?} in CFI"),
                },
                other => panic!("{other:?} in CFI"),
            }
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                registers[register.0 as usize].wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => evaluate(expression, None),
        };
        let value = |register: Register| match row.register(register) {
            None | Some(RegisterRule::SameValue) => Some(registers[register.0 as usize]),
            Some(RegisterRule::Undefined) => None,
            Some(RegisterRule::Offset(o)) => Some(memory(cfa.wrapping_add_signed(o))),
            Some(RegisterRule::ValOffset(o)) => Some(cfa.wrapping_add_signed(o)),
            Some(RegisterRule::Register(other)) => Some(registers[other.0 as usize]),
            Some(RegisterRule::Expression(e)) => Some(memory(evaluate(&e, Some(cfa)))),
            Some(RegisterRule::ValExpression(e)) => Some(evaluate(&e, Some(cfa))),
            Some(other) => panic!("{other:?} in CFI"),
        };
        match row.register(X86_64::RA) {
            Some(RegisterRule::Undefined) => return Step::End,
            None => return Step::Beyond,
            _ => {}
        }
        Step::Caller(Caller {
            sp: row
                .register(X86_64::RSP)
                .map_or(Some(cfa), |_| value(X86_64::RSP))
                .expect("sp"),
            pc: value(X86_64::RA).expect("return address"),
            rbp: value(X86_64::RBP),
            rbx: value(X86_64::RBX),
        })
    }
}

/// Registers that make all places of a step differ, in an order that a real stack has.
fn registers(pc: u64, random: &mut Random) -> Registers {
    let mut registers: Registers =
        std::array::from_fn(|_| 0x7f00_0000_0000 + (random.below(1 << 30) & !7));
    registers[7] = 0x7ffc_0000_0000 + (random.below(1 << 20) & !15);
    registers[6] = registers[7] + 0x20_0000;
    registers[16] = pc;
    registers
}

#[derive(Debug, Default)]
#[expect(dead_code, reason = "all of it is printed")]
struct Counts {
    pcs: u64,
    framehop: u64,
    unsupported: u64,
    none: u64,
    signal: u64,
    deref: u64,
    end: u64,
    unlisted: u64,
    rows: usize,
    unsupported_rows: usize,
}

fn check(path: &Path) -> Option<Counts> {
    let sections = Sections::read(path)?;
    let cache = ReadCache::new(File::open(path).ok()?);
    let table = Table::from_elf(&cache, 1 << 24)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut cfi = Cfi::new(&sections);
    let mut framehop = UnwinderNative::<Vec<u8>, framehop::MayAllocateDuringUnwind>::new();
    let explicit = sections.explicit.clone();
    framehop.add_module(Module::new(String::new(), 0..u64::MAX / 2, 0, explicit));
    let mut rules = CacheNative::<_>::new();

    let segments = table.segments();
    let mut random = Random(7);
    let mut offsets = Vec::new();
    let rows = table.iter().len();
    let stride = rows.div_ceil(BOUNDARIES).max(1);
    let skip = random.below(stride as u64) as usize;
    for (at, (offset, rule)) in table.iter().enumerate() {
        let rare = rule.kind != RuleKind::Register as u8 && rule.kind != RuleKind::None as u8;
        if at % stride == skip || rare {
            offsets.extend([offset.wrapping_sub(1), offset, offset + 1]);
        }
    }
    for segment in segments.iter() {
        let share = ANYWHERE.min(segment.size);
        offsets.extend((0..share).map(|_| segment.offset + random.below(segment.size)));
    }

    let elf = ElfFile64::<LittleEndianElf, _>::parse(&cache).ok()?;
    let first = elf.entry();
    let edges: Vec<_> = [".init", ".fini"]
        .into_iter()
        .filter_map(|name| elf.section_by_name(name))
        .map(|section| section.address()..section.address() + section.size())
        .collect();
    // crtbegin.o: two functions of 48 and 64 bytes, then the one that is looked for, then a jump.
    let bytes = std::fs::read(path).ok()?;
    let aux = |code: &[u8]| {
        code.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa, 0x80, 0x3d])
            && code.get(10..17) == Some(&[0, 0x75, 0x2b, 0x55, 0x48, 0x83, 0x3d])
    };
    let aux = (0..bytes.len()).step_by(16).find(|&at| aux(&bytes[at..]));
    let crt = aux.map(|at| at as u64).map(|at| at - 112..at + 73);
    let entry = first..first + 96;
    let unsupported = |rule: &Rule| rule.kind == RuleKind::Unsupported as u8;
    let mut counts = Counts {
        rows,
        unsupported_rows: table.iter().filter(|(_, rule)| unsupported(rule)).count(),
        ..Counts::default()
    };
    for offset in offsets {
        let Some(pc) = segments.address_of(offset) else {
            continue;
        };
        let place = || format!("{} at {pc:#x} (offset {offset:#x})", path.display());
        let registers = registers(pc, &mut random);
        let rule = table.lookup(offset);
        let own = apply(rule, &registers, &|address| Some(memory(address)));
        let expected = cfi.step(&registers);
        counts.pcs += 1;
        if unsupported(&rule) {
            assert!(
                matches!(expected, Step::Caller(_) | Step::Beyond),
                "{}: {rule:?}, but the CFI says {expected:?}",
                place()
            );
            counts.unsupported += 1;
            continue;
        }
        // What no CFI covers at the entry point has no caller all the same (ld.so). Other code that is
        // known without CFI is the business of the test `unlisted`.
        let at_entry = own == Step::End && expected == Step::None && entry.contains(&pc);
        let unlisted = expected == Step::None
            && (rule.kind == RuleKind::Clone as u8
                || edges.iter().any(|edge| edge.contains(&pc))
                || crt.as_ref().is_some_and(|crt| crt.contains(&offset)));
        if unlisted {
            counts.unlisted += 1;
            continue;
        }
        assert!(
            own == expected || at_entry,
            "{}: {rule:?} gives {own:?}, the CFI {expected:?}",
            place()
        );
        counts.none += u64::from(own == Step::None);
        counts.end += u64::from(own == Step::End);
        counts.signal += u64::from(rule.kind == RuleKind::Signal as u8);
        counts.deref += u64::from(rule.kind == RuleKind::DerefRegister as u8);

        // framehop knows three registers, reads no memory in expressions, and goes on by frame
        // pointer where it cannot say.
        let known = rule.kind == RuleKind::End as u8
            || rule.kind == RuleKind::Plt as u8
            || rule.kind == RuleKind::Register as u8 && [6, 7].contains(&rule.register);
        if !known || at_entry {
            continue;
        }
        let mut found = UnwindRegsNative::new(pc, registers[7], registers[6]);
        let step = framehop.unwind_frame(
            FrameAddress::InstructionPointer(pc),
            &mut found,
            &mut rules,
            &mut |address| Ok(memory(address)),
        );
        let step = step.unwrap_or_else(|error| panic!("{}: framehop: {error}", place()));
        match (own, step) {
            (Step::End, None) => {}
            (Step::Caller(caller), Some(pc)) => {
                assert_eq!(
                    (caller.pc, caller.sp),
                    (pc, found.sp()),
                    "{}: {rule:?}",
                    place()
                );
                // Where rbp is lost, framehop keeps it.
                assert!(
                    caller.rbp.is_none_or(|rbp| rbp == found.bp()),
                    "{}: {rule:?}",
                    place()
                );
            }
            (own, step) => panic!("{}: {rule:?}: {own:?}, framehop: {step:?}", place()),
        }
        counts.framehop += 1;
    }
    Some(counts)
}

/// The binaries of `ldconfig` and PATH are what processes of this machine run.
#[test]
fn rows_agree_with_framehop_and_gimli() {
    let queue = Mutex::new(binaries());
    let all = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some(path) = queue.lock().expect("queue").pop() else {
                return;
            };
            if let Some(counts) = check(&path) {
                println!("{}: {counts:?}", path.display());
                let size = path.metadata().map_or(0, |m| m.len());
                all.lock().expect("counts").push((size, counts));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let all = all.into_inner().expect("counts");
    let sum = |of: fn(&Counts) -> u64| all.iter().map(|(_, counts)| of(counts)).sum::<u64>();
    println!(
        "{} binaries, {} pcs, {} of them also against framehop, {} not supported",
        all.len(),
        sum(|c| c.pcs),
        sum(|c| c.framehop),
        sum(|c| c.unsupported),
    );
    let large = all.iter().filter(|(size, _)| *size > 1 << 20).count();
    assert!(large >= 4, "only {large} binaries larger than 1 MiB");
    assert!(sum(|c| c.framehop) > 20_000);
    for (kind, seen) in [
        ("signal", sum(|c| c.signal)),
        ("outermost", sum(|c| c.end)),
        ("no CFI", sum(|c| c.none)),
    ] {
        assert!(seen > 0, "no {kind} row met");
    }
}
