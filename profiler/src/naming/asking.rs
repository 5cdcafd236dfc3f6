//! Modules' names, asked of readers side by side: what is not answered soon is looked at from time to time
//! while others are asked, so that files that keep silent cost seconds together, and no other file's names.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rprof_ebpf::module::ModuleId;
use rprof_symbolize::module_names::ModuleNames;

use super::Lookup;
use crate::profile::Module;
use crate::reader::{Answer, Asked, Failed, Late, Named, Places, Standing};
use crate::sampling::modules::{self, Content};

/// How often those that are late are looked at.
const AGAIN: Duration = Duration::from_millis(20);
/// So many that must wait for others are asked for before these are looked at.
const SOME: usize = 16;
/// Late readers that may be at work side by side: each may need much memory.
const AT_WORK: u32 = 2;
/// Places that are asked for at once: more of one module's are asked for in several questions.
const PLACES: usize = 32 << 10;

/// Takes what is known of a module's places, and of others: see [`Lookup::name`].
pub(super) type Told<'a> = dyn FnMut(usize, Module, Vec<Named>, Vec<(u64, Named)>) + 'a;

/// A module whose names are looked up.
struct Naming {
    /// Its index among those that are wanted.
    n: usize,
    module: Arc<modules::Module>,
    about: Module,
    /// Of the places asked for so far.
    named: Vec<Named>,
    /// Of others, with their offsets.
    more: Vec<(u64, Named)>,
}

/// How far a module's names have come.
enum Step {
    Done,
    /// There is no answer yet.
    Late(Box<Late<Answer>>),
    /// Nothing was asked: it must wait for others' answers.
    Busy,
}

impl Lookup {
    /// What is known of a module without asking; `None`: there is no such module.
    fn begin(&self, n: usize, id: ModuleId) -> Option<Naming> {
        let module = self.modules.get(id)?;
        let about = Module {
            path: module.path.clone(),
            build_id: String::new(),
            size: match &module.content {
                Ok(Content::Image(bytes)) => bytes.len() as u64,
                _ => module.key.size,
            },
        };
        Some(Naming {
            n,
            module,
            about,
            named: Vec::new(),
            more: Vec::new(),
        })
    }

    /// Asks for a module's places, until all were or there is no answer.
    /// `around`: for more than these; `one_is_asked`: another file of its device.
    fn ask(
        &mut self,
        naming: &mut Naming,
        offsets: &[u64],
        around: bool,
        until: Instant,
        one_is_asked: bool,
    ) -> Step {
        while let Some(offsets) = offsets
            .get(naming.named.len()..)
            .and_then(|rest| rest.chunks(PLACES).next())
        {
            let module = naming.module.clone();
            let places = Places {
                path: module.path.clone(),
                inlines: self.inlines,
                offsets: offsets.to_vec(),
                around,
            };
            let answer = match &module.content {
                Ok(Content::File(_)) if Instant::now() >= until => {
                    self.left_out
                        .push(format!("{}: no time was left", module.path));
                    self.unasked.push(module.path.clone());
                    return Step::Done;
                }
                Ok(Content::File(file)) => match self.reader.names(&module.key, file, places) {
                    Asked::Answered(Err(Failed::Busy)) => return Step::Busy,
                    Asked::Answered(Err(Failed::Silent)) if one_is_asked => return Step::Busy,
                    Asked::Answered(answer) => answer,
                    Asked::Late(late) => return Step::Late(late),
                },
                Ok(Content::Image(bytes)) => ModuleNames::of_bytes(bytes.clone(), places.options())
                    .map(|names| Answer::of(&names, &places.offsets))
                    .map_err(|error| Failed::Said(error.to_string())),
                Err(failed) => Err(failed.clone()),
            };
            if !self.take(naming, offsets, answer) {
                break;
            }
        }
        Step::Done
    }

    /// Takes an answer for the next so many places. False: there is none, and no more are asked for.
    fn take(
        &mut self,
        naming: &mut Naming,
        offsets: &[u64],
        answer: Result<Answer, Failed>,
    ) -> bool {
        let path = &naming.module.path;
        match answer {
            Ok(answer) => {
                let notes = answer.left_out.iter();
                self.left_out
                    .extend(notes.map(|note| format!("{path}: {note}")));
                naming.about.build_id.clone_from(&answer.build_id);
                let (named, more) = answer.named(offsets);
                naming.named.extend(named);
                naming.more.extend(more);
                true
            }
            Err(failed) => {
                self.left_out.push(format!("{path}: {failed}"));
                if failed == Failed::Silent {
                    self.silent.push(path.clone());
                }
                false
            }
        }
    }

