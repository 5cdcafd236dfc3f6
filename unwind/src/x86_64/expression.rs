//! The DWARF expressions that stand in CFI and that a row can say.
//!
//! An expression enters; what leaves is its meaning if it is one of the few forms that compilers,
//! linkers and assembly files write. It is never evaluated here.

use gimli::{Encoding, Expression, Operation, Register, X86_64};

use crate::cfi::Bytes;

/// What an expression computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// register + offset
    Register { register: Register, offset: i64 },
    /// *(register + offset) + offset2
    DerefRegister {
        register: Register,
        offset: i64,
        offset2: u64,
    },
    /// rsp + 8 + ((rip & 15) >= threshold ? 8 : 0), in a PLT's stubs: behind its `push` the stack
    /// is one word higher.
    Plt { threshold: u64 },
}

/// Operations of the longest form.
const LONGEST: usize = 9;

/// The form of an expression; `None`: another one.
pub(crate) fn form(expression: Expression<Bytes<'_>>, encoding: Encoding) -> Option<Form> {
    let mut operations = [const { Operation::Nop }; LONGEST];
    let mut count = 0;
    let mut rest = expression.operations(encoding);
    while let Some(operation) = rest.next().ok()? {
        *operations.get_mut(count)? = operation;
        count += 1;
    }
    let word = |size: u8| size == 8;
    Some(match *operations.get(..count)? {
        [
            Operation::RegisterOffset {
                register, offset, ..
            },
        ] => Form::Register { register, offset },
        [
            Operation::RegisterOffset {
                register, offset, ..
            },
            Operation::PlusConstant { value },
        ] => Form::Register {
            register,
            offset: offset.checked_add(i64::try_from(value).ok()?)?,
        },
        [
            Operation::RegisterOffset {
                register, offset, ..
            },
            Operation::Deref {
                size, space: false, ..
            },
        ] if word(size) => Form::DerefRegister {
            register,
            offset,
            offset2: 0,
        },
        [
            Operation::RegisterOffset {
                register, offset, ..
            },
            Operation::Deref {
                size, space: false, ..
            },
            Operation::PlusConstant { value },
        ] if word(size) => Form::DerefRegister {
            register,
            offset,
            offset2: value,
        },
        [
            Operation::RegisterOffset {
                register: X86_64::RSP,
                offset: 8,
                ..
            },
            Operation::RegisterOffset {
                register: X86_64::RA,
                offset: 0,
                ..
            },
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value: threshold },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ] => Form::Plt { threshold },
        _ => return None,
    })
}
