//! Promise: every expected tick ends in exactly one column. A loss that is brought about on purpose
//! shows in its own column and in no other, and the rest of the profile is there.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rprof_tests::account::adds_up;
use rprof_tests::ledger::Ledger;
use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::rprof::Rprof;
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::statistics::count_bound;
use rprof_tests::usage::start;
use rustix::process::Signal;

/// Expected ticks come from the events' enabled time, and so from nothing but time: frequency ×
/// seconds × CPUs, but for one tick of each of the up to eight events of a CPU, and for the
/// milliseconds that events are enabled before and after the run's own clock looks.
fn expects_time(profile: &Profile, hertz: f64) {
    let cpus = machine::cpus().len() as f64;
    let seconds = profile.duration as f64 / 1e9;
    let time = hertz * seconds * cpus;
    let bound = 8.0 * cpus + 0.005 * time;
    let expected = profile.ledger.expected as f64;
    assert!(
        (expected - time).abs() <= bound,
        "{expected} ticks expected in {time:.1} ticks' time"
    );
}

/// Seconds of all CPUs since boot in a column of `/proc/stat` (proc(5): 4 idle, 5 iowait, 8 steal).
fn seconds(columns: &[usize]) -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("the kernel's statistics");
    let first = stat.lines().next().expect("a line of all CPUs");
    let words: Vec<&str> = first.split_whitespace().collect();
    // In hundredths of a second.
    columns
        .iter()
        .map(|&n| words[n].parse::<f64>().expect("a number") / 100.0)
        .sum()
}

#[test]
fn idle_time_is_the_kernels() {
    const HERTZ: f64 = 49.0;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let mut running = Rprof::new(&scratch, ["--all", "-F", "49"]).start();
    running.wait_until_sampling();
    let before = seconds(&[4, 5]);
    std::thread::sleep(Duration::from_secs(4));
    let idle = seconds(&[4, 5]) - before;
    running.signal(Signal::INT);
    let profile = running.finish().ok();
    adds_up(&profile);
    expects_time(&profile, HERTZ);
    // The kernel counts idle time by its own clock, rprof by ticks; both ends of the run lie some
    // milliseconds beyond the two looks.
    let (shown, expected) = (profile.ledger.get("idle") as f64, idle * HERTZ);
    let bound = count_bound(expected) + 0.02 * profile.ledger.expected as f64;
    // A virtual machine's host may let the timer of an idle CPU pass: those ticks are not delivered,
    // and it cannot be told what the CPU did.
    let most = shown + profile.ledger.get("not delivered by the kernel") as f64;
    println!("{shown} to {most} idle ticks, {expected:.0} by the kernel's account");
    assert!(
        shown <= expected + bound && most >= expected - bound,
        "{shown} idle, {expected:.0} expected: {:?}",
        profile.ledger
    );
}

#[test]
fn busy_cpus() {
    const HERTZ: f64 = 199.0;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let cpus = machine::cpus();
    // More CPU seconds than there are: all CPUs are busy to the end.
    let burners: Vec<_> = cpus
        .iter()
        .map(|cpu| {
            let mut command = Command::new("taskset");
            command
                .args(["-c", &cpu.to_string()])
                .arg(&program)
                .args(["main", "9"]);
            start(&mut command)
        })
        .collect();
    let before = seconds(&[8]);
    let profile = Rprof::new(&scratch, ["--all", "-F", "199", "-d", "8s"])
        .run()
        .ok();
    let stolen = seconds(&[8]) - before;
    for burner in burners {
        burner.finish();
    }
    adds_up(&profile);
    expects_time(&profile, HERTZ);
    let ledger = &profile.ledger;
    let idle = ledger.get("idle") as f64;
    assert!(idle <= 0.01 * ledger.expected as f64, "{ledger:?}");
    // Within 1 % of frequency × time. A tick that falls into time that the hypervisor gave to
    // somebody else is late, and late ticks of one event come as one.
    let missing = ledger.get("not delivered by the kernel") as f64;
    let bound = 0.01 * ledger.expected as f64 + stolen * HERTZ;
    println!(
        "{missing} not delivered of {}; {stolen} s stolen",
        ledger.expected
    );
    assert!(
        missing <= bound,
        "{missing} ticks not delivered, at most {bound:.0}: {ledger:?}"
    );
}

