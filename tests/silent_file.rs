//! Promise: a module's file that stops answering costs that module's names, some seconds, and
//! nothing else; and not even these seconds, if somebody says so.

use std::process::Command;
use std::time::{Duration, Instant};

use rprof_tests::beside::group;
use rprof_tests::machine;
use rprof_tests::profile::Stack;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::silent::{Silent, Towards};
use rprof_tests::skipped;
use rprof_tests::target::Target;
use rustix::process::Signal;

#[test]
fn names_of_a_file_that_stops_answering() {
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    // Dropped last: it may wait for the file system, too.
    let target;
    let silent = match Silent::mount(&scratch, &program) {
        Ok(silent) => silent,
        Err(why) => return skipped("names_of_a_file_that_stops_answering", &why),
    };
    target = Target::start(Command::new(silent.program()).args(["threads", "1", "20"]));
    let pid = target.pid().to_string();
    let mut rprof = Rprof::new(&scratch, ["-d", "3s", "-p", &pid]).start();
    rprof.wait_until_sampling();
    // Its unwind rows are read at its first sample; what only names need, not before the end.
    std::thread::sleep(Duration::from_millis(1500));
    silent.silence();
    let run = rprof.finish().expect(0);
    let profile = run.profile();
    drop(silent);

    // The program's own functions have their addresses, and libc's their names.
    let samples = profile.count(|stack| {
        let own = |name: &str| name.starts_with("program+0x");
        stack.is_complete() && stack.frames.iter().any(|frame| own(&frame.function))
    });
    let named = profile.count(|stack| stack.has("start_thread"));
    let all = profile.samples();
    println!("{samples} by address, {named} in threads of {all}");
    // How much CPU time it got in three seconds is its neighbours' affair.
    assert!(all > 50, "{all} samples: {}", run.stderr);
    assert!(
        samples.min(named) as f64 >= 0.95 * all as f64,
        "{samples}, {named} of {all}: {}",
        run.stderr
    );
    assert!(!profile.stacks.iter().any(|stack| stack.has("burn")));
    let said = format!(
        "No names of {}: reading took too long, addresses stand for them.",
        scratch.file("silent/program").display()
    );
    assert!(run.stderr.contains(&said), "{}", run.stderr);
    assert!(
        run.took < machine::patience(Duration::from_secs(12)),
        "{:?}",
        run.took
    );
}

/// They are waited for together, and after all others were asked.
#[test]
fn names_beside_many_files_that_stop_answering() {
    let test = "names_beside_many_files_that_stop_answering";
    const FILES: usize = 6;
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let folders: Vec<Scratch> = (0..FILES).map(|_| Scratch::new()).collect();
    // Dropped last: they may wait for the file systems, too.
    let mut targets = Vec::new();
    let mut silents = Vec::new();
    // Behind whoever reads and serves their files.
    let burn = |program| {
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(program);
        Target::start(nice.args(["threads", "1", "40"]))
    };
    for folder in &folders {
        match Silent::mount(folder, &program) {
            Ok(silent) => silents.push(silent),
            Err(why) => return skipped(test, &why),
        }
    }
    targets.extend(silents.iter().map(|silent| burn(silent.program())));
    // Its file is met last.
    targets.push(burn(program));
    let pids: Vec<String> = targets.iter().map(|t| t.pid().to_string()).collect();
    let mut rprof = Rprof::new(&scratch, ["-p", &pids.join(",")]).start();
    rprof.wait_until_sampling();
    std::thread::sleep(Duration::from_millis(2500));
    silents.iter().for_each(Silent::silence);
    rprof.signal(Signal::INT);
    let began = Instant::now();
    let run = rprof.finish().expect(0);
    let took = began.elapsed();
    let profile = run.profile();
    drop(silents);
    let last = targets.last().expect("one").pid();
    let all = profile.count(|stack| stack.pid == last);
    let named = profile.count(|stack| stack.pid == last && stack.has("burn"));
    println!("{took:?} to end; {named} of {all} named; {}", run.stderr);
    assert!(all > 9 && named * 100 >= all * 95, "{named} of {all}");
    assert!(run.stderr.contains("and 3 more"), "{}", run.stderr);
    // Five seconds together, and until each is known to be late; one after the other it were 30.
    assert!(
        took < machine::patience(Duration::from_secs(14)),
        "{took:?}"
    );
}

