//! The user-space executor of read plans.
//!
//! A plan, a way to read, and an object's address enter; the plan's fields leave, byte for byte as
//! the eBPF program writes them. The program reads within one interrupt, in which the thread does
//! not run; here it runs on meanwhile. So what the plan reads of the object itself (its *head*) is
//! read first and, in the same call as the last of all other reads, again: if it differs, or is no
//! longer alive, nothing is given.
//!
//! Each round asks for everything whose address is known by then, in one call: three for CPython
//! (head; string headers and lengths; characters and tables), and one for the head again.

use std::ops::RangeInclusive;

use rprof_ebpf::plan::{FieldHeader, MAX_FIELD, MAX_STEPS, Op, Plan, SLOTS, Step, TextForm};

use super::{Piece, ReadError, Reads};

/// Bytes of a head at most.
const MAX_HEAD: u32 = 512;
/// Bytes of a string object's header at most.
const MAX_TEXT_HEADER: u32 = 128;
/// Counts of references that a live object can have. In a freed one the count is 0, or the
/// allocator's pointer to the next free block.
const REFERENCES: RangeInclusive<u64> = 1..=1 << 40;
/// CPython's PEP 393 state word: `kind` (bytes a character), `compact`, `ascii`.
const KIND_SHIFT: u32 = 2;
const KIND_MASK: u32 = 7;
const COMPACT: u32 = 1 << 5;
const ASCII: u32 = 1 << 6;

/// How far a step that does not read the head has come.
#[derive(Clone, Debug)]
enum Progress {
    /// Its base pointer may not be known yet.
    Waiting,
    /// Where a field's bytes stand is known; `header.len` bytes are wanted.
    Found(u64, FieldHeader),
    /// A field is whole.
    Field(FieldHeader, Vec<u8>),
    /// A pointer is in its slot.
    Followed,
}

/// What one round reads for one step.
struct Ask {
    step: usize,
    address: u64,
    bytes: Vec<u8>,
}

/// Carries out `plan` on the object at `address`.
///
/// Gives the plan's fields in order: each a [`FieldHeader`], its bytes, and zeros up to a multiple
/// of 8.
///
/// # Errors
/// [`ReadError::Changed`] if the object was replaced meanwhile, [`ReadError::BadAddress`] where no
/// such object stands, [`ReadError::BadPlan`], or what [`Reads::read`] says.
pub fn execute(plan: &Plan, reads: &mut dyn Reads, address: u64) -> Result<Vec<u8>, ReadError> {
    let steps = plan
        .steps
        .get(..plan.len as usize)
        .ok_or(ReadError::BadPlan)?;
    let mut execution = Execution {
        plan,
        steps,
        slots: [None; SLOTS],
        progress: vec![Progress::Waiting; steps.len()],
    };
    let head = Head::of(plan, steps, address)?;
    let first = head.read(reads)?;
    head.alive(&first)?;
    execution.slots[0] = Some(address);
    for (n, step) in steps.iter().enumerate().filter(|(_, s)| is_head(s)) {
        let bytes = head.part(&first, step).ok_or(ReadError::BadPlan)?;
        execution.answer(n, bytes.to_vec())?;
    }
    loop {
        let mut asks = execution.asks()?;
        let last = asks.iter().all(|ask| execution.is_final(ask.step));
        let mut again = vec![0; first.len()];
        let mut pieces: Vec<_> = asks
            .iter_mut()
            .map(|ask| Piece::new(ask.address, &mut ask.bytes))
            .collect();
        if last {
            pieces.push(Piece::new(head.address, &mut again));
        }
        reads.read(&mut pieces)?;
        for ask in asks {
            execution.answer(ask.step, ask.bytes)?;
        }
        if last {
            // And once more a moment later: one that is being made where another was has its type and count
            // first, and until its fields are written looks like that (`_PyCode_New`, Objects/codeobject.c).
            for again in [again, head.read(reads)?] {
                let same = |s| head.part(&first, s) == head.part(&again, s);
                if !steps.iter().filter(|s| is_head(s)).all(same) {
                    return Err(ReadError::Changed);
                }
                head.alive(&again)?;
            }
            return execution.fields();
        }
    }
}

/// Whether a step reads the object itself: bytes and pointers in it.
fn is_head(step: &Step) -> bool {
    step.base == 0 && (step.op == Op::Bytes as u8 || step.op == Op::Pointer as u8)
}

/// How many bytes a head step reads.
fn head_len(step: &Step) -> u32 {
    if step.op == Op::Bytes as u8 {
        step.len
    } else {
        8
    }
}

