//! The guest's disk: an ext4 image with a small Debian, this checkout's programs, and the tests.
//!
//! What enters is files of packages that are installed here, taken as they are, the release binary (or
//! the one that `RPROF_BINARY` names), the tests' programs and sources under the paths that they
//! have here, and this folder's `guest/`; what leaves is one image a kernel, which the guest may write to
//! and nobody keeps. Tests compile their targets in the guest: all that they need is in it.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::make;
use super::suite::{self, File};
use crate::Outcome;
use crate::workspace::{output, root, run, scratch};

/// What is in the guest, with all that it depends on: what tests use, `.ci/run` says why.
pub(super) const PACKAGES: &[&str] = &[
    "bash",
    "dash",
    "coreutils",
    "util-linux",
    "gcc",
    "g++",
    "binutils",
    "libc6-dev",
    "libc6-dbg",
    "python3.11",
    "libpython3.11-dev",
    "python3-greenlet",
];

/// Files of those that nothing here needs: half of all bytes.
const SPARED: &[&str] = &[
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/locale/",
    "/usr/share/info/",
    "/usr/lib/gcc/x86_64-linux-gnu/12/lto1",
    "libasan",
    "libtsan",
    "liblsan",
    "libubsan",
    ".a.debug",
];

/// Debian's layout, and what `update-alternatives` would have made.
const LINKS: &[(&str, &str)] = &[
    ("usr/bin", "bin"),
    ("usr/sbin", "sbin"),
    ("usr/lib", "lib"),
    ("usr/lib64", "lib64"),
    ("gcc", "usr/bin/cc"),
    ("g++", "usr/bin/c++"),
];
const FOLDERS: &[&str] = &[
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib64",
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "root",
    "var/tmp",
    "etc",
    "vm/bin",
    "vm/modules",
];

/// The tree that is the same for all kernels, but for modules and the list of tests.
pub(super) struct Tree {
    root: PathBuf,
    tests: Vec<(File, PathBuf)>,
}

impl Tree {
    /// Builds the programs and lays out all files.
    pub(super) fn new(folder: &Path, files: &[File]) -> Result<Self, String> {
        let tree = folder.join("root");
        let _ = fs::remove_dir_all(&tree);
        for part in FOLDERS {
            make(&tree.join(part))?;
        }
        for (to, link) in LINKS {
            symlink(to, tree.join(link)).map_err(|error| format!("cannot link {link}: {error}"))?;
        }
        packages(&tree)?;
        for file in ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"] {
            copy(Path::new(file), &tree.join(&file[1..]))?;
        }
        let vm = tree.join("vm");
        copy(Path::new("/bin/busybox"), &vm.join("busybox"))?;
        let guest = root().join("xtask/src/vm/guest");
        for file in ["init", "spin.py"] {
            copy(&guest.join(file), &vm.join(file))?;
        }
        fs::set_permissions(vm.join("init"), Permissions::from_mode(0o755))
            .map_err(|error| format!("cannot make init executable: {error}"))?;
        compile(&guest.join("chain.c"), &vm.join("bin/chain"))?;
        copy(&rprof()?, &vm.join("bin/rprof"))?;
        let tests = suite::build(files)?;
        for (_, program) in &tests {
            copy(program, &inside(&tree, program))?;
        }
        for sources in ["tests/targets", "symbolize/tests"] {
            let sources = root().join(sources);
            let to = inside(&tree, &sources);
            make(to.parent().unwrap_or(&to))?;
            run(Command::new("cp").arg("-r").arg(&sources).arg(&to))?;
        }
        Ok(Self { root: tree, tests })
    }

    /// The image for one kernel, in its folder, with its modules. `flags`: it has those of `process_vm_readv`.
    pub(super) fn image(
        &self,
        modules: &Path,
        folder: &Path,
        flags: bool,
    ) -> Result<PathBuf, String> {
        let tests = self.tests.iter().filter(|(file, _)| file.runs(flags));
        let list: String = tests.map(|(file, program)| file.words(program)).collect();
        fs::write(self.root.join("vm/tests"), list)
            .map_err(|error| format!("cannot write: {error}"))?;
        let into = self.root.join("vm/modules");
        let _ = fs::remove_dir_all(&into);
        make(modules)?;
        run(Command::new("cp").arg("-r").arg(modules).arg(&into))?;
        let image = folder.join("disk");
        let _ = fs::remove_file(&image);
        let mut format = Command::new("mke2fs");
        format.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]);
        run(format.arg(&self.root).arg(&image).arg("4g"))?;
        Ok(image)
    }
}

/// Where a file of this machine is in the guest: where it is here.
fn inside(tree: &Path, path: &Path) -> PathBuf {
    tree.join(path.strip_prefix("/").unwrap_or(path))
}

/// Copies the files of [`PACKAGES`] and of all that they need.
fn packages(tree: &Path) -> Outcome {
    let mut depends = Command::new("apt-cache");
    depends.args(["depends", "--installed", "--recurse", "--important"]);
    let found = output(depends.args(PACKAGES))?;
    // Dependencies are indented below their package; alternatives that are not installed in brackets.
    let names: BTreeSet<&str> = found
        .lines()
        .filter(|line| !line.starts_with([' ', '<', '|']))
        .collect();
    let mut installed = Vec::new();
    for name in names {
        let mut list = Command::new("dpkg");
        // What is provided by another package has no files of its own.
        installed.extend(output(list.args(["-L", name])));
    }
    let wanted = |path: &&str| {
        let path = Path::new(path);
        let spared = SPARED
            .iter()
            .any(|part| path.to_string_lossy().contains(part));
        !spared && fs::symlink_metadata(path).is_ok_and(|file| !file.is_dir())
    };
    let files: BTreeSet<&str> = installed
        .iter()
        .flat_map(|list| list.lines())
        .filter(wanted)
        .collect();
    let listed = tree.with_file_name("files");
    let lines: String = files
        .iter()
        .map(|file| format!("{}\n", &file[1..]))
        .collect();
    fs::write(&listed, lines).map_err(|e| format!("cannot write {}: {e}", listed.display()))?;
    let mut pack = Command::new("tar");
    pack.args(["-C", "/", "-c", "--no-recursion", "-T"])
        .arg(&listed);
    let mut packed = pack
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start tar: {error}"))?;
    let mut unpack = Command::new("tar");
    unpack
        .args(["-x", "--keep-directory-symlink", "-C"])
        .arg(tree);
    if let Some(pipe) = packed.stdout.take() {
        unpack.stdin(pipe);
    }
    let unpacked = unpack.status();
    match (packed.wait(), unpacked) {
        (Ok(a), Ok(b)) if a.success() && b.success() => Ok(()),
        ends => Err(format!("cannot copy installed files: {ends:?}")),
    }
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
    let mut gcc = Command::new("gcc");
    gcc.args([
        "-O2",
        "-g",
        "-fomit-frame-pointer",
        "-fno-optimize-sibling-calls",
    ]);
    run(gcc.arg(source).arg("-o").arg(program))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    make(to.parent().unwrap_or(to))?;
    fs::copy(from, to)
        .map(drop)
        .map_err(|error| format!("cannot copy {}: {error}", from.display()))
}
