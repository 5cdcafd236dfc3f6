//! The kernel's own functions.
//!
//! Sampled kernel addresses enter, names leave. `/proc/kallsyms` is read once, line by line, and of
//! its hundred thousand symbols only the nearest one below each address is kept. What lies beyond
//! the end of its text stays without a name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};

mod text;

pub use text::Text;

/// A line of kallsyms that is longer is not one. (`KSYM_NAME_LEN` is 512, module names 56.)
const MAX_LINE: u64 = 1024;
/// Nothing says where the last function of a module ends: within a page of its start is believed.
const LAST_FUNCTION: u64 = 4096;

/// A kernel function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelLine {
    /// Its name.
    pub function: String,
    /// The module that it belongs to, without brackets (`bpf` for BPF programs); `None` for the
    /// kernel's own.
    pub module: Option<String>,
}

/// The names of kernel addresses, in their order.
///
/// # Errors
/// [`ErrorKind::KernelAddressesHidden`]: `kernel.kptr_restrict` or a missing CAP_SYSLOG makes all
/// addresses zero; otherwise `/proc/kallsyms` cannot be read.
pub fn names(addresses: &[u64]) -> Result<Vec<Option<KernelLine>>> {
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    names_from(open()?, addresses).map_err(|e| e.context("/proc/kallsyms"))
}

fn open() -> Result<File> {
    File::open("/proc/kallsyms").map_err(|e| Error::from(e).context("cannot open /proc/kallsyms"))
}

/// As [`names`], from text in the form of `/proc/kallsyms`.
///
/// # Errors
/// As [`names`].
pub fn names_from(kallsyms: impl Read, addresses: &[u64]) -> Result<Vec<Option<KernelLine>>> {
    let mut sorted: Vec<u64> = addresses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut pass = Pass::new(&sorted);
    each_symbol(kallsyms, &mut |symbol| pass.take(symbol))?;
    let names = pass.finish();
    Ok(addresses
        .iter()
        .map(|address| names[sorted.partition_point(|a| a < address)].clone())
        .collect())
}

/// Hands out each line.
fn each_symbol(kallsyms: impl Read, take: &mut dyn FnMut(&Symbol<'_>)) -> Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, kallsyms);
    let mut line = Vec::with_capacity(256);
    let mut any_address = false;
    loop {
        line.clear();
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        }
        if let Some(symbol) = Symbol::parse(&line) {
            any_address |= symbol.address != 0;
            take(&symbol);
        }
    }
    match any_address {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::KernelAddressesHidden,
            "all addresses are hidden; run as root with `sysctl kernel.kptr_restrict=0`, or leave \
             the kernel out with --no-kernel",
        )),
    }
}

/// `ffffffff81000000 T _stext`, and after a tab `[module]` if it belongs to one.
struct Symbol<'a> {
    address: u64,
    kind: u8,
    name: &'a str,
    module: Option<&'a str>,
}

impl<'a> Symbol<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let address = u64::from_str_radix(fields.next()?, 16).ok()?;
        let kind = *fields.next()?.as_bytes().first()?;
        let name = fields.next()?;
        let module = fields
            .next()
            .and_then(|m| m.strip_prefix('[')?.strip_suffix(']'));
        Some(Self {
            address,
            kind,
            name,
            module,
        })
    }

    fn is_text(&self) -> bool {
        matches!(self.kind, b'T' | b't' | b'W' | b'w')
    }

    /// Among aliases a text symbol, then the global one, then the one with fewer underscores
    /// (also `_stext` and its like stand where a function begins).
    fn rank(&self) -> Rank {
        (
            !self.is_text(),
            self.kind.is_ascii_lowercase(),
            self.name.bytes().take_while(|&b| b == b'_').count(),
        )
    }
}

/// Among aliases the least is the function's name.
type Rank = (bool, bool, usize);

/// What the pass keeps.
struct Pass<'a> {
    addresses: &'a [u64],
    /// For each address the nearest symbol at or below it, and above the address before it.
    below: Vec<Option<Candidate>>,
    /// For each address the nearest symbol above it, and below the address after it: where it
    /// starts, and its module.
    above: Vec<Option<(u64, Option<String>)>>,
    /// `_stext` to `_etext`, `_sinittext` to `_einittext`.
    text: Range<u64>,
    init: Range<u64>,
}

struct Candidate {
    address: u64,
    rank: Rank,
    /// `None`: what starts here is data.
    line: Option<KernelLine>,
}

impl<'a> Pass<'a> {
    fn new(addresses: &'a [u64]) -> Self {
        Self {
            addresses,
            below: addresses.iter().map(|_| None).collect(),
            above: vec![None; addresses.len()],
            text: 0..0,
            init: 0..0,
        }
    }

    fn take(&mut self, symbol: &Symbol<'_>) {
        if symbol.module.is_none() {
            match symbol.name {
                "_stext" => self.text.start = symbol.address,
                "_etext" => self.text.end = symbol.address,
                "_sinittext" => self.init.start = symbol.address,
                "_einittext" => self.init.end = symbol.address,
                _ => {}
            }
        }
        let at = self.addresses.partition_point(|&a| a < symbol.address);
        if let Some(previous) = at.checked_sub(1) {
            let above = &mut self.above[previous];
            if above.as_ref().is_none_or(|a| symbol.address < a.0) {
                *above = Some((symbol.address, symbol.module.map(str::to_owned)));
            }
        }
        let Some(below) = self.below.get_mut(at) else {
            return;
        };
        let rank = symbol.rank();
        let order = (std::cmp::Reverse(symbol.address), rank);
        if below
            .as_ref()
            .is_none_or(|b| order < (std::cmp::Reverse(b.address), b.rank))
        {
            *below = Some(Candidate {
                address: symbol.address,
                rank,
                line: symbol.is_text().then(|| KernelLine {
                    function: symbol.name.to_owned(),
                    module: symbol.module.map(str::to_owned),
                }),
            });
        }
    }

    fn finish(mut self) -> Vec<Option<KernelLine>> {
        for at in (1..self.above.len()).rev() {
            if self.above[at - 1].is_none() {
                self.above[at - 1] = self.above[at].clone();
            }
        }
        let mut last: Option<Candidate> = None;
        let mut names = Vec::with_capacity(self.addresses.len());
        let found = self.below.into_iter().zip(self.above);
        for (&address, (below, above)) in self.addresses.iter().zip(found) {
            last = below.or(last);
            names.push(last.as_ref().and_then(|symbol| {
                let line = symbol.line.as_ref()?;
                let within = match line.module {
                    None => [&self.text, &self.init]
                        .iter()
                        .any(|part| part.contains(&symbol.address) && part.contains(&address)),
                    Some(_) => {
                        above.is_some_and(|(_, module)| module == line.module)
                            || address - symbol.address < LAST_FUNCTION
                    }
                };
                within.then(|| line.clone())
            }));
        }
        names
    }
}
