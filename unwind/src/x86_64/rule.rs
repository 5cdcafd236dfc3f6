//! One row of CFI as a [`Rule`].
//!
//! A row of gimli's enters, the rule that says exactly the same leaves; if none does, the rule says
//! so ([`RuleKind::Unsupported`]), never something near it.

use gimli::{CfaRule, Encoding, Register, RegisterRule, UnwindExpression, UnwindSection, X86_64};
use rprof_ebpf::rows::{AT_RBP, AT_RBP_FIRST, LOST, Rule, RuleKind};

use super::expression::{Form, form};
use crate::cfi::{Bytes, CfiRow};

/// A rule that is only its kind.
pub(crate) const fn plain(kind: RuleKind) -> Rule {
    Rule {
        kind: kind as u8,
        register: 0,
        rbp: 0,
        rbx: 0,
        ra: 0,
        offset: 0,
        offset2: 0,
    }
}

/// The rule of a row.
pub(crate) fn rule<'a>(
    section: &impl UnwindSection<Bytes<'a>>,
    encoding: Encoding,
    signal: bool,
    row: &CfiRow,
) -> Rule {
    if row.register(X86_64::RA) == Some(RegisterRule::Undefined) {
        return plain(RuleKind::End);
    }
    let reader = Row {
        section,
        encoding,
        row,
    };
    let rule = if signal {
        reader.is_ucontext().then(|| plain(RuleKind::Signal))
    } else {
        reader.normal()
    };
    rule.unwrap_or(plain(RuleKind::Unsupported))
}

struct Row<'r, S> {
    section: &'r S,
    encoding: Encoding,
    row: &'r CfiRow,
}

impl<'a, S: UnwindSection<Bytes<'a>>> Row<'_, S> {
    fn form(&self, expression: &UnwindExpression<usize>) -> Option<Form> {
        form(expression.get(self.section).ok()?, self.encoding)
    }

    fn normal(&self) -> Option<Rule> {
        let form = match self.row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => Form::Register {
                register: *register,
                offset: *offset,
            },
            CfaRule::Expression(expression) => self.form(expression)?,
        };
        let mut rule = match form {
            Form::Register { register, offset } => Rule {
                register: general(register)?,
                offset: i32::try_from(offset).ok()?,
                ..plain(RuleKind::Register)
            },
            Form::DerefRegister {
                register,
                offset,
                offset2,
            } => Rule {
                register: general(register)?,
                offset: i32::try_from(offset).ok()?,
                offset2: i32::try_from(offset2).ok()?,
                ..plain(RuleKind::DerefRegister)
            },
            Form::Plt { threshold } => Rule {
                offset: i32::try_from(threshold).ok()?,
                ..plain(RuleKind::Plt)
            },
        };
        // The caller's sp is the CFA; hand-written CFI may say otherwise.
        match self.row.register(X86_64::RSP) {
            None | Some(RegisterRule::ValOffset(0)) => {}
            Some(_) => return None,
        }
        rule.ra = match self.row.register(X86_64::RA)? {
            RegisterRule::Offset(offset) => words(offset)?,
            _ => return None,
        };
        rule.rbp = self.saved(X86_64::RBP)?;
        rule.rbx = self.saved(X86_64::RBX)?;
        Some(rule)
    }

    /// Where a callee-saved register is saved. Without a rule it still has its value.
    fn saved(&self, register: Register) -> Option<i16> {
        match self.row.register(register) {
            None | Some(RegisterRule::SameValue) => Some(0),
            Some(RegisterRule::Undefined) => Some(LOST),
            // 0 would read as "unchanged".
            Some(RegisterRule::Offset(offset)) => words(offset).filter(|&w| w != 0),
            // GCC's functions that align their stack.
            Some(RegisterRule::Expression(expression)) => match self.form(&expression)? {
                Form::Register {
                    register: X86_64::RBP,
                    offset,
                } if offset % 8 == 0 => i16::try_from(offset / 8)
                    .ok()?
                    .checked_add(AT_RBP)
                    .filter(|&slot| slot >= AT_RBP_FIRST),
                _ => None,
            },
            Some(_) => None,
        }
    }

    /// Whether the row takes its registers from a `ucontext` at rsp: `uc_mcontext.gregs` begins at
    /// 40 in the order r8–r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip (Linux
    /// `arch/x86/include/uapi/asm/sigcontext.h`; glibc's `__restore_rt` says this in its CFI).
    fn is_ucontext(&self) -> bool {
        let at = |register: Register, place: i64| {
            let Some(RegisterRule::Expression(expression)) = self.row.register(register) else {
                return false;
            };
            self.form(&expression)
                == Some(Form::Register {
                    register: X86_64::RSP,
                    offset: place,
                })
        };
        let CfaRule::Expression(cfa) = self.row.cfa() else {
            return false;
        };
        self.form(cfa)
            == Some(Form::DerefRegister {
                register: X86_64::RSP,
                offset: 160,
                offset2: 0,
            })
            && at(X86_64::RBP, 120)
            && at(X86_64::RBX, 128)
            && at(X86_64::RA, 168)
    }
}

/// The number of a general register.
fn general(register: Register) -> Option<u8> {
    u8::try_from(register.0).ok().filter(|&r| r < 16)
}

/// An offset in words, if it is whole ones and no reserved number.
fn words(offset: i64) -> Option<i16> {
    let words = i16::try_from(offset / 8).ok()?;
    (offset % 8 == 0 && words != LOST && words < AT_RBP_FIRST).then_some(words)
}
