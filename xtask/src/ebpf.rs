//! `cargo xtask ebpf`: the eBPF object from its Rust sources.
//!
//! The object is committed, so that building `rprof` needs neither nightly nor a BPF linker; this
//! chore needs both, and installs them itself. What enters is `ebpf/src` and `Cargo.lock`; what
//! leaves is `ebpf/object/rprof.bpf.o`, or with `--check` only the answer whether the committed
//! bytes are the same. The bytes depend on no path of the machine, and are searched for them.

mod linker;
mod nightly;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::workspace::{root, run as run_command, say, scratch};
use crate::{Outcome, Usage};
use nightly::Nightly;

const OBJECT: &str = "ebpf/object/rprof.bpf.o";
const TARGET: &str = "bpfel-unknown-none";

pub(crate) fn run(options: &[String]) -> Result<Outcome, Usage> {
    match options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(update()),
        ["--check"] => Ok(check()),
        _ => Err(Usage),
    }
}

fn update() -> Outcome {
    let built = build()?;
    // An unchanged object keeps its time stamp, so that cargo has nothing to build again.
    if fs::read(root().join(OBJECT)).is_ok_and(|committed| committed == built) {
        say(&format!("{OBJECT} is up to date"));
        return Ok(());
    }
    fs::write(root().join(OBJECT), &built)
        .map_err(|error| format!("cannot write {OBJECT}: {error}"))?;
    say(&format!("{OBJECT} written, {} bytes", built.len()));
    Ok(())
}

fn check() -> Outcome {
    let committed = fs::read(root().join(OBJECT))
        .map_err(|error| format!("cannot read {OBJECT}: {error}; run `cargo xtask ebpf`"))?;
    if committed != build()? {
        return Err(format!(
            "{OBJECT} is not what its sources give; run `cargo xtask ebpf` and commit the result"
        ));
    }
    say(&format!("{OBJECT} is what its sources give"));
    Ok(())
}

/// The object's bytes, as the sources and `Cargo.lock` give them.
fn build() -> Result<Vec<u8>, String> {
    let nightly = Nightly::installed()?;
    let linker = linker::installed(&nightly)?;
    let mut fetch = nightly.command("cargo");
    run_command(
        fetch
            .current_dir(root())
            .args(["fetch", "--quiet", "--locked"]),
    )?;
    let remaps = remaps(&nightly)?;

    let target = scratch().join("ebpf");
    say("building the eBPF programs");
    let mut cargo = nightly.command("cargo");
    cargo.current_dir(root());
    for (name, _) in env::vars_os() {
        if changes_the_build(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    cargo
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&remaps))
        .env("PATH", with_first(&linker)?)
        .args([
            "build",
            "--locked",
            "--profile",
            "ebpf",
            "-Z",
            "build-std=core",
        ])
        .args([
            "--package",
            "rprof-ebpf",
            "--bin",
            "rprof-programs",
            "--features",
            "programs",
        ])
        .args(["--target", TARGET]);
    run_command(&mut cargo)?;

    let linked = target.join(TARGET).join("ebpf/rprof-programs");
    let stripped = target.join("rprof.bpf.o");
    let mut objcopy = std::process::Command::new(nightly.tool("llvm-objcopy"));
    run_command(objcopy.arg("--strip-debug").arg(linked).arg(&stripped))?;
    let bytes = fs::read(&stripped)
        .map_err(|error| format!("cannot read {}: {error}", stripped.display()))?;
    match remaps.iter().find(|(from, _)| contains(&bytes, from)) {
        None => Ok(bytes),
        Some((from, _)) => Err(format!(
            "the object names {}, a path of this machine",
            from.display()
        )),
    }
}

/// Flags for the BPF target, in the encoding of `CARGO_ENCODED_RUSTFLAGS`. Full debug info becomes
/// BTF, without which a program that has a callback is refused; the checks that the verifier would
/// have to follow abort on the spot, without a message.
fn flags(remaps: &[(PathBuf, &str)]) -> OsString {
    let fixed = [
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        "-Zunstable-options",
        "-Cpanic=immediate-abort",
    ];
    let mut flags = OsString::from(fixed.join("\x1f"));
    for (from, to) in remaps {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

/// Paths of this machine that rustc would write into the line information, and what stands there
/// instead. Where two match, rustc takes the later one.
fn remaps(nightly: &Nightly) -> Result<Vec<(PathBuf, &'static str)>, String> {
    let mut remaps = vec![(root().to_owned(), "/rprof")];
    // One folder a registry, named after the address it was downloaded from, which may be a mirror.
    let sources = cargo_home()?.join("registry/src");
    let unreadable = |error| format!("cannot read {}: {error}", sources.display());
    for registry in fs::read_dir(&sources).map_err(unreadable)? {
        remaps.push((registry.map_err(unreadable)?.path(), "/crates"));
    }
    remaps.push((nightly.library_sources(), "/rust"));
    Ok(remaps)
}

/// Where cargo keeps the sources of dependencies.
fn cargo_home() -> Result<PathBuf, String> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(root().join(home));
    }
    let home = env::home_dir().ok_or("neither CARGO_HOME nor HOME is set")?;
    Ok(home.join(".cargo"))
}

/// Whether an environment variable would reach the object's bytes.
fn changes_the_build(variable: &str) -> bool {
    [
        "CARGO_BUILD_",
        "CARGO_INCREMENTAL",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_UNSTABLE_",
    ]
    .iter()
    .chain(&["RUSTC", "RUSTFLAGS"])
    .any(|prefix| variable.starts_with(prefix))
}

/// `PATH` with another folder before it: rustc looks for the linker there.
fn with_first(folder: &Path) -> Result<OsString, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(env::split_paths(&path));
    env::join_paths(folders).map_err(|error| format!("{}: {error}", folder.display()))
}

fn contains(bytes: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    bytes.windows(path.len()).any(|window| window == path)
}
