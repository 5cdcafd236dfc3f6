//! The command to run: which file it is, which user it runs as, and what its end means for rprof's
//! own exit code. It finds out before anything is sampled whether there is something to run; it
//! starts nothing itself.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::fs::{Access, access};

use super::failure::{Failure, exit};
use super::retype::quoted;

/// A command that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its file: as typed if there is a `/` in it, else found along `PATH`.
    pub file: PathBuf,
    /// All its words; the first is the name as it was typed.
    pub words: Vec<OsString>,
    /// Who it runs as, if not as rprof itself.
    pub user: Option<User>,
    /// Go on until all its descendants have ended.
    pub wait_all: bool,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name, for `initgroups`.
    pub name: CString,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home folder.
    pub home: PathBuf,
}

/// The file that a name stands for, as a shell would find it along `path` (the value of `PATH`).
///
/// # Errors
/// Exit code 127 if there is none, 126 if there is one that cannot be run.
pub fn find(name: &OsStr, path: &OsStr) -> Result<PathBuf, Failure> {
    let shown = name.to_string_lossy();
    let runnable = |file: &Path| match std::fs::metadata(file) {
        Ok(what) if what.is_dir() => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        Ok(_) => access(file, Access::EXEC_OK).map_err(io::Error::from),
        Err(error) => Err(error),
    };
    if name.as_bytes().contains(&b'/') {
        let file = PathBuf::from(name);
        return match runnable(&file) {
            Ok(()) => Ok(file),
            Err(error) => Err(not_run(&file, &error)),
        };
    }
    let mut refused = None;
    for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
        let file = folder.join(name);
        match runnable(&file) {
            Ok(()) if !name.is_empty() => return Ok(file),
            // In a folder that may not be searched nothing was found.
            Err(error) if is_denied(&error) && file.is_file() => {
                refused.get_or_insert(not_run(&file, &error));
            }
            _ => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        let failure =
            Failure::new(format!("there is no command '{shown}' along PATH")).code(exit::NOT_FOUND);
        if !name.is_empty() && runnable(Path::new(name)).is_ok() {
            failure.next(format!("rprof -- ./{}", quoted(&shown)))
        } else {
            failure.next(format!("command -v {}", quoted(&shown)))
        }
    }))
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The program that a file needs to be run, if that is not there: a script's first line names it.
fn missing_interpreter(file: &Path) -> Option<String> {
    // The kernel reads no more (`BINPRM_BUF_SIZE`).
    let mut head = Vec::new();
    let script = std::fs::File::open(file).ok()?;
    script.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let interpreter = line.split_whitespace().next()?;
    (!Path::new(interpreter).exists()).then(|| interpreter.to_string())
}

/// What is said when a command cannot be run: exit code 127 if its file does not exist, else 126.
pub fn not_run(file: &Path, error: &io::Error) -> Failure {
    let shown = file.to_string_lossy();
    if error.raw_os_error() == Some(libc::ENOENT) && file.is_file() {
        let (what, next) = match missing_interpreter(file) {
            Some(interpreter) => (
                format!("its interpreter {interpreter} does not exist"),
                format!("head -1 {}", quoted(&shown)),
            ),
            None => (
                "what loads it does not exist".into(),
                format!("file {}", quoted(&shown)),
            ),
        };
        return Failure::new(format!("cannot run {shown}: {what}"))
            .code(exit::NOT_FOUND)
            .next(next);
    }
    let (code, next) = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => {
            (exit::NOT_FOUND, format!("ls -l {}", quoted(&shown)))
        }
        Some(libc::EACCES) if std::fs::metadata(file).is_ok_and(|what| what.is_file()) => {
            (exit::CANNOT_RUN, format!("chmod +x {}", quoted(&shown)))
        }
        Some(libc::ENOEXEC) => (exit::CANNOT_RUN, format!("rprof -- sh {}", quoted(&shown))),
        _ => (exit::CANNOT_RUN, format!("ls -ld {}", quoted(&shown))),
    };
    Failure::file("run", file, error).code(code).next(next)
}

