//! What of `--all` is wanted, as far as the programs do not see to it: processes by name.

/// A narrowing of all processes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Glob that the process's name matches.
    pub comm: Option<String>,
}

impl Selection {
    /// Nothing is left out.
    pub fn is_all(&self) -> bool {
        self.comm.is_none()
    }

    /// Whether a process of this name is wanted.
    pub fn wants(&self, comm: &str) -> bool {
        self.comm.as_deref().is_none_or(|glob| matches(glob, comm))
    }
}

/// Whether a name matches a glob of `*` and `?`. A kernel name is cut at 15 bytes, so a glob without
/// a star also matches by its first 15.
fn matches(glob: &str, name: &str) -> bool {
    const CUT: usize = rprof_ebpf::identity::COMM_LEN - 1;
    let glob: Vec<char> = glob.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let plain = !glob.contains(&'*');
    let glob = if plain && glob.len() > CUT {
        &glob[..CUT]
    } else {
        &glob[..]
    };
    // Greedy with one step back to the last star.
    let (mut g, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                g += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                g = at + 1;
                n = from + 1;
            }
        }
    }
    glob[g..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("python*", "python3.11", true),
            ("*on3.1?", "python3.11", true),
            ("python", "python3", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a-very-long-command-name", "a-very-long-com", true),
            ("", "", true),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
    }
}
