//! The walk: one step of one loop, native or a runtime's, so that mixed stacks cost nothing extra.

use core::ffi::{c_long, c_void};

use super::config::config;
use super::mapping;
use super::maps::state;
use super::memory::{at, now, user};
use super::rows;
use super::stack;
use super::state::{Backing, MAX_FRAMES, MAX_WORDS, Phase, State};
use crate::frame::{self, Tag};
use crate::record::{End, lost, sample_flags};
use crate::rows::{AT_RBP_FIRST, LOST, Rule, RuleKind};
use crate::runtimes::{of_runtime, walk};

/// DWARF numbers (System V ABI, x86-64, figure 3.36).
const RBX: u8 = 3;
const RBP: u8 = 6;
const RSP: u8 = 7;

/// Steps between two looks at the clock.
const STEPS_A_LOOK: u64 = 16;

/// One step of the walk; 1 ends it.
pub(crate) unsafe extern "C" fn step(_: u64, _: *mut c_void) -> c_long {
    let Some(state) = state() else { return 1 };
    // SAFETY: this CPU's slot.
    unsafe {
        (*state).steps += 1;
        if (*state).steps & (STEPS_A_LOOK - 1) == 0
            && now().wrapping_sub((*state).started) > config!(tick_ns) as u64
        {
            return end(state, End::Time);
        }
        if (*state).frames >= MAX_FRAMES {
            return end(state, End::Depth);
        }
        let phase = (*state).phase;
        if phase == Phase::Native as u64 {
            native(state)
        } else if phase == Phase::Search as u64 {
            of_runtime!(state, search)
        } else if phase == Phase::Done as u64 {
            1
        } else {
            of_runtime!(state, frame)
        }
    }
}

/// Writes a word of a frame.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn push(state: *mut State, word: u64) {
    // SAFETY: the index is checked.
    unsafe {
        // Read anew each time: of two words in a row LLVM would compare the second index with `!=`,
        // from which verifiers before Linux 6.8 learn no bound.
        let at = (&raw const (*state).words).read_volatile();
        if at < MAX_WORDS as u64 {
            (*state).out[at as usize] = word;
            (*state).words = at + 1;
        }
    }
}

/// Ends the walk.
#[inline(always)]
pub(crate) unsafe fn end(state: *mut State, why: End) -> c_long {
    // SAFETY: this CPU's slot.
    unsafe {
        (*state).sample.end = why as u32;
    }
    1
}

/// Ends the native walk where it cannot go on; frames of a runtime that are left follow.
#[inline(always)]
unsafe fn give_up(state: *mut State, why: End) -> c_long {
    // SAFETY: this CPU's slot.
    unsafe {
        (*state).sample.end = why as u32;
        if (*state).walk.marker == 0 {
            return 1;
        }
        let goes_on = why == End::Unlearned || why == End::Unsupported;
        if !goes_on && why != End::WouldFault {
            (*state).sample.end = End::Native as u32;
        }
        walk::rest(state);
        0
    }
}

/// A native frame: writes it, and moves to its caller.
#[inline(always)]
unsafe fn native(state: *mut State) -> c_long {
    // SAFETY: this CPU's slot.
    unsafe {
        let exact = (*state).exact;
        let guessed = (*state).guessed;
        let pc = (*state).pc.wrapping_sub(1 - (exact & 1));
        if !mapping::find(state, pc) {
            // A node replaced under the walk, a split in progress, or not believed yet: again.
            if (*state).attempts < mapping::MAX_ATTEMPTS {
                (*state).attempts += 1;
                return 0;
            }
            return give_up(
                state,
                if guessed != 0 {
                    End::NoRow
                } else {
                    End::NoMapping
                },
            );
        }
        (*state).attempts = 0;
        let backing = (*state).mapped.backing;
        let offset = (*state).mapped.offset(pc);
        if backing == Backing::Unlearned as u64 {
            (*state).frames += 1;
            push(state, frame::address(Tag::Unlearned, pc));
            return give_up(state, End::Unlearned);
        }
        let mut rule = Rule::default();
        let word;
        if backing == Backing::Anonymous as u64 {
            word = frame::address(Tag::Anonymous, pc);
        } else {
            if (*state).mapped.module.runtime != 0
                && (*state).walk.status == walk::Status::NotLooked as u64
            {
                return walk::begin(state);
            }
            let tag = if guessed != 0 {
                Tag::NativeByFramePointer
            } else {
                Tag::Native
            };
            word = frame::native(tag, (*state).mapped.module.id as u16, offset);
            let held = (*state).mapped.module.end;
            if held != 0 {
                (*state).frames += 1;
                push(state, word);
                return give_up(
                    state,
                    if held == End::Held as u32 {
                        End::Held
                    } else {
                        End::Unanswered
                    },
                );
            }
            if let Some(found) = rows::find(&(*state).mapped.module, offset) {
                rule = found;
            }
            if rule.kind == RuleKind::Clone as u8 {
                // A new thread has no caller; its parent is in the function that made it.
                let child = exact & 1 != 0 && (*state).sample.registers.low[0] == 0;
                rule.kind = if child {
                    RuleKind::End
                } else {
                    RuleKind::Register
                } as u8;
            }
        }
        if guessed != 0 {
            (*state).sample.flags |= sample_flags::BY_FRAME_POINTER;
        }
        let why = caller(state, rule);
        if why != End::Complete {
            (*state).frames += 1;
            push(state, word);
            if rule.kind == RuleKind::End as u8 {
                if (*state).walk.marker != 0 {
                    // Activations that no native frame held: some frame's place is not known.
                    return give_up(state, End::Runtime);
                }
                return end(state, End::Complete);
            }
            return give_up(state, why);
        }
        let marker = (*state).walk.marker;
        if marker >= (*state).sp && marker < (*state).next_sp && marker != 0 {
            (*state).pending = word;
            walk::enter(state);
            return 0;
        }
        advance(state, word)
    }
}

