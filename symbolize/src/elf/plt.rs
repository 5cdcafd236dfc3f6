//! PLT stubs: `name@plt` for the small jumps through which calls leave a module.
//!
//! What enters are sampled addresses in sections named `.plt…`; what leaves is the name of the
//! symbol that the stub's relocation binds. A stub is decoded by its own bytes, so that all the
//! layouts that linkers write (`.plt`, `.plt.sec`, `.plt.got`; lazy or not; with `endbr64` and `bnd`
//! or without) need no telling apart.
//!
//! Layouts: System V ABI, AMD64 supplement 1.0, 5.2 "Procedure Linkage Table" and 13.1 "IBT PLT".

use std::collections::BTreeMap;

use crate::elf::symbols::name_at;
use crate::elf::{EM_X86_64, Elf, Section, u32_at, u64_at};
use crate::error::Result;

const RELOCATION: usize = 24;
const SYMBOL: u64 = 24;
const R_X86_64_GLOB_DAT: u32 = 6;
const R_X86_64_JUMP_SLOT: u32 = 7;

/// What a stub says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stub {
    /// It jumps through the pointer at this address.
    Slot(u64),
    /// It pushes the number of its relocation and jumps to the resolver.
    Relocation(u64),
}

/// Whether an address lies in a section of stubs.
pub(crate) fn holds(elf: &Elf, address: u64) -> bool {
    let mut sections = elf.sections().iter();
    sections
        .any(|section| section.name.starts_with(".plt") && section.addresses().contains(&address))
}

/// Names for the addresses that lie in PLT stubs, with their index in `addresses`.
///
/// # Errors
/// The relocations cannot be read.
pub(crate) fn names(elf: &Elf, addresses: &[u64]) -> Result<Vec<(usize, String)>> {
    let mut wanted: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut by_number: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    if elf.machine() != EM_X86_64 {
        return Ok(Vec::new());
    }
    for section in elf.sections() {
        let stub_size = match &*section.name {
            ".plt" | ".plt.sec" => 16,
            ".plt.got" => stub_size_of_got(elf, section),
            _ => continue,
        };
        for (index, &address) in addresses.iter().enumerate() {
            if !section.addresses().contains(&address) {
                continue;
            }
            match stub_at(elf, section, address, stub_size) {
                Some(Stub::Slot(slot)) => wanted.entry(slot).or_default().push(index),
                Some(Stub::Relocation(n)) => by_number.entry(n).or_default().push(index),
                None => {}
            }
        }
    }
    let mut names = Vec::new();
    if wanted.is_empty() && by_number.is_empty() {
        return Ok(names);
    }
    for relocations in elf.sections() {
        let numbered = &*relocations.name == ".rela.plt";
        if !numbered && &*relocations.name != ".rela.dyn" {
            continue;
        }
        let (offset, size) = (relocations.offset, relocations.size);
        elf.image().stream(offset, size, RELOCATION, |at, piece| {
            let first = (at - offset) / RELOCATION as u64;
            for (number, entry) in (first..).zip(piece.chunks_exact(RELOCATION)) {
                let (kind, symbol) = (u32_at(entry, 8), u32_at(entry, 12));
                if !matches!(kind, R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT) {
                    continue;
                }
                let slot = wanted.remove(&u64_at(entry, 0));
                let number = by_number.get(&number).filter(|_| numbered);
                let indices = slot.iter().flatten().chain(number.into_iter().flatten());
                for &index in indices {
                    if let Some(name) = symbol_name(elf, relocations.link, symbol) {
                        names.push((index, format!("{name}@plt")));
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(names)
}

/// Stubs of `.plt.got` have 8 bytes, or 16 where they begin with `endbr64`.
fn stub_size_of_got(elf: &Elf, section: &Section) -> u64 {
    let mut start = [0; 4];
    let read = elf.image().read_exact_at(section.offset, &mut start);
    if read.is_ok() && start == ENDBR64 {
        16
    } else {
        8
    }
}

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

fn stub_at(elf: &Elf, section: &Section, address: u64, stub_size: u64) -> Option<Stub> {
    let into = (address - section.address) / stub_size * stub_size;
    let mut code = [0; 16];
    let code = &mut code[..stub_size as usize];
    let offset = section.offset.checked_add(into)?;
    elf.image().read_exact_at(offset, code).ok()?;
    decode(code, section.address.checked_add(into)?)
}

fn decode(code: &[u8], address: u64) -> Option<Stub> {
    let mut rest = code.strip_prefix(&ENDBR64).unwrap_or(code);
    if let [0xf2, after @ ..] = rest {
        rest = after; // bnd
    }
    match *rest {
        [0xff, 0x25, a, b, c, d, ..] => {
            let next = (code.len() - rest.len() + 6) as u64;
            let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
            Some(Stub::Slot(
                address.wrapping_add(next).wrapping_add_signed(distance),
            ))
        }
        [0x68, a, b, c, d, ..] => Some(Stub::Relocation(u32::from_le_bytes([a, b, c, d]).into())),
        _ => None,
    }
}

/// The name of symbol `number` in the symbol table that section `link` is.
fn symbol_name(elf: &Elf, link: u32, number: u32) -> Option<String> {
    let table = elf.sections().get(link as usize)?;
    let strings = elf.sections().get(table.link as usize)?;
    let at = u64::from(number).checked_mul(SYMBOL)?;
    if at >= table.size {
        return None;
    }
    let mut entry = [0; SYMBOL as usize];
    elf.image()
        .read_exact_at(table.offset.checked_add(at)?, &mut entry)
        .ok()?;
    name_at(elf.image(), strings, u32_at(&entry, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_of_all_layouts() {
        // jmp *0x2fe2(%rip); push $0; jmp …
        let lazy = [
            0xff, 0x25, 0xe2, 0x2f, 0, 0, 0x68, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0,
        ];
        assert_eq!(decode(&lazy, 0x1030), Some(Stub::Slot(0x4018)));
        // endbr64; bnd jmp *0x2f75(%rip)
        let sec = [
            0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0x75, 0x2f, 0, 0, 0x0f, 0x1f, 0x44, 0, 0,
        ];
        assert_eq!(decode(&sec, 0x1050), Some(Stub::Slot(0x3fd0)));
        // endbr64; push $3; bnd jmp …
        let ibt = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x68, 3, 0, 0, 0, 0xf2, 0xe9, 0, 0, 0, 0, 0x90,
        ];
        assert_eq!(decode(&ibt, 0x1050), Some(Stub::Relocation(3)));
        // push …; jmp *…: the resolver's own stub has no symbol.
        assert_eq!(decode(&[0xff, 0x35, 0, 0, 0, 0, 0xff, 0x25], 0), None);
    }
}
