//! What comes from Debian: programs that the machine lacks, kernels of other releases, sources.
//!
//! A package's name or a kernel's release series enters; installed programs or unpacked files leave.
//! Kernels come from the mirror that the machine's own apt is configured for, but through lists and
//! caches of their own: what the machine would install or upgrade to stays as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::make;
use crate::Outcome;
use crate::workspace::{output, run, say, scratch};

/// What builds the guests' disks and boots them.
pub(super) const GUESTS: &[&str] = &["qemu-system-x86", "busybox-static", "e2fsprogs", "xz-utils"];

/// Modules that the tests want, where they are no part of the kernel; none needs another.
const MODULES: &[&str] = &["fuse"];

/// What builds a kernel with BTF.
pub(super) const KERNEL_BUILD: &[&str] = &[
    "gcc",
    "make",
    "flex",
    "bison",
    "bc",
    "libelf-dev",
    "libssl-dev",
    "dwarves",
    "xz-utils",
    "patch",
];

/// Installs packages that are missing, and says so.
pub(super) fn install(packages: &[&str]) -> Outcome {
    let installed = |package: &&&str| {
        let mut query = Command::new("dpkg-query");
        output(query.args(["-W", "-f", "${db:Status-Status}", package]))
            .is_ok_and(|status| status == "installed")
    };
    let missing: Vec<&str> = packages.iter().filter(|p| !installed(p)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("apt-get install {}", missing.join(" ")));
    run(Command::new("apt-get").args(["update", "-q"]))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-q", "-y", "--no-install-recommends"])
        .args(missing))
}

/// A kernel's release series, `MAJOR.MINOR`; `None` if it is none, or older than rprof supports.
pub(super) fn series(name: &str) -> Option<(u32, u32)> {
    let (major, minor) = name.split_once('.')?;
    let series = (major.parse().ok()?, minor.parse().ok()?);
    (series >= (6, 1)).then_some(series)
}

/// Downloads the newest kernel of a series into `folder`; the path of its image. Modules go into the folder
/// `modules` beside it.
pub(super) fn kernel(name: &str, folder: &Path) -> Result<PathBuf, String> {
    let apt = Apt::of(&[
        "bookworm",
        "trixie",
        "trixie-backports",
        "sid",
        "experimental",
    ])?;
    let mut search = apt.command("apt-cache");
    let found = output(search.args(["search", "--names-only", "^linux-.*-cloud-amd64$"]))?;
    let names = found.lines().filter_map(|line| line.split(' ').next());
    let package = newest(names, name)
        .ok_or_else(|| format!("Debian has no linux-image-{name}…-cloud-amd64 (any more)"))?;
    let unpacked = apt.unpack(package, folder)?;
    let mut find = Command::new("find");
    let found = output(
        find.arg(&unpacked)
            .args(["-name", "vmlinuz*", "-type", "f"]),
    )?;
    let image = found.lines().next();
    let image = image.ok_or_else(|| format!("there is no kernel image in {package}"))?;
    modules(&unpacked, &folder.join("modules"))?;
    Ok(PathBuf::from(image))
}

/// Copies [`MODULES`], unpacked: the guest's `insmod` knows no compression.
fn modules(unpacked: &Path, into: &Path) -> Outcome {
    make(into)?;
    for name in MODULES {
        let mut find = Command::new("find");
        let find = find.arg(unpacked).args(["-name", &format!("{name}.ko*")]);
        for file in output(find)?.lines() {
            run(Command::new("cp").arg(file).arg(into))?;
            if file.ends_with(".xz") {
                run(Command::new("xz")
                    .arg("-df")
                    .arg(into.join(format!("{name}.ko.xz"))))?;
            }
        }
    }
    Ok(())
}

/// Downloads the source of a kernel series into `folder`; the path of its archive.
pub(super) fn source(series: &str, folder: &Path) -> Result<PathBuf, String> {
    let package = format!("linux-source-{series}");
    let unpacked = Apt::of(&["sid"])?.unpack(&package, folder)?;
    Ok(unpacked.join(format!("usr/src/{package}.tar.xz")))
}

