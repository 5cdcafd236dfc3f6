//! The search for the thread states that have frames on the current stack, and their markers in the
//! order in which they stand there.

use core::ffi::c_long;

use super::{PythonInterpreter, PythonLayout, symbols};
use crate::programs::mapping::below;
use crate::programs::memory::{user, user_u64};
use crate::programs::state::{Phase, State};
use crate::runtimes::frames::field;
use crate::runtimes::walk::{found, in_doubt, link, not_found, remember, remembered};

/// Bytes of a thread state that are read at once.
const THREAD_BYTES: u32 = 192;
/// Thread states looked at in search of this thread's.
const MAX_THREADS: u64 = 2048;
/// Thread states with frames on one stack at most: interpreters that call each other.
const MAX_CHAINS: usize = 4;
/// Searches in lists that change meanwhile.
const MAX_TRIES: u64 = 3;
/// Bytes of a thread state, and more: its root marker, which is no activation's, lies in it.
const STATE_SPAN: u64 = 4096;

/// What the walk remembers within a sample.
///
/// A thread can have several thread states (one an interpreter), be run on another thread's
/// (`_xxsubinterpreters`), or on one that is made and freed for each call (`PyGILState_Ensure`); and a
/// state may outlive its thread, whose stack and TLS base another thread then has. All states whose
/// activations are on the current stack have callers in it; so their chains of markers are merged by
/// address, towards the root.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Own {
    /// A [`Stage`] number.
    stage: u64,
    /// The state that is looked at next; 0: none is left in this list.
    thread: u64,
    /// The interpreter state whose thread states are looked at.
    interp: u64,
    /// The state that holds the interpreter's lock, whoever's it is.
    current: u64,
    /// The newest marker not yet passed of each state; 0: none.
    chains: [u64; MAX_CHAINS],
    /// 1: a state that this thread made has frames on another stack: another thread runs it, or this
    /// one has several stacks. Where it has frames on this one too, they are the ones it runs.
    elsewhere: u64,
    /// How many states were looked at, and how often from the beginning.
    searched: u64,
    tries: u64,
}

/// Which thread states are looked at. With one interpreter, the first that is this thread's has all
/// of its frames.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// None yet.
    Start = 0,
    /// The one that holds the lock.
    Current = 1,
    /// The one that was this thread's last time.
    Remembered = 2,
    /// All of them are to be.
    Restart = 3,
    /// All of them.
    All = 4,
}

/// Begins the search.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(super) unsafe fn look(state: *mut State) {
    // SAFETY: as said.
    unsafe {
        (*state).runtimes.python.stage = Stage::Start as u64;
        (*state).phase = Phase::Search as u64;
    }
}

/// One thread state, or on to the next list of them.
///
/// # Safety
/// `state` is this CPU's slot.
#[inline(always)]
pub(super) unsafe fn search(state: *mut State, known: &PythonInterpreter) -> c_long {
    // SAFETY: as said.
    unsafe {
        let own = &raw mut (*state).runtimes.python;
        let stage = (*own).stage;
        if stage == Stage::Start as u64 {
            start(state, known);
            return 0;
        }
        if stage == Stage::Restart as u64 {
            restart(state, known);
            return 0;
        }
        let thread = (*own).thread;
        if thread != 0 {
            let own_marker = candidate(state, &known.layout, thread);
            if own_marker != 0 && stage != Stage::All as u64 {
                return finish(state);
            }
        }
        next_state(state, &known.layout)
    }
}

/// Reads a word that belongs to no list; 0 if it is not in memory.
#[inline(always)]
fn word(address: u64) -> u64 {
    user_u64(address).unwrap_or(0)
}

/// Where `_PyRuntime` stands.
#[inline(always)]
unsafe fn runtime(state: *mut State, known: &PythonInterpreter) -> u64 {
    // SAFETY: this CPU's slot.
    let bias = unsafe { (*state).walk.bias };
    bias.wrapping_add(known.symbols[symbols::RUNTIME])
}

/// Who holds the lock, and whether there is only one interpreter.
#[inline(always)]
unsafe fn start(state: *mut State, known: &PythonInterpreter) {
    // SAFETY: this CPU's slot.
    unsafe {
        let own = &raw mut (*state).runtimes.python;
        let layout = &known.layout;
        let runtime = runtime(state, known);
        (*own).current = word(runtime.wrapping_add(layout.runtime_current as u64));
        let first = word(runtime.wrapping_add(layout.runtime_interpreters as u64));
        let alone = user_u64(first.wrapping_add(layout.interp_next as u64)) == Some(0);
        (*own).stage = if alone {
            Stage::Current
        } else {
            Stage::Restart
        } as u64;
        (*own).thread = (*own).current;
        (*own).chains = [0; MAX_CHAINS];
        (*own).elsewhere = 0;
        (*own).tries = 0;
    }
}

/// The search goes through all thread states, from the first interpreter's on.
#[inline(always)]
unsafe fn restart(state: *mut State, known: &PythonInterpreter) {
    // SAFETY: this CPU's slot.
    unsafe {
        let own = &raw mut (*state).runtimes.python;
        (*own).tries += 1;
        if (*own).tries > MAX_TRIES {
            in_doubt(state);
            not_found(state);
            return;
        }
        (*own).chains = [0; MAX_CHAINS];
        (*own).searched = 0;
        let heads = runtime(state, known).wrapping_add(known.layout.runtime_interpreters as u64);
        // Without it nothing can be said of the thread.
        (*own).interp = link(state, heads);
        (*own).thread = 0;
        (*own).stage = Stage::All as u64;
        if (*own).interp != 0 {
            let threads = (*own).interp.wrapping_add(known.layout.interp_threads as u64);
            (*own).thread = link(state, threads);
        }
    }
}

