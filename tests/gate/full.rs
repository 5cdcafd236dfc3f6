//! What a disk that is full leaves: no half of a report, no copies elsewhere, and nobody blamed for it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rprof_tests::scratch::{Scratch, finish};

use crate::answer::FAILED;
use crate::profiles::sides;
use crate::said::{gate, names, read, read_json, said};

/// A small file system, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn new(scratch: &Scratch, name: &str, size: &str) -> Self {
        let folder = scratch.file(name);
        std::fs::create_dir(&folder).expect("our own");
        let options = format!("size={size}");
        finish(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "rprof"])
                .arg(&folder),
        );
        Self(folder)
    }

    /// All of it but so many bytes are taken.
    fn fill(&self, but: u64) {
        let about = rustix::fs::statvfs(&self.0).expect("our own");
        let taken = (about.f_bavail * about.f_frsize).saturating_sub(but);
        std::fs::write(self.0.join("taken"), vec![0; taken as usize]).expect("room");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A user of this run alone, whose files are found where everybody's are.
fn user() -> u32 {
    50_000 + std::process::id() % 10_000
}

/// Who is to be sudo's caller, and have this folder for temporary files.
fn as_user<'a>(command: &'a mut Command, temporary: &Path) -> &'a mut Command {
    let user = user().to_string();
    command
        .env("SUDO_UID", &user)
        .env("SUDO_GID", &user)
        .env("TMPDIR", temporary)
}

/// What that user has there, and where else rprof may save a profile.
fn saved(temporary: &Path) -> Vec<PathBuf> {
    let folders = [temporary, Path::new("/var/tmp"), Path::new("/tmp")];
    let entries = folders.map(|folder| std::fs::read_dir(folder).expect("a folder").flatten());
    let is_its = |path: &PathBuf| {
        let about = std::fs::symlink_metadata(path);
        about.is_ok_and(|about| about.uid() == user())
    };
    let paths = entries.into_iter().flatten().map(|entry| entry.path());
    paths.filter(is_its).collect()
}

#[test]
fn a_full_disk_leaves_no_reports_and_no_copies() {
    let scratch = Scratch::new();
    let small = Small::new(&scratch, "small", "64k");
    // A page: what is added needs another.
    let summary = "before\n".repeat(1024)[..4096].to_string();
    std::fs::write(small.0.join("summary.md"), &summary).expect("room");
    small.fill(0);
    let before = names(&small.0);
    let temporary = scratch.file("temporary");
    std::fs::create_dir(&temporary).expect("our own");
    let [base, head] = sides(&scratch, 10, [500, 600]);
    for (option, file) in [
        ("--json", "a.json"),
        ("--junit", "a.xml"),
        ("--markdown", "a.md"),
        ("--markdown", "summary.md"),
        ("--flamegraph", "a.svg"),
        ("--gitlab", "g.json"),
    ] {
        let mut command = gate(
            scratch.path(),
            &["compare", option, &format!("small/{file}")],
        );
        command.arg("--base").args(&base).arg("--head").args(&head);
        let said = said(as_user(&mut command, &temporary));
        assert_eq!(said.code, Some(FAILED), "{option}: {}", said.stderr);
        let why = format!(
            "rprof: cannot write small/{file}: No space left on device\n  try: df -h small\n"
        );
        assert!(said.stderr.ends_with(&why), "{option}: {}", said.stderr);
        assert_eq!(names(&small.0), before, "{option}");
    }
    let left = std::fs::read_to_string(small.0.join("summary.md")).expect("it was there");
    assert_eq!(left, summary);
    assert_eq!(saved(&temporary), Vec::<PathBuf>::new());
}

#[test]
fn a_flame_graph_that_fails_leaves_nothing() {
    let scratch = Scratch::new();
    let [base, head] = sides(&scratch, 10, [500, 600]);
    std::fs::write(scratch.file("main.c"), "int main(void) {}\n").expect("our own");
    let mut command = gate(
        scratch.path(),
        &["compare", "--flamegraph", "main.c", "--json", "a.json"],
    );
    command.arg("--base").args(&base).arg("--head").args(&head);
    let temporary = scratch.file("temporary");
    std::fs::create_dir(&temporary).expect("our own");
    let said = said(as_user(&mut command, &temporary));
    assert_eq!(said.code, Some(FAILED), "{}", said.stderr);
    assert!(said.stderr.contains("is not a profile"), "{}", said.stderr);
    assert_eq!(read(&scratch, "main.c"), "int main(void) {}\n");
    assert_eq!(saved(&temporary), Vec::<PathBuf>::new());
}

#[test]
fn a_full_temporary_folder_is_not_the_commands_fault() {
    let scratch = Scratch::new();
    for (n, but) in [0, 4096, 300 << 10].into_iter().enumerate() {
        let small = Small::new(&scratch, &format!("small{n}"), "2m");
        small.fill(but);
        // Says more than there is room for, and fails by that.
        for command in ["true", "head -c 4000000 /dev/zero"] {
            if command == "true" && but > 4096 {
                continue;
            }
            let args = [
                "run", "--base", command, "--head", "true", "--json", "a.json",
            ];
            let said = said(as_user(&mut gate(scratch.path(), &args), &small.0));
            let what = format!("{command} {but}: {}", said.stderr);
            assert_eq!(said.code, Some(FAILED), "{what}");
            let folder = small.0.display().to_string();
            let says = ["no room left", "No space left on device"];
            assert!(says.iter().any(|says| said.stderr.contains(says)), "{what}");
            assert!(
                said.stderr.contains(&format!("\n  try: df -h {folder}")),
                "{what}"
            );
            let is_blamed = said.stderr.contains(" failed with exit code 1\n")
                || said.stderr.contains("could not be");
            assert!(!is_blamed, "{what}");
            assert_eq!(read_json(&read(&scratch, "a.json"))["verdict"], "failed");
            assert_eq!(names(&small.0), ["taken"], "{what}");
            assert_eq!(saved(&small.0), Vec::<PathBuf>::new(), "{what}");
        }
    }
}
