//! Promise: rprof never changes a target. No page of it is made resident or un-shared, it gets no signal, is
//! never stopped or traced, and its memory is what it was.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rprof_tests::beside::lost_of;
use rprof_tests::machine;
use rprof_tests::python;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch, source_file};
use rprof_tests::skipped;
use rprof_tests::target::Target;
use rprof_tests::tasks::of_process;

const PAGE: u64 = 4;

const WAYS: [&str; 3] = ["auto", "context", "process-vm"];

/// KiB of a process's memory (`smaps_rollup`): its own alone, its share, all. A page that was un-shared by a
/// read is its own, but clean.
fn memory(pid: u32) -> [u64; 3] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let figure = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let figure = line.and_then(|line| line.split_whitespace().next());
        figure.and_then(|kib| kib.parse().ok()).expect("a figure")
    };
    let own = figure("Private_Dirty:") + figure("Private_Clean:");
    [own, figure("Pss:"), figure("Rss:")]
}

/// What a reader that pins pages does to them: the measure can see it.
fn read_plainly(pid: u32, address: u64, len: usize) {
    let mut buffer = vec![0u8; len];
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: len,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address as usize),
        iov_len: len,
    };
    // SAFETY: one buffer, as long as said; the other address is only looked up in the other process.
    let read = unsafe { libc::process_vm_readv(pid as i32, &local, 1, &remote, 1, 0) };
    assert_eq!(read, len as isize);
}

#[test]
fn pages_shared_with_a_parent_stay_shared() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let target = Target::start(&mut python::system().command(&source_file("children.py")));
    let words = |first: &str| {
        let lines = target
            .said
            .iter()
            .filter_map(|line| line.strip_prefix(first));
        lines
            .map(|line| line.trim().to_string())
            .collect::<Vec<_>>()
    };
    let children: Vec<u32> = words("child")
        .iter()
        .map(|pid| pid.parse().expect("a pid"))
        .collect();
    let names = words("name");
    let [profiled, control] = children[..] else {
        panic!("{children:?}");
    };
    // What they un-share by running is un-shared.
    std::thread::sleep(Duration::from_secs(1));
    for reads in machine::ways_to_read("pages_shared_with_a_parent_stay_shared", &WAYS) {
        // A minute by who pins what it reads, on the kernels that have that, all of which are emulated.
        let time = Duration::from_secs(3);
        let seconds = match reads {
            "process-vm" => machine::patience(time),
            _ => machine::longer(time),
        };
        let seconds = seconds.as_secs();
        let before = [profiled, control].map(memory);
        let args = ["-p", &profiled.to_string(), "-F", "199", "--reads", reads];
        let run = Rprof::new(&scratch, args).args(["-d", &format!("{seconds}s")]);
        let profile = run.run().ok();
        let after = [profiled, control].map(memory);
        let mut functions = BTreeMap::new();
        for stack in profile.of(profiled) {
            for frame in stack.interpreted().filter(|f| f.function.starts_with("f_")) {
                *functions.entry(frame.function.clone()).or_insert(0) += stack.count;
            }
        }
        println!(
            "{reads}: {} names, {before:?}, {after:?} KiB",
            functions.len()
        );
        // Who pins what it reads may not read these: a reader has looked, and left them alone.
        let shared = profile.ledger.get("shared page");
        let has_looked = match reads {
            "process-vm" => functions.is_empty() && shared > 30,
            _ => functions.len() > 30,
        };
        assert!(has_looked, "{functions:?}: {:?}", profile.ledger);
        for (what, n) in ["own", "share", "all"].into_iter().zip(0..) {
            let grown = |n: usize, who: usize| after[who][n].saturating_sub(before[who][n]);
            // The names that were read lie on a page each; what Python does on its own is a few.
            let bound = grown(n, 1) + 8 * PAGE;
            assert!(grown(n, 0) <= bound, "{what}: {before:?}, {after:?} KiB");
        }
    }
    let [before, ..] = memory(profiled);
    for name in &names {
        let (address, len) = name.split_once(' ').expect("two words");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        read_plainly(profiled, number(address), number(len) as usize);
    }
    let [after, ..] = memory(profiled);
    println!("read plainly: {before} to {after} KiB of its own");
    assert!(
        after >= before + names.len() as u64 * PAGE / 2,
        "{before}, {after}"
    );
}

