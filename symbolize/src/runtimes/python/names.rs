//! What to read of a code object, and what it then says.
//!
//! A version's layout enters and a [`Plan`] leaves, which is data: reading is done elsewhere. What
//! it read enters [`decode`], which trusts none of it.

use rprof_ebpf::plan::{MAX_FIELD, Op, Plan, Step};
use rprof_ebpf::runtimes::Interpreter;
use rprof_ebpf::runtimes::python::{PythonInterpreter, PythonLayout, code_key, symbols};

use super::layout::Version;
use super::line_table::runs;
use crate::runtimes::fields::Fields;
use crate::runtimes::{Code, DecodeError};

/// Bytes of a qualified name at most; a longer one is cut.
const MAX_NAME: u32 = 1 << 10;
/// Bytes of a file name at most: Linux takes no path beyond.
const MAX_FILE: u32 = 4 << 10;

const PAGE: u64 = 4096;

/// Slots of the plan; 0 is the code object.
const QUALNAME: u8 = 1;
const FILENAME: u8 = 2;
const LINETABLE: u8 = 3;
const NAME: u8 = 4;

/// The part of a code object that its key is made of, as offsets of its first byte and one past its
/// last. CPython changes nothing in it while the object lives, but for the file name right after
/// an import.
fn head(layout: &PythonLayout) -> [u32; 2] {
    let words = [
        layout.code_filename,
        layout.code_qualname,
        layout.code_linetable,
    ];
    let (first, last) = words.iter().fold(
        (layout.code_first_line, layout.code_first_line),
        |r, &at| (r.0.min(at), r.1.max(at)),
    );
    [first, last.saturating_add(8)]
}

/// The plan that names a code object. Its fields: the type, the head, the name's hash, the qualified
/// name, the file name, the line table.
pub fn plan(version: &Version) -> Plan {
    let layout = &version.layout;
    let [head, end] = head(layout);
    let [bytes_len, bytes_data] = version.bytes;
    let pointer = |offset, into| Step {
        op: Op::Pointer as u8,
        offset,
        into,
        ..Step::default()
    };
    let text = |base, len| Step {
        op: Op::Text as u8,
        base,
        len,
        ..Step::default()
    };
    let bytes = |offset, len| Step {
        op: Op::Bytes as u8,
        offset,
        len,
        ..Step::default()
    };
    let steps = [
        bytes(layout.object_type, 8),
        bytes(head, end - head),
        pointer(layout.code_name, NAME),
        Step {
            base: NAME,
            ..bytes(layout.text_hash, 8)
        },
        pointer(layout.code_qualname, QUALNAME),
        pointer(layout.code_filename, FILENAME),
        pointer(layout.code_linetable, LINETABLE),
        text(QUALNAME, MAX_NAME),
        text(FILENAME, MAX_FILE),
        Step {
            op: Op::Counted as u8,
            base: LINETABLE,
            offset: bytes_data,
            len: MAX_FIELD,
            len_at: bytes_len,
            ..Step::default()
        },
    ];
    let mut plan = Plan {
        counted: 1,
        ..Plan::default()
    };
    for (slot, step) in plan.steps.iter_mut().zip(steps) {
        *slot = step;
        plan.len += 1;
    }
    plan.texts[0] = version.text;
    plan
}

/// What the fields of [`plan`] say.
///
/// # Errors
/// [`DecodeError`], whatever the bytes are.
pub fn decode(interpreter: &Interpreter, fields: &[u8]) -> Result<Code, DecodeError> {
    let python: &PythonInterpreter = interpreter.layout().ok_or(DecodeError::Runtime)?;
    let layout = &python.layout;
    let mut fields = Fields(fields);
    // Where the interpreter is loaded is not known here, but it is loaded by whole pages.
    let code_type = python.symbols[symbols::CODE_TYPE];
    let type_ = fields.take()?.word(0)?;
    if type_ % PAGE != code_type % PAGE {
        return Err(DecodeError::Type);
    }
    let [start, _] = head(layout);
    let object = fields.take()?;
    let word = |at: u32| {
        let at = at.checked_sub(start).ok_or(DecodeError::Short)?;
        object.word(at as usize)
    };
    let first_line = word(layout.code_first_line)? as u32;
    let hash = fields.take()?.word(0)?;
    let key = code_key(
        first_line,
        word(layout.code_filename)?,
        word(layout.code_qualname)?,
        word(layout.code_linetable)?,
        hash,
    );
    let name = fields.take()?.text()?;
    let file = fields.take()?.text()?;
    let table = fields.take()?;
    // A C `int`: negative ones are nobody's line.
    let first_line = i32::try_from(first_line).map_or(0, i32::cast_unsigned);
    Ok(Code {
        key,
        name,
        file,
        first_line,
        lines: (!table.cut).then(|| runs(table.bytes, first_line)),
    })
}