#[test]
fn a_command_and_its_neighbours() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let profile = Rprof::new(&scratch, ["--"])
        .arg(program)
        .args(["main", "2"])
        .run()
        .ok();
    adds_up(&profile);
    expects_time(&profile, 199.0);
    let kept = profile.samples() as f64;
    assert!(
        (kept - 398.0).abs() <= count_bound(398.0),
        "{:?}",
        profile.ledger
    );
}

/// Two programs at the same time, while something in rprof is made to fail.
fn with_fault(fault: &str) -> Profile {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let script = format!("{0} main 2 & {0} main 2; wait", program.display());
    let rprof = Rprof::new(&scratch, ["--", "sh", "-c", &script]);
    let profile = rprof.env("RPROF_FAULT", fault).run().ok();
    // Who reads the profile knows that it was made with one.
    assert!(profile.comments.contains(&format!("fault: {fault}")));
    profile
}

/// The columns that are losses, but for what a virtual machine loses on its own: a few ticks.
fn losses(ledger: &Ledger) -> Vec<&str> {
    let mut names: Vec<&str> = ledger.lost.iter().map(String::as_str).collect();
    // As many as a virtual machine's host has kept back of 4,000 a second, and twice that.
    let few = ledger.expected / 20;
    names.retain(|&name| name != "not delivered by the kernel" || ledger.get(name) > few);
    names
}

#[test]
fn a_full_ring() {
    // One page: a few samples, while the reader wakes once a second.
    let profile = with_fault("ring-bytes:4096");
    adds_up(&profile);
    assert_eq!(
        losses(&profile.ledger),
        ["ring full"],
        "{:?}",
        profile.ledger
    );
    let lost = profile.ledger.get("ring full");
    assert!(lost > 50, "{:?}", profile.ledger);
    // What found room is in the profile, with its names.
    let kept = profile.count(|stack| stack.is_complete() && stack.has("burn"));
    assert!(kept > 10, "{kept} samples are left: {:?}", profile.ledger);
}

#[test]
fn losses_of_several_reasons() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let burn = scratch.cc("burn.c", "burn", OPTIMIZED);
    let absent = scratch.cc("absent.c", "absent", OPTIMIZED);
    let deep = scratch.cc(
        "deep.c",
        "deep",
        &["-O2", "-g", "-fno-optimize-sibling-calls"],
    );
    // Threads, so that both CPUs lose of one process at once; then stacks that are more than the programs
    // may use of a second.
    let script = format!(
        "{0} threads 0.6 4 </dev/zero & {1} 0.5 & wait; {2} 900 0.5 >out1 & {2} 900 0.5 >out2 & wait",
        burn.display(),
        absent.display(),
        deep.display(),
    );
    let profile = Rprof::new(&scratch, ["-F", "4000", "--", "sh", "-c", &script])
        .env("RPROF_FAULT", "ring-bytes:65536")
        .run()
        .ok();
    adds_up(&profile);
    let ledger = &profile.ledger;
    let expected = ["rate lowered", "ring full", "would fault"];
    assert_eq!(losses(ledger), expected, "{ledger:?}");
    for (column, name) in [
        ("ring full", "burn"),
        ("ring full", "absent"),
        ("would fault", "absent"),
        ("rate lowered", "deep"),
    ] {
        let mut of = ledger
            .processes
            .iter()
            .filter(|(_, other, _)| other == name);
        let has = of.any(|(.., row)| row.get(column).is_some_and(|&n| n > 5));
        assert!(has, "{name} lost too little to {column}: {ledger:?}");
    }
    for (_, name, row) in &ledger.processes {
        let faults = row.contains_key("would fault");
        assert!(!faults || name == "absent", "{name}: {ledger:?}");
    }
}

