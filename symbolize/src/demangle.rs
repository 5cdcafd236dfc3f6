//! Names as their users write them.
//!
//! A linker's name enters; Rust's two manglings lose their hash, C++ names keep parameters (they
//! tell overloads apart), all others leave as they are. (cpp_demangle 0.5 leaves out the first
//! parameter of constructor templates: its issue 129.) Recursion and output are
//! bounded: the names come from files that others wrote.

use std::borrow::Cow;
use std::fmt::Write;

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// Bytes of a name that is still demangled, and of what it may become. Substitutions make output
/// exponential in input.
const MAX_MANGLED: usize = 8 << 10;
const MAX_DEMANGLED: usize = 16 << 10;
/// Nesting at most. 96 is what cpp_demangle takes by default; its stack use is about 1 KiB a level.
const RECURSION: u32 = 96;

/// The name behind a linker's name.
pub fn demangle(name: &str) -> Cow<'_, str> {
    if name.len() > MAX_MANGLED {
        return Cow::Borrowed(name);
    }
    let written = if let Ok(rust) = rustc_demangle::try_demangle(name) {
        written(|to| write!(to, "{rust:#}"))
    } else if name.starts_with("_Z") || name.starts_with("_GLOBAL_") {
        cpp(name)
    } else {
        None
    };
    written.map_or(Cow::Borrowed(name), Cow::Owned)
}

fn cpp(name: &str) -> Option<String> {
    let parse = ParseOptions::default().recursion_limit(RECURSION);
    let symbol = Symbol::new_with_options(name, &parse).ok()?;
    let options = DemangleOptions::new().recursion_limit(RECURSION);
    written(|to| {
        let mut to = Adapter(to);
        symbol.structured_demangle(&mut to, &options)
    })
}

/// What `write` writes, unless it fails or goes on for too long.
fn written(write: impl FnOnce(&mut Capped) -> std::fmt::Result) -> Option<String> {
    let mut to = Capped(String::new());
    write(&mut to).ok()?;
    (!to.0.is_empty()).then_some(to.0)
}

struct Capped(String);

impl Write for Capped {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        if self.0.len() + piece.len() > MAX_DEMANGLED {
            return Err(std::fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

struct Adapter<'a>(&'a mut Capped);

impl cpp_demangle::DemangleWrite for Adapter<'_> {
    fn write_string(&mut self, piece: &str) -> std::fmt::Result {
        self.0.write_str(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn names_as_their_users_write_them() {
        for (mangled, name) in [
            ("main", "main"),
            (
                "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
                "core::fmt::Formatter::pad",
            ),
            ("_RNvCs15kBYyAo9fc_7mycrate7example", "mycrate::example"),
            (
                "_ZNSt6vectorIiSaIiEE9push_backERKi",
                "std::vector<int, std::allocator<int> >::push_back(int const&)",
            ),
            ("_Z3addIiEvT_", "void add<int>(int)"),
            ("_ZN3FooC4Ev", "Foo::Foo()"),
            ("_Zgarbage", "_Zgarbage"),
        ] {
            assert_eq!(demangle(mangled), name, "{mangled}");
        }
    }

    #[test]
    fn hostile_names_end() {
        let deep = format!("_Z1f{}i", "P".repeat(10_000));
        assert_eq!(demangle(&deep), deep);
        // Each substitution doubles what it stands for.
        let mut wide = String::from("_Z1fSt4pairIiiE");
        for at in 0..40 {
            let s = if at == 0 {
                "S_".into()
            } else {
                format!("S{}_", at - 1)
            };
            wide += &format!("St4pairI{s}{s}E");
        }
        let shown = demangle(&wide);
        assert!(shown.len() <= super::MAX_DEMANGLED);
    }
}