/// Writes a native frame and moves to the caller that [`caller`] found.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(crate) unsafe fn advance(state: *mut State, word: u64) -> c_long {
    // SAFETY: as said.
    unsafe {
        (*state).frames += 1;
        push(state, word);
        (*state).pc = (*state).next_pc;
        (*state).sp = (*state).next_sp;
        (*state).bp = (*state).next_bp;
        (*state).bx = (*state).next_bx;
        (*state).lost = (*state).next_lost;
        (*state).exact = (*state).next_exact;
        (*state).guessed = (*state).next_guessed;
        (*state).phase = Phase::Native as u64;
        0
    }
}

/// Finds the caller's registers by a rule, into `state.next_*`. `Complete`: found, or the rule says
/// that there is none.
#[inline(always)]
unsafe fn caller(state: *mut State, rule: Rule) -> End {
    // SAFETY: this CPU's slot.
    unsafe {
        let sp = (*state).sp;
        (*state).next_exact = 0;
        (*state).next_guessed = 0;
        let kind = rule.kind;
        let cfa;
        if kind == RuleKind::Register as u8 || kind == RuleKind::DerefRegister as u8 {
            let Some(register) = register(state, rule.register) else {
                return End::LostRegister;
            };
            let address = register.wrapping_add(rule.offset as i64 as u64);
            if kind == RuleKind::Register as u8 {
                cfa = address;
            } else {
                let Some(value) = stack::word(state, address) else {
                    return End::WouldFault;
                };
                cfa = value.wrapping_add(rule.offset2 as i64 as u64);
            }
        } else if kind == RuleKind::Plt as u8 {
            let pushed = (*state).pc & 15 >= rule.offset as u64;
            cfa = sp.wrapping_add(if pushed { 16 } else { 8 });
        } else if kind == RuleKind::None as u8 {
            return by_frame_pointer(state);
        } else if kind == RuleKind::Signal as u8 {
            return signal(state);
        } else if kind == RuleKind::End as u8 {
            return End::NoUser;
        } else {
            return End::Unsupported;
        }
        if cfa <= sp {
            return End::NoProgress;
        }
        let Some(pc) = stack::word(state, Rule::slot(rule.ra, cfa, 0)) else {
            return End::WouldFault;
        };
        let mut lost = (*state).lost;
        let frame_base = (*state).bp;
        if lost & lost::BP != 0 && (rule.rbp >= AT_RBP_FIRST || rule.rbx >= AT_RBP_FIRST) {
            return End::LostRegister;
        }
        let mut bp = frame_base;
        if rule.rbp == LOST {
            lost |= lost::BP;
        } else if rule.rbp != 0 {
            let Some(saved) = stack::word(state, Rule::slot(rule.rbp, cfa, frame_base)) else {
                return End::WouldFault;
            };
            bp = saved;
            lost &= !lost::BP;
        }
        let mut bx = (*state).bx;
        if rule.rbx == LOST {
            lost |= lost::BX;
        } else if rule.rbx != 0 {
            let Some(saved) = stack::word(state, Rule::slot(rule.rbx, cfa, frame_base)) else {
                return End::WouldFault;
            };
            bx = saved;
            lost &= !lost::BX;
        }
        (*state).next_pc = pc;
        (*state).next_sp = cfa;
        (*state).next_bp = bp;
        (*state).next_bx = bx;
        (*state).next_lost = lost;
        End::Complete
    }
}

