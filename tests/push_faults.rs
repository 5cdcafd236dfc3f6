//! Promise: of what was sampled to be pushed nothing is lost between rprof and a server. It is with the server,
//! or it waits on disk, or it is counted under what became of it; and a server that is slow, away, or says
//! no, never slows sampling.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use rprof_tests::account;
use rprof_tests::certificate;
use rprof_tests::dashboard::{Dashboard, Deed, Series, free, url};
use rprof_tests::machine;
use rprof_tests::rprof::{Rprof, Run};
use rprof_tests::scratch::{OPTIMIZED, Scratch};
use rprof_tests::target::Target;
use rustix::process::Signal;

/// `rprof --all --push URL…`, an interval a second, with a spool of its own.
fn push(scratch: &Scratch, url: &str, args: &[&str]) -> Rprof {
    let spool = scratch.file("spool");
    Rprof::new(scratch, ["--all", "--interval", "1s", "--push", url])
        .arg("--spool")
        .arg(spool)
        .args(args)
}

/// Something to sample on a machine that has nothing to do.
fn busy(scratch: &Scratch) -> Target {
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    Target::start(Command::new(program).args(["threads", "600", "2"]))
}

/// What the last lines of a run say of samples: after "has got", and before some words.
fn said(run: &Run, what: &str) -> u64 {
    let line = run
        .stderr
        .lines()
        .rfind(|line| line.contains(" has got "))
        .unwrap_or_else(|| panic!("no outcome: {}", run.stderr));
    let number = match what {
        "got" => line.split(" has got ").nth(1),
        what => line.split("; ").find(|part| part.contains(what)),
    };
    let digits = number.unwrap_or("0").split(' ').next().expect("a word");
    digits.parse().unwrap_or_else(|_| panic!("{what}: {line}"))
}

/// All that was sampled is with the server, and rprof says so: what the ledger counted on its way into profiles,
/// before anything was pushed.
fn nothing_lost(run: &Run, server: &Dashboard) {
    let profile = run.profile();
    account::adds_up(&profile);
    let all = profile.samples();
    assert_eq!(server.samples(), all, "{}", run.stderr);
    assert_eq!(said(run, "got"), all, "{}", run.stderr);
}

/// Intervals come in the order in which they were taken.
fn in_order(series: &[Series]) {
    let mut times: Vec<i64> = series
        .iter()
        .filter(|series| series.service() == "burn")
        .map(|series| series.profile.time)
        .collect();
    let taken = times.clone();
    times.sort_unstable();
    assert_eq!(times, taken);
}

#[test]
fn a_server_that_is_away_for_ten_intervals() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let address = free();
    let start = std::time::SystemTime::now();
    let running = push(&scratch, &url(address), &["-d", "16s"]).start();
    std::thread::sleep(Duration::from_secs(11));
    let server = Dashboard::on(address);
    let run = running.finish().expect(0);
    nothing_lost(&run, &server);
    let series = server.series();
    in_order(&series);
    // Times are those of sampling, not of sending.
    let burnt: Vec<i64> = series
        .iter()
        .filter(|series| series.service() == "burn")
        .map(|series| series.profile.time)
        .collect();
    assert!(burnt.len() >= 12, "{burnt:?}");
    let first = start.duration_since(std::time::UNIX_EPOCH).expect("past");
    let late = *burnt.first().expect("some") - first.as_nanos() as i64;
    assert!(late < 5_000_000_000, "{late}");
    assert!(run.stderr.contains("refused"), "{}", run.stderr);
    assert!(
        run.stderr.contains("it takes profiles again"),
        "{}",
        run.stderr
    );
}

#[test]
fn connections_that_are_cut() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    server.cuts(2);
    let run = push(&scratch, &server.url(), &["-d", "9s"]).run().expect(0);
    nothing_lost(&run, &server);
    // It had the whole of one, and its answer was lost: the same comes again as the same.
    let mut first = true;
    server.does(move |_| match std::mem::take(&mut first) {
        true => Deed::TakeAndCut,
        false => Deed::Take,
    });
    let before = server.samples();
    let run = push(&scratch, &server.url(), &["-d", "5s"]).run().expect(0);
    assert_eq!(server.samples() - before, run.profile().samples());
}

