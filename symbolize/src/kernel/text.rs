//! All functions of the kernel's own text, for who asks again and again: it stays as it is from boot to the
//! next one. Modules and BPF programs come and go, and are not here.

use std::io::Read;
use std::ops::Range;

use super::{Rank, Symbol, each_symbol, open};
use crate::error::Result;

/// The kernel's own functions: some 100,000, in 4 MiB.
#[derive(Debug, Default)]
pub struct Text {
    /// `_stext` to `_etext`.
    range: Range<u64>,
    /// Where each symbol begins, rising: bytes from the beginning of the text, and where its name ends in
    /// `names`; a name begins where the one before ends. Empty: what starts there is data.
    starts: Vec<(u32, u32)>,
    names: String,
}

impl Text {
    /// Reads `/proc/kallsyms`.
    ///
    /// # Errors
    /// As [`names`](super::names).
    pub fn read() -> Result<Self> {
        Self::read_from(open()?).map_err(|e| e.context("/proc/kallsyms"))
    }

    /// As [`Text::read`], from text in the form of `/proc/kallsyms`.
    ///
    /// # Errors
    /// As [`names`](super::names).
    pub fn read_from(kallsyms: impl Read) -> Result<Self> {
        let mut range = 0..0;
        let mut all: Vec<(u64, Rank, Range<usize>)> = Vec::new();
        let mut texts = String::new();
        each_symbol(kallsyms, &mut |symbol: &Symbol<'_>| {
            if symbol.module.is_some() {
                return;
            }
            match symbol.name {
                "_stext" => range.start = symbol.address,
                "_etext" => range.end = symbol.address,
                _ => {}
            }
            let start = texts.len();
            if symbol.is_text() {
                texts.push_str(symbol.name);
            }
            all.push((symbol.address, symbol.rank(), start..texts.len()));
        })?;
        all.retain(|(address, ..)| range.contains(address));
        all.sort_unstable_by_key(|(address, rank, name)| (*address, *rank, name.start));
        all.dedup_by_key(|(address, ..)| *address);
        let mut names = String::new();
        let mut starts = Vec::with_capacity(all.len());
        for (address, _, name) in all {
            names.push_str(texts.get(name).unwrap_or_default());
            // More than 4 GiB of text or names: no kernel has that, and the rest stays without names.
            let place = (
                u32::try_from(address - range.start),
                u32::try_from(names.len()),
            );
            let (Ok(at), Ok(end)) = place else { break };
            starts.push((at, end));
        }
        names.shrink_to_fit();
        Ok(Self {
            range,
            starts,
            names,
        })
    }

    /// Whether an address is the kernel's own.
    pub fn contains(&self, address: u64) -> bool {
        self.range.contains(&address)
    }

    /// The function that an address is in.
    pub fn name(&self, address: u64) -> Option<&str> {
        let at = u32::try_from(address.checked_sub(self.range.start)?).ok()?;
        let after = self.starts.partition_point(|(start, _)| *start <= at);
        let this = after.checked_sub(1)?;
        let begin = match this.checked_sub(1) {
            Some(before) => self.starts.get(before)?.1,
            None => 0,
        };
        let (_, end) = self.starts.get(this)?;
        let name = self.names.get(begin as usize..*end as usize)?;
        (self.contains(address) && !name.is_empty()).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{names, names_from};

    const KALLSYMS: &str = "\
0000000000000000 A percpu
ffffffff81000000 T _stext
ffffffff81000000 T __first
ffffffff81000000 t first
ffffffff81000010 T second
ffffffff81000020 D table
ffffffff81000030 t third
ffffffff81000040 T _etext
ffffffff81000040 T beyond
ffffffffc0000000 t in_module\t[m]
";

    #[test]
    fn as_the_pass_has_it() {
        let text = Text::read_from(KALLSYMS.as_bytes()).unwrap();
        let addresses: Vec<u64> = (0..0x48).map(|n| 0xffff_ffff_8100_0000 + n).collect();
        let passed = names_from(KALLSYMS.as_bytes(), &addresses).unwrap();
        for (&address, passed) in addresses.iter().zip(&passed) {
            let passed = passed.as_ref().map(|line| line.function.as_str());
            assert_eq!(text.name(address), passed, "{address:#x}");
        }
        assert_eq!(text.name(0xffff_ffff_8100_0018), Some("second"));
        assert_eq!(text.name(0xffff_ffff_8100_0028), None);
        for beyond in [0, 0xffff_ffff_80ff_ffff, 0xffff_ffff_8100_0040, u64::MAX] {
            assert_eq!(text.name(beyond), None, "{beyond:#x}");
        }
    }

    #[test]
    fn this_kernel() {
        // Only root sees addresses.
        let Ok(text) = Text::read() else {
            return;
        };
        let addresses: Vec<u64> = (0..5000)
            .map(|n| text.range.start + n * (text.range.end - text.range.start) / 5000)
            .collect();
        let passed = names(&addresses).unwrap();
        let some = passed.iter().filter(|line| line.is_some()).count();
        assert!(some > 4000, "{some}");
        for (&address, passed) in addresses.iter().zip(&passed) {
            let passed = passed.as_ref().map(|line| line.function.as_str());
            assert_eq!(text.name(address), passed, "{address:#x}");
        }
    }
}