/// The value of a register at the current frame, by its DWARF number.
#[inline(always)]
unsafe fn register(state: *mut State, number: u8) -> Option<u64> {
    // SAFETY: this CPU's slot.
    unsafe {
        let known = (*state).lost;
        if number == RSP {
            return Some((*state).sp);
        }
        if number == RBP {
            return if known & lost::BP == 0 {
                Some((*state).bp)
            } else {
                None
            };
        }
        if number == RBX {
            return if known & lost::BX == 0 {
                Some((*state).bx)
            } else {
                None
            };
        }
        if (*state).exact == 0 {
            return None;
        }
        let registers = &raw const (*state).sample.registers;
        if number >= 8 {
            return if number < 16 {
                Some((*registers).r8[(number & 7) as usize])
            } else {
                None
            };
        }
        // rax 0, rdx 1, rcx 2, rsi 4, rdi 5
        if number < 3 {
            return Some((*registers).low[(number & 3) as usize]);
        }
        Some(if number == 4 {
            (*registers).low[3]
        } else {
            (*registers).low[4]
        })
    }
}

/// No row covers the frame: the caller by frame pointer, if it convinces: the words are there, and
/// the return address stands right after a call. That it lies in executable memory is seen next.
#[inline(always)]
unsafe fn by_frame_pointer(state: *mut State) -> End {
    // SAFETY: this CPU's slot; `code` is 8 bytes.
    unsafe {
        let bp = (*state).bp;
        let sp = (*state).sp;
        if (*state).lost & lost::BP != 0 || bp < sp || bp & 7 != 0 {
            return End::NoRow;
        }
        let Some(saved) = stack::word(state, bp) else {
            return End::WouldFault;
        };
        let Some(pc) = stack::word(state, bp.wrapping_add(8)) else {
            return End::WouldFault;
        };
        let mut code = 0u64;
        if !user((&raw mut code).cast(), 8, pc.wrapping_sub(8)) {
            return End::NoRow;
        }
        if !after_call(code) {
            return End::NoRow;
        }
        (*state).next_pc = pc;
        (*state).next_sp = bp.wrapping_add(16);
        (*state).next_bp = saved;
        (*state).next_bx = (*state).bx;
        (*state).next_lost = (*state).lost | lost::BX;
        (*state).next_guessed = 1;
        End::Complete
    }
}

/// Whether the 8 bytes before a return address end in a call instruction: `e8 rel32`, or `ff /2`
/// in one of its lengths.
#[inline(always)]
fn after_call(code: u64) -> bool {
    let byte = |from_end: u64| code >> (64 - 8 * from_end) & 0xff;
    let indirect = |from_end: u64| byte(from_end) == 0xff && byte(from_end - 1) >> 3 & 7 == 2;
    byte(5) == 0xe8 || indirect(2) || indirect(3) || indirect(4) || indirect(6) || indirect(7)
}

/// A signal trampoline: all registers stand in the `ucontext` that rsp points to.
///
/// `struct ucontext` (arch/x86/include/uapi/asm/sigcontext.h): the general registers begin at byte
/// 40, r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
#[inline(always)]
unsafe fn signal(state: *mut State) -> End {
    const REGISTERS: u64 = 40;
    const COUNT: usize = 17;
    // SAFETY: 17 words into a buffer of 32.
    unsafe {
        let words = (&raw mut (*state).code).cast::<u8>();
        let from = (*state).sp.wrapping_add(REGISTERS);
        if !user(words.cast(), COUNT as u32 * 8, from) {
            return End::WouldFault;
        }
        let registers = &raw mut (*state).sample.registers;
        for i in 0..8 {
            (*registers).r8[i] = at(words, i as u64 * 8);
        }
        (*registers).low = [
            at(words, 13 * 8),
            at(words, 12 * 8),
            at(words, 14 * 8),
            at(words, 9 * 8),
            at(words, 8 * 8),
        ];
        (*state).next_bp = at(words, 10 * 8);
        (*state).next_bx = at(words, 11 * 8);
        (*state).next_sp = at(words, 15 * 8);
        (*state).next_pc = at(words, 16 * 8);
        (*state).next_lost = 0;
        (*state).next_exact = 1;
        stack::forget(state);
        End::Complete
    }
}
