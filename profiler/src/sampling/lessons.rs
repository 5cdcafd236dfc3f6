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
    Rows(ModuleId, Made),
    /// A module's file, or that it cannot be had.
    Found(ModuleKey, Result<Box<Found>, Failed>),
    /// The CFI of a module.
    Frames(ModuleKey, Result<Box<FrameInfo>, Failed>),
}

/// Asks for the learner.
pub struct Asker {
    reader: Reader,
    lessons: Sender<Lesson>,
    /// Modules that somebody waits for.
    pending: HashSet<ModuleKey>,
    /// Modules that gave no answer since [`Asker::unanswered`].
    unanswered: Vec<ModuleKey>,
    /// One of those is pending.
    waits: bool,
}

impl Asker {
    /// Asks this reader; what is late comes through `lessons`.
    pub fn new(reader: Reader, lessons: Sender<Lesson>) -> Self {
        Self {
            reader,
            lessons,
            pending: HashSet::new(),
            unanswered: Vec::new(),
            waits: false,
        }
    }

    /// The file of a sampled module.
    ///
    /// # Errors
    /// [`Failed::Silent`]: it keeps silent, or is waited for.
    pub fn find(&mut self, sampled: &Sampled<'_>) -> Result<Found, Failed> {
        let key = sampled.key;
        if self.pending.contains(&key) {
            return self.settle(key, None);
        }
        let answer = match self.reader.find(sampled) {
            Asked::Answered(answer) => Some(answer),
            Asked::Late(late) => {
                self.wait_beside(key, late, move |found| {
                    Lesson::Found(key, found.map(Box::new))
                });
                None
            }
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
            return self.settle(key, None);
        }
        let file = match &module.content {
            Ok(Content::File(file)) => file,
            Ok(Content::Image(image)) => {
                return FrameInfo::from_image(image).map_err(|e| Failed::Said(e.to_string()));
            }
            Err(_) if self.reader.leaves_alone(&key) => {
                return self.settle(key, Some(Err(Failed::Silent)));
            }
            Err(error) => return Err(Failed::Said(error.clone())),
        };
        let answer = match self.reader.frame_info(&key, &module.path, file) {
            Asked::Answered(answer) => Some(answer),
            Asked::Late(late) => {
                self.wait_beside(key, late, move |info| {
                    Lesson::Frames(key, info.map(Box::new))
                });
                None
            }
        };
        self.settle(key, answer)
    }

    /// The rows of a module; `None`: they come as a lesson.
    pub fn rows(&mut self, id: ModuleId, module: &Arc<Module>) -> Option<Made> {
        match make_rows(module, &mut self.reader) {
            Asked::Answered(made) => Some(made),
            Asked::Late(late) => {
                let waits = self.wait_beside(module.key, late, move |made| Lesson::Rows(id, made));
                (!waits).then_some(Err(Failed::Silent))
            }
        }
    }

    /// Whether a module's file is not to be asked now.
    pub fn leaves_alone(&self, key: &ModuleKey) -> bool {
        self.pending.contains(key) || self.reader.leaves_alone(key)
    }

    /// A lesson about a module has come.
    pub fn learned(&mut self, key: &ModuleKey) {
        self.pending.remove(key);
    }

    /// Modules that gave no answer since this was asked last, and whether one may yet give it.
    pub fn unanswered(&mut self) -> (Vec<ModuleKey>, bool) {
        let waits = std::mem::take(&mut self.waits);
        (std::mem::take(&mut self.unanswered), waits)
    }

    /// Notes who gave no answer, or none yet (`None`).
    fn settle<T>(
        &mut self,
        key: ModuleKey,
        answer: Option<Result<T, Failed>>,
    ) -> Result<T, Failed> {
        self.waits |= answer.is_none();
        let answer = answer.unwrap_or(Err(Failed::Silent));
        if let Err(Failed::Silent) = answer {
            self.unanswered.push(key);
        }
        answer
    }

    /// Has a thread wait for a late answer and make a lesson of it; `false`: there is none.
    fn wait_beside<T: 'static>(
        &mut self,
        key: ModuleKey,
        late: Late<T>,
        lesson: impl FnOnce(Result<T, Failed>) -> Lesson + Send + 'static,
    ) -> bool {
        let lessons = self.lessons.clone();
        let thread = std::thread::Builder::new().name("rprof-late".into());
        let waits = thread.spawn(move || {
            // The learner has ended: nobody needs it any more.
            let _ = lessons.send(lesson(late.wait()));
        });
        if waits.is_ok() {
            self.pending.insert(key);
        }
        waits.is_ok()
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
        Err(_) => Asked::Answered(Ok(None)),
    }
}
