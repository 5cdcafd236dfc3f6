//! The build id: what the linker wrote to tell two builds of a file apart.

use std::fmt;

use crate::elf::{Elf, u32_at};
use crate::error::Result;
use crate::image::Image;

/// Bytes of notes that are looked through, and of a build id, at most. (GNU ld writes 20 bytes,
/// lld 8 to 20; other tools have gone to 64.)
const MAX_NOTES: u64 = 64 << 10;
const MAX_BUILD_ID: usize = 64;
const NT_GNU_BUILD_ID: u32 = 3;

/// A GNU build id: 1 to 64 bytes. Shown in hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(Box<[u8]>);

impl BuildId {
    /// Takes bytes for a build id, if there are as many as one can have.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=MAX_BUILD_ID)
            .contains(&bytes.len())
            .then(|| Self(bytes.into()))
    }

    /// Reads the build id of a file; `None` if it has none, or if its notes cannot be read.
    pub fn of(elf: &Elf) -> Option<Self> {
        let mut left = MAX_NOTES;
        for (offset, size) in elf.notes() {
            // A note segment may cover much more than its first notes; what is beyond the cap is
            // not looked at.
            let size = size.min(left);
            left -= size;
            if let Ok(Some(id)) = find(elf, offset, size) {
                return Some(id);
            }
        }
        None
    }

    /// The build id in the first bytes of a file, if it stands in them.
    pub fn of_head(head: &[u8]) -> Option<Self> {
        let mut head = head.to_vec();
        // Section headers stand at a file's end: e_shoff; e_shnum, e_shstrndx.
        head.get_mut(0x28..0x30)?.fill(0);
        head.get_mut(0x3c..0x40)?.fill(0);
        Self::of(&Elf::parse(Image::of_bytes(head)).ok()?)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Notes: name size, descriptor size, type, name, descriptor, both padded to 4 bytes (to 8 in
/// segments of that alignment, where name and descriptor happen to end alike).
fn find(elf: &Elf, offset: u64, size: u64) -> Result<Option<BuildId>> {
    let notes = elf.image().read_vec(offset, size, MAX_NOTES)?;
    let mut rest = notes.as_slice();
    while let Some((header, body)) = rest.split_first_chunk::<12>() {
        let (name, descriptor) = (u32_at(header, 0) as usize, u32_at(header, 4) as usize);
        let start = name.next_multiple_of(4);
        let end = start.saturating_add(descriptor);
        let Some(bytes) = body.get(start..end) else {
            break;
        };
        if u32_at(header, 8) == NT_GNU_BUILD_ID && body.starts_with(b"GNU\0") && name == 4 {
            return Ok(BuildId::new(bytes));
        }
        rest = body.get(end.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