#[test]
fn not_now() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    let mut answers = vec![
        Deed::Say(500, "", "{\"message\":\"I am lost\"}"),
        Deed::Say(503, "", ""),
        Deed::Say(429, "retry-after: 3\r\n", "slowly"),
    ];
    server.does(move |_| answers.pop().unwrap_or(Deed::Take));
    let run = push(&scratch, &server.url(), &["-d", "12s"])
        .run()
        .expect(0);
    nothing_lost(&run, &server);
    in_order(&server.series());
    let requests = server.requests();
    let waited = requests[1].at - requests[0].at;
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    for said in [
        "429 Too Many Requests: slowly",
        "503",
        "500 Internal Server Error: I am lost",
    ] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
}

#[test]
fn a_file_when_the_server_can() {
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let words = [program.to_str().expect("UTF-8"), "main", "1"];
    let run = Rprof::new(&scratch, ["--"]).args(words).run().expect(0);
    let server = Dashboard::start();
    let mut answers = vec![Deed::Say(500, "", ""), Deed::Say(503, "", "")];
    server.does(move |_| answers.pop().unwrap_or(Deed::Take));
    let push = Rprof::bare(&scratch, ["push"]).arg(&run.output);
    push.args(["--to", &server.url()]).run().expect(0);
    assert_eq!(server.samples(), run.profile().samples());
    assert_eq!(server.requests().len(), 3);
    // Not for ever.
    server.does(|_| Deed::Say(503, "", "{\"message\":\"later\"}"));
    let push = Rprof::bare(&scratch, ["push"]).arg(&run.output);
    let push = push.args(["--to", &server.url()]).run().expect(1);
    assert!(push.stderr.contains("later"), "{}", push.stderr);
}

#[test]
fn one_that_the_server_does_not_want() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    let poisoned = |series: &Series| series.service() == "burn";
    server.does(move |request| match request.series.iter().any(poisoned) {
        true => Deed::Say(400, "", "{\"message\":\"no burning here\"}"),
        false => Deed::Take,
    });
    let run = push(&scratch, &server.url(), &["-d", "5s"]).run().expect(0);
    let profile = run.profile();
    let burnt = profile.count(|stack| stack.comm == "burn");
    assert!(burnt > 20, "{burnt}");
    assert_eq!(said(&run, "it refused"), burnt, "{}", run.stderr);
    assert_eq!(server.samples(), profile.samples() - burnt);
    // Said once, and not tried again.
    assert_eq!(run.stderr.matches("no burning here").count(), 1);
    let alone = server.requests();
    let alone = alone
        .iter()
        .filter(|request| request.series.len() == 1 && request.series.iter().any(poisoned));
    let mut ids: Vec<String> = alone.map(|request| request.series[0].id.clone()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn what_it_takes_of_a_request_is_not_sent_again() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    server.does(|_| Deed::TakeBut("burn"));
    let run = push(&scratch, &server.url(), &["-d", "6s"]).run().expect(0);
    let profile = run.profile();
    let burnt = profile.count(|stack| stack.comm == "burn");
    assert!(burnt > 20, "{burnt}");
    assert_eq!(said(&run, "it refused"), burnt, "{}", run.stderr);
    assert_eq!(
        server.samples(),
        profile.samples() - burnt,
        "{}",
        run.stderr
    );
    // Ids differ, and so do places in the request: it is one reason.
    assert_eq!(run.stderr.matches("no burning here").count(), 1);
    let mut times = BTreeMap::<String, u32>::new();
    for series in server.requests().iter().flat_map(|request| &request.series) {
        let most = if series.service() == "burn" { 2 } else { 1 };
        let times = times.entry(series.id.clone()).or_default();
        *times += 1;
        assert!(*times <= most, "{}", series.service());
    }
}

/// It says "not now", and always would: what else there is does not wait for it.
#[test]
fn one_that_breaks_the_server() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    let poisoned = |series: &Series| series.service() == "burn";
    server.does(move |request| match request.series.iter().any(poisoned) {
        true => Deed::Say(500, "", "{\"message\":\"panic\"}"),
        false => Deed::Take,
    });
    let run = push(&scratch, &server.url(), &["-d", "50s"])
        .run()
        .expect(0);
    let profile = run.profile();
    let burnt = profile.count(|stack| stack.comm == "burn");
    let refused = said(&run, "it refused");
    assert!(refused > burnt / 4, "{refused} of {burnt}: {}", run.stderr);
    assert!(refused <= burnt, "{refused} of {burnt}: {}", run.stderr);
    let (got, waits) = (server.samples(), said(&run, "wait in"));
    assert_eq!(got + refused + waits, profile.samples(), "{}", run.stderr);
    // But for what the end came before.
    let others = profile.samples() - burnt;
    assert!(got * 10 > others * 8, "{got} of {others}: {}", run.stderr);
    assert!(run.stderr.matches("panic").count() <= 2, "{}", run.stderr);
}

