//! Promise: no thread of rprof reads another process's memory, or what procfs says of it: a reader does,
//! which may do little else. One that waits for a lock of its target costs that target's names only. Where
//! the kernel cannot read without waiting, readers look at the pagemap, behind the same lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::Duration;

use rprof_tests::beside::{Neighbours, as_its_clock_says, group, lost_of, run_this, ticks_of};
use rprof_tests::machine;
use rprof_tests::profile::{Profile, Stack};
use rprof_tests::python;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};
use rprof_tests::silent::{Reading, Silent};
use rprof_tests::skipped;
use rprof_tests::target::Target;
use rprof_tests::tasks::{of_children, waits_in};

/// `CAP_DAC_READ_SEARCH`, `CAP_IPC_LOCK`, `CAP_SYS_PTRACE`, `CAP_CHECKPOINT_RESTORE`.
const CAPABILITIES: u64 = 1 << 2 | 1 << 14 | 1 << 19 | 1 << 40;

/// A reader of memory, as it was seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    capabilities: u64,
    descriptors: usize,
    /// It waited for the lock on somebody's mappings: all the kernel shows of that is what took it.
    locked: bool,
}

/// Readers of memory that rprof had, by process id.
type Readers = BTreeMap<u32, Seen>;

fn look(rprof: u32, readers: &mut Readers) {
    for task in of_children(rprof) {
        // Until it is asked it is one like all others. Before it is one, it is we, under the name of the
        // thread that starts it: on a busy machine for long enough to be seen.
        let line = std::fs::read(format!("/proc/{}/cmdline", task.tid));
        let is_reader = line.is_ok_and(|line| line.starts_with(b"rprof-reader\0"));
        if task.name != "rprof-memory" || !is_reader {
            continue;
        }
        let seen = readers.entry(task.tid).or_default();
        let status = std::fs::read_to_string(format!("/proc/{}/status", task.tid));
        let status = status.unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        if let Some(bits) = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()) {
            seen.capabilities = bits;
        }
        let files = std::fs::read_dir(format!("/proc/{}/fd", task.tid));
        let files = files.map_or(0, Iterator::count);
        seen.descriptors = seen.descriptors.max(files);
        let waits = task.state == 'D' && waits_in(&task).contains("pagemap_read");
        seen.locked |= waits;
    }
}

/// Processes one name of which is not in memory, beside two whose names all are.
fn record(scratch: &Scratch, targets: &[u32]) -> (Profile, Readers) {
    let neighbours = Neighbours::start(scratch);
    let mut pids = vec![neighbours.c.pid(), neighbours.python.pid()];
    pids.extend(targets);
    let group = group("memory");
    pids.iter().for_each(|&pid| group.take(pid));
    let folder = group.folder().display().to_string();
    let rprof = Rprof::new(scratch, ["--all", "-F", "99", "--cgroup", &folder])
        .env("RPROF_FAULT", "pagemap-only:1");
    let (mut readers, over) = (Readers::new(), AtomicBool::new(false));
    let (profile, used) = scope(|scope| {
        let (readers, over) = (&mut readers, &over);
        let started = std::process::id();
        let watch = scope.spawn(move || {
            let rprof = machine::wait_for("rprof runs", Duration::from_secs(9), || {
                let mut children = of_children(started).into_iter();
                Some(children.find(|task| task.name == "rprof")?.tid)
            });
            while !over.load(SeqCst) {
                look(rprof, readers);
                sleep(Duration::from_millis(10));
            }
        });
        let run = run_this(rprof, &pids, |_| ());
        over.store(true, SeqCst);
        watch.join().expect("no panic");
        run
    });
    println!("{readers:?}");
    neighbours.check(&profile, &used);
    for &pid in targets {
        as_its_clock_says(&profile, pid, &used, ticks_of(&profile, pid));
        let of = |name| profile.count(|stack| stack.pid == pid && stack.has(name));
        let all = profile.count(|stack| stack.pid == pid);
        let (plain, lost) = (of("plain"), ticks_of(&profile, pid) - all);
        println!("{plain} of the other thread, {lost} lost");
        assert!(plain > 2 && lost > 2, "{:?}", profile.ledger);
    }
    let hidden = |stack: &Stack| {
        let mut frames = stack.interpreted();
        frames.any(|f| f.function.starts_with("hidden"))
    };
    assert_eq!(profile.count(hidden), 0);
    (profile, readers)
}

/// A reader saw that the name is not in memory, or saw that nothing may be read here.
fn is_asked(profile: &Profile, pid: u32) {
    let lost = lost_of(profile, pid);
    assert!(
        lost == ["would fault"] || lost == ["names not read"],
        "{:?}",
        profile.ledger
    );
}

#[test]
fn a_reader_reads_it_and_may_do_little_else() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let script = source_file("stuck.py");
    let target = Target::start(&mut python::system().command(&script));
    let (profile, readers) = record(&scratch, &[target.pid()]);
    is_asked(&profile, target.pid());
    // Not one for each question. Standard streams, the socket, and of the process three.
    let [reader] = readers.values().collect::<Vec<_>>()[..] else {
        panic!("{readers:?}");
    };
    let is_bounded = reader.capabilities == CAPABILITIES && reader.descriptors <= 7;
    assert!(is_bounded, "{readers:?}");
}

#[test]
fn a_lock_that_is_never_free() {
    let test = "a_lock_that_is_never_free";
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    // Dropped last: until the file system is gone its end waits for that.
    let locked;
    let silent = match Silent::mount_with(&scratch, &program, Reading::Waiting) {
        Ok(silent) => silent,
        Err(why) => return skipped(test, &why),
    };
    silent.silence();
    let command = || python::system().command(&source_file("stuck.py"));
    // Only one: another would wait for the same page when it opens the file.
    locked = Target::start(command().arg(silent.program()));
    let free = Target::start(&mut command());
    let (profile, readers) = record(&scratch, &[locked.pid(), free.pid()]);
    let lost = lost_of(&profile, locked.pid());
    assert_eq!(lost, ["quarantined"], "{:?}", profile.ledger);
    // Nobody else waits for it.
    is_asked(&profile, free.pid());
    // One was lost over it, and then it was left alone.
    let stuck = readers.values().filter(|r| r.locked);
    assert_eq!(stuck.count(), 1, "{readers:?}");
    drop(silent);
}
