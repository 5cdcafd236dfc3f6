//! Code that C libraries write by hand without CFI, known by its bytes: what begins and ends a
//! module (`.init` and `.fini`, put together from crti.o and crtn.o), and the few instructions after
//! the system call that makes a thread. A process that lives for milliseconds is met there.

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

/// The rule of [`CLONE`] bytes of code between functions that the thread's outermost one follows.
pub(crate) fn clone(code: &[u8]) -> Option<Rule> {
    let is = matches!(code, [0x0f, 0x05, 0x48, 0x85, 0xc0, 0x7c, _, 0x74, _, 0xc3]);
    is.then_some(Rule {
        kind: RuleKind::Clone as u8,
        ..on_stack(8)
    })
}
