//! The fields that the execution of a plan wrote, read back.
//!
//! Bytes from the ring buffer or from [`crate::reads::execute`] enter, one [`Field`] after the other
//! leaves. Lengths are checked against what is there; nothing is copied.

use std::mem::size_of;

use rprof_ebpf::plan::FieldHeader;

use super::DecodeError;

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// Its bytes, without padding.
    pub bytes: &'a [u8],
    /// Bytes a character; 0 if the object was no string of the plan's form.
    width: u8,
    /// It was longer than the plan allows.
    pub cut: bool,
}

/// Reads fields in the order of the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field.
    pub(super) fn take(&mut self) -> Result<Field<'a>, DecodeError> {
        let field = self.split();
        field.ok_or(DecodeError::Short)
    }

    fn split(&mut self) -> Option<Field<'a>> {
        let (header, rest) = self.0.split_at_checked(size_of::<FieldHeader>())?;
        let &[l0, l1, l2, l3, width, cut, ..] = header else {
            return None;
        };
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
        let bytes = rest.get(..len)?;
        self.0 = rest.get(len.checked_next_multiple_of(8)?..)?;
        Some(Field {
            bytes,
            width,
            cut: cut != 0,
        })
    }
}

impl Field<'_> {
    /// The little-endian 64-bit word at an offset.
    pub(super) fn word(&self, at: usize) -> Result<u64, DecodeError> {
        let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes
            .map(|&b| u64::from_le_bytes(b))
            .ok_or(DecodeError::Short)
    }

    /// The field as text: code points of 1, 2 or 4 bytes each. What is no character (lone
    /// surrogates, which Python puts into undecodable file names) becomes U+FFFD; what was cut ends
    /// in `…`.
    pub(super) fn text(&self) -> Result<String, DecodeError> {
        let character = |point: u32| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
        let width = usize::from(self.width);
        if width == 0 || !self.bytes.len().is_multiple_of(width) {
            return Err(DecodeError::Text);
        }
        let mut text: String = match width {
            1 => self.bytes.iter().map(|&b| char::from(b)).collect(),
            2 => {
                let (units, _) = self.bytes.as_chunks();
                let points = units.iter().map(|&u| u16::from_le_bytes(u));
                points.map(|p| character(p.into())).collect()
            }
            4 => {
                let (units, _) = self.bytes.as_chunks();
                let points = units.iter().map(|&u| u32::from_le_bytes(u));
                points.map(character).collect()
            }
            _ => return Err(DecodeError::Text),
        };
        if self.cut {
            text.push('…');
        }
        Ok(text)
    }
}