#[test]
fn a_killed_worker() {
    // Two workers on two CPUs: more than 2,000 samples a second.
    const HERTZ: &str = "1100";
    const BURNERS: usize = 16;
    const SECONDS: f64 = 0.4;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let one = format!("{} main {SECONDS} & ", program.display());
    let script = one.repeat(BURNERS) + "wait";
    let profile = Rprof::new(&scratch, ["-F", HERTZ, "--", "sh", "-c", &script])
        .env("RPROF_FAULT", "worker-panic:700,slow-machine:10")
        .run()
        .ok();
    adds_up(&profile);
    let ledger = &profile.ledger;
    assert_eq!(losses(ledger), ["worker lost"], "{ledger:?}");
    // What it held: the rest of its batch, of 16,384 words at most; a sample has more than 40.
    let lost = ledger.get("worker lost");
    assert!((1..=410).contains(&lost), "{ledger:?}");
    let burners: Vec<_> = ledger
        .processes
        .iter()
        .filter(|(_, name, _)| name == "burn")
        .collect();
    assert_eq!(burners.len(), BURNERS, "{ledger:?}");
    // By chance one of 32,768 runs gives all of them to one worker.
    let spared = burners
        .iter()
        .filter(|(.., row)| !row.contains_key("worker lost"));
    assert!(spared.count() > 0, "{ledger:?}");
    // Nothing else is missing of any of them, and its successor goes on with their samples.
    let each = 1100.0 * SECONDS;
    for (pid, _, row) in burners {
        let ticks = row.values().sum::<u64>() as f64;
        let bound = count_bound(each) + 0.02 * each;
        assert!((ticks - each).abs() <= bound, "pid {pid}: {row:?}");
    }
    let kept = profile.count(|stack| stack.is_complete() && stack.has("burn"));
    let all = BURNERS as f64 * each;
    assert!(
        kept as f64 >= 0.95 * all - lost as f64,
        "{kept} of {all}: {ledger:?}"
    );
}

#[test]
fn a_panic_costs_what_it_was_over() {
    for fault in ["reader-panic:30", "learner-panic:1"] {
        let profile = with_fault(fault);
        adds_up(&profile);
        let ledger = &profile.ledger;
        let lost = ledger.get("worker lost");
        // The first question to the learner is the burners' file, which nobody knows yet.
        assert_eq!(lost, 1, "{fault}: {ledger:?}");
        assert_eq!(
            lost,
            ledger.lost() - ledger.get("not delivered by the kernel")
        );
        let kept = profile.count(|stack| stack.is_complete() && stack.has("burn"));
        assert!(kept > 700, "{fault}: {kept} samples are left: {ledger:?}");
    }
}

#[test]
fn a_stuck_thread_is_not_waited_for() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    // Files that nobody has learned before the first tick, the second when the learner is stuck already;
    // and both runs at once: their ends wait five seconds each. Whoever waited for the thread would never end.
    let runs =
        [("worker-stuck:60", "burn-1"), ("learner-stuck:1", "burn-2")].map(|(fault, new)| {
            let new = scratch.file(new).display().to_string();
            let script = format!(
                "cp {0} {new}; {new} main 0.5; cp {0} {new}b; exec {new}b main 0.5",
                program.display()
            );
            let rprof = Rprof::new(&scratch, ["--", "sh", "-c", &script]);
            rprof.env("RPROF_FAULT", fault).start()
        });
    let profiles = runs.map(|run| {
        let run = run.finish();
        assert!(
            run.took < machine::patience(Duration::from_secs(25)),
            "{:?}",
            run.took
        );
        run.ok()
    });
    for profile in &profiles {
        adds_up(profile);
    }
    let [worker, learner] = profiles.map(|profile| (profile.samples(), profile.ledger));
    assert_eq!(losses(&worker.1), ["quarantined"], "{:?}", worker.1);
    assert_eq!(worker.0, 59, "{:?}", worker.1);
    // What it had in hand, if that was not a question about a module; what waits for it is in the
    // profile, cut where the programs could not go on.
    let lost = learner.1.get("quarantined");
    assert!(lost <= 1 && learner.0 + lost > 150, "{:?}", learner.1);
    let unlearned = learner.1.truncated.get("module being learned");
    assert!(unlearned.is_some_and(|&n| n > 0), "{:?}", learner.1);
}