#[test]
fn a_server_that_never_answers() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    server.does(|_| Deed::Silence);
    let start = Instant::now();
    let run = push(&scratch, &server.url(), &["-d", "5s"]).run().expect(0);
    // What is to be sent at the end is given five seconds.
    let took = start.elapsed();
    assert!(
        took < machine::patience(Duration::from_secs(14)),
        "{took:?}"
    );
    let first = run.profile();
    // Sampling went on at its pace.
    account::adds_up(&first);
    let ticks = 20.0 * 5.0 * machine::cpus().len() as f64;
    let burnt = first.count(|stack| stack.comm == "burn") as f64;
    assert!(burnt > 0.6 * ticks, "{burnt} of {ticks}");
    assert_eq!(said(&run, "wait in"), first.samples(), "{}", run.stderr);
    // The next run sends it, with what it takes itself.
    server.does(|_| Deed::Take);
    let run = push(&scratch, &server.url(), &["-d", "2s"]).run().expect(0);
    let all = first.samples() + run.profile().samples();
    assert_eq!(server.samples(), all, "{}", run.stderr);
    in_order(&server.series());
}

/// Whatever is spoken.
#[test]
fn a_server_that_never_answers_others() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    // Connections are made by the kernel; nobody takes them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it is bound");
    let mut args = vec!["-d".to_string(), "4s".into()];
    for scheme in ["parca+http", "otlp+http", "otlp+grpc"] {
        args.extend(["--push".into(), format!("{scheme}://{address}")]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let start = Instant::now();
    let run = push(&scratch, &url(address), &args).run().expect(0);
    let took = start.elapsed();
    assert!(
        took < machine::patience(Duration::from_secs(13)),
        "{took:?}"
    );
    let profile = run.profile();
    account::adds_up(&profile);
    let lines: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| line.contains(" has got "))
        .collect();
    assert_eq!(lines.len(), 4, "{}", run.stderr);
    for line in lines {
        let waits = format!("; {} wait in", profile.samples());
        assert!(
            line.contains(" has got 0 samples") && line.contains(&waits),
            "{line}"
        );
    }
}

#[test]
fn a_certificate_of_another() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    for (name, trusted) in [("127.0.0.1", true), ("another.example", false)] {
        let certificate = certificate::for_name(&scratch, name);
        let server = Dashboard::secure(certificate.config);
        let url = format!("pyroscope+https://{}", server.address());
        let authority = certificate.authority.to_str().expect("UTF-8");
        let spool = scratch.file(name);
        let args = [
            "--ca",
            authority,
            "-d",
            "3s",
            "--spool",
            spool.to_str().expect("UTF-8"),
        ];
        let run = Rprof::new(&scratch, ["--all", "--interval", "1s", "--push", &url])
            .args(args)
            .run()
            .expect(0);
        let all = run.profile().samples();
        match trusted {
            true => nothing_lost(&run, &server),
            false => {
                assert!(server.requests().is_empty());
                assert!(run.stderr.contains("certificate"), "{}", run.stderr);
                assert_eq!(said(&run, "wait in"), all, "{}", run.stderr);
            }
        }
    }
    // Whom nobody vouches for.
    let certificate = certificate::for_name(&scratch, "127.0.0.1");
    let server = Dashboard::secure(certificate.config);
    let url = format!("pyroscope+https://{}", server.address());
    let run = push(&scratch, &url, &["-d", "2s"]).run().expect(0);
    assert!(server.requests().is_empty());
    assert!(run.stderr.contains("certificate"), "{}", run.stderr);
}