/// Moves on to the next thread state, interpreter or stage.
#[inline(always)]
unsafe fn next_state(state: *mut State, layout: &PythonLayout) -> c_long {
    // SAFETY: this CPU's slot.
    unsafe {
        let own = &raw mut (*state).runtimes.python;
        let stage = (*own).stage;
        if stage == Stage::Current as u64 {
            (*own).thread = remembered(state).unwrap_or(0);
            (*own).stage = Stage::Remembered as u64;
            return 0;
        }
        if stage == Stage::Remembered as u64 {
            (*own).stage = Stage::Restart as u64;
            return 0;
        }
        (*own).searched += 1;
        if (*own).searched > MAX_THREADS {
            in_doubt(state);
            return finish(state);
        }
        let thread = (*own).thread;
        if thread == 0 && (*own).interp == 0 {
            return finish(state);
        }
        let link = if thread != 0 {
            thread.wrapping_add(layout.thread_next as u64)
        } else {
            (*own).interp.wrapping_add(layout.interp_next as u64)
        };
        let Some(next) = user_u64(link) else {
            // It was freed under us, by a thread on another CPU.
            (*own).stage = Stage::Restart as u64;
            return 0;
        };
        (*own).thread = next;
        if thread == 0 {
            (*own).interp = next;
            (*own).thread = word(next.wrapping_add(layout.interp_threads as u64));
        }
        0
    }
}

/// Nothing is left to look at.
#[inline(always)]
unsafe fn finish(state: *mut State) -> c_long {
    // SAFETY: this CPU's slot.
    unsafe {
        let own = &raw mut (*state).runtimes.python;
        let first = next_of_all(state, 0, 0);
        if first == 0 {
            // A list may have changed so that it seems to end: twice the same is no chance.
            if (*own).tries < 2 {
                (*own).stage = Stage::Restart as u64;
                return 0;
            }
            if (*own).elsewhere != 0 {
                in_doubt(state);
            }
            return not_found(state);
        }
        found(state, first);
        0
    }
}

/// Looks at a thread state: takes its frames, leaves it alone, or sees that it cannot be told whose
/// they are. Its newest marker if this thread made it, else 0; 0 too if nothing runs on it.
#[inline(always)]
unsafe fn candidate(state: *mut State, layout: &PythonLayout, thread: u64) -> u64 {
    // SAFETY: 192 bytes into a buffer of 256.
    unsafe {
        let own = &raw mut (*state).runtimes.python;
        let bytes = (&raw mut (*state).code).cast::<u8>();
        if !user(bytes.cast(), THREAD_BYTES, thread) {
            if (*own).stage == Stage::All as u64 {
                in_doubt(state);
            }
            return 0;
        }
        let Some(id) = field::<u64>(bytes, layout.thread_id, THREAD_BYTES) else {
            return 0;
        };
        let Some(native) = field::<u64>(bytes, layout.thread_native_id, THREAD_BYTES) else {
            return 0;
        };
        let Some(marker) = field::<u64>(bytes, layout.thread_cframe, THREAD_BYTES) else {
            return 0;
        };
        if marker.wrapping_sub(thread) < STATE_SPAN {
            return 0;
        }
        let ids = (*state).sample.task.innermost;
        // Of an ended thread whose stack and TLS base this one has now, only the native id differs.
        // The first thread of a forked child keeps its parent's (3.11 does not renew it).
        let ours = id == (*state).fsbase;
        let made_it = ours && (native == ids.tid as u64 || ids.tid == ids.tgid);
        // With glibc and musl a thread's TLS base stands at the end of its stack, but for the first
        // thread's, above whose stack there is nothing.
        let (sp, tls) = ((*state).sp, (*state).fsbase);
        let here = marker >= sp && (sp >= tls || marker < tls);
        if !here && !made_it {
            return 0;
        }
        if !made_it && (*own).stage != Stage::All as u64 {
            // This thread's own may have called it.
            (*own).stage = Stage::Remembered as u64;
            (*own).thread = 0;
            return 0;
        }
        if !here {
            (*own).elsewhere = 1;
            return 0;
        }
        if !(made_it || thread == (*own).current) {
            // A thread that lives made it, and we may run on it; of one that ended it is a remnant.
            if !ours {
                in_doubt(state);
            }
            return 0;
        }
        if !made_it {
            // Seen from a stack of another kind, a coroutine's, it may be on another thread's.
            (*state).walk.unsure = 1;
        }
        if (*own).stage == Stage::All as u64 && made_it {
            remember(state, thread);
        }
        if (*own).chains[MAX_CHAINS - 1] != 0 {
            in_doubt(state);
        }
        for i in (1..MAX_CHAINS).rev() {
            (*own).chains[i] = (*own).chains[i - 1];
        }
        (*own).chains[0] = marker;
        if made_it { marker } else { 0 }
    }
}

/// Replaces one chain's newest marker by the one before it; the newest of all, 0 if none is left.
/// Without a branch, so that the verifier has one path through it.
#[inline(always)]
pub(super) unsafe fn next_of_all(state: *mut State, passed: u64, next: u64) -> u64 {
    // SAFETY: this CPU's slot.
    unsafe {
        let own = &raw mut (*state).runtimes.python;
        // One less, so that none is more than any.
        let mut least = u64::MAX;
        for i in 0..MAX_CHAINS {
            let marker = (*own).chains[i];
            let differs = marker ^ passed;
            let keep = ((differs | differs.wrapping_neg()) as i64 >> 63) as u64;
            let marker = marker & keep | next & !keep;
            (*own).chains[i] = marker;
            let less = below(marker.wrapping_sub(1), least).wrapping_neg();
            least = marker.wrapping_sub(1) & less | least & !less;
        }
        least.wrapping_add(1)
    }
}