/// Where the programs have no rows each sample needs a copy of its stack, and copies are rationed.
#[test]
fn stacks_that_are_not_copied_say_so() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let program = program.display().to_string();
    let profile = Rprof::new(&scratch, ["-F", "999", "--", &program, "main", "2"])
        .env("RPROF_FAULT", "row-bytes:4096")
        .run()
        .ok();
    adds_up(&profile);
    let mark = "[truncated: stack not copied]";
    let cut = profile.count(|stack| stack.has(mark));
    let whole = profile.count(|stack| stack.is_complete() && stack.has("burn"));
    println!("{whole} whole, {cut} cut");
    // On a slow day the rest is left out: that many walks cost over 1 % of a CPU.
    assert!(cut > 20 && whole > 20, "{:?}", profile.ledger);
    assert_eq!(profile.ledger.truncated.get("stack not copied"), Some(&cut));
    // Nothing was waited for: it is not said of any.
    let learned = profile.ledger.truncated.get("module being learned");
    assert_eq!(learned, None, "{:?}", profile.ledger);
}

#[test]
fn a_kernel_stack_that_is_cut_says_so() {
    const MOST: usize = 4;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("reading.c", "reading", OPTIMIZED);
    let profile = Rprof::new(&scratch, ["-F", "499", "--"])
        .arg(program)
        .env("RPROF_FAULT", &format!("kernel-frames:{MOST}"))
        .run()
        .ok();
    adds_up(&profile);
    let mark = "[truncated: kernel stack]";
    let cut = profile.count(|stack| stack.has(mark));
    assert!(cut > 50, "{:?}", profile.ledger);
    assert_eq!(profile.ledger.truncated.get("kernel stack"), Some(&cut));
    for stack in &profile.stacks {
        // Inlined functions are further lines of one frame.
        let frames = stack.frames.iter().filter(|f| f.is_kernel() && !f.inlined);
        let kernel = frames.count();
        assert!(kernel <= MOST, "{}", stack.text());
        if stack.is_complete() {
            assert!(kernel < MOST, "{}", stack.text());
        } else if stack.has(mark) {
            assert_eq!(kernel, MOST, "{}", stack.text());
            let last = stack.frames.last().map(|frame| frame.function.as_str());
            assert_eq!(last, Some(mark), "{}", stack.text());
        }
    }
    // The user side is there all the same.
    let user = profile.count(|stack| stack.has(mark) && stack.has("main"));
    assert!(
        user * 10 >= cut * 9,
        "{user} of {cut}: {:?}",
        profile.ledger
    );
}

#[test]
fn a_runtime_of_an_unknown_version() {
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("unknown_python.c", "python4", &["-O2", "-g", "-rdynamic"]);
    let profile = Rprof::new(&scratch, ["--"])
        .arg(program)
        .arg("1")
        .run()
        .ok();
    adds_up(&profile);
    let mark = "[truncated: unknown runtime version]";
    let through = profile.count(|stack| stack.has("PyEval_EvalCode"));
    assert!(through > 150, "{:?}", profile.ledger);
    for stack in profile.stacks.iter().filter(|s| s.has("PyEval_EvalCode")) {
        assert!(!stack.is_complete(), "{}", stack.text());
    }
    let said = profile.count(|stack| stack.has(mark));
    assert_eq!(
        profile.ledger.truncated.get("unknown runtime version"),
        Some(&said)
    );
    assert!(said as f64 >= 0.95 * through as f64, "{:?}", profile.ledger);
}

/// Takes a CPU offline, as long as the value lives.
struct Offline(PathBuf);

impl Offline {
    fn of(cpu: usize) -> Option<Self> {
        let file = PathBuf::from(format!("/sys/devices/system/cpu/cpu{cpu}/online"));
        std::fs::write(&file, "0").ok().map(|()| Self(file))
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        std::fs::write(&self.0, "1").expect("the CPU comes back");
    }
}

