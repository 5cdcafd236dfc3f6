//! Lines and inlined functions from DWARF 2 to 5.
//!
//! What enters is a file with debug sections and all addresses that were sampled in it; what leaves
//! are [`Line`]s for each. Because all addresses are known at once, nothing is indexed: the few units
//! that hold a sampled address are found, and their functions and line rows streamed past the addresses.
//! Memory does not grow with the file. Hostile input costs at most the module's own names: reads are
//! counted, depths and lengths capped.

mod around;
mod functions;
mod names;
mod reader;
mod rows;
mod sections;
mod units;
mod unpacked;

use std::ops::Range;
use std::rc::Rc;

use crate::Line;
use crate::elf::Elf;
use crate::error::{Error, ErrorKind, Result};

use around::{More, Row};
use reader::{Pager, Reader};

type Dwarf = gimli::Dwarf<Reader>;
type Unit = gimli::Unit<Reader>;

/// What is wanted of the debug information.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Inlined callees as lines of their own.
    pub inlines: bool,
    /// Bytes of memory that reading one module's debug information may take, and that the names it
    /// gives may take. Sections are read in pages (2 MiB); compressed ones must be held whole.
    pub budget: u64,
}

/// What the debug information says of one address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Innermost inlined callee first; the function of a line is empty if DWARF does not know it.
    pub(crate) lines: Vec<Line>,
    /// The outermost function's name is a linker's name, which tells its scope and parameters.
    pub(crate) by_linkage_name: bool,
    /// Addresses around it of which all this is true as well; `None`: only of it itself, as far as is known.
    pub(crate) alike: Option<Range<u64>>,
}

/// What is gathered of an address while units pass.
#[derive(Debug, Default)]
struct Gathered {
    /// The functions around it, outermost first.
    chain: Vec<Scope>,
    /// The row of the line table.
    row: Option<(Rc<str>, u32)>,
}

impl Gathered {
    /// Neither a function nor a row has been found.
    fn is_unknown(&self) -> bool {
        self.chain.is_empty() && self.row.is_none()
    }
}

/// A function, or an inlined one, around an address.
#[derive(Clone, Debug)]
struct Scope {
    /// Offset of its entry in `.debug_info`.
    entry: usize,
    /// Where it was inlined.
    call: Option<(Rc<str>, u32)>,
}

/// The addresses of one module, sorted, and what is known of each.
struct Search<'a> {
    addresses: &'a [u64],
    /// Where code is, sorted: linkers leave entries of discarded functions, at address 0 or
    /// thereabouts.
    text: Vec<Range<u64>>,
    /// Pays for each address that is looked at: files can make each of their ranges cover all.
    pager: Rc<Pager>,
    gathered: Vec<Gathered>,
    /// Wanted beside the addresses: all that lies in these ranges (ascending).
    around: &'a [Range<u64>],
    /// The rows of the unit at hand that begin there.
    rows: Vec<Row>,
    /// What was found there.
    more: Vec<More>,
    /// For each address what lies around it up to its neighbours, and to the next place on either side where a
    /// row or a function of its unit begins or ends. Empty: not all of these are known.
    alike: Vec<Range<u64>>,
}

impl<'a> Search<'a> {
    fn new(addresses: &'a [u64], text: &Elf, pager: &Rc<Pager>) -> Self {
        let mut text: Vec<Range<u64>> = text.text().collect();
        text.sort_unstable_by_key(|text| text.start);
        Self::with(addresses, text, pager)
    }

    fn with(addresses: &'a [u64], text: Vec<Range<u64>>, pager: &Rc<Pager>) -> Self {
        let before = std::iter::once(0).chain(addresses.iter().map(|&a| a.saturating_add(1)));
        let after = addresses.iter().copied().skip(1).chain([u64::MAX]);
        Self {
            addresses,
            text,
            pager: pager.clone(),
            around: &[],
            rows: Vec::new(),
            more: Vec::new(),
            gathered: addresses.iter().map(|_| Gathered::default()).collect(),
            alike: before.zip(after).map(|(start, end)| start..end).collect(),
        }
    }

