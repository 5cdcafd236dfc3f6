//! What reports tell, whatever their format: what the verdict counts as; of functions guilty ones before their callers,
//! and what only moved apart from both.

use super::places::Places;
use crate::cli::gate::Inconclusive;
use crate::gate::comparison::Comparison;
use crate::gate::costs::Function;
use crate::gate::explain::{Amount, Changed, Moved};
use crate::gate::statistics::design::Side;
use crate::gate::statistics::verdict::Verdict;

/// What moved from one function to another is told as such alone, unless it grew on the way by this share of the
/// threshold.
const GREW: f64 = 0.25;

/// What is told of a comparison.
#[derive(Debug)]
pub(super) struct Told<'a> {
    /// What an inconclusive verdict counts as, for who must have one of two.
    pub(super) counts_as: Option<Verdict>,
    /// Dearer by themselves.
    pub(super) guilty: Vec<Row<'a>>,
    /// Dearer by what they call.
    pub(super) callers: Vec<Row<'a>>,
    /// Cheaper.
    pub(super) cheaper: Vec<Row<'a>>,
    /// What moved.
    pub(super) moved: Vec<Pair<'a>>,
}

/// A function that changed.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    pub(super) changed: &'a Changed,
    pub(super) function: &'a Function,
    /// The line that cost most; 0: not known.
    pub(super) line: u32,
    /// What it is to be judged by.
    pub(super) amount: Amount,
    /// Whether that is with all that it calls.
    pub(super) is_with_callees: bool,
    /// Whether the project has accepted what it costs.
    pub(super) is_accepted: bool,
    /// Its callers, the nearest first, as far as they are the program's own.
    pub(super) way: Vec<&'a Function>,
    /// What it has from, or has left to, another.
    pub(super) moved: Option<Pair<'a>>,
}

impl<'a> Row<'a> {
    /// So many callers at most; `None`: some that are left out. Those of the repository are named alone, if there are
    /// any: between a function and who wants its work are often only a library's own.
    pub(super) fn callers(&self, places: &Places, most: usize) -> Vec<Option<&'a Function>> {
        let is_own = |of: &Function| places.find(&of.file).is_some();
        if !self.way.iter().any(|caller| is_own(caller)) {
            return self.way.iter().take(most).copied().map(Some).collect();
        }
        let mut callers: Vec<Option<&Function>> = Vec::new();
        let mut own = 0;
        for &caller in &self.way {
            if own == most {
                break;
            }
            if is_own(caller) {
                own += 1;
                callers.push(Some(caller));
            } else if callers.last() != Some(&None) {
                callers.push(None);
            }
        }
        // Beyond the last of its own nothing is told.
        if callers.last() == Some(&None) {
            callers.pop();
        }
        callers
    }

    /// The same as text: `a ← … ← main`; empty: there are none.
    pub(super) fn called_by(
        &self,
        places: &Places,
        most: usize,
        name: &dyn Fn(&str) -> String,
    ) -> String {
        let callers = self.callers(places, most);
        let callers = callers.into_iter().map(|caller| match caller {
            Some(caller) => name(&caller.name),
            None => "…".into(),
        });
        callers.collect::<Vec<String>>().join(" ← ")
    }
}

/// How it moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Renamed,
    Inlined,
    Split,
    Work,
}

/// What moved from one function to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) kind: Kind,
    pub(super) from: &'a Function,
    pub(super) to: &'a Function,
    /// How the two changed.
    pub(super) less: Option<&'a Changed>,
    pub(super) more: Option<&'a Changed>,
    /// Nanoseconds of a run that the first has less, and the second more.
    pub(super) lost: f64,
    pub(super) gained: f64,
}

impl Pair<'_> {
    /// What is left of it.
    pub(super) fn net(&self) -> f64 {
        self.gained - self.lost
    }
}

