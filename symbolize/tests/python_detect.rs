//! Which files hold an interpreter, and which version: real interpreters and files that are none.

mod python_target;

use std::path::{Path, PathBuf};
use std::process::Command;

use python_target::{detect_file, interpreters};
use rprof_ebpf::runtimes::python::PythonInterpreter;
use rprof_symbolize::runtimes::{Unknown, detect};

/// What an interpreter prints for a script.
fn ask(executable: &Path, script: &str) -> String {
    let output = Command::new(executable)
        .args(["-c", script])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The executable, and the shared library of the same build where there is one. (Debian has both:
/// its executable does not use the library.)
fn files(executable: &Path) -> Vec<PathBuf> {
    let script = "import sysconfig; v = sysconfig.get_config_var; \
        print(v('LIBDIR') + '/' + v('INSTSONAME'))";
    let library = PathBuf::from(ask(executable, script));
    let mut files = vec![executable.to_owned()];
    files.extend(library.is_file().then_some(library));
    files
}

#[test]
fn supported_versions_are_found() {
    let all = interpreters("3.11");
    assert!(!all.is_empty(), "no python3.11 on this machine");
    for executable in &all {
        let version = ask(
            executable,
            "import platform; print(platform.python_version())",
        );
        let found = files(executable);
        let found = found.iter().filter_map(|f| detect_file(f).unwrap());
        let mut interpreters = 0;
        for found in found {
            assert_eq!(found.version, format!("CPython {version}"));
            let python: &PythonInterpreter = found.interpreter.layout().unwrap();
            assert!(python.symbols.iter().all(|&a| a != 0));
            interpreters += 1;
        }
        assert!(interpreters > 0, "{}", executable.display());
    }
}

#[test]
fn other_versions_are_refused_by_name() {
    let mut refused = Vec::new();
    for version in [
        "2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.12", "3.13", "3.14",
    ] {
        for executable in interpreters(version) {
            let before = refused.len();
            for file in files(&executable) {
                match detect_file(&file) {
                    Ok(None) => {}
                    Err(Unknown::Version(said)) => {
                        let expected = format!("CPython {version}");
                        assert!(said.starts_with(&expected), "{said} is {version}");
                        refused.push(said);
                    }
                    other => panic!("{}: {other:?}", file.display()),
                }
            }
            assert!(refused.len() > before, "{} is none", executable.display());
        }
    }
    println!("refused: {refused:?}");
}

#[test]
fn other_files_are_none() {
    let mut others: Vec<PathBuf> = ["/usr/bin/node", "/usr/bin/git", "/bin/sh"]
        .map(PathBuf::from)
        .to_vec();
    others.push(std::env::current_exe().unwrap());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter_map(|l| Some(l.split_once('/')?.1));
    others.extend(mapped.map(|p| Path::new("/").join(p)));
    // Launchers and extension modules use the interpreter, but do not hold it.
    for executable in interpreters("3.11") {
        if ask(
            &executable,
            "print('libpython' in open('/proc/self/maps').read())",
        ) == "True"
        {
            others.push(executable.clone());
        }
        let script = "import sysconfig; print(sysconfig.get_config_var('DESTSHARED'))";
        let modules = Path::new(&ask(&executable, script)).read_dir().unwrap();
        others.extend(modules.map(|m| m.unwrap().path()));
    }
    let mut seen = 0;
    for file in others.iter().filter(|f| f.is_file()) {
        assert_eq!(detect_file(file), Ok(None), "{}", file.display());
        seen += 1;
    }
    println!("{seen} files hold none");
    assert!(seen > 10);
}

/// A build whose objects are not the table's: the type of code objects says so.
#[test]
fn other_builds_are_refused() {
    for file in interpreters("3.11").iter().flat_map(|e| files(e)) {
        let mut bytes = std::fs::read(&file).unwrap();
        let Some(found) = detect(&*bytes, None).unwrap() else {
            continue;
        };
        // tp_basicsize 184 and tp_itemsize 2, as they stand in the file.
        let words: Vec<u8> = [184u64, 2].iter().flat_map(|w| w.to_le_bytes()).collect();
        let places: Vec<_> = memchr::memmem::find_iter(&bytes, &words).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at] = 200;
        }
        let refused = detect(&*bytes, None).unwrap_err();
        assert_eq!(refused, Unknown::Build(found.version, "debug build"));
    }
}
