//! Figures and names as all reports write them. Names come from profiles, that is from strangers: what leaves has no
//! characters that a terminal or a CI system's log would obey.

use crate::report::drives_a_terminal;

/// Brackets within brackets that are told from each other.
const DEEP: usize = 6;
/// Characters of a name at most, where there is room.
pub(super) const LONG: usize = 300;

/// A share with its sign; infinite is not known.
pub(super) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if !percent.is_finite() {
        "unknown".into()
    } else if percent.abs() >= 1000.0 {
        format!("{percent:+.0} %")
    } else if percent.abs() < 0.05 {
        // Not "-0.0".
        "+0.0 %".into()
    } else {
        format!("{percent:+.1} %")
    }
}

/// A share that somebody has typed: `2 %`, `0.25 %`.
pub(super) fn typed(share: f64) -> String {
    let text = format!("{:.3}", 100.0 * share);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} %")
}

/// A chance: `0.02 %`, `less than 0.01 %`.
pub(super) fn chance(p: f64) -> String {
    match 100.0 * p {
        p if p < 0.01 => "less than 0.01 %".into(),
        p if p < 10.0 => format!("{p:.2} %"),
        p => format!("{p:.0} %"),
    }
}

/// Nanoseconds.
pub fn time(nanos: f64) -> String {
    match nanos.abs() {
        n if n >= 1e9 => format!("{:.3} s", nanos / 1e9),
        n if n >= 1e6 => format!("{:.1} ms", nanos / 1e6),
        _ => format!("{:.0} µs", nanos / 1e3),
    }
}

/// Nanoseconds with their sign.
pub(super) fn more_time(nanos: f64) -> String {
    match nanos >= 0.0 {
        true => format!("+{}", time(nanos)),
        false => time(nanos),
    }
}

/// Text of strangers. Neither terminals nor logs of CI systems find anything in it that they would obey: of the
/// latter some look for `##[` anywhere in a line, and for `::` at its begin, where no such text may stand.
pub(in crate::gate) fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        harmless.push(match c {
            c if drives_a_terminal(c) => '?',
            // What XML has no way to write.
            '\u{fffe}' | '\u{ffff}' => '?',
            '#' if harmless.ends_with('#') => '?',
            c => c,
        });
    }
    harmless
}

/// The same, at most so wide. Of what is too long arguments go first, those of arguments before others; what is left
/// is cut in the middle: what names of templates and generics differ in is at both ends.
pub(super) fn name(text: &str, width: usize) -> String {
    let mut text = harmless(text.trim());
    if text.is_empty() {
        return "[no name]".into();
    }
    for depth in (0..DEEP).rev() {
        if text.chars().count() <= width {
            return text;
        }
        text = without_arguments(&text, depth).unwrap_or(text);
    }
    let chars = text.chars().count();
    if chars <= width {
        return text;
    }
    let kept = width.saturating_sub(1);
    let tail = kept * 2 / 5;
    let head: String = text.chars().take(kept - tail).collect();
    let tail: String = text.chars().skip(chars - tail).collect();
    format!("{head}…{tail}")
}

/// A name without what is in brackets within so many others. `None`: they do not match.
fn without_arguments(name: &str, depth: usize) -> Option<String> {
    let mut left = String::new();
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        // Brackets that are names themselves.
        if let Some(after) = rest.strip_prefix("operator")
            && !left.ends_with(|c: char| c.is_alphanumeric() || c == '_')
        {
            let own = match after.starts_with("()") {
                true => 2,
                false => after.len() - after.trim_start_matches(['<', '>', '=', '-']).len(),
            };
            let (operator, after) = rest.split_at("operator".len() + own);
            left.push_str(operator);
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '<' | '(' => open.push((c, left.len())),
            '>' if left.ends_with('-') => {}
            '>' | ')' => {
                let (opened, at) = open.pop()?;
                if (opened == '<') != (c == '>') {
                    return None;
                }
                // `(anonymous namespace)::f`, `(*T).f`, `<T as U>::f` tell more than arguments.
                let is_path = match c {
                    ')' => rest.starts_with("::") || rest.starts_with('.'),
                    _ => {
                        rest.starts_with("::")
                            && (at == 0 || left[..at].ends_with([' ', '&', '*', '(']))
                    }
                };
                if open.len() == depth && !is_path && left.len() > at + 1 {
                    left.truncate(at + 1);
                    left.push('…');
                }
            }
            _ => {}
        }
        left.push(c);
    }
    open.is_empty().then_some(left)
}

/// The same, cut at its begin: the end of a path tells most.
pub(super) fn path(text: &str, width: usize) -> String {
    let text = harmless(text);
    let chars = text.chars().count();
    if chars <= width {
        return text;
    }
    let tail: String = text.chars().skip(chars + 1 - width.max(1)).collect();
    format!("…{tail}")
}

/// `1 run`, `2 runs`.
pub(super) fn counted(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(percent(0.0841), "+8.4 %");
        assert_eq!(percent(-0.0001), "+0.0 %");
        assert_eq!(percent(123.0), "+12300 %");
        assert_eq!(percent(f64::INFINITY), "unknown");
        assert_eq!(typed(0.07), "7 %");
        assert_eq!(typed(0.0025), "0.25 %");
        assert_eq!(typed(1.0), "100 %");
        assert_eq!(chance(0.0), "less than 0.01 %");
        assert_eq!(chance(0.0648), "6.48 %");
        assert_eq!(more_time(-2.5e6), "-2.5 ms");
        assert_eq!(more_time(1.5e9), "+1.500 s");
    }

    #[test]
    fn long_names_keep_both_ends() {
        let long = "std::vec<std::pair<int, std::string>>::emplace_back";
        assert_eq!(name(long, 40), "std::vec<std::pair<…>>::emplace_back");
        assert_eq!(name(long, 26), "std::vec<…>::emplace_back");
        assert_eq!(name(long, 20), "std::vec<…>:…ce_back");
        assert_eq!(name(long, 20).chars().count(), 20);
        for (long, width, short) in [
            (
                "a::H<std::basic_string<char>, int>::run(long, std::function<void (long)>)",
                20,
                "a::H<…>::run(…)",
            ),
            (
                "(anonymous namespace)::Parser<char>::operator()(std::string const&)",
                50,
                "(anonymous namespace)::Parser<…>::operator()(…)",
            ),
            (
                "std::operator<< <std::char_traits<char> >(std::ostream&, char const*)",
                24,
                "std::operator<< <…>(…)",
            ),
            (
                "<alloc::vec::Vec<T, A> as core::ops::Drop>::drop",
                46,
                "<alloc::vec::Vec<…> as core::ops::Drop>::drop",
            ),
            (
                "net/http.(*conn).serve(a very long list)",
                24,
                "net/http.(*conn).serve(…)",
            ),
            ("a < b, which is no name at all", 9, "a < b…all"),
        ] {
            assert_eq!(name(long, width.max(short.chars().count())), short);
        }
        assert_eq!(name("short", 5), "short");
        assert_eq!(name(" ", 5), "[no name]");
        assert_eq!(path("/build/job/src/a.c", 8), "…src/a.c");
        assert_eq!(path("a.c", 3), "a.c");
    }

    #[test]
    fn nothing_is_obeyed() {
        assert_eq!(harmless("a\x1b[2J\nb\u{202e}"), "a?[2J?b?");
        assert_eq!(harmless("x##[error]y###[z"), "x#?[error]y#?#[z");
        assert!(!harmless("####[z").contains("##"));
    }
}
