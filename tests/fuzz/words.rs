//! What people and scripts type: any words get an answer.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use rprof_profiler::cli::glob::Glob;
use rprof_profiler::cli::parse::parse;
use rprof_profiler::cli::retype::Retype;
use rprof_profiler::cli::values;

use crate::engine::fuzz;
use crate::mutate::Seed;

#[test]
fn command_lines() {
    let lines = [
        "rprof\0--all\0-d\x0010s\0-o\0out.pb.gz\0-F\x0099\0--no-kernel",
        "rprof\0-p\x001234,5678\0--max-memory=256MiB\0--on-fault\0mark",
        "rprof\0--user\0nobody\0--label\0a=b\0--wait-all\0--\0./server\0--port\x001",
        "rprof\0--all\0--cpus\x000-3,5\0--comm\0py*\0--reads\0context\0--event\0cycles",
        "rprof\0check\0--json\0--color\0never",
        "rprof\0completions\0bash",
        "rprof\0-d\0-1s\0-z\0--frequency\0--al\0top",
    ];
    fuzz("words::command_lines", &lines.map(Seed::stream), |bytes| {
        let words = bytes.split(|&byte| byte == 0);
        let words: Vec<OsString> = words
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect();
        if let Err(failure) = parse(&words) {
            assert!(!failure.to_string().is_empty());
            assert_eq!(failure.exit_code(), 2, "{failure}");
        }
        let again = Retype::new(&words);
        again.as_root();
        again.with(["-F", "--freq"], Some("20"));
        again.without(["-d", "--duration"]);
        again.values(["-p", "--pid"]);
    });
}

#[test]
fn values_of_options() {
    let texts = [
        "10s",
        "1h30m",
        "500ms",
        "256MiB",
        "1.5GiB",
        "0-3,5,7-9",
        "1234,5678",
        "20",
        "4294967295",
        "key=value",
        "py[a-z]*",
        "[!x]??",
    ];
    fuzz(
        "words::values_of_options",
        &texts.map(Seed::stream),
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let _ = values::duration(&text);
            let _ = values::size(&text);
            let _ = values::pids(&text);
            let _ = values::frequency(&text);
            let _ = values::label(&text);
            if let Ok(cpus) = values::cpus(&text) {
                assert!(!cpus.0.is_empty() && values::cpus(&cpus.list()).is_ok());
            }
            if let Ok(glob) = Glob::parse(&text) {
                assert!(glob.matches("python3.11") || glob.text() == text);
                glob.matches(&"aab".repeat(5));
                glob.least_bytes();
            }
        },
    );
}
