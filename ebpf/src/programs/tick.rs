//! A tick: what an interrupt of the sampling clock does.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated as helpers;
use aya_ebpf::programs::PerfEventContext;

use super::config::{config, offset};
use super::maps::{GENERATION, state};
use super::memory::{at, kernel_u64, now};
use super::state::{MAX_FRAMES, MAX_KERNEL_FRAMES, Phase, State};
use super::{account, mapping, naming, native, output, slice, stack, task};
use crate::identity::task_flags;
use crate::ledger::Column;
use crate::record::{End, sample_flags};
use crate::runtimes::walk;

/// Offsets in `struct pt_regs` (arch/x86/include/uapi/asm/ptrace.h).
mod pt_regs {
    pub(super) const R15: u64 = 0;
    pub(super) const RBP: u64 = 32;
    pub(super) const RBX: u64 = 40;
    pub(super) const R11: u64 = 48;
    pub(super) const RAX: u64 = 80;
    pub(super) const RCX: u64 = 88;
    pub(super) const RDX: u64 = 96;
    pub(super) const RSI: u64 = 104;
    pub(super) const RDI: u64 = 112;
    pub(super) const RIP: u64 = 128;
    pub(super) const CS: u64 = 136;
    pub(super) const RSP: u64 = 152;
}

/// `__USER32_CS` (arch/x86/include/asm/segment.h).
const USER32_CS: u64 = 0x23;
const SECOND: u64 = 1_000_000_000;
/// What [`State::thinning`] is when each tick is taken.
const UNTHINNED: u64 = 16;
/// Steps of the walk: frames, and what a runtime's search and activations take.
const MAX_STEPS: u32 = 4 * MAX_FRAMES as u32;

/// Runs for each tick of a CPU.
#[inline(always)]
pub fn tick(context: &PerfEventContext) {
    // SAFETY: the kernel's helpers; the slot of this CPU.
    unsafe {
        if helpers::bpf_get_current_pid_tgid() >> 32 == 0 {
            account::count(Column::Idle);
            return;
        }
        let current = helpers::bpf_get_current_task_btf() as *const u8;
        if !task::selected(current) {
            account::count(Column::NotSelected);
            return;
        }
        let Some(state) = state() else {
            account::count(Column::Malformed);
            return;
        };
        let started = now();
        (*state).started = started;
        (*state).sample.time = started;
        task::identify(state, current);
        if over_budget(state) {
            account::lose(state, Column::RateLowered);
            return;
        }
        (*state).sequence += 1;
        (*state).ring_full = 0;
        kernel_side(state, context);
        user_side(state, current);
        naming::name(state);
        if (*state).ring_full != 0 {
            account::lose(state, Column::RingFull);
        } else {
            output::sample(state);
        }
        (*state).second_used += now().wrapping_sub(started);
    }
}

/// Whether this tick is to be sat out. Where ticks would cost more in a second than they may, they are
/// thinned at random: to stop when the second's share is used up would leave always the same part of
/// each second unseen. How far, the last second tells, or the part of one that used up its share.
#[inline(always)]
unsafe fn over_budget(state: *mut State) -> bool {
    // SAFETY: as said.
    unsafe {
        let budget = config!(second_ns) as u64;
        let elapsed = (*state).started.wrapping_sub((*state).second_started);
        if elapsed > SECOND || (*state).second_used > budget {
            let all = ((*state).second_used >> 10) * (*state).thinning;
            let all = all * 1000 / (elapsed / 1_000_000 | 1);
            // A little less than all of the budget; odd, because it must not be 0.
            let thinning = all / (budget * 15 / 16 >> 10 | 1);
            (*state).thinning = if thinning > UNTHINNED {
                thinning
            } else {
                UNTHINNED
            };
            (*state).second_started = (*state).started;
            (*state).second_used = 0;
        }
        if (*state).thinning <= UNTHINNED {
            return false;
        }
        let random = helpers::bpf_get_prandom_u32() as u64;
        random * (*state).thinning >> 32 >= UNTHINNED
    }
}

/// Kernel frames, leaf first, into the first words.
#[inline(always)]
unsafe fn kernel_side(state: *mut State, context: &PerfEventContext) {
    // SAFETY: `out` has room for that many frames; the context begins with the interrupted registers.
    unsafe {
        (*state).sample.kernel_frames = 0;
        (*state).words = 0;
        let cs: u64 = at(context.as_ptr().cast(), pt_regs::CS);
        if cs & 3 != 0 {
            return;
        }
        (*state).sample.task.flags |= task_flags::IN_KERNEL;
        let most = config!(kernel_frames);
        if most == 0 {
            return;
        }
        let bytes = helpers::bpf_get_stack(
            context.as_ptr(),
            (&raw mut (*state).out).cast::<c_void>(),
            most * 8,
            0,
        );
        if bytes > 0 {
            let frames = (bytes as u64 >> 3) & MAX_KERNEL_FRAMES as u64;
            (*state).sample.kernel_frames = frames as u32;
            (*state).words = frames;
        }
    }
}