#[test]
fn nothing_of_a_process_changes() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("untouched.c", "untouched", OPTIMIZED);
    let file = scratch.file("mapped");
    std::fs::write(&file, vec![7; 1 << 20]).expect("a file");
    let mut target = Target::start(Command::new(program).arg(&file));
    let pid = target.pid();
    let status = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let kept = [
            "TracerPid",
            "SigPnd",
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "ShdPnd",
            "VmRSS",
            "VmSize",
            "VmLck",
            "Threads",
        ];
        let lines = text
            .lines()
            .filter(|line| kept.iter().any(|name| line.starts_with(name)));
        lines.map(String::from).collect::<Vec<_>>()
    };
    // The first answer uses memory that it has from then on.
    target.ask("warm");
    let before = (target.ask("before"), status());
    println!("{}", before.0);
    // There is nothing to read in user space.
    for reads in ["auto", "context"] {
        let args = ["-p", &pid.to_string(), "-F", "199", "--reads", reads];
        let mut running = Rprof::new(&scratch, args).start();
        running.wait_until_sampling();
        for _ in 0..100 {
            assert_eq!(status(), before.1, "{reads}");
            let stopped: Vec<_> = of_process(pid)
                .into_iter()
                .filter(|task| matches!(task.state, 'T' | 't'))
                .collect();
            assert!(stopped.is_empty(), "{stopped:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        running.signal(rustix::process::Signal::INT);
        let profile = running.finish().ok();
        let burnt = profile.count(|stack| stack.pid == pid && stack.has("burn"));
        assert!(burnt > 20, "{:?}", profile.ledger);
        assert_eq!((target.ask("after"), status()), before, "{reads}");
    }
}

/// What a process says of its mapping and unmapping in half a second: microseconds that it slept in that, and
/// those of the longest round.
fn stalls(target: &mut Target) -> [i64; 2] {
    target.ask("begin");
    std::thread::sleep(Duration::from_millis(500));
    let said = target.ask("end");
    let numbers: Vec<i64> = said
        .split_whitespace()
        .map(|n| n.parse().expect("a number"))
        .collect();
    [numbers[1], numbers[2]]
}

fn median(mut figures: Vec<[i64; 2]>) -> i64 {
    println!("{figures:?}");
    figures.sort_unstable();
    figures[figures.len() / 2][0]
}

/// The most that was measured: who holds it has to get a CPU for that.
fn most(figures: &[[i64; 2]]) -> i64 {
    figures.iter().map(|figure| figure[0]).max().unwrap_or(0)
}

/// In turns: without rprof, with it as `profiled` runs it, and while somebody holds the lock of its mappings. In each run with it
/// so many samples at least (`lost`) have a name that cannot be read.
fn waits_for_nobody(
    target: &mut Target,
    scratch: &Scratch,
    profiled: impl Fn(Rprof) -> Rprof,
    lost: u64,
) {
    const ROUNDS: usize = 5;
    let pid = target.pid();
    let (mut without, mut with, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(stalls(target));
        let args = ["-p", &pid.to_string(), "-F", "199"];
        let mut running = profiled(Rprof::new(scratch, args)).start();
        running.wait_until_sampling();
        if machine::slower() > 1 {
            // Until its runtime is known nobody reads its names.
            std::thread::sleep(Duration::from_secs(6));
        }
        with.push(stalls(target));
        running.signal(rustix::process::Signal::INT);
        let profile = running.finish().ok();
        let samples = profile.count(|stack| stack.pid == pid);
        assert!(samples > 30, "{:?}", profile.ledger);
        let unread = profile.ledger.get("would fault");
        assert!(unread >= lost, "{unread}: {:?}", profile.ledger);
        // What somebody does that looks into procfs: the measure can see it. (For `smaps` newer kernels lock
        // but one mapping at a time.)
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // Not waited for: a failure must not wait for it, either.
        std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "1");
            }
        });
        held.push(stalls(target));
        stop.store(true, Relaxed);
    }
    // Of 500,000; a kernel's own work makes it sleep now and then.
    let held = most(&held);
    let [without, with] = [without, with].map(median);
    println!("it slept {without} µs, with rprof {with}, while its lock was held {held}");
    let bound = 5_000 * i64::from(machine::slower().min(4));
    assert!(with <= without + bound, "{without}, {with}");
    assert!(held > without + 5 * bound, "{without}, {held}");
}

#[test]
fn its_own_mapping_waits_for_nobody() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mapping = scratch.cc("mapping.c", "mapping", OPTIMIZED);
    let mut target = Target::start(&mut Command::new(mapping));
    waits_for_nobody(&mut target, &scratch, |rprof| rprof, 0);
}

