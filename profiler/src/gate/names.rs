//! Names of functions that stay the same from build to build.

use std::borrow::Cow;

/// A name without what compilers add to it, which changes from build to build: Rust's hashes, GCC's and LLVM's
/// suffixes of clones.
pub fn plain(name: &str) -> Cow<'_, str> {
    // Of a whole name only: what follows takes ends away.
    without_crate_hashes(without_ends(name))
}

fn without_ends(name: &str) -> &str {
    let mut name = name;
    loop {
        let before = name;
        name = without_hash(name);
        for suffix in [
            ".constprop",
            ".isra",
            ".part",
            ".cold",
            ".llvm",
            ".lto_priv",
            ".localalias",
            ".clone",
        ] {
            if let Some(at) = name.rfind(suffix)
                && at > 0
                && name[at + suffix.len()..]
                    .bytes()
                    .all(|byte| byte == b'.' || byte.is_ascii_digit())
            {
                name = &name[..at];
            }
        }
        if let Some(at) = name.find(" [clone ")
            && at > 0
        {
            name = &name[..at];
        }
        if name == before {
            return name;
        }
    }
}

fn without_hash(name: &str) -> &str {
    let Some((rest, hash)) = name.rsplit_once("::h") else {
        return name;
    };
    let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash && !rest.is_empty() {
        rest
    } else {
        name
    }
}

/// `gate[9d3f1b2c4a5e6f70]::work`, as some write Rust's newer names: the number is the crate's build.
fn without_crate_hashes(name: &str) -> Cow<'_, str> {
    let mut plain = String::new();
    let mut rest = name;
    while let Some(at) = rest.find('[') {
        let (before, from) = rest.split_at(at);
        let digits = (from[1..].bytes())
            .take_while(u8::is_ascii_hexdigit)
            .count();
        let is_hash = (13..=16).contains(&digits)
            && from[1 + digits..].starts_with("]::")
            && before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let end = if is_hash { 2 + digits } else { 1 };
        plain += before;
        if !is_hash {
            plain.push('[');
        }
        rest = &from[end..];
    }
    if rest.len() == name.len() {
        return name.into();
    }
    (plain + rest).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_stay() {
        for (name, stays) in [
            (
                "alloc::vec::Vec<T>::push::h0123456789abcdef",
                "alloc::vec::Vec<T>::push",
            ),
            ("parse.constprop.0", "parse"),
            ("parse.isra.0.cold", "parse"),
            ("parse.part.12.llvm.8123", "parse"),
            ("parse [clone .isra.0]", "parse"),
            ("module.part", "module"),
            ("a.partial", "a.partial"),
            ("Parser.parse", "Parser.parse"),
            (".cold", ".cold"),
            ("::h0123456789abcdef", "::h0123456789abcdef"),
            (
                "<gate[9d3f1b2c4a5e6f70]::Alpha as gate[9d3f1b2c4a5e6f70]::Work>::work",
                "<gate::Alpha as gate::Work>::work",
            ),
            ("operator[]", "operator[]"),
            (
                "of<[u8]>::a[0123456789abcdef]",
                "of<[u8]>::a[0123456789abcdef]",
            ),
        ] {
            assert_eq!(plain(name), stays);
        }
    }
}