/// A device that is left alone at the end is asked once more, and answers: then for all of its files.
#[test]
fn names_of_a_device_that_answers_again() {
    let test = "names_of_a_device_that_answers_again";
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    // Dropped last: they may wait for the file system, too.
    let mut targets = Vec::new();
    let silent = match Silent::mount_towards(&scratch, &program, Towards::Reads) {
        Ok(silent) => silent,
        Err(why) => return skipped(test, &why),
    };
    let burn = |n| {
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(silent.copy(n));
        Target::start(nice.args(["threads", "1", "60"]))
    };
    targets.extend((0..3).map(burn));
    let group = group("again");
    targets.iter().for_each(|target| group.take(target.pid()));
    let folder = group.folder().display().to_string();
    let mut rprof = Rprof::new(&scratch, ["--all", "-F", "49", "--cgroup", &folder]).start();
    rprof.wait_until_sampling();
    std::thread::sleep(machine::patience(Duration::from_millis(2500)));
    silent.is_rprof(rprof.pid());
    for n in 3..5 {
        targets.push(burn(n));
        group.take(targets[n].pid());
    }
    std::thread::sleep(machine::patience(Duration::from_millis(3500)));
    silent.answers();
    rprof.signal(Signal::INT);
    let run = rprof.finish().expect(0);
    let profile = run.profile();
    println!("{}", run.stderr);
    // It was left alone: two of its files kept silent.
    let of = |n: usize| profile.of(targets[n].pid());
    let unread = |stack: &&&Stack| stack.has("[truncated: file does not answer]");
    for n in 3..5 {
        assert!(of(n).filter(|stack| unread(&stack)).count() > 0, "{n}");
    }
    for n in 0..3 {
        let all: u64 = of(n).map(|stack| stack.count).sum();
        let named = of(n).filter(|stack| stack.has("burn"));
        let named: u64 = named.map(|stack| stack.count).sum();
        assert!(all > 20 && named * 100 >= all * 90, "{n}: {named} of {all}");
    }
    assert!(!run.stderr.contains("program-0:"), "{}", run.stderr);
    assert!(!run.stderr.contains("program-0,"), "{}", run.stderr);
    drop(silent);
}

#[test]
fn an_interrupt_leaves_out_names_that_are_waited_for() {
    let test = "an_interrupt_leaves_out_names_that_are_waited_for";
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    // Dropped last: it may wait for the file system, too.
    let target;
    let silent = match Silent::mount(&scratch, &program) {
        Ok(silent) => silent,
        Err(why) => return skipped(test, &why),
    };
    target = Target::start(Command::new(silent.program()).args(["threads", "1", "20"]));
    let pid = target.pid().to_string();
    let mut rprof = Rprof::new(&scratch, ["-p", &pid]).start();
    rprof.wait_until_sampling();
    // Its unwind rows are read at its first sample; what only names need, not before the end.
    std::thread::sleep(Duration::from_millis(1500));
    silent.silence();
    rprof.signal(Signal::INT);
    let said = format!(
        "rprof: waiting for {} to be read for names; Ctrl-C leaves them out\n",
        scratch.file("silent/program").display()
    );
    machine::wait_for("it says what it waits for", Duration::from_secs(4), || {
        (rprof.said() == said).then_some(())
    });
    let began = Instant::now();
    rprof.signal(Signal::INT);
    let run = rprof.finish().expect(0);
    let took = began.elapsed();
    println!("ended {took:?} after the interrupt");
    // A reader is looked at five times a second.
    assert!(
        took < machine::patience(Duration::from_secs(2)),
        "{took:?}: {}",
        run.stderr
    );
    let profile = run.profile();
    drop(silent);
    assert!(profile.samples() > 50, "{}", run.stderr);
    assert!(run.stderr.contains("No names of"), "{}", run.stderr);
}