    /// For other addresses of the same file.
    fn of<'b>(&self, addresses: &'b [u64]) -> Search<'b> {
        Search::with(addresses, self.text.clone(), &self.pager)
    }

    /// What is true on one side of this address need not be on the other. The index of the first address
    /// behind it.
    fn border(&mut self, at: u64) -> usize {
        let next = self.addresses.partition_point(|&a| a < at);
        if let Some(alike) = self.alike.get_mut(next) {
            alike.start = alike.start.max(at);
        }
        if let Some(alike) = next.checked_sub(1).and_then(|i| self.alike.get_mut(i)) {
            alike.end = alike.end.min(at);
        }
        next
    }

    /// The indices of the addresses in a range that begins in code. What is true within it need not be
    /// outside.
    fn within(&mut self, begin: u64, end: u64) -> gimli::Result<Range<usize>> {
        let first = self.border(begin);
        let upto = self.border(end);
        if first >= upto || !self.is_code(begin) {
            return Ok(0..0);
        }
        self.pager.spend((upto - first) as u64)?;
        Ok(first..upto)
    }

    /// The indices of the addresses of which neither a function nor a row is known, ascending.
    fn unexplained(&self) -> Vec<usize> {
        let all = self.gathered.iter().enumerate();
        all.filter(|(_, gathered)| gathered.is_unknown())
            .map(|(index, _)| index)
            .collect()
    }

    fn is_code(&self, address: u64) -> bool {
        let after = self.text.partition_point(|text| text.start <= address);
        let text = after.checked_sub(1).and_then(|at| self.text.get(at));
        text.is_some_and(|text| text.contains(&address))
    }
}

/// Whether the file has debug information at all.
pub(crate) fn is_in(elf: &Elf) -> bool {
    [".debug_info", ".zdebug_info"].iter().any(|name| {
        elf.section(name)
            .is_some_and(|s| s.has_bytes() && s.size > 0)
    })
}

/// What is known of places.
pub(crate) struct Places {
    /// Of those that were asked for.
    pub(crate) asked: Vec<Place>,
    /// Of others around these, by their addresses.
    pub(crate) around: Vec<(u64, Place)>,
    /// What kept others from being known.
    pub(crate) error: Option<Error>,
}

/// The places of `addresses` (sorted, without repetition), and in `around` (ranges, ascending) those that
/// units with such an address have there. `debug` holds the debug information of `text`, or is the same
/// file.
pub(crate) fn places(
    debug: &Elf,
    text: &Elf,
    addresses: &[u64],
    around: &[Range<u64>],
    options: Options,
) -> Places {
    let mut places = Places {
        asked: vec![Place::default(); addresses.len()],
        around: Vec::new(),
        error: None,
    };
    places.error = fill(debug, text, addresses, around, options, &mut places).err();
    places
}

fn fill(
    debug: &Elf,
    text: &Elf,
    addresses: &[u64],
    around: &[Range<u64>],
    options: Options,
    places: &mut Places,
) -> Result<()> {
    // Each byte is read at most a few times by honest files.
    let fuel = debug
        .image()
        .len()
        .saturating_mul(4)
        .saturating_add(1 << 24);
    let pager = Pager::new(debug.image().clone(), fuel);
    let mut search = Search::new(addresses, text, &pager);
    search.around = around;
    let dwarf = sections::load(debug, &pager, options.budget)?;
    let mut units = units::Units::new(&dwarf, &pager);
    let mut first_error = None;
    let passed = units.each(&mut search, |unit, program, wanted, search| {
        // One unit's error costs that unit's names only.
        let of_unit = rows::gather(&dwarf, &pager, unit, program, wanted, search)
            .and_then(|files| around::gather(&dwarf, unit, files, wanted, search));
        if let Err(error) = of_unit {
            first_error.get_or_insert(Error::from(error));
            for &index in wanted {
                search.alike[index] = 0..0;
            }
        }
    });
    let mut naming = names::Naming::new(&mut units, options);
    let mut named = Ok(());
    for (place, gathered) in places.asked.iter_mut().zip(&search.gathered) {
        match naming.place(gathered) {
            Ok(found) => *place = found,
            Err(error) => {
                named = Err(error);
                break;
            }
        }
    }
    // Nobody misses what is too much of these.
    let more = search.more.into_iter().map_while(|more| {
        let mut place = naming.place(&more.gathered).ok()?;
        place.alike = Some(more.alike).filter(|alike| !alike.is_empty());
        Some((more.address, place))
    });
    let around: Vec<(u64, Place)> = more.collect();
    if pager.is_exhausted() {
        let message = "debug information that refers to itself without end";
        return Err(Error::new(ErrorKind::OverBudget, message));
    }
    if pager.is_broken() {
        let message = "a compressed section that cannot be unpacked";
        return Err(Error::malformed(message));
    }
    let known = search.gathered.iter().zip(search.alike);
    for (place, (gathered, alike)) in places.asked.iter_mut().zip(known) {
        // Without a row nothing is known of where the unit's code ends, unless all units are known to have
        // none here.
        let ends = gathered.row.is_some() || gathered.is_unknown() && units.are_all_known();
        place.alike = Some(alike).filter(|alike| ends && !alike.is_empty());
    }
    places.around = around;
    first_error.map_or(passed.and(named), Err)
}
