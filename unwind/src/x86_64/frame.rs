//! One frame to its caller, by all of DWARF: what the slice unwinder does where rows cannot.
//!
//! Registers and a row of CFI enter, the caller's registers leave. All sixteen are followed, and
//! expressions may read memory; a register that the CFI does not keep is not known in the caller,
//! and needing one is an end of its own, never a guess.

use gimli::{
    CfaRule, Encoding, Evaluation, EvaluationResult, Location, Register, RegisterRule,
    UnwindExpression, UnwindSection, Value, X86_64,
};
use rprof_ebpf::record::{End, Registers, lost};
use rprof_ebpf::rows::{AT_RBP_FIRST, LOST, Rule, RuleKind};

use crate::cfi::{Bytes, CfiRow};

/// Operations that an expression may run.
const MAX_OPERATIONS: u32 = 1000;

/// The registers of a frame, as far as they are known.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// By DWARF number; 16 is the pc.
    registers: [Option<u64>; 17],
}

impl Frame {
    /// What a sample tells of its last frame.
    pub(crate) fn new(registers: &Registers) -> Self {
        let [rax, rdx, rcx, rsi, rdi] = registers.low;
        let mut frame = Self {
            registers: [None; 17],
        };
        let unless = |bit, value| (registers.lost & bit == 0).then_some(value);
        frame.set(X86_64::RA, Some(registers.pc));
        frame.set(X86_64::RSP, Some(registers.sp));
        frame.set(X86_64::RBP, unless(lost::BP, registers.bp));
        frame.set(X86_64::RBX, unless(lost::BX, registers.bx));
        let low = [
            X86_64::RAX,
            X86_64::RDX,
            X86_64::RCX,
            X86_64::RSI,
            X86_64::RDI,
        ];
        let leaf_only = low.into_iter().zip([rax, rdx, rcx, rsi, rdi]);
        let high = (X86_64::R8.0..).map(Register).zip(registers.r8);
        let leaf_only = leaf_only.chain(high).filter(|_| registers.leaf == 1);
        for (register, value) in leaf_only {
            frame.set(register, Some(value));
        }
        frame
    }

    /// The pc.
    pub(crate) fn pc(&self) -> Option<u64> {
        self.get(X86_64::RA)
    }

    /// The stack pointer.
    pub(crate) fn sp(&self) -> Option<u64> {
        self.get(X86_64::RSP)
    }

    fn get(&self, register: Register) -> Option<u64> {
        self.registers.get(usize::from(register.0)).copied()?
    }

    fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(slot) = self.registers.get_mut(usize::from(register.0)) {
            *slot = value;
        }
    }

    /// The caller's registers by a row; `None` where only the CFI itself can tell.
    ///
    /// # Errors
    /// As [`Frame::caller`].
    pub(crate) fn caller_by_rule(
        &self,
        rule: &Rule,
        read: &dyn Fn(u64) -> Option<u64>,
    ) -> Option<Result<Frame, End>> {
        let register = |number: u8| self.get(Register(number.into())).ok_or(End::LostRegister);
        let at = |base: u64, offset: i32| base.wrapping_add_signed(offset.into());
        let word = |address| read(address).ok_or(End::Slice);
        let cfa = match rule.kind {
            k if k == RuleKind::Register as u8 => {
                register(rule.register).map(|value| at(value, rule.offset))
            }
            k if k == RuleKind::DerefRegister as u8 => register(rule.register)
                .and_then(|value| word(at(value, rule.offset)))
                .map(|value| at(value, rule.offset2)),
            k if k == RuleKind::Plt as u8 => match (self.pc(), self.sp()) {
                (Some(pc), Some(sp)) => Ok(at(
                    sp,
                    if i64::from(rule.offset) <= (pc & 15) as i64 {
                        16
                    } else {
                        8
                    },
                )),
                _ => Err(End::LostRegister),
            },
            k if k == RuleKind::End as u8 => Err(End::Complete),
            k if k == RuleKind::Clone as u8 => match self.get(X86_64::RAX) {
                Some(0) => Err(End::Complete),
                Some(_) => register(rule.register).map(|value| at(value, rule.offset)),
                None => Err(End::LostRegister),
            },
            _ => return None,
        };
        Some(cfa.and_then(|cfa| {
            let saved = |slot: i16| match self.get(X86_64::RBP) {
                None if slot >= AT_RBP_FIRST => Err(End::LostRegister),
                rbp => word(Rule::slot(slot, cfa, rbp.unwrap_or(0))),
            };
            let kept = |slot: i16, own: Register| match slot {
                LOST => Ok(None),
                0 => Ok(self.get(own)),
                slot => saved(slot).map(Some),
            };
            let mut caller = Self {
                registers: [None; 17],
            };
            caller.set(X86_64::RA, Some(saved(rule.ra)?));
            caller.set(X86_64::RSP, Some(cfa));
            caller.set(X86_64::RBP, kept(rule.rbp, X86_64::RBP)?);
            caller.set(X86_64::RBX, kept(rule.rbx, X86_64::RBX)?);
            Ok(caller)
        }))
    }

    /// The caller's registers.
    ///
    /// # Errors
    /// Where the walk ends: [`End::Complete`] at the outermost frame, else what was missing.
    pub(crate) fn caller<'a, S: UnwindSection<Bytes<'a>>>(
        &self,
        section: &S,
        encoding: Encoding,
        row: &CfiRow,
        read: &dyn Fn(u64) -> Option<u64>,
    ) -> Result<Self, End> {
        if row.register(X86_64::RA) == Some(RegisterRule::Undefined) {
            return Err(End::Complete);
        }
        let step = Step {
            frame: self,
            section,
            encoding,
            read,
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => self
                .get(*register)
                .ok_or(End::LostRegister)?
                .wrapping_add_signed(*offset),
            CfaRule::Expression(expression) => step.evaluate(expression, None)?,
        };
        let mut caller = Self {
            registers: [None; 17],
        };
        for number in 0..=X86_64::RA.0 {
            let register = Register(number);
            caller.set(register, step.restore(register, row, cfa)?);
        }
        Ok(caller)
    }
}

