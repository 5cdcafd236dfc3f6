//! The guest's root file system, as the initramfs of all kernels.
//!
//! What enters is the release binary (or the one that `RPROF_BINARY` names), this folder's `guest/`,
//! and busybox and Python of the machine; what leaves is one compressed archive. Programs bring the
//! shared libraries that they have here.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::make;
use crate::Outcome;
use crate::workspace::{output, root, run, scratch};

/// The interpreter, Debian's static one, and what it imports before it runs a program.
const PYTHON: &str = "/usr/bin/python3.11";
const PYTHON_LIBRARY: &str = "/usr/lib/python3.11";
const MODULES: &[&str] = &[
    "codecs.py",
    "encodings/__init__.py",
    "encodings/aliases.py",
    "encodings/utf_8.py",
    "encodings/ascii.py",
    "encodings/latin_1.py",
    // By these it finds its library.
    "os.py",
    "io.py",
    "abc.py",
];

/// Builds the archive below `folder`.
pub(super) fn build(folder: &Path) -> Result<PathBuf, String> {
    let tree = folder.join("root");
    let _ = fs::remove_dir_all(&tree);
    make(&tree)?;
    let guest = root().join("xtask/src/kernels/guest");
    let copy = |from: &Path, to: &str| copy(from, &tree.join(to));

    copy(&guest.join("init"), "init")?;
    executable(&tree.join("init"))?;
    copy(&guest.join("spin.py"), "spin.py")?;
    copy(Path::new("/bin/busybox"), "busybox")?;
    let chain = tree.join("bin/chain");
    compile(&guest.join("chain.c"), &chain)?;
    let rprof = rprof()?;
    copy(&rprof, "bin/rprof")?;
    copy(Path::new(PYTHON), &PYTHON[1..])?;
    for module in MODULES {
        let module = Path::new(PYTHON_LIBRARY).join(module);
        copy(&module, &module.to_string_lossy()[1..])?;
    }
    for library in libraries(&[&rprof, &chain, Path::new(PYTHON)])? {
        copy(Path::new(&library), &library[1..])?;
    }

    let archive = folder.join("initramfs.gz");
    let mut pack = Command::new("sh");
    pack.args([
        "-ec",
        "find . | cpio --quiet -o -H newc | gzip -1 >\"$1\"",
        "sh",
    ]);
    run(pack.arg(&archive).current_dir(&tree))?;
    Ok(archive)
}

fn rprof() -> Result<PathBuf, String> {
    if let Some(binary) = env::var_os("RPROF_BINARY") {
        return Ok(binary.into());
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root());
    run(cargo.args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "rprof-profiler",
    ]))?;
    Ok(scratch().with_file_name("release/rprof"))
}

/// Without frame pointers, and with every call a call, so that the chain is as the source says.
fn compile(source: &Path, program: &Path) -> Outcome {
    make(program.parent().unwrap_or(program))?;
    let mut gcc = Command::new("gcc");
    gcc.args([
        "-O2",
        "-g",
        "-fomit-frame-pointer",
        "-fno-optimize-sibling-calls",
    ]);
    run(gcc.arg(source).arg("-o").arg(program))
}

/// The shared libraries of programs, the dynamic linker among them, under the names they ask for.
fn libraries(programs: &[&Path]) -> Result<BTreeSet<String>, String> {
    let listed = output(Command::new("ldd").args(programs))?;
    let words = listed.lines().flat_map(str::split_whitespace);
    // A line that ends in a colon names the program.
    let paths = words.filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(paths.map(str::to_owned).collect())
}

fn copy(from: &Path, to: &Path) -> Outcome {
    make(to.parent().unwrap_or(to))?;
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| format!("cannot copy {}: {error}", from.display()))
}

fn executable(file: &Path) -> Outcome {
    fs::set_permissions(file, Permissions::from_mode(0o755))
        .map_err(|error| format!("cannot make {} executable: {error}", file.display()))
}
