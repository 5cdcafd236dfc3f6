//! Real programs to begin with, built by this machine's compilers: small, and with all that there is
//! to be read in one.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use object::{Object, ObjectSection};
use rprof_tests::scratch::{Scratch, finish};

use crate::mutate::Seed;

/// Inlined functions, a frame on rbp, a signal handler's row, a table of jumps, a library.
const C: &str = r#"
#include <alloca.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static inline __attribute__((always_inline)) int deepest(int x) { volatile int y = x * 3; return y + x / 7; }
static inline __attribute__((always_inline)) int middle(int x) {
    int s = 0;
    for (int i = 0; i < x; i++) s += deepest(i) ^ x;
    return s;
}
__attribute__((noinline)) int worker(int x) { return middle(x) - middle(x + 1); }
__attribute__((noinline)) int varying(int n) {
    char *room = alloca(n);
    memset(room, n, n);
    return worker(room[n / 2]);
}
__attribute__((noinline)) int choose(int n) {
    switch (n) {
    case 0: return worker(1); case 1: return varying(100); case 2: return rand();
    case 3: return puts("3"); case 4: return worker(n) + varying(n); default: return n;
    }
}
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static void handler(int n) { choose(n); }
int run(int n) {
    int v[16];
    signal(SIGUSR1, handler);
    for (int i = 0; i < 16; i++) v[i] = choose(i + n);
    qsort(v, 16, sizeof *v, compare);
    return v[3];
}
int main(int n, char **v) { return run(n) + v[0][0]; }
"#;

/// Templates, scopes, exceptions.
const CPP: &str = r#"
extern "C" int puts(const char *);
namespace shapes {
template <class T> struct Box {
    T value;
    explicit Box(T v) : value(v) {}
    T area(T by) const { T s{}; for (int i = 0; i < 9; i++) s += value * by / (i + 1); return s; }
    template <class U> [[gnu::noinline]] U as(U scale) const { return U(area(T(2))) * scale; }
};
struct Base { virtual int turn(int) const; virtual ~Base() {} };
int Base::turn(int x) const { volatile int y = x; if (y > 99) throw y; return y * 2; }
struct Derived : Base { int turn(int x) const override; };
int Derived::turn(int x) const { return Base::turn(x) + 1; }
}
template <class F> [[gnu::noinline]] int apply(F f, int n) { int s = 0; for (int i = 0; i < n; i++) s += f(i); return s; }
int run(int n) {
    shapes::Box<double> box(n);
    try { return apply([&](int i) { return shapes::Derived().turn(i) + box.as(2); }, n); }
    catch (int e) { return puts("caught") + e; }
}
"#;

/// What CPython 3.11 looks like from outside.
const PYTHON: &str = r#"
unsigned long Py_Version = 0x030b02f0;
long PyCode_Type[60] = {1, 0, 0, 0, 184, 2};
char _PyRuntime[200000];
long PyEval_EvalCode(long a) { return a + PyCode_Type[3]; }
"#;

/// A program.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) seed: Seed,
    /// File offset and length of its text.
    pub(crate) text: Range<u64>,
}

/// The programs, each built once.
pub(crate) fn programs() -> &'static [Program] {
    static PROGRAMS: OnceLock<Vec<Program>> = OnceLock::new();
    PROGRAMS.get_or_init(build)
}

/// One of them.
pub(crate) fn program(name: &str) -> &'static Program {
    let found = programs().iter().find(|program| program.name == name);
    found.expect("one of the programs")
}

fn build() -> Vec<Program> {
    let scratch = Scratch::new();
    for (name, text) in [("c.c", C), ("cpp.cc", CPP), ("python.c", PYTHON)] {
        scratch.write(name, text);
    }
    // No path of this machine gets into an input that is stored.
    let here = format!("-ffile-prefix-map={}=/seed", scratch.path().display());
    let tool = |program: &str, words: &[&str]| {
        finish(
            Command::new(program)
                .args(words)
                .current_dir(scratch.path()),
        );
    };
    let library = |name: &str, source: &str, flags: &[&str]| {
        let compiler = if source.ends_with(".cc") { "c++" } else { "cc" };
        let common = ["-O2", "-shared", "-fPIC", "-o", name, source, &here];
        tool(compiler, &[common.as_slice(), flags].concat());
    };
    library("c", "c.c", &["-gdwarf-5", "-Wl,--build-id"]);
    tool("cc", &["-O2", "-s", "-o", "program", "c.c"]);
    library("cpp", "cpp.cc", &["-gdwarf-4", "-Wl,--build-id"]);
    library("compressed", "c.c", &["-g", "-gz"]);
    library("python", "python.c", &["-Wl,-soname,libpython3.11.so.1.0"]);
    let debug_frame = [
        "-g",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
    ];
    library("debug_frame", "c.c", &debug_frame);
    tool("objcopy", &["--only-keep-debug", "c", "debug"]);
    tool(
        "objcopy",
        &["--strip-all", "--add-gnu-debuglink=debug", "c", "stripped"],
    );
    tool(
        "objcopy",
        &["--strip-debug", "--only-keep-debug", "c", "mini"],
    );
    tool("xz", &["--keep", "mini"]);
    let section = "--add-section=.gnu_debugdata=mini.xz";
    tool("objcopy", &["--strip-all", section, "c", "mini_debug"]);
    let names = [
        "c",
        "cpp",
        "compressed",
        "debug_frame",
        "debug",
        "stripped",
        "mini_debug",
        "python",
        "program",
    ];
    names.map(|name| read(name, &scratch.file(name))).into()
}

/// Puts other bytes at a path. (Writing over those that are there would wait for the disk.)
pub(crate) fn replace(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("a file in the test's folder");
}

fn read(name: &'static str, file: &Path) -> Program {
    let bytes = fs::read(file).expect("what was built");
    let elf = object::File::parse(bytes.as_slice()).expect("an ELF file");
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    // Headers, their tables, and all sections but the code.
    let sections = word(40) as usize;
    let mut places = vec![0..64, 64..64 + 56 * 12, sections..bytes.len()];
    let mut text = 0..0;
    for section in elf.sections() {
        let Some((start, size)) = section.file_range().filter(|(_, size)| *size > 0) else {
            continue;
        };
        match section.name() {
            Ok(".text") => text = start..start + size,
            Ok(".comment") => {}
            _ => places.push(start as usize..(start + size) as usize),
        }
    }
    Program {
        name,
        text,
        seed: Seed {
            bytes,
            places,
            rigid: true,
        },
    }
}
