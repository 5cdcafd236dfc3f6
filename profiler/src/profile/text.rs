//! Text from targets, made fit to be shown: names come in as hostile as programs can make them, and
//! go out without control characters (a name must not drive the terminal of who reads it) and not
//! longer than [`MAX_BYTES`]. It never changes a name that is fit already.

use std::borrow::Cow;

/// Bytes of one name at most: C++ templates are long, but not that long.
pub(super) const MAX_BYTES: usize = 4096;

/// What stands for a name that is empty.
pub(super) const UNKNOWN: &str = "[unknown]";

/// At most [`MAX_BYTES`] of a text, cut between characters.
pub(super) fn cap(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_BYTES)]
}

/// A text without control characters, and capped.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    replace(cap(text), |c| c.is_control().then_some('\u{fffd}'))
}

/// A printable name as an element of a folded line, where `;` separates.
pub(super) fn folded(name: &str) -> Cow<'_, str> {
    match name.trim() {
        "" => Cow::Borrowed(UNKNOWN),
        name => replace(name, |c| (c == ';').then_some(':')),
    }
}

fn replace(text: &str, by: impl Fn(char) -> Option<char>) -> Cow<'_, str> {
    if text.chars().any(|c| by(c).is_some()) {
        Cow::Owned(text.chars().map(|c| by(c).unwrap_or(c)).collect())
    } else {
        Cow::Borrowed(text)
    }
}