#[test]
fn credentials() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    server.does(|request| {
        let right = "Basic bWU6b3BlbiBzZXNhbWU=";
        match request.headers.get("authorization").map(String::as_str) {
            Some(found) if found == right => Deed::Take,
            _ => Deed::Say(401, "", "who are you"),
        }
    });
    let team = ["-d", "3s", "--tenant", "team"];
    let wrong = push(&scratch, &server.url(), &team)
        .env("RPROF_PUSH_AUTH", "me:sesame")
        .start();
    std::thread::sleep(Duration::from_secs(1));
    let line = std::fs::read(format!("/proc/{}/cmdline", wrong.pid())).expect("it runs");
    assert!(!String::from_utf8_lossy(&line).contains("sesame"));
    let wrong = wrong.finish().expect(0);
    assert!(wrong.stderr.contains("401"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("sesame"), "{}", wrong.stderr);
    let waits = wrong.profile().samples();
    assert_eq!(said(&wrong, "wait in"), waits, "{}", wrong.stderr);

    // Nor does the command that is profiled get it.
    let run = Rprof::new(
        &scratch,
        ["--interval", "1s", "--push", &server.url(), "--spool"],
    )
    .arg(scratch.file("spool"))
    .args(["--tenant", "team", "--", "sh", "-c", "env > said"])
    .env("RPROF_PUSH_AUTH", "me:sesame")
    .run()
    .expect(0);
    let said_by_env = run.output.with_file_name("said");
    let environment = std::fs::read_to_string(said_by_env).expect("it ran");
    assert!(environment.contains("PATH=") && !environment.contains("sesame"));
    let waits = waits + run.profile().samples();

    // What waits for one tenant is not another's.
    let run = push(&scratch, &server.url(), &["-d", "1s", "--tenant", "us"])
        .env("RPROF_PUSH_AUTH", "me:open sesame")
        .run()
        .expect(0);
    let others = run.profile().samples();
    assert_eq!(server.samples(), others, "{}", run.stderr);

    // From a file, beside another server's, which gets nothing of it.
    let other = Dashboard::start();
    let file = scratch.file("secrets");
    let secrets = format!(
        "# HOST:PORT SECRET\n{} me:open sesame\n{} token\n",
        server.address(),
        other.address()
    );
    std::fs::write(&file, secrets).expect("our folder");
    let run = push(&scratch, &server.url(), &team)
        .args(["--push", &other.url(), "--auth-file"])
        .arg(&file)
        .run()
        .expect(0);
    let all = run.profile().samples();
    assert_eq!(server.samples(), others + waits + all, "{}", run.stderr);
    assert_eq!(other.samples(), all, "{}", run.stderr);
    for request in other.requests() {
        assert_eq!(request.headers["authorization"], "Bearer token");
        assert_eq!(request.headers["x-scope-orgid"], "team");
    }
    // Nor is another server's secret this one's.
    let run = push(&scratch, &server.url(), &["-d", "1s"])
        .env("RPROF_PUSH_AUTH", "prod.example:4040 me:open sesame")
        .run()
        .expect(1);
    assert!(run.stderr.contains("no secret"), "{}", run.stderr);
    assert!(!run.stderr.contains("sesame"), "{}", run.stderr);

    // One secret for two servers is nobody's.
    let run = push(
        &scratch,
        &server.url(),
        &["--push", &other.url(), "-d", "1s"],
    )
    .env("RPROF_PUSH_AUTH", "me:open sesame")
    .run();
    assert_eq!(run.code(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("several servers"), "{}", run.stderr);
    assert!(!run.stderr.contains("sesame"), "{}", run.stderr);
}

#[test]
fn a_spool_that_is_full() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    // A disk that is full.
    let mut command = Command::new("unshare");
    let script = "mkdir -p spool && mount -t tmpfs -o size=32k,mode=0700 none spool && exec \"$@\"";
    command
        .args(["--mount", "--propagation=private", "sh", "-c", script, "sh"])
        .arg(rprof_tests::rprof::binary());
    let run = Rprof::within(&scratch, command);
    let output = run.output().to_path_buf();
    let run = run
        .args(["--all", "--comm", "burn", "--interval", "1s"])
        .args(["--spool", "spool", "-d", "12s"])
        .args(["--push", &url(free()), "-o"])
        .arg(output)
        .run()
        .expect(0);
    let all = run.profile().samples();
    let (lost, waits) = (said(&run, "could not be kept"), said(&run, "wait in"));
    assert!(lost > 0 && waits > 0, "{}", run.stderr);
    assert_eq!(lost + waits, all, "{}", run.stderr);
    assert!(run.stderr.contains("No space left"), "{}", run.stderr);

    // One that is only to hold so much: the newest stay. What else runs here must not fill it at once.
    let server = Dashboard::on(free());
    server.does(|_| Deed::Say(503, "", ""));
    let run = push(
        &scratch,
        &server.url(),
        &[
            "-d",
            "12s",
            "-F",
            "499",
            "--spool-size",
            "16KiB",
            "--comm",
            "burn",
        ],
    )
    .run()
    .expect(0);
    let first = run.profile().samples();
    assert!(said(&run, "thrown out") > 0, "{}", run.stderr);
    // An interval that is larger than all of the spool is not kept at all.
    let evicted = said(&run, "thrown out") + said(&run, "could not be kept");
    assert_eq!(evicted + said(&run, "wait in"), first, "{}", run.stderr);
    server.does(|_| Deed::Take);
    let run = push(
        &scratch,
        &server.url(),
        &["-d", "2s", "--spool-size", "1MiB"],
    )
    .run()
    .expect(0);
    assert_eq!(
        server.samples(),
        first - evicted + run.profile().samples(),
        "{}",
        run.stderr
    );
}

