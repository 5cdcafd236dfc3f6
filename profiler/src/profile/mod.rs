//! Merged stacks. Raw frames come in, equal stacks are counted once, names are looked up at the
//! end: memory grows with distinct stacks and is bounded.

use std::sync::Arc;

use rprof_ebpf::module::ModuleId;
use rprof_ebpf::record::End;

/// A frame before native names are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Frame {
    /// A kernel address (of the instruction, callers already adjusted to the call).
    Kernel(u64),
    /// A place in a module's file (callers already adjusted to the call).
    Native {
        /// The module.
        module: ModuleId,
        /// File offset.
        offset: u64,
    },
    /// A line of an interpreted function.
    Interpreted {
        /// Name and file as the runtime says them.
        function: Arc<Function>,
        /// Line, 0 if not known.
        line: u32,
    },
    /// A place that no module holds; shown as `[unknown]`.
    Unknown(u64),
    /// `[truncated: …]`, at the root side.
    Truncated(End),
    /// `[would fault]`, where `--on-fault mark` keeps such samples.
    WouldFault,
}

/// An interpreted function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Qualified name.
    pub name: String,
    /// File, as the runtime says it.
    pub file: String,
    /// First line, 0 if not known.
    pub first_line: u32,
}

/// Whose a stack is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labels {
    /// Process id; in rprof's own namespace, or the host's if `host_pid`.
    pub pid: u32,
    /// Thread id, likewise.
    pub tid: u32,
    /// `pid` and `tid` are those of the initial namespace, because ours does not show the process.
    pub host_pid: bool,
    /// The process's name.
    pub comm: Arc<str>,
    /// The thread's name.
    pub thread: Arc<str>,
    /// Its cgroup's path, or the id in it of a container.
    pub cgroup: Option<Arc<str>>,
}

/// One line of a named frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Line {
    /// Function name, as its users write it.
    pub function: String,
    /// Source file, empty if not known.
    pub file: String,
    /// Line, 0 if not known.
    pub line: u32,
    /// First line of the function, 0 if not known.
    pub first_line: u32,
}

/// What is known of a module, for the profile's mappings.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Module {
    /// Path as its processes see it; `[vdso]` for the vDSO.
    pub path: String,
    /// Build id in hex, empty if it has none.
    pub build_id: String,
    /// Bytes of the file.
    pub size: u64,
}

/// Names for native and kernel frames, asked for once each at the end.
pub trait Names {
    /// The module of a native frame.
    fn module(&self, id: ModuleId) -> Module;
    /// Lines of a place in a module, innermost inlined callee first. Empty: no name is known.
    fn native(&self, module: ModuleId, offset: u64) -> Vec<Line>;
    /// A kernel function; `None`: not known.
    fn kernel(&self, address: u64) -> Option<Line>;
}
