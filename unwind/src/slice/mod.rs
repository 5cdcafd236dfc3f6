//! The user-space unwinder: what the eBPF program could not follow is walked on here, from the
//! registers of its last frame, the process's executable mappings, and a copy of part of the stack.
//!
//! It follows all registers and all of DWARF. (framehop is the oracle of our tests, but not used
//! here: its version 0.16 reads no memory in expressions, knows only rip, rsp and rbp, and then
//! goes on by frame pointer without saying so. So it gets wrong just what comes here: signal
//! frames, lazy binding, aligned stacks.) A walk is [`End::Complete`] only where the CFI says that
//! a frame is the outermost. No caller is guessed.

mod cache;
mod info;

use std::cell::Cell;
use std::sync::Arc;

use rprof_ebpf::record::{End, Mapping, Registers};
use rprof_ebpf::rows::Rule;

pub use cache::Cache;
pub use info::{FrameInfo, FrameSections};

use crate::cfi::Context;
use crate::x86_64::frame::Frame as Known;

/// A copy of parts of a stack: addresses and bytes, sorted by address, not overlapping. What is missing
/// between two was not in memory; one without bytes at the end says how far nothing was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stack<'a>(pub &'a [(u64, &'a [u8])]);

impl Stack<'_> {
    /// The word at an address, if the copy holds all of it.
    pub fn word(&self, address: u64) -> Option<u64> {
        let mut word = [0; 8];
        let mut filled = 0;
        let mut at = address;
        // A word may straddle two pieces, and no piece need be longer than a byte.
        while let Some(rest) = word.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let after = self.0.partition_point(|(start, _)| *start <= at);
            let (start, bytes) = self.0.get(after.checked_sub(1)?)?;
            let bytes = bytes.get(usize::try_from(at - start).ok()?..)?;
            let count = bytes.len().min(rest.len());
            rest.get_mut(..count)?.copy_from_slice(bytes.get(..count)?);
            filled += count;
            at = at.checked_add(count as u64).filter(|_| count > 0)?;
        }
        Some(u64::from_le_bytes(word))
    }

    /// Whether an address lies between the first piece and the last.
    fn spans(&self, address: u64) -> bool {
        let ends = [self.0.first(), self.0.last()].map(|piece| piece.map(|(start, _)| *start));
        matches!(ends, [Some(first), Some(last)] if first <= address && address < last)
    }
}

/// A frame that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Index of the mapping that holds the pc.
    pub mapping: usize,
    /// File offset of the pc, not adjusted to the call.
    pub offset: u64,
    /// The pc itself was interrupted (by a signal); else it is a return address.
    pub exact: bool,
    /// Its stack pointer: the CFA of the frame before it.
    pub sp: u64,
}

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The callers of the frame that the walk began in, leaf first.
    pub frames: Vec<Frame>,
    /// Why it ended.
    pub end: End,
}

/// Where a walk learns how frames are left.
pub trait Sources {
    /// The row of a mapping's module at a file offset, where rows are at hand: they are quicker than
    /// the CFI, and tell the same.
    fn rule(&mut self, mapping: &Mapping, offset: u64) -> Option<Rule>;

    /// The CFI of a mapping's file (or of the vDSO); asked if the cache does not know it. `None`
    /// ends walks there with [`End::NoRow`].
    fn frame_info(&mut self, mapping: &Mapping) -> Option<Arc<FrameInfo>>;
}

impl<F: FnMut(&Mapping) -> Option<Arc<FrameInfo>>> Sources for F {
    fn rule(&mut self, _: &Mapping, _: u64) -> Option<Rule> {
        None
    }

    fn frame_info(&mut self, mapping: &Mapping) -> Option<Arc<FrameInfo>> {
        self(mapping)
    }
}

/// Walks stacks; keeps what is needed again and again.
pub struct Unwinder {
    cache: Cache,
    context: Context,
}

impl Unwinder {
    /// An unwinder that keeps the modules of `cache`.
    pub fn new(cache: Cache) -> Self {
        Self {
            cache,
            context: Context::new_in(),
        }
    }

    /// The modules it knows.
    pub fn cache(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// Walks on from the frame whose registers these are; that frame itself is not repeated.
    ///
    /// `mappings` may stand in any order.
    pub fn walk(
        &mut self,
        registers: &Registers,
        mappings: &[Mapping],
        stack: Stack<'_>,
        max_frames: usize,
        mut sources: impl Sources,
    ) -> Walk {
        let mut frames = Vec::new();
        let mut frame = Known::new(registers);
        let mut exact = registers.leaf == 1;
        let mut work = 0;
        let end = loop {
            let step = self.step(&frame, exact, mappings, stack, &mut work, &mut sources);
            let (caller, caller_exact) = match step {
                Ok(caller) => caller,
                Err(end) => break end,
            };
            let Some(pc) = caller.pc() else {
                break End::LostRegister;
            };
            let Some(mapping) = find(mappings, pc, caller_exact) else {
                break End::NoMapping;
            };
            if frames.len() >= max_frames {
                break End::Depth;
            }
            let Some(offset) = mappings.get(mapping).map(|m| offset(m, pc)) else {
                break End::NoMapping;
            };
            frames.push(Frame {
                mapping,
                offset,
                exact: caller_exact,
                sp: caller.sp().unwrap_or(0),
            });
            (frame, exact) = (caller, caller_exact);
        };
        Walk { frames, end }
    }

    /// One frame to its caller, and whether the caller's pc is exact.
    fn step(
        &mut self,
        frame: &Known,
        exact: bool,
        mappings: &[Mapping],
        stack: Stack<'_>,
        work: &mut usize,
        sources: &mut dyn Sources,
    ) -> Result<(Known, bool), End> {
        let pc = frame.pc().ok_or(End::LostRegister)?;
        let mapping = find(mappings, pc, exact).and_then(|at| mappings.get(at));
        let mapping = mapping.ok_or(End::NoMapping)?;
        let place = offset(mapping, pc).wrapping_sub(u64::from(!exact));
        let missing = Cell::new(None);
        let read = |address| {
            let word = stack.word(address);
            if word.is_none() {
                missing.set(Some(address));
            }
            word
        };
        let by_rule = sources
            .rule(mapping, place)
            .and_then(|rule| frame.caller_by_rule(&rule, &read));
        let caller = match by_rule {
            Some(caller) => caller.map(|caller| (caller, false)),
            None => {
                let info = self
                    .cache
                    .get(mapping, &mut |mapping| sources.frame_info(mapping))
                    .ok_or(End::NoRow)?;
                info.caller(place, frame, &mut self.context, work, &read)
            }
        };
        let (caller, signal) = caller.map_err(|end| match (end, missing.get()) {
            (End::Slice, Some(at)) if stack.spans(at) => End::WouldFault,
            _ => end,
        })?;
        // A signal handler may have a stack of its own; else stacks grow down. Only at the leaf
        // may the return address be in a register already.
        if !signal {
            let (sp, cfa) = (frame.sp(), caller.sp());
            if cfa < sp || (cfa == sp && !exact) {
                return Err(End::NoProgress);
            }
        }
        Ok((caller, signal))
    }
}

/// The mapping that holds a pc, or the call before it.
fn find(mappings: &[Mapping], pc: u64, exact: bool) -> Option<usize> {
    let place = pc.wrapping_sub(u64::from(!exact));
    mappings
        .iter()
        .position(|m| m.start <= place && place < m.end)
}

/// File offset of a pc.
fn offset(mapping: &Mapping, pc: u64) -> u64 {
    pc.wrapping_sub(mapping.start).wrapping_add(mapping.offset)
}