struct Step<'f, S> {
    frame: &'f Frame,
    section: &'f S,
    encoding: Encoding,
    read: &'f dyn Fn(u64) -> Option<u64>,
}

impl<'a, S: UnwindSection<Bytes<'a>>> Step<'_, S> {
    /// The caller's value of a register; `None`: not known.
    fn restore(&self, register: Register, row: &CfiRow, cfa: u64) -> Result<Option<u64>, End> {
        // Only these the walk cannot do without; another one that cannot be read is just not known.
        let needed = register == X86_64::RA || register == X86_64::RSP;
        let value = match row.register(register) {
            None if register == X86_64::RSP => return Ok(Some(cfa)),
            None if register == X86_64::RA => Err(End::Unsupported),
            // The psABI's callee-saved registers keep their value unless the CFI says otherwise.
            None if preserved(register) => return Ok(self.frame.get(register)),
            None | Some(RegisterRule::Undefined) => return Ok(None),
            Some(RegisterRule::SameValue) => self.frame.get(register).ok_or(End::LostRegister),
            Some(RegisterRule::Offset(offset)) => self.word(cfa.wrapping_add_signed(offset)),
            Some(RegisterRule::ValOffset(offset)) => Ok(cfa.wrapping_add_signed(offset)),
            Some(RegisterRule::Register(other)) => self.frame.get(other).ok_or(End::LostRegister),
            Some(RegisterRule::Expression(expression)) => self
                .evaluate(&expression, Some(cfa))
                .and_then(|place| self.word(place)),
            Some(RegisterRule::ValExpression(expression)) => self.evaluate(&expression, Some(cfa)),
            Some(RegisterRule::Constant(value)) => Ok(value),
            Some(_) => Err(End::Unsupported),
        };
        match value {
            Ok(value) => Ok(Some(value)),
            Err(end) if needed => Err(end),
            Err(_) => Ok(None),
        }
    }

    fn word(&self, address: u64) -> Result<u64, End> {
        (self.read)(address).ok_or(End::Slice)
    }

    fn evaluate(
        &self,
        expression: &UnwindExpression<usize>,
        initial: Option<u64>,
    ) -> Result<u64, End> {
        let unsupported = |_| End::Unsupported;
        let bytes = expression.get(self.section).map_err(unsupported)?;
        let mut evaluation: Evaluation<Bytes<'a>> = bytes.evaluation(self.encoding);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(cfa) = initial {
            evaluation.set_initial_value(cfa);
        }
        let mut state = evaluation.evaluate().map_err(unsupported)?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.frame.get(register).ok_or(End::LostRegister)?;
                    evaluation.resume_with_register(Value::Generic(value))
                }
                EvaluationResult::RequiresMemory {
                    address,
                    size: 8,
                    space: None,
                    ..
                } => evaluation.resume_with_memory(Value::Generic(self.word(address)?)),
                _ => return Err(End::Unsupported),
            }
            .map_err(unsupported)?;
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Ok(address),
                _ => Err(End::Unsupported),
            },
            _ => Err(End::Unsupported),
        }
    }
}

/// Whether the psABI has callees preserve a register.
fn preserved(register: Register) -> bool {
    matches!(
        register,
        X86_64::RBX | X86_64::RBP | X86_64::R12 | X86_64::R13 | X86_64::R14 | X86_64::R15
    )
}
