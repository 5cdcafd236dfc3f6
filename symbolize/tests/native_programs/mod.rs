//! Programs compiled for a test, and what binutils say about them.
#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rprof_symbolize::module_names::Options;
use rprof_symbolize::{Line, ModuleLines, ModuleNames};

pub(crate) const C: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static inline __attribute__((always_inline)) int deepest(int x) {
    volatile int y = x * 3;
    return y + x / 7;
}
static inline __attribute__((always_inline)) int middle(int x) {
    int s = 0;
    for (int i = 0; i < x; i++)
        s += deepest(i) ^ x;
    return s;
}
__attribute__((noinline)) int worker(int x) {
    int a = middle(x);
    int b = middle(x + 1);
    return a - b;
}
__attribute__((noinline, cold)) void unlikely_path(int x) { fprintf(stderr, "%d\n", x); }
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(int argc, char **argv) {
    int v[16];
    for (int i = 0; i < 16; i++)
        v[i] = worker(i + argc) % 17;
    if (argc > 5)
        unlikely_path(v[0]);
    qsort(v, 16, sizeof *v, compare);
    printf("%d %s\n", v[3], argv[0]);
    return 0;
}
"#;

pub(crate) const CPP: &str = r#"
extern "C" int puts(const char *);
namespace shapes {
template <class T> struct Box {
    T value;
    explicit Box(T v) : value(v) {}
    T area(T by) const { T s{}; for (int i = 0; i < 9; i++) s += value * by / (i + 1); return s; }
    template <class U> [[gnu::noinline]] U as(U scale) const { return U(area(T(2))) * scale; }
};
struct Base { virtual int turn(int) const; virtual ~Base() {} };
int Base::turn(int x) const { volatile int y = x; return y * 2; }
struct Derived : Base { int turn(int x) const override; };
int Derived::turn(int x) const { return Base::turn(x) + 1; }
}
template <class F> [[gnu::noinline]] int apply(F f, int n) { int s = 0; for (int i = 0; i < n; i++) s += f(i); return s; }
int overload(int x) { volatile int y = x; return y; }
int overload(double x) { volatile double y = x; return int(y); }
int main(int argc, char **) {
    shapes::Box<int> a(argc);
    shapes::Box<double> b(argc * 0.5);
    shapes::Derived d;
    const shapes::Base &base = d;
    int s = apply([&](int i) { return a.area(i) + base.turn(i); }, argc + 3);
    s += int(a.as<long>(3)) + int(b.as<float>(1.5f)) + overload(s) + overload(s * 0.25);
    puts("done");
    return s & 1;
}
"#;

pub(crate) const RUST: &str = r#"
mod marker {
    #[inline(never)]
    pub fn outer<T: Copy + Into<u64>>(values: &[T]) -> u64 {
        values.iter().map(|&v| inner(v.into())).sum()
    }
    #[inline(always)]
    fn inner(v: u64) -> u64 { std::hint::black_box(v) * 3 }
    pub struct Thing(pub u64);
    pub trait Turn { fn turn(&self) -> u64; }
    impl Turn for Thing {
        #[inline(never)]
        fn turn(&self) -> u64 { std::hint::black_box(self.0) + 1 }
    }
}
use marker::Turn;
fn main() {
    let values: Vec<u32> = (0..std::env::args().count() as u32 + 5).collect();
    println!("{} {}", marker::outer(&values), marker::Thing(7).turn());
}
"#;

/// Runs a tool that must succeed, and returns what it prints.
pub(crate) fn run(tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{tool}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compiles a program in `directory`. `compiler` is `cc`, `c++` or `rustc`.
pub(crate) fn compile(directory: &Path, name: &str, compiler: &str, args: &[&str]) -> PathBuf {
    let (source, text) = match compiler {
        "cc" => ("program.c", C),
        "c++" => ("program.cc", CPP),
        _ => ("program.rs", RUST),
    };
    let source = directory.join(source);
    fs::write(&source, text).unwrap();
    let program = directory.join(name);
    let mut all = args.to_vec();
    all.extend([source.to_str().unwrap(), "-o", program.to_str().unwrap()]);
    run(compiler, &all);
    program
}

/// A section's address, file offset and size.
pub(crate) fn section(program: &Path, name: &str) -> Option<(u64, u64, u64)> {
    let table = run("readelf", &["-SW", program.to_str().unwrap()]);
    let line = table.lines().find_map(|line| {
        let (_, rest) = line.split_once("] ")?;
        let mut fields = rest.split_whitespace();
        (fields.next()? == name).then(|| fields.skip(1).collect::<Vec<_>>())
    })?;
    let hex = |at: usize| u64::from_str_radix(line[at], 16).unwrap();
    Some((hex(0), hex(1), hex(2)))
}

/// Every `step`th address of `.text` with its file offset.
pub(crate) fn text(program: &Path, step: usize) -> Vec<(u64, u64)> {
    let (address, offset, size) = section(program, ".text").unwrap();
    (0..size)
        .step_by(step)
        .map(|i| (address + i, offset + i))
        .collect()
}

/// The ranges of functions with such names, as `nm` says.
pub(crate) fn function_ranges(
    program: &Path,
    is_wanted: impl Fn(&str) -> bool,
) -> Vec<std::ops::Range<u64>> {
    run("nm", &["-S", "--defined-only", program.to_str().unwrap()])
        .lines()
        .filter_map(|line| {
            let [start, size, kind, name] = *line.split_whitespace().collect::<Vec<_>>() else {
                return None;
            };
            let hex = |text| u64::from_str_radix(text, 16).unwrap();
            let is_text = matches!(kind, "T" | "t" | "W" | "w" | "i");
            (is_text && is_wanted(name)).then(|| hex(start)..hex(start) + hex(size))
        })
        .collect()
}

pub(crate) fn names_with(program: &Path, offsets: &[u64], options: Options) -> ModuleLines {
    let file = fs::File::open(program).unwrap();
    ModuleNames::open(file, options).unwrap().names(offsets)
}

/// The lines of places, all of which could be looked up in full.
pub(crate) fn names(program: &Path, offsets: &[u64]) -> Vec<Vec<Line>> {
    let names = names_with(program, offsets, Options::default());
    assert!(names.left_out.is_empty(), "{:?}", names.left_out);
    names.lines
}

/// What `addr2line -i -f -C` says of each address: function, file, line, innermost first.
pub(crate) fn addr2line(program: &Path, addresses: &[u64]) -> Vec<Vec<(String, String, u32)>> {
    let mut tool = Command::new("addr2line")
        .args(["-a", "-i", "-f", "-C", "-e"])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input: String = addresses.iter().map(|a| format!("{a:#x}\n")).collect();
    let mut stdin = tool.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = String::from_utf8(tool.wait_with_output().unwrap().stdout).unwrap();
    writer.join().unwrap();
    let mut all: Vec<Vec<(String, String, u32)>> = Vec::new();
    let mut lines = output.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("0x") {
            all.push(Vec::new());
            continue;
        }
        let place = lines.next().unwrap().split(" (").next().unwrap();
        let (file, number) = place.rsplit_once(':').unwrap();
        let place = (
            line.to_owned(),
            file.to_owned(),
            number.parse().unwrap_or(0),
        );
        all.last_mut().unwrap().push(place);
    }
    assert_eq!(all.len(), addresses.len());
    all
}