/// The package with the newest image of a series. The image is in `linux-image-VERSION`, or where
/// that is split in `linux-binary-VERSION`.
fn newest<'a>(names: impl Iterator<Item = &'a str>, series: &str) -> Option<&'a str> {
    let version = |name: &'a str| {
        let split = name.strip_prefix("linux-binary-");
        let version = split.or_else(|| name.strip_prefix("linux-image-"))?;
        let rest = version.strip_prefix(series)?;
        // `6.1` is no prefix of `6.12`.
        rest.starts_with(['.', '-', '+']).then_some(())?;
        let numbers = rest.split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<u32> = numbers.filter_map(|n| n.parse().ok()).collect();
        Some(((split.is_some(), numbers), name))
    };
    names.filter_map(version).max().map(|(_, name)| name)
}

/// Apt with lists and caches of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Lists of these suites, from the machine's mirror.
    fn of(suites: &[&str]) -> Result<Self, String> {
        let folder = scratch().join("apt").join(suites.join("+"));
        let apt = Self { folder };
        for part in ["lists/partial", "cache/archives/partial"] {
            make(&apt.folder.join(part))?;
        }
        let mirror = mirror()?;
        let lines = suites
            .iter()
            .map(|suite| format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n"));
        let list = apt.folder.join("sources.list");
        fs::write(&list, lines.collect::<String>())
            .map_err(|error| format!("cannot write {}: {error}", list.display()))?;
        say(&format!("package lists of {}", suites.join(", ")));
        run(apt.command("apt-get").args(["update", "-q"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &Path| {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        };
        option("Dir::State", &self.folder);
        option("Dir::Cache", &self.folder.join("cache"));
        option("Dir::Etc::SourceList", &self.folder.join("sources.list"));
        option("Dir::Etc::SourceParts", Path::new("-"));
        option("Acquire::Languages", Path::new("none"));
        option(
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
            Path::new("false"),
        );
        // The unprivileged user of apt may not be able to write below the target directory.
        option("APT::Sandbox::User", Path::new("root"));
        command
    }

    /// Downloads a package and unpacks its files below `folder`, where they are not installed.
    fn unpack(&self, package: &str, folder: &Path) -> Result<PathBuf, String> {
        let downloads = self.folder.join("downloads");
        let _ = fs::remove_dir_all(&downloads);
        make(&downloads)?;
        say(&format!("downloading {package}"));
        let mut download = self.command("apt-get");
        run(download
            .current_dir(&downloads)
            .args(["download", "-q", package]))?;
        let error = |error| format!("cannot read {}: {error}", downloads.display());
        let archive = fs::read_dir(&downloads).map_err(error)?.next();
        let archive = archive
            .ok_or_else(|| format!("apt-get download {package} left no file"))?
            .map_err(error)?;
        let unpacked = folder.join("unpacked");
        let _ = fs::remove_dir_all(&unpacked);
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(archive.path())
            .arg(&unpacked))?;
        let _ = fs::remove_dir_all(&downloads);
        Ok(unpacked)
    }
}

/// The keys of all of Debian's suites (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian mirror that the machine is configured for.
fn mirror() -> Result<String, String> {
    let mut targets = Command::new("apt-get");
    let found = output(targets.args([
        "indextargets",
        "--format",
        "$(LABEL) $(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let mirror = found.lines().find_map(|line| line.strip_prefix("Debian "));
    mirror.map(str::to_owned).ok_or_else(|| {
        "apt is configured for no Debian mirror: see `apt-get indextargets`, run `apt-get update`"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::{newest, series};

    #[test]
    fn series_that_rprof_supports() {
        assert_eq!(series("6.1"), Some((6, 1)));
        assert_eq!(series("7.3"), Some((7, 3)));
        assert_eq!(series("5.10"), None);
        assert_eq!(series("6"), None);
        assert_eq!(series("6.1.2"), None);
    }

    #[test]
    fn the_newest_package_that_holds_an_image() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.94+deb13-cloud-amd64",
            "linux-image-7.2.13+deb14-cloud-amd64",
            "linux-binary-7.2.9+deb13-cloud-amd64",
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-binary-unsigned-7.2.13+deb14-cloud-amd64",
            "linux-binary-7.3-cloud-amd64",
            "linux-image-cloud-amd64",
        ];
        let newest = |series| newest(names.into_iter(), series);
        assert_eq!(newest("6.1"), Some(names[1]));
        assert_eq!(newest("6.12"), Some(names[2]));
        assert_eq!(newest("7.2"), Some(names[6]));
        assert_eq!(newest("7.3"), Some(names[8]));
        assert_eq!(newest("6.9"), None);
    }
}