/// The part of the object that head steps span, read in one piece.
struct Head {
    /// Offset of its first byte in the object.
    start: u32,
    len: u32,
    address: u64,
    /// It starts with a count of references.
    counted: bool,
}

impl Head {
    fn of(plan: &Plan, steps: &[Step], object: u64) -> Result<Self, ReadError> {
        let counted = plan.counted != 0;
        let heads = || steps.iter().filter(|s| is_head(s));
        let least = heads().map(|s| s.offset).min().ok_or(ReadError::BadPlan)?;
        let start = if counted { 0 } else { least };
        let end = heads()
            .map(|s| s.offset.saturating_add(head_len(s)))
            .max()
            .unwrap_or(start);
        let len = end.saturating_sub(start);
        if len > MAX_HEAD {
            return Err(ReadError::BadPlan);
        }
        Ok(Self {
            start,
            len,
            address: at(object, start)?,
            counted,
        })
    }

    /// Whether the object was alive when its head was read.
    fn alive(&self, head: &[u8]) -> Result<(), ReadError> {
        if self.counted && !REFERENCES.contains(&word(head, 0)?) {
            return Err(ReadError::Changed);
        }
        Ok(())
    }

    fn read(&self, reads: &mut dyn Reads) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; self.len as usize];
        reads.read(&mut [Piece::new(self.address, &mut bytes)])?;
        Ok(bytes)
    }

    /// What a step reads, out of the head's bytes.
    fn part<'h>(&self, head: &'h [u8], step: &Step) -> Option<&'h [u8]> {
        let from = step.offset.checked_sub(self.start)? as usize;
        head.get(from..)?.get(..head_len(step) as usize)
    }
}

struct Execution<'p> {
    plan: &'p Plan,
    steps: &'p [Step],
    slots: [Option<u64>; SLOTS],
    progress: Vec<Progress>,
}

impl Execution<'_> {
    /// What can be asked for now. Empty only when all steps are done.
    fn asks(&mut self) -> Result<Vec<Ask>, ReadError> {
        let mut asks = Vec::new();
        let mut waits = false;
        for (n, (step, progress)) in self.steps.iter().zip(&self.progress).enumerate() {
            let (address, len) = match progress {
                Progress::Field(..) | Progress::Followed => continue,
                Progress::Found(address, header) => (*address, header.len),
                Progress::Waiting => {
                    let slot = self.slots.get(usize::from(step.base));
                    let Some(base) = slot.ok_or(ReadError::BadPlan)? else {
                        waits = true;
                        continue;
                    };
                    self.first_read(step, *base)?
                }
            };
            asks.push(Ask {
                step: n,
                address,
                bytes: vec![0; len as usize],
            });
        }
        if waits && asks.is_empty() {
            return Err(ReadError::BadPlan);
        }
        Ok(asks)
    }

    /// Address and length of the first read of a step.
    fn first_read(&self, step: &Step, base: u64) -> Result<(u64, u32), ReadError> {
        Ok(match Kind::of(self.plan, step)? {
            Kind::Pointer => (at(base, step.offset)?, 8),
            Kind::Bytes => (at(base, step.offset)?, step.len),
            Kind::Counted => (at(base, step.len_at)?, 8),
            Kind::Text(form) => {
                let start = form.len_at.min(form.state_at);
                let end = form
                    .len_at
                    .saturating_add(8)
                    .max(form.state_at.saturating_add(4));
                (at(base, start)?, end - start)
            }
        })
    }

    /// Whether what is asked for next is the last that the step reads.
    fn is_final(&self, step: usize) -> bool {
        let bytes = |s: &Step| s.op == Op::Bytes as u8;
        matches!(self.progress.get(step), Some(Progress::Found(..)))
            || self.steps.get(step).is_some_and(bytes)
    }

    /// Takes what was read for a step.
    fn answer(&mut self, n: usize, bytes: Vec<u8>) -> Result<(), ReadError> {
        let (Some(step), Some(progress)) = (self.steps.get(n), self.progress.get_mut(n)) else {
            return Err(ReadError::BadPlan);
        };
        if let Progress::Found(_, header) = progress {
            *progress = Progress::Field(*header, bytes);
            return Ok(());
        }
        let base = self.slots.get(usize::from(step.base)).copied().flatten();
        let base = base.ok_or(ReadError::BadPlan)?;
        let found = |offset: u32, header: FieldHeader| {
            Ok(if header.len == 0 {
                Progress::Field(header, Vec::new())
            } else {
                Progress::Found(at(base, offset)?, header)
            })
        };
        *progress = match Kind::of(self.plan, step)? {
            Kind::Pointer => {
                let slot = self.slots.get_mut(usize::from(step.into));
                // Filled twice, it would depend on the order of reads what a step starts from.
                match slot {
                    Some(slot @ None) => *slot = Some(word(&bytes, 0)?),
                    _ => return Err(ReadError::BadPlan),
                }
                Progress::Followed
            }
            Kind::Bytes => {
                let header = header(step.len, 1, false);
                Progress::Field(header, bytes)
            }
            Kind::Counted => match u32::try_from(word(&bytes, 0)?) {
                Ok(len) if len <= step.len => found(step.offset, header(len, 1, false))?,
                _ => found(step.offset, header(0, 1, true))?,
            },
            Kind::Text(form) => {
                let start = form.len_at.min(form.state_at);
                let len = word(&bytes, form.len_at - start)?;
                let state = half(&bytes, form.state_at - start)?;
                let (offset, header) = text(form, step, len, state)?;
                found(offset, header)?
            }
        };
        Ok(())
    }

    /// All fields, in the order of the plan.
    fn fields(self) -> Result<Vec<u8>, ReadError> {
        let mut out = Vec::new();
        for progress in self.progress {
            match progress {
                Progress::Followed => {}
                Progress::Field(header, bytes) => {
                    out.extend_from_slice(&header.len.to_le_bytes());
                    out.extend_from_slice(&[header.width, header.cut, 0, 0]);
                    out.extend_from_slice(&bytes);
                    out.resize(out.len().next_multiple_of(8), 0);
                }
                Progress::Waiting | Progress::Found(..) => return Err(ReadError::BadPlan),
            }
        }
        Ok(out)
    }
}