impl<'a> Told<'a> {
    pub(super) fn new(of: &'a Comparison, inconclusive: Option<Inconclusive>) -> Self {
        let worth = GREW * of.rule.threshold * of.mean(Side::Base);
        let explained = &of.explained;
        let find = |list: &'a [Changed], number: u32| {
            list.iter().find(|changed| changed.function == number)
        };
        let mut moved: Vec<(u32, u32, Pair<'a>)> = Vec::new();
        for &one in &explained.moved {
            let (kind, from, to) = match one.how {
                Moved::Renamed(from, to) => (Kind::Renamed, from, to),
                Moved::Inlined(from, to) => (Kind::Inlined, from, to),
                Moved::Split(from, to) => (Kind::Split, from, to),
                Moved::Work(from, to) => (Kind::Work, from, to),
            };
            let less = find(&explained.cheaper, from);
            let more = find(&explained.guilty, to);
            let pair = Pair {
                kind,
                from: &of.functions[from as usize],
                to: &of.functions[to as usize],
                lost: one.went,
                gained: one.came,
                less,
                more,
            };
            moved.push((from, to, pair));
        }
        let row = |changed: &'a Changed, is_with_callees: bool| Row {
            function: &of.functions[changed.function as usize],
            line: of
                .lines
                .get(changed.function as usize)
                .copied()
                .unwrap_or(0),
            amount: if is_with_callees {
                changed.all
            } else {
                changed.own
            },
            is_with_callees,
            is_accepted: of.accepted.get(changed.function as usize) == Some(&true),
            way: way(of, changed),
            moved: None,
            changed,
        };
        // By itself, unless its callees, none of which stands out, are what changed.
        let by_itself = |changed: &'a Changed| {
            row(
                changed,
                changed.own.growth.abs() <= 0.5 * changed.all.growth.abs(),
            )
        };
        let but_moved = |changed: &'a Changed, is_dearer: bool| {
            let pair = moved.iter().find(|(from, to, _)| {
                let number = if is_dearer { to } else { from };
                *number == changed.function
            });
            let Some((.., pair)) = pair else {
                return Some(by_itself(changed));
            };
            let left = match pair.kind {
                // Of several the row has all.
                Kind::Split | Kind::Inlined => {
                    let (own, all) = (changed.own.growth, changed.all.growth);
                    if is_dearer {
                        own.max(all)
                    } else {
                        -own.min(all)
                    }
                }
                Kind::Renamed | Kind::Work if is_dearer => pair.net(),
                Kind::Renamed | Kind::Work => -pair.net(),
            };
            (left > worth).then(|| Row {
                moved: Some(*pair),
                ..by_itself(changed)
            })
        };
        let counts_as = match inconclusive {
            _ if of.verdict != Verdict::Inconclusive => None,
            None => None,
            Some(Inconclusive::Pass) => Some(Verdict::Passed),
            Some(Inconclusive::Fail) => Some(Verdict::Regressed),
        };
        Self {
            counts_as,
            guilty: (explained.guilty.iter())
                .filter_map(|changed| but_moved(changed, true))
                .collect(),
            callers: (explained.callers.iter())
                .filter(|changed| !is_start(&of.functions[changed.function as usize].name))
                .map(|changed| Row {
                    // That is what they are here for.
                    is_with_callees: false,
                    ..row(changed, true)
                })
                .collect(),
            cheaper: (explained.cheaper.iter())
                .filter_map(|changed| but_moved(changed, false))
                .collect(),
            moved: moved.into_iter().map(|(.., pair)| pair).collect(),
        }
    }
}

/// Functions that a function is mostly called by, without what is the same in all programs.
fn way<'a>(of: &'a Comparison, changed: &Changed) -> Vec<&'a Function> {
    let way = changed.way.iter();
    way.map(|&caller| &of.functions[caller as usize])
        .take_while(|caller| !is_start(&caller.name))
        .collect()
}

/// Whether this is what calls `main`, or a thread's function, in all programs.
fn is_start(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "_start",
        "start_thread",
        "clone",
        "clone3",
        "__clone",
        "__clone3",
        "runtime.main",
        "runtime.goexit",
    ];
    const BEGINS: [&str; 4] = [
        "__libc_start_",
        "std::rt::lang_start",
        "std::sys::backtrace::__rust_begin_short_backtrace",
        "std::sys_common::backtrace::__rust_begin_short_backtrace",
    ];
    NAMES.contains(&name) || BEGINS.iter().any(|begin| name.starts_with(begin))
}
