//! The folded format: `comm;root;…;leaf count`, one line a stack. A profile and its symbols come
//! in. Inlined callees are frames of their own, and stacks that read the same are one line, however
//! many threads and addresses they come from. It knows neither files nor addresses.

use std::io::{self, Write};

use super::frames::Owner;
use super::intern::Interner;
use super::stacks::{NoRoom, Stacks};
use super::{Profile, Symbols, text};

/// Writes a profile. Lines are in no particular order.
///
/// # Errors
/// Those of `out` and of part files.
pub fn write(profile: &Profile, symbols: &Symbols, out: &mut dyn Write) -> io::Result<()> {
    // The same counting as the profile's own, by function name instead of by frame.
    let mut names: Interner<u32> = Interner::default();
    let mut stacks = Stacks::default();
    let limit = profile.limits.max_memory / 4;
    let mut ids = Vec::new();
    profile.stacks.visit(&mut |frames, owner, count| {
        ids.clear();
        for &frame in frames {
            for line in symbols.lines_of(&symbols.place_of(frame)) {
                let function = symbols.functions().get(line.function as usize);
                ids.push(names.intern(function.map_or(0, |f| f.name)));
            }
        }
        let comm = Owner {
            pid: 0,
            tid: 0,
            comm: owner.comm,
            thread: 0,
            cgroup: Owner::NONE,
            host_pid: false,
        };
        let added = stacks.add(&ids, comm, count, limit, &profile.limits.directory);
        match added {
            Ok(()) => Ok(()),
            // Then it is not merged: a line of its own.
            Err(NoRoom::Memory) => line(&ids, comm, count, &names, symbols, out),
            Err(NoRoom::Spill(error)) => Err(error),
        }
    })?;
    stacks.visit(&mut |ids, comm, count| line(ids, *comm, count, &names, symbols, out))?;
    out.flush()
}

fn line(
    ids: &[u32],
    owner: Owner,
    count: u64,
    names: &Interner<u32>,
    symbols: &Symbols,
    out: &mut dyn Write,
) -> io::Result<()> {
    let comm = symbols.text_at(symbols.label(owner.comm));
    out.write_all(text::folded(comm).as_bytes())?;
    for &id in ids.iter().rev() {
        let name = names.at(id).map_or("", |&name| symbols.text_at(name));
        write!(out, ";{}", text::folded(name))?;
    }
    writeln!(out, " {count}")
}
