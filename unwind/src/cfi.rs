//! The call frame information of a module: its sections, and a walk over their functions' entries
//! (FDEs).
//!
//! The walk goes over the section itself, not over `.eh_frame_hdr`: it works without one, meets
//! each byte once, and one entry that makes no sense costs only itself.

use std::borrow::Cow;
use std::ops::ControlFlow;

use gimli::{
    BaseAddresses, CommonInformationEntry, DebugFrame, EhFrame, EndianSlice, FrameDescriptionEntry,
    LittleEndian, ReaderOffset, Register, RegisterRule, UnwindContext, UnwindContextStorage,
    UnwindSection, UnwindTableRow,
};

/// How gimli reads our bytes.
pub(crate) type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// Room for the rules of 32 registers (the general ones, the return address, and some of the vector
/// ones that other calling conventions keep): gimli copies all of it for each function, and its own
/// has room for 192.
pub(crate) struct Storage;

impl<T: ReaderOffset> UnwindContextStorage<T> for Storage {
    type Rules = [(Register, RegisterRule<T>); 32];
    type Stack = Box<[UnwindTableRow<T, Self>; 4]>;
}

/// Where gimli runs the instructions of a function.
pub(crate) type Context = UnwindContext<usize, Storage>;
/// A row as gimli computes it.
pub(crate) type CfiRow = UnwindTableRow<usize, Storage>;

/// CIEs remembered during a walk: linkers merge them, so that few are in use at a time.
const CIES: usize = 8;
/// A CIE's instructions run once for each of its FDEs, so they are bounded: compilers write under
/// 32 bytes.
const MAX_CIE_LEN: usize = 1024;

/// The sections, and the addresses that pointers in them are relative to.
#[derive(Clone, Debug)]
pub(crate) struct Cfi<'data> {
    /// `.eh_frame`; empty if there is none.
    pub(crate) eh_frame: Cow<'data, [u8]>,
    /// The end of `eh_frame` is not known: it ends at its terminator.
    pub(crate) ends_at_zero: bool,
    /// `.debug_frame`; empty if there is none.
    pub(crate) debug_frame: Cow<'data, [u8]>,
    pub(crate) bases: BaseAddresses,
}

/// One section, ready to be walked.
pub(crate) struct Section<'a, S> {
    /// How gimli sees it.
    pub(crate) gimli: S,
    bytes: &'a [u8],
    /// What stands instead of a CIE's offset in an entry that is a CIE.
    cie_id: u32,
    /// What follows a zero length is no CFI. Elsewhere it is skipped: linkers leave terminators in
    /// the middle when objects come in an unusual order.
    ends_at_zero: bool,
}

impl Cfi<'_> {
    pub(crate) fn eh_frame(&self) -> Section<'_, EhFrame<Bytes<'_>>> {
        let mut gimli = EhFrame::new(&self.eh_frame, LittleEndian);
        gimli.set_address_size(8);
        Section {
            gimli,
            bytes: &self.eh_frame,
            cie_id: 0,
            ends_at_zero: self.ends_at_zero,
        }
    }

    pub(crate) fn debug_frame(&self) -> Section<'_, DebugFrame<Bytes<'_>>> {
        let mut gimli = DebugFrame::new(&self.debug_frame, LittleEndian);
        gimli.set_address_size(8);
        Section {
            gimli,
            bytes: &self.debug_frame,
            cie_id: u32::MAX,
            ends_at_zero: false,
        }
    }

    pub(crate) fn into_owned(self) -> Cfi<'static> {
        Cfi {
            eh_frame: Cow::Owned(self.eh_frame.into_owned()),
            ends_at_zero: self.ends_at_zero,
            debug_frame: Cow::Owned(self.debug_frame.into_owned()),
            bases: self.bases,
        }
    }
}

/// A function's entry.
pub(crate) type Fde<'a> = FrameDescriptionEntry<Bytes<'a>>;

impl<'a, S: UnwindSection<Bytes<'a>>> Section<'a, S> {
    /// Visits each FDE that covers at least one byte, in the section's order.
    pub(crate) fn each_fde(
        &self,
        bases: &BaseAddresses,
        mut visit: impl FnMut(Fde<'a>) -> ControlFlow<()>,
    ) {
        let mut cies: Vec<(S::Offset, CommonInformationEntry<Bytes<'a>>)> = Vec::new();
        let mut replaced = 0;
        let mut at = 0;
        while let Some((id, next)) = entry(self.bytes, at, self.cie_id) {
            let this = std::mem::replace(&mut at, next);
            match id {
                None if self.ends_at_zero => return,
                Some(id) if id != self.cie_id => {}
                _ => continue,
            }
            let fde = self
                .gimli
                .fde_from_offset(bases, this.into(), |section, bases, offset| {
                    if let Some((_, cie)) = cies.iter().find(|(o, _)| *o == offset) {
                        return Ok(cie.clone());
                    }
                    let cie = section.cie_from_offset(bases, offset)?;
                    if cie.entry_len() > MAX_CIE_LEN {
                        return Err(gimli::Error::UnsupportedOffset);
                    }
                    if cies.len() < CIES {
                        cies.push((offset, cie.clone()));
                    } else if let Some(slot) = cies.get_mut(replaced) {
                        *slot = (offset, cie.clone());
                        replaced = (replaced + 1) % CIES;
                    }
                    Ok(cie)
                });
            let Ok(fde) = fde else { continue };
            if fde.len() > 0 && visit(fde).is_break() {
                return;
            }
        }
    }
}

/// The entry at `at`: its id (`None`: a zero length), and where the next one begins.
///
/// The 64-bit form is skipped: it occurs in no ELF file for this machine (an entry would have to
/// be larger than 4 GiB).
fn entry(bytes: &[u8], at: usize, cie_id: u32) -> Option<(Option<u32>, usize)> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let body = at.checked_add(4)?;
    match word(at)? {
        0 => Some((None, body)),
        u32::MAX => {
            let low = word(body)? as usize;
            let high = word(body.checked_add(4)?)?;
            let next = body.checked_add(8)?.checked_add(low)?;
            // As if it were a CIE: both have no rows.
            (high == 0 && next <= bytes.len()).then_some((Some(cie_id), next))
        }
        len => {
            let next = body.checked_add(len as usize)?;
            if next > bytes.len() || len < 4 {
                return None;
            }
            Some((Some(word(body)?), next))
        }
    }
}
