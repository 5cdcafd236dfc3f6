//! Lists of directories as the loader reads them: with `$ORIGIN` and its kin, in order.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories of one list at most.
const MAX_DIRECTORIES: usize = 64;
/// Bytes of one directory's path (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// Values of `$LIB`, which each distribution sets when it builds its loader: Debian, Fedora, others.
const LIB: [&str; 3] = ["lib/x86_64-linux-gnu", "lib64", "lib"];
/// Values of `$PLATFORM` on x86-64 (glibc, sysdeps/x86/dl-procinfo.c).
const PLATFORM: [&str; 2] = ["haswell", "x86_64"];

/// Where glibc looks last, over its distributions.
pub(super) const GLIBC_DEFAULTS: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
/// Where musl looks last (ldso/dynlink.c), if no file in /etc says otherwise.
pub(super) const MUSL_DEFAULTS: &[&str] = &["/lib", "/usr/local/lib", "/usr/lib"];

/// The directories of a list. Relative ones start at `directory`, and are left out without one.
pub(super) fn directories(
    list: &OsStr,
    separators: &[u8],
    origin: &Path,
    directory: Option<&Path>,
) -> Vec<PathBuf> {
    if list.is_empty() {
        return Vec::new();
    }
    list.as_bytes()
        .split(|b| separators.contains(b))
        .flat_map(|entry| expand(OsStr::from_bytes(entry), origin))
        .filter_map(|path| absolute(&path, directory))
        .take(MAX_DIRECTORIES)
        .collect()
}

/// An absolute path, if there is where it starts.
pub(super) fn absolute(path: &Path, directory: Option<&Path>) -> Option<PathBuf> {
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    Some(directory?.join(path))
}

/// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM`, also in braces; several paths where a value is one of
/// several.
pub(super) fn expand(text: &OsStr, origin: &Path) -> Vec<PathBuf> {
    let mut all = vec![text.as_bytes().to_vec()];
    if text.as_bytes().contains(&b'$') {
        let origin = [origin.as_os_str().as_bytes()];
        all = replace(all, b"ORIGIN", &origin);
        all = replace(all, b"LIB", &LIB.map(str::as_bytes));
        all = replace(all, b"PLATFORM", &PLATFORM.map(str::as_bytes));
    }
    all.iter()
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .collect()
}

fn replace(texts: Vec<Vec<u8>>, name: &[u8], values: &[&[u8]]) -> Vec<Vec<u8>> {
    let has_name = |text: &Vec<u8>| find(text, name).is_some();
    texts
        .into_iter()
        .flat_map(|text| match has_name(&text) {
            true => values
                .iter()
                .map(|value| with(&text, name, value))
                .collect(),
            false => vec![text],
        })
        .filter(|text| text.len() <= MAX_PATH)
        .collect()
}

/// `text` with each `$NAME` and `${NAME}` replaced by `value`; cut off soon after it is too long.
fn with(text: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let (mut done, mut rest) = (Vec::new(), text);
    while done.len() <= MAX_PATH
        && let Some((start, end)) = find(rest, name)
    {
        let (before, token) = rest.split_at(start);
        done.extend_from_slice(before);
        done.extend_from_slice(value);
        rest = token.get(end - start..).unwrap_or_default();
    }
    done.extend_from_slice(rest);
    done
}

/// Where the first `$NAME` or `${NAME}` begins and ends.
fn find(text: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    memchr::memchr_iter(b'$', text).find_map(|start| {
        let rest = text.get(start + 1..)?;
        let (rest, braces) = match rest.strip_prefix(b"{") {
            Some(rest) => (rest, 2),
            None => (rest, 0),
        };
        let after = rest.strip_prefix(name)?;
        let closed = braces == 0 || after.starts_with(b"}");
        closed.then_some((start, start + 1 + name.len() + braces))
    })
}
