//! The named data of an ELF file, as far as detecting a runtime needs it.
//!
//! A file's bytes enter (whole, or read piecewise); out come the addresses of a few symbols and the
//! bytes that initialise them. Works on stripped files, whose dynamic symbols stay. Never reads
//! more than two sections and a few words, never follows a relocation.

use memchr::memmem;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{LittleEndian, ReadRef, elf};

/// Bytes of a symbol or string section at most; a file with more is not looked at.
const MAX_SECTION: u64 = 64 << 20;
/// Sections and segments at most.
const MAX_HEADERS: usize = 1 << 16;
/// Places in the string section where one name may end (names share their tails).
const MAX_CANDIDATES: usize = 16;

const LE: LittleEndian = LittleEndian;

/// Symbols and initialised data of an x86-64 executable or shared object.
pub struct Exports<'d> {
    symbols: &'d [elf::Sym64<LittleEndian>],
    strings: &'d [u8],
    segments: &'d [elf::ProgramHeader64<LittleEndian>],
    /// Bytes of the file: offset, length.
    bytes_at: Box<dyn Fn(u64, u64) -> Option<&'d [u8]> + 'd>,
}

impl<'d> Exports<'d> {
    /// `None`: not an x86-64 executable or shared object, damaged, or without any symbols.
    pub fn parse<R: ReadRef<'d> + 'd>(data: R) -> Option<Self> {
        let header = elf::FileHeader64::<LittleEndian>::parse(data).ok()?;
        header.endian().ok()?;
        let machine = header.e_machine(LE);
        if machine != elf::EM_X86_64 || !matches!(header.e_type(LE), elf::ET_EXEC | elf::ET_DYN) {
            return None;
        }
        let headers = [header.shnum(LE, data).ok()?, header.phnum(LE, data).ok()?];
        if headers.iter().any(|&n| n as usize > MAX_HEADERS) {
            return None;
        }
        let sections = header.section_headers(LE, data).ok()?;
        // A static executable has no dynamic symbols; only then are the others worth reading.
        let of_type = |wanted| sections.iter().find(|s| s.sh_type(LE) == wanted);
        let table = of_type(elf::SHT_DYNSYM).or_else(|| of_type(elf::SHT_SYMTAB))?;
        let names = sections.get(table.sh_link(LE) as usize)?;
        if table.sh_size(LE) > MAX_SECTION || names.sh_size(LE) > MAX_SECTION {
            return None;
        }
        Some(Self {
            symbols: table.data_as_array(LE, data).ok()?,
            strings: names.data(LE, data).ok()?,
            segments: header.program_headers(LE, data).ok()?,
            bytes_at: Box::new(move |offset, len| data.read_bytes_at(offset, len).ok()),
        })
    }

    /// The virtual address of a symbol that this file defines; `None` if it only uses it.
    pub fn address(&self, name: &str) -> Option<u64> {
        let mut wanted = name.as_bytes().to_vec();
        wanted.push(0);
        memmem::find_iter(self.strings, &wanted)
            .take(MAX_CANDIDATES)
            .filter_map(|at| u32::try_from(at).ok())
            .find_map(|at| {
                let defined = |s: &&elf::Sym64<LittleEndian>| {
                    s.st_name(LE) == at && s.st_shndx(LE) != elf::SHN_UNDEF && s.st_value(LE) != 0
                };
                self.symbols.iter().find(defined).map(|s| s.st_value(LE))
            })
    }

    /// The 64-bit word that the file holds for a virtual address, before any relocation.
    pub fn word(&self, address: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| {
            s.p_type(LE) == elf::PT_LOAD
                && address
                    .checked_sub(s.p_vaddr(LE))
                    .and_then(|into| into.checked_add(8))
                    .is_some_and(|end| end <= s.p_filesz(LE))
        })?;
        let into = address.checked_sub(segment.p_vaddr(LE))?;
        let bytes = (self.bytes_at)(segment.p_offset(LE).checked_add(into)?, 8)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    /// Virtual address − file offset of the first executable segment.
    pub fn text_delta(&self) -> Option<i64> {
        let text = |s: &&elf::ProgramHeader64<LittleEndian>| {
            s.p_type(LE) == elf::PT_LOAD && s.p_flags(LE).contains(elf::PF_X)
        };
        let text = self.segments.iter().find(text)?;
        Some(
            text.p_vaddr(LE)
                .wrapping_sub(text.p_offset(LE))
                .cast_signed(),
        )
    }

    /// What follows `prefix` in the first dynamic string that begins with it: how a shared
    /// library's own name is found, for it stands among them.
    pub fn string_after(&self, prefix: &str) -> Option<&'d str> {
        let at = memmem::find(self.strings, prefix.as_bytes())?;
        let rest = self.strings.get(at.checked_add(prefix.len())?..)?;
        let end = memchr::memchr(0, rest)?;
        str::from_utf8(rest.get(..end)?).ok()
    }
}
