//! What comes to the learner from beside its own thread. It asks a reader itself, but waits only for
//! what is answered soon; a file that is slow, or that never answers, is waited for by a thread that
//! has nothing else to do, and holds up no other module.

use std::collections::HashSet;
use std::sync::Arc;

use crossbeam_channel::Sender;
use rprof_ebpf::module::{ModuleId, ModuleKey};
use rprof_symbolize::module_file::Sampled;
use rprof_unwind::slice::FrameInfo;

use super::modules::{Content, Module};
use crate::reader::{Asked, Failed, Found, Late, Made, Reader};

/// A lesson.
pub enum Lesson {
    /// A file that is about to run, or runs, and its rows.
    Prepared(Box<Found>, Made),
    /// There are no more of those: the first tick waits for this to be dropped.
    AllPrepared(Sender<()>),
    /// The rows of a file.
    Rows(ModuleKey, ModuleId, Made),
    /// A module's file, or that it cannot be had.
    Found(ModuleKey, Result<Box<Found>, Failed>),
    /// The CFI of a module.
    Frames(ModuleKey, Result<Box<FrameInfo>, Failed>),
}

impl Lesson {
    /// The module that somebody may wait for.
    pub fn about(&self) -> Option<ModuleKey> {
        match self {
            Self::Prepared(found, _) => Some(found.key),
            Self::AllPrepared(_) => None,
            Self::Rows(key, ..) | Self::Found(key, _) | Self::Frames(key, _) => Some(*key),
        }
    }
}

/// Stands for a lesson about anything.
pub(super) const ANY: ModuleKey = ModuleKey::VDSO;

/// Asks for the learner.
pub struct Asker {
    reader: Reader,
    lessons: Sender<Lesson>,
    /// Modules that somebody waits for.
    pending: HashSet<ModuleKey>,
    /// Modules that gave no answer since [`Asker::unanswered`].
    unanswered: Vec<Unanswered>,
}

/// A module that gave no answer.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered {
    /// Which; [`ANY`] if it can be asked only after the next lesson, whatever that is about.
    pub key: ModuleKey,
    /// None yet: a lesson is to come.
    pub late: bool,
    /// Whoever reads its file waits for ever, or may.
    pub silent: bool,
}

impl Asker {
    /// Asks this reader; what is late comes through `lessons`.
    pub fn new(reader: Reader, lessons: Sender<Lesson>) -> Self {
        Self {
            reader,
            lessons,
            pending: HashSet::new(),
            unanswered: Vec::new(),
        }
    }

    /// The file of a sampled module.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn find(&mut self, sampled: &Sampled<'_>) -> Result<Found, Failed> {
        let key = sampled.key;
        let answer = match self.pending.contains(&key) {
            true => Err(Failed::Late),
            false => match self.reader.find(sampled) {
                Asked::Answered(answer) => answer,
                Asked::Late(late) => self.wait_beside(key, late, move |found| {
                    Lesson::Found(key, found.map(Box::new))
                }),
            },
        };
        self.settle(key, answer)
    }

    /// The CFI of a module.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn frame_info(&mut self, module: &Module) -> Result<FrameInfo, Failed> {
        let key = module.key;
        if self.pending.contains(&key) {
            return self.settle(key, Err(Failed::Late));
        }
        let file = match &module.content {
            Ok(Content::File(file)) => file,
            Ok(Content::Image(image)) => {
                return FrameInfo::from_image(image).map_err(|e| Failed::Said(e.to_string()));
            }
            Err(_) if self.reader.leaves_alone(&key, &module.path) => {
                return self.settle(key, Err(Failed::Silent));
            }
            // It was looked for just now, and not found.
            Err(failed) => return Err(Failed::Said(failed.to_string())),
        };
        let answer = match self.reader.frame_info(&key, &module.path, file) {
            Asked::Answered(answer) => answer,
            Asked::Late(late) => self.wait_beside(key, late, move |info| {
                Lesson::Frames(key, info.map(Box::new))
            }),
        };
        self.settle(key, answer)
    }

    /// The rows of a module.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn rows(&mut self, id: ModuleId, module: &Arc<Module>) -> Made {
        match make_rows(module, &mut self.reader) {
            Asked::Answered(made) => made,
            Asked::Late(late) => {
                let key = module.key;
                self.wait_beside(key, late, move |made| Lesson::Rows(key, id, made))
            }
        }
    }

    /// Whether a module's file is not to be asked now.
    pub fn leaves_alone(&self, module: &Module) -> bool {
        let key = &module.key;
        self.pending.contains(key) || self.reader.leaves_alone(key, &module.path)
    }

    /// A lesson about a module has come.
    pub fn learned(&mut self, key: &ModuleKey) {
        self.pending.remove(key);
    }

    /// Modules that gave no answer since this was asked last.
    pub fn unanswered(&mut self) -> Vec<Unanswered> {
        std::mem::take(&mut self.unanswered)
    }

    /// Notes who gave no answer.
    fn settle<T>(&mut self, key: ModuleKey, answer: Result<T, Failed>) -> Result<T, Failed> {
        let (late, silent) = match &answer {
            Ok(_) | Err(Failed::Said(_)) => return answer,
            Err(Failed::Late | Failed::Busy) => (true, false),
            Err(Failed::Silent) => (false, true),
            Err(Failed::Broken(_)) => (false, false),
        };
        let mut note = |key| self.unanswered.push(Unanswered { key, late, silent });
        note(key);
        if let Err(Failed::Busy) = answer {
            note(ANY);
        }
        answer
    }

    /// Has a thread wait for a late answer and make a lesson of it.
    fn wait_beside<T: 'static, U>(
        &mut self,
        key: ModuleKey,
        late: Box<Late<T>>,
        lesson: impl FnOnce(Result<T, Failed>) -> Lesson + Send + 'static,
    ) -> Result<U, Failed> {
        let lessons = self.lessons.clone();
        let thread = std::thread::Builder::new().name("rprof-late".into());
        let waits = thread.spawn(move || {
            // The learner has ended: nobody needs it any more.
            let _ = lessons.send(lesson(late.wait()));
        });
        waits.map_err(|error| Failed::Broken(error.to_string()))?;
        self.pending.insert(key);
        Err(Failed::Late)
    }
}

/// A module's rows.
pub(super) fn make_rows(
    module: &Module,
    reader: &mut Reader,
) -> Asked<Option<rprof_unwind::Table>> {
    match &module.content {
        Ok(Content::File(file)) => reader.rows(&module.key, &module.path, file),
        Ok(Content::Image(image)) => Asked::Answered(Ok(rprof_unwind::Table::from_image(
            image,
            crate::reader::MAX_MODULE_WORDS,
        )
        .ok())),
        Err(Failed::Said(_)) => Asked::Answered(Ok(None)),
        // There may be a file yet.
        Err(failed) => Asked::Answered(Err(failed.clone())),
    }
}
