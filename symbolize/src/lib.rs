//! Addresses and code objects to names.
//!
//! What enters: file offsets in modules and kernel addresses that were sampled, and the code
//! objects of runtimes. What leaves: [`Line`]s. An address that no symbol covers stays without a
//! name; it never gets its neighbour's. Nothing here waits for a target, maps a foreign file, or
//! holds more of one than its caller allows.
//!
//! | module | what it holds |
//! |---|---|
//! | [`module_file`] | from a sampled module key to an open file that is the one sampled |
//! | [`module_names`] | the names of one module, asked for once for all its sampled places |
//! | [`build_id`] | what tells two builds of a file apart |
//! | [`debug_files`] | where the debug information of a stripped module is |
//! | [`elf`] | sections, symbols and PLT stubs |
//! | [`dwarf`] | lines and inlined functions |
//! | [`demangle`] | names as their users write them |
//! | [`kernel`] | the kernel's own functions |
//! | [`libraries`] | which files a program maps as code when it starts |
//! | [`runtimes`] | interpreters |
//! | [`reads`] | the read ladder |

pub mod beneath;
pub mod build_id;
pub mod debug_files;
pub mod demangle;
pub mod dwarf;
pub mod elf;
pub mod error;
pub mod image;
pub mod kernel;
pub mod libraries;
pub mod module_file;
pub mod module_names;
pub mod reads;
pub mod runtimes;

pub use build_id::BuildId;
pub use error::{Error, ErrorKind};
pub use module_names::{ModuleLines, ModuleNames};

/// One line of a named place: a function, or an inlined callee of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Line {
    /// Function name, as its users write it.
    pub function: String,
    /// Source file as the debug information says it, empty if not known.
    pub file: String,
    /// Line of the place in `file`, 0 if not known.
    pub line: u32,
    /// First line of the function, 0 if not known.
    pub first_line: u32,
}