/// A checked operation.
enum Kind<'p> {
    Pointer,
    Bytes,
    Counted,
    Text(&'p TextForm),
}

impl<'p> Kind<'p> {
    fn of(plan: &'p Plan, step: &Step) -> Result<Self, ReadError> {
        const POINTER: u8 = Op::Pointer as u8;
        const BYTES: u8 = Op::Bytes as u8;
        const COUNTED: u8 = Op::Counted as u8;
        const TEXT: u8 = Op::Text as u8;
        if step.len > MAX_FIELD {
            return Err(ReadError::BadPlan);
        }
        Ok(match step.op {
            POINTER => Self::Pointer,
            BYTES => Self::Bytes,
            COUNTED => Self::Counted,
            TEXT => {
                let form = plan.texts.get(usize::from(step.text));
                let form = form.ok_or(ReadError::BadPlan)?;
                if form.len_at.max(form.state_at) > MAX_TEXT_HEADER {
                    return Err(ReadError::BadPlan);
                }
                Self::Text(form)
            }
            _ => return Err(ReadError::BadPlan),
        })
    }
}

const _: () = assert!(MAX_STEPS < 64, "a round is one vector call");

/// Where a string's characters stand, and how many bytes of them are wanted.
fn text(
    form: &TextForm,
    step: &Step,
    len: u64,
    state: u32,
) -> Result<(u32, FieldHeader), ReadError> {
    let width = match state >> KIND_SHIFT & KIND_MASK {
        width @ (1 | 2 | 4) if state & COMPACT != 0 => width,
        // Not a string, or one whose characters stand elsewhere: no name is such a one.
        _ => return Err(ReadError::BadAddress),
    };
    let bytes = len.saturating_mul(width.into());
    let cut = bytes > step.len.into();
    // Whole characters only.
    let wanted = u32::try_from(bytes).map_or(step.len, |b| b.min(step.len)) & !(width - 1);
    let offset = if state & ASCII != 0 {
        form.ascii_at
    } else {
        form.compact_at
    };
    Ok((offset, header(wanted, width as u8, cut)))
}

fn header(len: u32, width: u8, cut: bool) -> FieldHeader {
    FieldHeader {
        len,
        width,
        cut: cut.into(),
        _pad: 0,
    }
}

fn at(base: u64, offset: u32) -> Result<u64, ReadError> {
    base.checked_add(offset.into()).ok_or(ReadError::BadAddress)
}

fn word(bytes: &[u8], at: u32) -> Result<u64, ReadError> {
    let bytes = bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
    bytes
        .map(|&b| u64::from_le_bytes(b))
        .ok_or(ReadError::BadPlan)
}

fn half(bytes: &[u8], at: u32) -> Result<u32, ReadError> {
    let bytes = bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
    bytes
        .map(|&b| u32::from_le_bytes(b))
        .ok_or(ReadError::BadPlan)
}