#[test]
fn a_spool_that_others_may_write_to() {
    let scratch = Scratch::new();
    let address = free();
    let run = push(&scratch, &url(address), &["-d", "1s"]).run().expect(0);
    assert!(said(&run, "wait in") > 0 || run.profile().samples() == 0);
    let folder = spool_of(&scratch.file("spool"));
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).expect("ours");
    let run = push(&scratch, &url(address), &["-d", "1s"]).run().expect(1);
    assert!(run.stderr.contains("not ours alone"), "{}", run.stderr);
    assert!(!run.output.exists());
}

/// The one folder in a spool.
fn spool_of(spool: &Path) -> PathBuf {
    let mut found = std::fs::read_dir(spool).expect("a spool").flatten();
    let folder = found.next().expect("a server's folder").path();
    assert!(found.next().is_none());
    folder
}

#[test]
fn a_clock_that_is_set_back() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    // Five minutes back, three seconds after the start: what rprof takes for the time, not the machine's.
    let library = scratch.cc("set_back.c", "set_back.so", &["-O2", "-shared", "-fPIC"]);
    let run = push(&scratch, &server.url(), &["-d", "7s"])
        .env("LD_PRELOAD", library.to_str().expect("UTF-8"))
        .run()
        .expect(0);
    nothing_lost(&run, &server);
    let times: Vec<i64> = server
        .series()
        .iter()
        .filter(|series| series.service() == "burn")
        .map(|series| series.profile.time)
        .collect();
    let back = times
        .windows(2)
        .any(|two| two[1] < two[0] - 100_000_000_000);
    assert!(back, "{times:?}");
    // Lengths are those of a clock that nobody sets.
    for series in server.series() {
        let seconds = series.profile.duration as f64 / 1e9;
        assert!((0.5..4.0).contains(&seconds), "{seconds}");
    }
}

#[test]
fn killed_a_hundred_times() {
    let scratch = Scratch::new();
    let _burn = busy(&scratch);
    let server = Dashboard::start();
    let mut chance = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    let mut wobbly = random();
    server.does(move |_| {
        wobbly = wobbly.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match wobbly >> 61 {
            0 => Deed::TakeAndCut,
            1 | 2 => Deed::Take,
            _ => Deed::Say(503, "", ""),
        }
    });
    // Four at a time, so that each may live for some intervals.
    let kept = Mutex::new(BTreeMap::new());
    let four = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let lives: Vec<u64> = (0..25).map(|_| random() % 4000).collect();
            let (server, kept, four) = (&server, &kept, &four);
            scope.spawn(move || {
                let scratch = Scratch::new();
                let spool = scratch.file("spool");
                let note = || note(&spool, &mut kept.lock().expect("no test panicked in it"));
                for life in lives {
                    let mut running = push(&scratch, &server.url(), &["-q"]).start();
                    running.wait_until_sampling();
                    std::thread::sleep(Duration::from_millis(life));
                    running.signal(Signal::KILL);
                    drop(running);
                    note();
                }
                four.wait();
                server.does(|_| Deed::Take);
                let run = push(&scratch, &server.url(), &["-d", "2s"]).run().expect(0);
                assert_eq!(said(&run, "wait in"), 0, "{}", run.stderr);
                note();
            });
        }
    });
    let kept = kept.into_inner().expect("no test panicked in it");
    assert!(kept.len() > 25, "{}", kept.len());
    // Each that was ever on disk is with the server, once, however often it was sent.
    let mut arrived = BTreeMap::<i64, u64>::new();
    for series in server.series() {
        // Of series that are small enough to be one part.
        let time = series.profile.time;
        *arrived.entry(time).or_default() += series.profile.samples();
    }
    for (taken, samples) in &kept {
        assert_eq!(arrived.get(taken), Some(samples), "{taken}");
    }
    assert!(arrived.len() >= kept.len());
}