    /// As [`crate::profile::Names::modules`]; what has no answer by then has no names. `around`:
    /// more than these places may be told of.
    pub(super) fn name(
        &mut self,
        wanted: &[(ModuleId, Vec<u64>)],
        around: bool,
        until: Instant,
        each: &mut Told<'_>,
    ) {
        let mut queue = Vec::new();
        for (n, (id, _)) in wanted.iter().enumerate() {
            match self.begin(n, *id) {
                Some(naming) => queue.push(naming),
                None => each(n, Module::default(), Vec::new(), Vec::new()),
            }
        }
        // Whose device has always answered comes before whose has not.
        queue.sort_by_cached_key(|naming| !self.reader.trusts(&naming.module.key));
        let mut queue = VecDeque::from(queue);
        let offsets = |n: usize| wanted.get(n).map_or(&[][..], |(_, all)| all);
        let mut late: Vec<(Naming, Box<Late<Answer>>)> = Vec::new();
        while !(queue.is_empty() && late.is_empty()) {
            let (mut waits, mut busy) = (true, 0);
            while busy < queue.len().min(SOME) {
                let Some(mut naming) = queue.pop_front_if(|_| at_work(&mut late) < AT_WORK) else {
                    break;
                };
                // Of a device in quarantine one file is asked all the same; the others wait for its answer.
                let dev = naming.module.key.dev;
                let one_is_asked = late.iter().any(|(other, _)| other.module.key.dev == dev);
                let offsets = offsets(naming.n);
                match self.ask(&mut naming, offsets, around, until, one_is_asked) {
                    Step::Done => {
                        each(naming.n, naming.about, naming.named, naming.more);
                        waits = false;
                    }
                    Step::Late(answer) => late.push((naming, answer)),
                    Step::Busy => {
                        queue.push_back(naming);
                        busy += 1;
                    }
                }
            }
            for (mut naming, mut answer) in std::mem::take(&mut late) {
                let answer = match answer.look(AT_WORK) {
                    Standing::Answered => answer.take(),
                    Standing::Works | Standing::Waits if Instant::now() < until => {
                        late.push((naming, answer));
                        continue;
                    }
                    _ => Err(answer.give_up()),
                };
                waits = false;
                let rest = offsets(naming.n).get(naming.named.len()..);
                let rest = rest.unwrap_or_default();
                let asked = rest.get(..PLACES).unwrap_or(rest);
                match self.take(&mut naming, asked, answer) {
                    true => queue.push_front(naming),
                    false => each(naming.n, naming.about, naming.named, naming.more),
                }
            }
            if waits {
                std::thread::sleep(AGAIN);
            }
        }
    }
}

/// How many of them are at work.
fn at_work(late: &mut [(Naming, Box<Late<Answer>>)]) -> u32 {
    let works = |late: &mut Late<_>| late.look(AT_WORK) == Standing::Works;
    late.iter_mut()
        .map(|(_, late)| u32::from(works(late)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Pointed, Stamp};
    use crate::sampling::modules::Modules;

    #[test]
    fn nobody_is_asked_when_time_is_up() {
        let modules: Arc<Modules> = Arc::default();
        let file = tempfile::tempfile().expect("a file");
        let id = modules.add(modules::Module {
            key: rprof_ebpf::module::ModuleKey::VDSO,
            path: "/a".into(),
            content: Ok(Content::File(Pointed {
                fd: file.into(),
                stamp: Stamp::default(),
            })),
            interpreter: modules::Interpreter::None,
        });
        let mut lookup = Lookup::new(modules, true, Arc::default());
        let wanted = [(id.expect("room"), vec![1, 2]), (77, vec![3])];
        let mut told = Vec::new();
        lookup.name(
            &wanted,
            false,
            Instant::now(),
            &mut |n, module, named, _| {
                told.push((n, module.path, named.len()));
            },
        );
        // Each of them is told once all the same.
        told.sort_unstable();
        assert_eq!(told, [(0, "/a".into(), 0), (1, String::new(), 0)]);
        let said = lookup.silent();
        assert!(
            said[0].starts_with("No names of /a: no time was left"),
            "{said:?}"
        );
    }
}