/// The exit code that a command's end gives rprof: its own, or 128 + N if signal N killed it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + (signal & 0x7f),
        (None, None) => i32::from(exit::FAILED),
    };
    u8::try_from(code).unwrap_or(exit::FAILED)
}

/// Looks an account up, by whatever means this machine has (`nsswitch.conf`): by its name, or else by
/// its number.
///
/// # Errors
/// There is none; exit code 2.
pub fn user(typed: &str) -> Result<User, Failure> {
    let unknown = || {
        Failure::usage(format!("there is no user '{typed}' on this machine"))
            .next("getent passwd | cut -d: -f1,3")
    };
    let name = CString::new(typed).map_err(|_| unknown())?;
    let number = typed.parse().ok();
    let by_number = || number.and_then(|number| account(&Account::Number(number)));
    account(&Account::Name(name))
        .or_else(by_number)
        .ok_or_else(unknown)
}

enum Account {
    Name(CString),
    Number(u32),
}

fn account(wanted: &Account) -> Option<User> {
    let mut buffer = vec![0u8; 16 << 10];
    // SAFETY: `passwd` is plain data, for which all zeros are valid (null pointers and numbers).
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to live memory of ours, and the buffer's length is its own.
    let error = unsafe {
        let (text, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        match wanted {
            Account::Name(name) => {
                libc::getpwnam_r(name.as_ptr(), &mut entry, text, length, &mut found)
            }
            Account::Number(uid) => libc::getpwuid_r(*uid, &mut entry, text, length, &mut found),
        }
    };
    if error != 0 || found.is_null() || entry.pw_name.is_null() {
        return None;
    }
    // SAFETY: a successful call leaves NUL-terminated strings in `buffer`, which still lives.
    let name = unsafe { CStr::from_ptr(entry.pw_name) }.to_owned();
    let home = if entry.pw_dir.is_null() {
        PathBuf::from("/")
    } else {
        // SAFETY: as its name.
        let home = unsafe { CStr::from_ptr(entry.pw_dir) };
        PathBuf::from(OsStr::from_bytes(home.to_bytes()))
    };
    Some(User {
        name,
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        home,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn finds_what_a_shell_would() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tool");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        let path = folder.path().as_os_str();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let refused = find("tool".as_ref(), path).unwrap_err();
        assert_eq!(refused.exit_code(), 126);
        assert!(refused.to_string().contains("chmod +x"), "{refused}");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find("tool".as_ref(), path), Ok(file.clone()));
        assert_eq!(find(file.as_os_str(), "".as_ref()), Ok(file));
    }

    #[test]
    fn a_script_whose_interpreter_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let failure = not_run(&file, &io::Error::from_raw_os_error(libc::ENOENT));
            assert_eq!(failure.exit_code(), 127);
            failure.to_string()
        };
        let text = said("#! /no/such/python -u\nprint()\n");
        assert!(
            text.contains(": its interpreter /no/such/python does not exist\n  try: head -1 /")
        );
        assert!(said("\x7fELF").contains(": what loads it does not exist\n  try: file /"));
    }

    #[test]
    fn codes_of_commands_that_cannot_be_run() {
        let path: &OsStr = "/usr/bin:/bin".as_ref();
        for (name, code) in [
            ("no-such-command", 127),
            ("/no/such", 127),
            ("/etc", 126),
            ("", 127),
        ] {
            let failure = find(name.as_ref(), path).unwrap_err();
            assert_eq!(failure.exit_code(), code, "{failure}");
            assert_eq!(failure.next_commands().len(), 1, "{failure}");
        }
    }

    #[test]
    fn codes_of_commands_that_ended() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(11 | 0x80)), 139);
    }

    #[test]
    fn users() {
        let root = user("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.home.is_absolute());
        assert_eq!(user("0"), Ok(root));
        for name in ["no-such-user-here", "", "a\0b", "4294967290"] {
            assert_eq!(user(name).unwrap_err().exit_code(), 2);
        }
    }
}
