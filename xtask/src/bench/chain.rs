//! Programs that spin at the end of a chain of 40 calls, as source text.
//!
//! The C chain stands shuffled among 4,000 functions that are never called, with frames of many
//! sizes, so that each frame's unwind row and code lie on lines of their own, as in a real program.
//! The Python chain is 40 distinct functions. The text is the same each time.

use std::fmt::Write;

/// Frames of a chain, the spinning leaf included.
pub(super) const FRAMES: usize = 40;
const FILLERS: usize = 4000;

/// C: with an argument the leaf calls `getpid` all the time instead of spinning.
pub(super) fn c() -> String {
    let mut chance = Chance(7);
    let calls = FRAMES - 2; // main and the leaf stand around them.
    let mut functions: Vec<Option<usize>> = (0..calls).map(Some).collect();
    functions.resize(calls + FILLERS, None);
    for last in (1..functions.len()).rev() {
        functions.swap(last, chance.below(last + 1));
    }
    let mut text = String::from(
        "#include <alloca.h>\n#include <string.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
         volatile long sink;\nstatic int system_calls;\n\
         __attribute__((noinline)) static void leaf(void) {\n  \
         if (system_calls) for (;;) sink += syscall(SYS_getpid);\n  for (;;) sink++;\n}\n",
    );
    for call in 0..calls {
        let _ = writeln!(text, "long chain{call}(long, long, long, long);");
    }
    for (number, function) in functions.iter().enumerate() {
        let words = 1 + chance.below(24);
        let name = match function {
            Some(call) => format!("chain{call}"),
            None => format!("filler{number}"),
        };
        let _ = write!(
            text,
            "__attribute__((noinline)) long {name}(long a, long b, long c, long d) {{\n  \
             volatile long words[{words}]; long x0 = a, x1 = a + b, x2 = a + 2 * b, x3 = c;\n  \
             words[0] = d;\n"
        );
        for _ in 0..chance.below(6) {
            let (x, factor) = (chance.below(4), 3 + chance.below(97));
            let _ = writeln!(text, "  x{x} = x{x} * {factor} + sink;");
        }
        match *function {
            Some(call) => {
                // Such a frame's size is known only when it runs: its CFA stands on rbp.
                if call % 9 == 4 {
                    text.push_str("  volatile char *more = alloca((a & 15) + 32); more[0] = 1;\n");
                }
                if call + 1 < calls {
                    let _ = writeln!(text, "  long r = chain{}(x0 + 1, x1, x2, x3);", call + 1);
                } else {
                    text.push_str("  leaf(); long r = 0;\n");
                }
            }
            None => {
                let bytes = 8 * words;
                let _ = writeln!(
                    text,
                    "  if (a == c) return d;\n  long r = sink + {number};\n  \
                     sink = r; memset((void *)words, (int)a, {bytes});\n  \
                     r += write(-1, (void *)words, a);"
                );
            }
        }
        text.push_str("  return r + words[0] + x0 * r + x1 * r + x2 * r + x3 * r;\n}\n");
    }
    text.push_str(
        "int main(int count, char **words) {\n  \
         system_calls = count > 1 && words[1][0];\n  alarm(600);\n  \
         return chain0(1, 2, 3, 4);\n}\n",
    );
    text
}

/// Python: the module, distinct functions that each call the next, a leaf that spins.
pub(super) fn python() -> String {
    let calls = FRAMES - 2;
    let mut text = String::from("import signal\n\nsignal.alarm(600)\n\n");
    for call in 0..calls {
        let next = match call + 1 {
            next if next < calls => format!("chain{next}"),
            _ => "leaf".into(),
        };
        let _ = writeln!(
            text,
            "def chain{call}(x):\n    y = x + {call}\n    return {next}(y)\n"
        );
    }
    text.push_str(
        "def leaf(x):\n    while True:\n        x = (x * 3 + 1) & 0xFFFF\n\n\nchain0(1)\n",
    );
    text
}

/// Rust that keeps a compiler busy for some seconds, mostly in LLVM.
pub(super) fn rust() -> String {
    let mut text = String::new();
    for number in 0..60 {
        let _ = writeln!(
            text,
            "pub fn f{number}(v: &[u64]) -> Vec<String> {{\n    let mut w: Vec<u64> = \
             v.iter().map(|x| x.wrapping_mul({number})).collect();\n    w.sort();\n    \
             w.iter().map(|x| format!(\"{{x}}\")).collect()\n}}"
        );
    }
    text
}

/// The same numbers each time (Knuth's MMIX generator).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}
