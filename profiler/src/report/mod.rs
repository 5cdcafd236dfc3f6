//! What people are told. Figures come in as plain data, text leaves, for standard error; nothing
//! here samples, and nothing here decides what is measured. Names of programs and functions come
//! from strangers: [`plain`] takes the control characters out before a terminal sees them.
//!
//! | module | what it is |
//! |---|---|
//! | [`check`] | what this machine allows: `rprof check`, and errors before sampling |
//! | [`progress`] | the line that is redrawn while sampling |
//! | [`summary`] | what is printed at the end |
//! | [`words`] | what the words of the ledger mean |
//! | [`comments`] | what the profile's own comments say |

pub mod check;
pub mod command;
pub mod comments;
pub mod paint;
pub mod progress;
pub mod summary;
pub mod words;

/// Whether a character moves the cursor, colors the screen or reorders the line.
pub fn drives_a_terminal(c: char) -> bool {
    c.is_control()
        // Bidirectional controls and invisible separators.
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A name without characters that would move the cursor, color the screen or reorder the line, and
/// at most `width` characters long; what is cut shows as `…`.
pub fn plain(name: &str, width: usize) -> String {
    let mut chars = name.chars();
    let mut text: String = chars
        .by_ref()
        .take(width)
        .map(|c| if drives_a_terminal(c) { '?' } else { c })
        .collect();
    if chars.next().is_some() {
        text.pop();
        text.push('…');
    }
    text
}

/// What a process of this name is called: one may have given itself an empty name.
pub fn called(comm: &str) -> &str {
    match comm.trim() {
        "" => "(no name)",
        _ => comm,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn hostile_names_cannot_drive_a_terminal() {
        assert_eq!(
            super::plain("a\x1b[2Jb\r\n\u{9b}c\u{202e}", 40),
            "a?[2Jb???c?"
        );
        assert_eq!(super::plain("python3", 7), "python3");
        assert_eq!(super::plain("python3.13", 7), "python…");
        assert_eq!(super::plain("x", 0), "…");
        assert_eq!(super::called(" "), "(no name)");
        assert_eq!(super::called("sh"), "sh");
    }
}
