//! Limits of what we may have: raised for ourselves as far as we may, and for the command what they were.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes of stack that the main thread has room in.
const STACK: u64 = 8 << 20;

/// Limits as they were when rprof was started.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    files: Rlimit,
    stack: Rlimit,
}

impl Limits {
    /// Raises them, the first time that it is called: files stay open for each module, and the main
    /// thread's stack grows as it is used.
    pub fn raise() -> Self {
        static BEFORE: OnceLock<Limits> = OnceLock::new();
        *BEFORE.get_or_init(|| {
            let before = Self {
                files: getrlimit(Resource::Nofile),
                stack: getrlimit(Resource::Stack),
            };
            let _ = setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: before.files.maximum,
                    ..before.files
                },
            );
            if before.stack.current.is_some_and(|bytes| bytes < STACK) {
                let most = before.stack.maximum.unwrap_or(STACK);
                let current = Some(most.min(STACK));
                let _ = setrlimit(
                    Resource::Stack,
                    Rlimit {
                        current,
                        ..before.stack
                    },
                );
            }
            before
        })
    }

    /// How many files may be open at once; `None`: any number.
    pub fn most_files(&self) -> Option<u64> {
        self.files.maximum
    }

    /// Makes them what they were, between fork and exec.
    pub fn restore(&self) {
        let _ = setrlimit(Resource::Nofile, self.files);
        let _ = setrlimit(Resource::Stack, self.stack);
    }
}