/// Notes what waits in a spool: when it was taken, and how many samples it has. What is half written is
/// nothing.
fn note(spool: &Path, kept: &mut BTreeMap<i64, u64>) {
    let Ok(folders) = std::fs::read_dir(spool) else {
        return;
    };
    for file in folders
        .flatten()
        .flat_map(|folder| std::fs::read_dir(folder.path()).expect("a folder"))
        .flatten()
    {
        let name = file.file_name().into_string().expect("UTF-8");
        let Some(stem) = name.strip_suffix(".pb.gz") else {
            continue;
        };
        let mut words = stem.split('-').skip(1);
        let mut word = || {
            words
                .next()
                .expect("a word")
                .parse::<u64>()
                .expect("a number")
        };
        let (taken, samples) = (word(), word());
        kept.insert(taken as i64, samples);
    }
}

#[test]
fn mistakes() {
    let scratch = Scratch::new();
    let server = Dashboard::start();
    server.does(|_| Deed::Say(404, "", "<html>nothing here"));
    let address: SocketAddr = server.address();
    let page = format!("http://{address}");
    for (args, code, words) in [
        (vec!["--all", "--push", "ftp://x"], 2, "ftp://"),
        (vec!["--all", "--push", "http://me:secret@x"], 2, "password"),
        (
            vec!["--all", "--push", "parca+http://x:99999"],
            2,
            "no port",
        ),
        (
            vec!["--all", "--push", "parca+http://x", "--spool-size", "1B"],
            2,
            "16 KiB",
        ),
        (vec!["--all", "--push", &page], 1, "is no server of"),
        (
            vec!["--all", "--push", "parca+http://x", "--label", "a-b=c"],
            2,
            "a_b=c",
        ),
        (
            vec!["--all", "--push", "parca+http://x", "--interval", "1ms"],
            2,
            "1 second",
        ),
        (vec!["--all", "--spool", "/x"], 2, "--push"),
        (vec!["--all", "--listen", "x"], 2, "ADDRESS:PORT"),
        (vec!["--all", "--listen", "192.0.2.1:1"], 1, "cannot listen"),
        (vec!["push", "x", "--to", "parca+http://x"], 1, "x"),
    ] {
        let run = Rprof::bare(&scratch, &args).run();
        assert_eq!(run.code(), code, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("try: "), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("secret"), "{args:?}: {}", run.stderr);
    }
    // Files that are none: nothing of any is sent.
    let good = scratch.file("good.pb.gz");
    let run = Rprof::bare(&scratch, ["--all", "-d", "500ms", "-o"])
        .arg(&good)
        .run()
        .expect(0);
    drop(run);
    let bytes = std::fs::read(&good).expect("a profile");
    let server = Dashboard::start();
    for (name, content, words) in [
        ("text", &b"not a profile"[..], "not in the format"),
        ("empty", &[], "empty"),
        ("cut", &bytes[..bytes.len() / 2], "cut off"),
    ] {
        let file = scratch.file(name);
        std::fs::write(&file, content).expect("our folder");
        let run = Rprof::bare(&scratch, ["push"])
            .arg(&good)
            .arg(&file)
            .args(["--to", &server.url()])
            .run();
        assert_eq!(run.code(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(words), "{}", run.stderr);
        assert!(run.stderr.contains(name), "{}", run.stderr);
    }
    assert!(server.requests().is_empty());
    Rprof::bare(&scratch, ["push"])
        .arg(&good)
        .args(["--to", &server.url()])
        .run()
        .expect(0);
    assert_eq!(
        server.samples(),
        rprof_tests::profile::Profile::read(&good).samples()
    );
}