#[test]
fn a_cpu_that_goes_and_comes_back() {
    const HERTZ: f64 = 199.0;
    /// Milliseconds until rprof has looked at it twice.
    const SEEN: u64 = 1200;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let cpus = machine::cpus();
    let &cpu = cpus.last().expect("a CPU");
    // Idle CPUs' ticks may be lost to a virtual machine's host; so may those of the time until both are
    // busy again after one was away.
    let busy: Vec<_> = cpus
        .iter()
        .map(|_| start(Command::new(&program).args(["main", "4"])))
        .collect();
    let before = seconds(&[4, 5, 8]);
    let mut running = Rprof::new(&scratch, ["--all", "-F", "199"]).start();
    running.wait_until_sampling();
    std::thread::sleep(Duration::from_millis(1500));
    let gone = Instant::now();
    let Some(offline) = Offline::of(cpu) else {
        println!("SKIPPED: a_cpu_that_goes_and_comes_back: no CPU can be taken offline here");
        return;
    };
    // Shorter than any look at the list of CPUs would notice.
    std::thread::sleep(Duration::from_millis(100));
    drop(offline);
    let away = gone.elapsed().as_secs_f64();
    // By then it is seen that its events stand still.
    std::thread::sleep(Duration::from_millis(SEEN));
    let mut burner = Command::new("taskset");
    burner
        .args(["-c", &cpu.to_string()])
        .arg(&program)
        .args(["main", "0.8"]);
    let burner = start(&mut burner).finish();
    for burner in busy {
        burner.finish();
    }
    running.signal(Signal::INT);
    let profile = running.finish().ok();
    let nobodys = seconds(&[4, 5, 8]) - before;
    adds_up(&profile);
    // Until then nothing is expected of it.
    let ledger = &profile.ledger;
    let seconds = profile.duration as f64 / 1e9;
    let most = HERTZ * (seconds * cpus.len() as f64 - away);
    let least = most - HERTZ * SEEN as f64 / 1e3;
    let expected = ledger.expected as f64;
    println!(
        "{expected} expected, {least:.0} to {most:.0}; away for {away:.3} s, {nobodys:.2} s idle or stolen"
    );
    let bound = 8.0 * cpus.len() as f64 + 0.005 * most;
    assert!(
        expected >= least - bound && expected <= most + bound,
        "{expected} expected, {least:.0} to {most:.0}: {ledger:?}"
    );
    let missing = ledger.get("not delivered by the kernel");
    let bound = 0.02 * expected + nobodys * HERTZ;
    assert!(
        missing as f64 <= bound,
        "{missing} not delivered, at most {bound:.0}: {ledger:?}"
    );
    // From then on it is sampled as before.
    let samples: u64 = profile.of(burner.pid).map(|stack| stack.count).sum();
    let all = HERTZ * burner.cpu.as_secs_f64();
    assert!(
        (samples as f64 - all).abs() <= count_bound(all) + 0.02 * all,
        "{samples} samples of {all}: {ledger:?}"
    );
}

#[test]
fn a_cgroup_that_is_removed() {
    const HERTZ: f64 = 199.0;
    const ROUNDS: f64 = 10.0;
    let scratch = Scratch::new();
    let _alone = machine::alone();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let group = machine::Cgroup::new(&format!("rprof-test-{}", std::process::id()));
    let folder = group.folder().display().to_string();
    let mut running = Rprof::new(&scratch, ["--all", "-F", "199", "--cgroup", &folder]).start();
    running.wait_until_sampling();
    // Groups below it that are gone before anybody can ask what they were called.
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10; do
             mkdir {folder}/$i && sh -c 'echo $$ >{folder}/'$i'/cgroup.procs; exec {0} main 0.2'
             rmdir {folder}/$i || exit 1
         done",
        program.display()
    );
    let made = start(Command::new("sh").args(["-c", &script])).finish();
    assert!(made.cpu > Duration::from_secs(2), "{:?}", made.cpu);
    std::fs::remove_dir(&folder).expect("empty");
    running.signal(Signal::INT);
    let run = running.finish();
    let said = format!("The cgroup {folder} was removed while it was sampled");
    assert!(run.stderr.contains(&said), "{}", run.stderr);
    let profile = run.ok();
    adds_up(&profile);
    let burnt: u64 = profile.named("burn").map(|stack| stack.count).sum();
    let all = HERTZ * ROUNDS * 0.2;
    assert!(
        (burnt as f64 - all).abs() <= count_bound(all) + 0.02 * all,
        "{burnt} samples of {all}: {:?}",
        profile.ledger
    );
}
