//! A module's CFI, kept and indexed so that the row of any pc can be computed.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::ops::{ControlFlow, Range};

use gimli::{BaseAddresses, UnwindSection};
use object::read::ReadRef;
use rprof_ebpf::record::End;
use rprof_ebpf::rows::Rule;

use crate::cfi::{Bytes, Cfi, Context, Section};
use crate::error::Error;
use crate::module::{Layout, Module, Segments};
use crate::wire;
use crate::x86_64::frame::Frame;

/// Bytes of CFI that one walk may run through: a hostile module could have it run megabytes for
/// each frame. Functions of real programs have some tens of bytes, interpreters' loops kilobytes.
const MAX_WORK: usize = 4 << 20;

/// The CFI of one module, owned.
pub struct FrameInfo {
    cfi: Cfi<'static>,
    segments: Segments,
    /// Code that is known without CFI, by stated address.
    known: Vec<(Range<u64>, Rule)>,
    eh_frame: Index,
    debug_frame: Index,
}

/// The CFI of one module where it was read, to be sent to where it is used.
pub struct FrameSections<'data> {
    cfi: Cfi<'data>,
    segments: Segments,
    known: Vec<(Range<u64>, Rule)>,
}

impl<'data> FrameSections<'data> {
    /// Reads the CFI of an ELF file.
    ///
    /// # Errors
    /// As [`crate::Table::from_elf`]; [`Error::TooLarge`] if its sections have more than `max_bytes`.
    pub fn from_elf<R: ReadRef<'data>>(data: R, max_bytes: u64) -> Result<Self, Error> {
        let module = Module::parse(data, Layout::File)?;
        let sections = Self {
            segments: module.segments()?,
            cfi: module.cfi()?,
            known: module.known(),
        };
        match (sections.cfi.eh_frame.len() + sections.cfi.debug_frame.len()) as u64 {
            bytes if bytes > max_bytes => Err(Error::TooLarge(bytes / 4)),
            _ => Ok(sections),
        }
    }

    /// The same without the bytes that it was read from.
    pub fn into_owned(self) -> FrameSections<'static> {
        FrameSections {
            cfi: self.cfi.into_owned(),
            segments: self.segments,
            known: self.known,
        }
    }

    /// Writes it as bytes.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let bases = [&self.cfi.bases.eh_frame_hdr, &self.cfi.bases.eh_frame];
        for base in bases.iter().flat_map(|b| [b.section, b.text, b.data]) {
            wire::put(to, base.is_some().into())?;
            wire::put(to, base.unwrap_or(0))?;
        }
        wire::put(to, self.cfi.ends_at_zero.into())?;
        wire::put_bytes(to, &self.cfi.eh_frame)?;
        wire::put_bytes(to, &self.cfi.debug_frame)?;
        wire::put_segments(to, &self.segments)?;
        wire::put(to, self.known.len() as u64)?;
        for (place, rule) in &self.known {
            wire::put(to, place.start)?;
            wire::put(to, place.end)?;
            wire::put_rule(to, rule)?;
        }
        Ok(())
    }
}

/// Where a section's functions begin: (stated address, offset of the entry), sorted.
type Index = Vec<(u64, u32)>;

impl FrameInfo {
    /// Reads the CFI of an ELF file.
    ///
    /// # Errors
    /// As [`crate::Table::from_elf`].
    pub fn from_elf<'data, R: ReadRef<'data>>(data: R) -> Result<Self, Error> {
        Self::new(&Module::parse(data, Layout::File)?)
    }

    /// The same for an ELF image as it stands in memory: the vDSO.
    ///
    /// # Errors
    /// As [`crate::Table::from_elf`].
    pub fn from_image(image: &[u8]) -> Result<Self, Error> {
        Self::new(&Module::parse(image, Layout::Memory)?)
    }

    fn new<'data, R: ReadRef<'data>>(module: &Module<'data, R>) -> Result<Self, Error> {
        let (segments, cfi) = (module.segments()?, module.cfi()?.into_owned());
        Ok(Self::of(cfi, segments, module.known()))
    }

    fn of(cfi: Cfi<'static>, segments: Segments, known: Vec<(Range<u64>, Rule)>) -> Self {
        Self {
            eh_frame: index(&cfi.eh_frame(), &cfi.bases, &segments),
            debug_frame: index(&cfi.debug_frame(), &cfi.bases, &segments),
            cfi,
            segments,
            known,
        }
    }