/// Nor for who reads its memory, for a name that cannot be read in the sample's own context.
#[test]
fn its_own_mapping_waits_for_no_reader() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let flags = ["-O2", "-shared", "-fPIC", "-Dmain=mapping"];
    let library = scratch.cc("mapping.c", "mapping.so", &flags);
    let mut command = python::system().command(&source_file("stuck.py"));
    let mut target = Target::start(command.arg("mapping").arg(library));
    let profiled = |rprof: Rprof| match machine::reads_without_waiting() {
        true => rprof.args(["--reads", "process-vm"]),
        // Readers look at the pagemap as ever, behind the same lock.
        false => rprof.env("RPROF_FAULT", "pagemap-only:1"),
    };
    waits_for_nobody(&mut target, &scratch, profiled, 10);
}

/// Swap space that is the test's own; off when dropped.
struct Swap(CString);

impl Swap {
    /// `Err`: why there is none.
    fn on(scratch: &Scratch) -> Result<Self, String> {
        const BYTES: usize = 64 << 20;
        // Whatever is short of memory would go there, too.
        let memory = std::fs::read_to_string("/proc/meminfo").expect("figures");
        let available = memory.split_once("MemAvailable:").and_then(|(_, rest)| {
            let kib = rest.split_whitespace().next()?;
            kib.parse::<usize>().ok()
        });
        if available.is_none_or(|kib| kib < 1 << 20) {
            return Err("less than a GiB of memory is free".into());
        }
        let file = scratch.file("swap");
        // Not sparse.
        std::fs::write(&file, vec![0; BYTES]).map_err(|error| error.to_string())?;
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("our own");
        let made = Command::new("mkswap").arg(&file).output();
        if !made.is_ok_and(|made| made.status.success()) {
            return Err("mkswap: not here".into());
        }
        let path = CString::new(file.to_str().expect("plain")).expect("plain");
        // SAFETY: a text that ends in NUL.
        match unsafe { libc::swapon(path.as_ptr(), 0) } {
            0 => Ok(Self(path)),
            _ => Err(format!("swapon: {}", std::io::Error::last_os_error())),
        }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // SAFETY: a text that ends in NUL.
        unsafe { libc::swapoff(self.0.as_ptr()) };
    }
}

/// How many of these pages are in a process's memory, and how many swapped out (bits 63 and 62 of its
/// pagemap).
fn pages(pid: u32, address: u64, bytes: u64) -> [usize; 2] {
    let pagemap = std::fs::File::open(format!("/proc/{pid}/pagemap")).expect("it runs");
    let mut entries = vec![0; (bytes / 4096 * 8) as usize];
    let read = pagemap.read_exact_at(&mut entries, address / 4096 * 8);
    read.expect("its page tables");
    let count = |bit: u8| {
        entries
            .chunks(8)
            .filter(|entry| entry[7] & bit != 0)
            .count()
    };
    [count(0x80), count(0x40)]
}

#[test]
fn what_is_swapped_out_stays_there() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let _swap = match Swap::on(&scratch) {
        Ok(swap) => swap,
        Err(why) => return skipped("what_is_swapped_out_stays_there", &why),
    };
    let target = Target::start(&mut python::system().command(&source_file("swapped.py")));
    let pid = target.pid();
    let words: Vec<&str> = target.said[0].split(' ').collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let (address, bytes) = (number(words[1]), number(words[2]));
    let before = pages(pid, address, bytes);
    assert!(before[0] == 0 && before[1] > 200, "{before:?}");
    let time = format!(
        "{}ms",
        machine::longer(Duration::from_millis(1500)).as_millis()
    );
    for reads in machine::ways_to_read("what_is_swapped_out_stays_there", &WAYS) {
        let args = ["-p", &pid.to_string(), "-F", "199", "-d", &time];
        let run = Rprof::new(&scratch, args).args(["--reads", reads]).run();
        let profile = run.ok();
        let after = pages(pid, address, bytes);
        let lost = profile.ledger.get("would fault");
        println!(
            "{reads}: {before:?} pages in memory and swapped out, then {after:?}; {lost} lost"
        );
        assert_eq!(after, before, "{reads}");
        assert_eq!(lost_of(&profile, pid), ["would fault"], "{reads}");
        assert!(lost > 20, "{:?}", profile.ledger);
    }
    // The measure can see a reader that brings them in.
    read_plainly(pid, address + 4096, 4096);
    let read = pages(pid, address, bytes);
    assert!(read[0] > 0 && read[1] < before[1], "{read:?}");
}
