//! The words of a command that was typed as one: as they are, or, if only a shell knows what they mean, given to one.

use crate::cli::command;

/// What a shell does itself (`man dash`), in words that mean nothing else to it.
const BUILTINS: [&str; 38] = [
    ".", ":", "alias", "bg", "break", "cd", "command", "continue", "echo", "eval", "exec", "exit",
    "export", "false", "fc", "fg", "getopts", "hash", "jobs", "kill", "local", "printf", "pwd",
    "read", "readonly", "return", "set", "shift", "test", "times", "trap", "true", "type",
    "ulimit", "umask", "unalias", "unset", "wait",
];

/// The words. A shell between rprof and the command is another process, and its work is in the profile: it is there
/// only where it is needed.
pub(super) fn words(command: &str) -> Vec<String> {
    let plain = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_@%+:,./-=".contains(c);
    let words: Vec<String> = command.split_whitespace().map(String::from).collect();
    let is_plain = command.chars().all(plain) && !command.contains('\n');
    // `A=B program` sets a variable.
    let is_program = |word: &String| !word.contains('=') && !is_builtin(word);
    if is_plain && words.first().is_some_and(is_program) {
        words
    } else {
        ["sh", "-c", command].map(String::from).to_vec()
    }
}

/// Whether only a shell has it: of `true` there is a program, too.
fn is_builtin(word: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    BUILTINS.contains(&word) && command::find(word.as_ref(), &path).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_a_shell() {
        assert_eq!(words("./bench --size=3"), ["./bench", "--size=3"]);
        assert_eq!(words("cd a && ./bench"), ["sh", "-c", "cd a && ./bench"]);
        assert_eq!(words("A=1 ./bench"), ["sh", "-c", "A=1 ./bench"]);
        assert_eq!(words("./bench 'a b'"), ["sh", "-c", "./bench 'a b'"]);
        assert_eq!(words("./a\n./b"), ["sh", "-c", "./a\n./b"]);
        assert_eq!(words(""), ["sh", "-c", ""]);
        for builtin in ["exit 7", ":", "ulimit -n 16", "cd /"] {
            assert_eq!(words(builtin), ["sh", "-c", builtin]);
        }
        // There is a program of that name.
        assert_eq!(words("true"), ["true"]);
    }
}