/// User frames, from the registers at the entry into the kernel.
#[inline(always)]
unsafe fn user_side(state: *mut State, current: *const u8) {
    // SAFETY: `bpf_task_pt_regs` gives the registers of the current task.
    unsafe {
        (*state).sample.end = End::Complete as u32;
        (*state).sample.flags = 0;
        (*state).unnamed_count = 0;
        if (*state).mm == 0 {
            // A task that ends gives its memory back first: its user side is not there any more.
            if (*state).sample.task.flags & task_flags::KERNEL_ONLY == 0 {
                (*state).sample.end = End::NoUser as u32;
            }
            return;
        }
        // An `exec` has replaced the memory, but the registers are still those of the old program:
        // there is no user side yet.
        if kernel_u64((*state).mm + offset!(mm_start_code)) == 0 {
            return;
        }
        let regs = helpers::bpf_task_pt_regs(current.cast_mut().cast()) as *const u8;
        let registers = &raw mut (*state).sample.registers;
        (*registers).pc = at(regs, pt_regs::RIP);
        (*registers).sp = at(regs, pt_regs::RSP);
        (*registers).bp = at(regs, pt_regs::RBP);
        (*registers).bx = at(regs, pt_regs::RBX);
        for i in 0..4 {
            // r11 to r8, r15 to r12: pt_regs has them downwards.
            (*registers).r8[3 - i] = at(regs, pt_regs::R11 + i as u64 * 8);
            (*registers).r8[7 - i] = at(regs, pt_regs::R15 + i as u64 * 8);
        }
        (*registers).low = [
            at(regs, pt_regs::RAX),
            at(regs, pt_regs::RDX),
            at(regs, pt_regs::RCX),
            at(regs, pt_regs::RSI),
            at(regs, pt_regs::RDI),
        ];
        (*registers).leaf = 1;
        let cs: u64 = at(regs, pt_regs::CS);
        if cs == USER32_CS {
            (*state).sample.task.flags |= task_flags::COMPAT;
            (*state).sample.end = End::Compat as u32;
            return;
        }
        if cs & 3 == 0 || (*registers).sp == 0 {
            (*state).sample.end = End::NoUser as u32;
            return;
        }
        (*state).pc = (*registers).pc;
        (*state).sp = (*registers).sp;
        (*state).bp = (*registers).bp;
        (*state).bx = (*registers).bx;
        (*state).exact = 1;
        (*state).guessed = 0;
        (*state).lost = 0;
        (*state).frames = 0;
        (*state).steps = 0;
        (*state).attempts = 0;
        (*state).seen.times = 0;
        (*state).announced = 0;
        (*state).phase = Phase::Native as u64;
        stack::forget(state);
        walk::reset(state);
        // A walk that uses up its steps says nothing else.
        (*state).sample.end = End::Depth as u32;
        let generation = GENERATION.get_ptr(0).map_or(0, |g| *g);
        mapping::keep_or_forget(state, generation);
        let mut nothing = 0u64;
        helpers::bpf_loop(
            MAX_STEPS,
            native::step as *mut c_void,
            (&raw mut nothing).cast(),
            0,
        );
        // A slice costs as much as many walks: it must not use up what the other ticks need. But the
        // first sample of a module that nobody has seen has no other way.
        let affordable =
            (*state).announced != 0 || (*state).second_used < config!(second_ns) as u64 / 2;
        if affordable && is_for_user_space(state) {
            (*registers).pc = (*state).pc;
            (*registers).sp = (*state).sp;
            (*registers).bp = (*state).bp;
            (*registers).bx = (*state).bx;
            (*registers).leaf = (*state).exact;
            (*registers).lost = (*state).lost;
            slice::send(state);
            if walk::begin_after_native(state) {
                helpers::bpf_loop(
                    MAX_STEPS,
                    native::step as *mut c_void,
                    (&raw mut nothing).cast(),
                    0,
                );
                if (*state).phase != Phase::Done as u64 {
                    walk::in_doubt(state);
                }
            }
        }
        if is_for_user_space(state) && (*state).sample.flags & sample_flags::HAS_SLICE == 0 {
            (*state).sample.end = End::NotCopied as u32;
        }
        walk::reckon(state);
    }
}

/// Whether the walk ended where only user space can go on.
#[inline(always)]
unsafe fn is_for_user_space(state: *mut State) -> bool {
    // SAFETY: this CPU's slot.
    let end = unsafe { (*state).sample.end };
    end == End::Unlearned as u32 || end == End::Unsupported as u32
}
