//! Code that C libraries and compilers bring along without CFI, known by its bytes: what begins and ends
//! a module (`.init` and `.fini`, put together from crti.o and crtn.o, and the functions of
//! crtbegin.o), and the few instructions after the system call that makes a thread. A process that
//! lives for milliseconds is met there.

use rprof_ebpf::rows::{Rule, RuleKind};

use super::rule::plain;

/// DWARF number of rsp (System V ABI, x86-64, figure 3.36).
const RSP: u8 = 7;

/// `.init` and `.fini` are not looked at if they are longer.
pub(crate) const MAX_EDGE: u64 = 256;

/// `syscall; test %rax,%rax; jl …; je …; ret`: glibc's clone and clone3
/// (sysdeps/unix/sysv/linux/x86_64/clone3.S, 2.36: "End FDE now, because in the child the unwind
/// info will be wrong").
pub(crate) const CLONE: u64 = 10;

/// Bytes that an entry point's code may have: ld.so's `_start` and `_dl_start_user` have about 60.
pub(crate) const MAX_ENTRY: u64 = 96;

/// How many bytes of code belong to an entry point: they begin as those of C libraries do, and end
/// in an instruction that nothing comes after. 0: this is other code.
pub(crate) fn entry(code: &[u8]) -> usize {
    // xor %ebp,%ebp (also with a prefix); mov %rsp,%rdi.
    let begins: [&[u8]; 4] = [
        &[0x31, 0xed],
        &[0x48, 0x31, 0xed],
        &[0xf3, 0x0f, 0x1e, 0xfa, 0x31, 0xed],
        &[0x48, 0x89, 0xe7],
    ];
    if !begins.iter().any(|bytes| code.starts_with(bytes)) {
        return 0;
    }
    let after = |end: &[u8]| {
        let at = code.windows(end.len()).position(|bytes| bytes == end)?;
        Some(at + end.len())
    };
    // jmp *%r12, which no other bytes look like; hlt.
    after(&[0x41, 0xff, 0xe4])
        .or_else(|| after(&[0xf4]))
        .unwrap_or(code.len())
}

/// The rule of a frame whose return address stands `offset` bytes below its CFA's end at rsp.
fn on_stack(offset: i32) -> Rule {
    Rule {
        register: RSP,
        offset,
        ra: -1,
        ..plain(RuleKind::Register)
    }
}

/// The rules of `.init` or `.fini`: from which byte on each holds; `None` if this is other code than
/// crti.o and crtn.o make.
pub(crate) fn edge(code: &[u8]) -> Option<[(usize, Rule); 3]> {
    let landing = if code.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) {
        4
    } else {
        0
    };
    // sub $8,%rsp … add $8,%rsp; ret
    let body = code.get(landing..)?;
    let mut body = body
        .strip_prefix(&[0x48, 0x83, 0xec, 0x08])?
        .strip_suffix(&[0x48, 0x83, 0xc4, 0x08, 0xc3])?;
    while let Some(&first) = body.first() {
        let len = match (first, body.get(1), body.get(2)) {
            // mov rel(%rip),%rax; mov $imm,%rax
            (0x48, Some(0x8b), Some(0x05)) | (0x48, Some(0xc7), Some(0xc0)) => 7,
            // test %rax,%rax
            (0x48, Some(0x85), Some(0xc0)) => 3,
            // je +2; call *%rax
            (0x74, Some(0x02), _) | (0xff, Some(0xd0), _) => 2,
            // call rel; nop
            (0xe8, ..) => 5,
            (0x90, ..) => 1,
            _ => return None,
        };
        body = body.get(len..)?;
    }
    Some([
        (0, on_stack(8)),
        (landing + 4, on_stack(16)),
        (code.len() - 1, on_stack(8)),
    ])
}

/// Bytes that may differ stand as `*` for four of them.
type Pattern = &'static str;

/// crtbegin.o of Debian's GCC 12 (libgcc/crtstuff.c): its functions, and from which byte on each rule of
/// theirs holds. They take nothing on the stack, but for one that saves rbp.
const CRT: [(Pattern, &[(usize, bool)]); 4] = [
    // deregister_tm_clones
    (
        "488d3d* 488d05* 4839f8 7415 488b05* 4885c0 7409 ffe0 0f1f8000000000 c3",
        &[(0, false)],
    ),
    // register_tm_clones
    (
        "488d3d* 488d35* 4829fe 4889f0 48c1ee3f 48c1f803 4801c6 48d1fe 7414 488b05* 4885c0 7408 ffe0 \
         660f1f440000 c3",
        &[(0, false)],
    ),
    // __do_global_dtors_aux: push %rbp … pop %rbp; ret
    (
        "f30f1efa 803d*00 752b 55 48833d*00 4889e5 740c 488b3d* e8* e8* c605*01 5d c3 0f1f00 c3",
        &[(0, false), (14, true), (52, false)],
    ),
    // frame_dummy: jmp register_tm_clones
    ("f30f1efa e9*", &[(0, false)]),
];

/// Where they may begin: multiples of so many bytes.
const CRT_ALIGNMENT: usize = 16;
/// Code without CFI of at least, and at most, so many bytes may hold them.
pub(crate) const CRT_BYTES: std::ops::RangeInclusive<u64> = 64..=1024;

/// The length of code that begins as a pattern says.
fn matches(pattern: Pattern, code: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut digits = pattern.bytes().filter(|b| !b.is_ascii_whitespace());
    while let Some(first) = digits.next() {
        if first == b'*' {
            at += 4;
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = digit(first)? << 4 | digits.next().and_then(digit)?;
        if u32::from(*code.get(at)?) != byte {
            return None;
        }
        at += 1;
    }
    (at <= code.len()).then_some(at)
}

/// The functions of crtbegin.o in code without CFI that stands at a multiple of [`CRT_ALIGNMENT`]: where each
/// rule begins, and how many bytes it covers.
pub(crate) fn crt(code: &[u8]) -> Vec<(usize, usize, Rule)> {
    let mut found = Vec::new();
    for (start, rest) in (0..code.len())
        .step_by(CRT_ALIGNMENT)
        .filter_map(|start| Some((start, code.get(start..)?)))
    {
        let function = CRT
            .iter()
            .find_map(|(pattern, rules)| Some((matches(pattern, rest)?, rules)));
        let Some((len, rules)) = function else {
            continue;
        };
        for (n, &(from, saves_rbp)) in rules.iter().enumerate() {
            let to = rules.get(n + 1).map_or(len, |(next, _)| *next);
            let rule = match saves_rbp {
                true => Rule {
                    rbp: -2,
                    ..on_stack(16)
                },
                false => on_stack(8),
            };
            found.push((start + from, to - from, rule));
        }
    }
    // A jump alone may be anything's.
    match found.len() {
        0..3 => Vec::new(),
        _ => found,
    }
}

/// The rule of [`CLONE`] bytes of code between functions that the thread's outermost one follows.
pub(crate) fn clone(code: &[u8]) -> Option<Rule> {
    let is = matches!(code, [0x0f, 0x05, 0x48, 0x85, 0xc0, 0x7c, _, 0x74, _, 0xc3]);
    is.then_some(Rule {
        kind: RuleKind::Clone as u8,
        ..on_stack(8)
    })
}
