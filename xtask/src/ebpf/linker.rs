//! bpf-linker, built against the LLVM that the nightly compiler brings along.
//!
//! It links LLVM bitcode, so its LLVM must be the compiler's own. The toolchain ships that as a
//! shared library without the name a linker looks for: a prefix of two links makes up for it. What
//! is built stays below the target directory until another version is pinned.

use std::path::{Path, PathBuf};
use std::{fs, io, os::unix::fs::symlink};

use super::nightly::Nightly;
use crate::workspace::{run, say, scratch};

const VERSION: &str = "0.13.0";
/// bpf-linker's feature for the LLVM of the pinned nightly.
const LLVM: &str = "llvm-22";

/// The folder with the `bpf-linker` program, which is built if it is not there.
pub(crate) fn installed(nightly: &Nightly) -> Result<PathBuf, String> {
    let home = scratch().join(format!("bpf-linker-{VERSION}-{}", nightly.name()));
    let folder = home.join("bin");
    // The links are made anew each time: the program finds LLVM through them when it runs, and the
    // toolchain may have moved.
    let prefix = home.join("llvm");
    link_llvm(nightly, &prefix.join("lib"))
        .map_err(|error| format!("cannot link LLVM into {}: {error}", prefix.display()))?;
    if !folder.join("bpf-linker").exists() {
        say(&format!(
            "building bpf-linker {VERSION}, once, in about half a minute"
        ));
        let mut cargo = nightly.command("cargo");
        cargo
            .env("LLVM_PREFIX", &prefix)
            .env("CARGO_TARGET_DIR", home.join("build"))
            // It links one small program, and the time goes into LLVM: build it quickly.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
            .args([
                "--no-default-features",
                "--features",
                LLVM,
                "--no-track",
                "--root",
            ]);
        run(cargo.arg(&home))?;
        // Only the program is used again.
        let _ = fs::remove_dir_all(home.join("build"));
    }
    Ok(folder)
}

/// Makes `lib/` hold the compiler's LLVM under its own name and under the one linkers look for.
fn link_llvm(nightly: &Nightly, lib: &Path) -> io::Result<()> {
    fs::create_dir_all(lib)?;
    for entry in fs::read_dir(nightly.libraries())? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b"libLLVM.so.") {
            replace_link(&entry.path(), &lib.join(name))?;
            return replace_link(&entry.path(), &lib.join("libLLVM.so"));
        }
    }
    let missing = format!("no libLLVM.so.* in {}", nightly.libraries().display());
    Err(io::Error::new(io::ErrorKind::NotFound, missing))
}

fn replace_link(to: &Path, at: &Path) -> io::Result<()> {
    match fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(to, at),
    }
}