    /// Reads what [`FrameSections::write_to`] wrote, and not a byte more.
    ///
    /// # Errors
    /// Those of `from`; [`io::ErrorKind::FileTooLarge`], [`io::ErrorKind::InvalidData`] if it is no
    /// CFI, or more than `max_bytes` of it.
    pub fn read_from(from: &mut impl Read, max_bytes: u64) -> io::Result<Self> {
        let mut bases = BaseAddresses::default();
        for base in [&mut bases.eh_frame_hdr, &mut bases.eh_frame] {
            for address in [&mut base.section, &mut base.text, &mut base.data] {
                let known = wire::take(from)? != 0;
                *address = Some(wire::take(from)?).filter(|_| known);
            }
        }
        let ends_at_zero = wire::take(from)? != 0;
        let eh_frame = wire::take_bytes(from, max_bytes)?;
        let debug_frame = wire::take_bytes(from, max_bytes - eh_frame.len() as u64)?;
        let segments = wire::take_segments(from)?;
        let known = (0..wire::take_len(from, wire::MAX_PLACES)?)
            .map(|_| Ok((wire::take(from)?..wire::take(from)?, wire::take_rule(from)?)));
        let known = known.collect::<io::Result<_>>()?;
        let cfi = Cfi {
            eh_frame: Cow::Owned(eh_frame),
            ends_at_zero,
            debug_frame: Cow::Owned(debug_frame),
            bases,
        };
        Ok(Self::of(cfi, segments, known))
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        let functions = self.eh_frame.len() + self.debug_frame.len();
        self.cfi.eh_frame.len() + self.cfi.debug_frame.len() + functions * size_of::<(u64, u32)>()
    }

    /// The caller of a frame whose row is that of a file offset, and whether the frame is a signal
    /// trampoline. `work` counts the bytes of CFI that a walk ran through.
    pub(super) fn caller(
        &self,
        offset: u64,
        frame: &Frame,
        context: &mut Context,
        work: &mut usize,
        read: &dyn Fn(u64) -> Option<u64>,
    ) -> Result<(Frame, bool), End> {
        let address = self.segments.address_of(offset).ok_or(End::NoRow)?;
        let bases = &self.cfi.bases;
        let (first, second) = (self.cfi.eh_frame(), self.cfi.debug_frame());
        let mut lookup = Lookup {
            address,
            bases,
            frame,
            context,
            work,
            read,
        };
        match lookup.caller(&first, &self.eh_frame) {
            Err(End::NoRow) => {}
            found => return found,
        }
        match lookup.caller(&second, &self.debug_frame) {
            Err(End::NoRow) => {}
            found => return found,
        }
        let known = self.known.iter().find(|(at, _)| at.contains(&address));
        let caller = known.and_then(|(_, rule)| frame.caller_by_rule(rule, read));
        caller
            .unwrap_or(Err(End::NoRow))
            .map(|caller| (caller, false))
    }
}

struct Lookup<'l> {
    address: u64,
    bases: &'l BaseAddresses,
    frame: &'l Frame,
    context: &'l mut Context,
    work: &'l mut usize,
    read: &'l dyn Fn(u64) -> Option<u64>,
}

impl Lookup<'_> {
    fn caller<'a, S: UnwindSection<Bytes<'a>>>(
        &mut self,
        section: &Section<'a, S>,
        index: &Index,
    ) -> Result<(Frame, bool), End> {
        let section = &section.gimli;
        let after = index.partition_point(|(start, _)| *start <= self.address);
        let found = after.checked_sub(1).and_then(|at| index.get(at));
        let &(_, offset) = found.ok_or(End::NoRow)?;
        let offset = S::Offset::from(offset as usize);
        let fde = section.fde_from_offset(self.bases, offset, S::cie_from_offset);
        let fde = fde.map_err(|_| End::Unsupported)?;
        if !fde.contains(self.address) {
            return Err(End::NoRow);
        }
        *self.work += fde.entry_len() + fde.cie().entry_len();
        if *self.work > MAX_WORK {
            return Err(End::Time);
        }
        let row = fde
            .unwind_info_for_address(section, self.bases, self.context, self.address)
            .map_err(|_| End::Unsupported)?;
        let caller = self
            .frame
            .caller(section, fde.cie().encoding(), row, self.read)?;
        Ok((caller, fde.is_signal_trampoline()))
    }
}

fn index<'a, S: UnwindSection<Bytes<'a>>>(
    section: &Section<'a, S>,
    bases: &BaseAddresses,
    segments: &Segments,
) -> Index {
    let mut index = Index::new();
    section.each_fde(bases, |fde| {
        let start = fde.initial_address();
        if let Ok(offset) = u32::try_from(fde.offset())
            && segments.at_address(start).is_some()
        {
            index.push((start, offset));
        }
        ControlFlow::Continue(())
    });
    if !index.is_sorted_by_key(|(start, _)| *start) {
        index.sort_by_key(|(start, _)| *start);
    }
    index.dedup_by_key(|(start, _)| *start);
    index.shrink_to_fit();
    index
}
