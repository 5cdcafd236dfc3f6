//! Promise: who comes to rprof gets a profile of the time that they asked for, and figures that add up; who
//! is slow, or says nothing, keeps nobody else waiting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rprof_tests::machine;
use rprof_tests::profile::Profile;
use rprof_tests::rprof::{Rprof, Running};
use rprof_tests::scratch::{OPTIMIZED, Scratch, finish};
use rprof_tests::target::Target;
use rustix::process::Signal;

/// `rprof --all --listen`, and where it listens.
fn listen(scratch: &Scratch, args: &[&str]) -> (Running, SocketAddr) {
    let mut running = Rprof::bare(scratch, ["--all", "--listen", "127.0.0.1:0"])
        .args(args)
        .start();
    running.wait_until_sampling();
    let said = running.said();
    let address = said.split("http://").nth(1).expect("it says where");
    let address = address.split_whitespace().next().expect("an address");
    (running, address.parse().expect("an address and a port"))
}

/// What is at a path: the status, and the body.
fn get(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let head = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("headers");
    let status = String::from_utf8_lossy(&answer[9..12]).parse();
    (status.expect("a status"), answer.split_off(head + 4))
}

/// A figure.
fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name}: {text}"));
    let value = line.rsplit(' ').next().expect("a value");
    value.parse().expect("a number")
}

#[test]
fn a_profile_of_the_time_that_was_asked_for() {
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let (running, address) = listen(&scratch, &[]);
    std::thread::sleep(Duration::from_secs(1));
    // Not of the time before, whenever that ends.
    let mut early = Command::new("cp");
    let other = scratch.file("early");
    finish(early.arg(&program).arg(&other));
    // What comes from the ring comes once a second, and a scrape takes half a second more than its time: these are
    // its four quarters.
    for wait in [1000, 1250, 1250, 1250] {
        let early = Target::start(Command::new(&other).args(["threads", "600", "2"]));
        std::thread::sleep(Duration::from_millis(wait));
        early.end();
        let (_, body) = get(address, "/debug/pprof/profile?seconds=1");
        let early = Profile::decode(&body).count(|stack| stack.comm == "early");
        assert_eq!(early, 0);
    }
    let burn = Target::start(Command::new(&program).args(["threads", "600", "2"]));
    let start = Instant::now();
    let (status, body) = get(address, "/debug/pprof/profile?seconds=2");
    let took = start.elapsed();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let profile = Profile::decode(&body);
    let seconds = profile.duration as f64 / 1e9;
    assert!((1.95..3.0).contains(&seconds), "{seconds}");
    assert!(took < machine::patience(Duration::from_secs(5)), "{took:?}");
    let cpus = machine::cpus().len() as f64;
    let most = 20.0 * seconds * cpus;
    let burnt = profile.count(|stack| stack.comm == "burn") as f64;
    assert!(
        (0.5 * most..=1.05 * most).contains(&burnt),
        "{burnt} of {most}"
    );
    let named = profile.count(|stack| stack.comm == "burn" && stack.has("thread"));
    assert!(named as f64 > 0.9 * burnt, "{named} of {burnt}");

    // As people do it.
    let file = scratch.file("pprof.pb.gz");
    let url = format!("http://{address}/debug/pprof/profile?seconds=1");
    let mut pprof = Command::new("go");
    pprof.args(["tool", "pprof", "-proto", "-symbolize=none", "-output"]);
    pprof
        .env("HOME", scratch.file("."))
        .env("PPROF_TMPDIR", scratch.file("."));
    finish(pprof.arg(&file).arg(url));
    assert!(Profile::read(&file).count(|stack| stack.comm == "burn") > 5);

    // Who comes just when another's time is over has no time less.
    let other = std::thread::spawn(move || get(address, "/debug/pprof/profile?seconds=1"));
    std::thread::sleep(Duration::from_millis(1100));
    let start = Instant::now();
    let (_, body) = get(address, "/debug/pprof/profile?seconds=2");
    let took = start.elapsed();
    assert!(took < machine::patience(Duration::from_secs(4)), "{took:?}");
    let profile = Profile::decode(&body);
    let seconds = profile.duration as f64 / 1e9;
    assert!((1.95..2.5).contains(&seconds), "{seconds}");
    let burnt = profile.count(|stack| stack.comm == "burn") as f64;
    assert!(burnt > 0.5 * 20.0 * seconds * cpus, "{burnt} in {seconds}");
    assert_eq!(other.join().expect("an answer").0, 200);

    // Who waits when it ends gets what there is.
    let waits = std::thread::spawn(move || get(address, "/debug/pprof/profile?seconds=600"));
    std::thread::sleep(Duration::from_secs(2));
    running.signal(Signal::INT);
    let run = running.finish().expect(0);
    let (status, body) = waits.join().expect("an answer");
    assert_eq!(status, 200, "{}", run.stderr);
    assert!(Profile::decode(&body).count(|stack| stack.comm == "burn") > 10);
    // Nothing is written that nobody asked for.
    assert!(!run.output.with_file_name("rprof.pb.gz").exists());
    drop(burn);
}

#[test]
fn figures_add_up() {
    let scratch = Scratch::new();
    let program = scratch.cc("burn.c", "burn", OPTIMIZED);
    let _burn = Target::start(Command::new(&program).args(["threads", "600", "2"]));
    let (_running, address) = listen(&scratch, &[]);
    let mut before = 0.0;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(700));
        let (status, body) = get(address, "/metrics");
        let text = String::from_utf8(body).expect("text");
        assert_eq!(status, 200, "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let expected = figure(&text, "rprof_ticks_expected_total");
        assert!(expected > before, "{expected} after {before}");
        before = expected;
        let columns = text
            .lines()
            .filter(|line| line.starts_with("rprof_ticks_total{"));
        let ended: f64 = columns
            .map(|line| line.rsplit(' ').next().expect("a value"))
            .map(|value| value.parse::<f64>().expect("a number"))
            .sum();
        let all = ended + figure(&text, "rprof_samples_in_flight");
        // A tick of each CPU's events may be on its way.
        let slack = 4.0 * machine::cpus().len() as f64;
        assert!(
            (all - expected).abs() <= slack,
            "{all} of {expected}: {text}"
        );
        assert!(figure(&text, "rprof_cpu_seconds_total") > 0.0);
        assert!(figure(&text, "rprof_resident_memory_bytes") > 1e6);
    }
    assert_eq!(get(address, "/healthz"), (200, b"ok\n".to_vec()));
}

#[test]
fn who_is_slow_keeps_nobody_waiting() {
    let scratch = Scratch::new();
    let (_running, address) = listen(&scratch, &[]);
    let mut silent = Vec::new();
    for n in 0..40 {
        let mut stream = TcpStream::connect(address).expect("it listens");
        if n % 2 == 0 {
            stream.write_all(b"GET /metr").expect("it listens");
        }
        silent.push(stream);
    }
    // One that goes away in the middle of its profile.
    let mut gone = TcpStream::connect(address).expect("it listens");
    gone.write_all(b"GET /debug/pprof/profile?seconds=1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("it listens");
    drop(gone);
    // More than there are places, that ask again and again, and never read.
    let asks = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2000);
    for _ in 0..80 {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_nonblocking(true).expect("a socket");
        // As far as it goes.
        let _ = stream.write_all(asks.as_bytes());
        silent.push(stream);
    }
    let start = Instant::now();
    assert_eq!(get(address, "/healthz").0, 200);
    let took = start.elapsed();
    assert!(took < machine::patience(Duration::from_secs(2)), "{took:?}");
    for (path, status) in [
        ("/", 200),
        ("/nothing", 404),
        ("/debug/pprof/profile?seconds=0", 400),
        ("/debug/pprof/profile?seconds=99999999999999999999", 400),
    ] {
        assert_eq!(get(address, path).0, status, "{path}");
    }
    let garbage = vec![b'x'; 1 << 20];
    let mut stream = TcpStream::connect(address).expect("it listens");
    let _ = stream.write_all(&garbage);
    assert_eq!(get(address, "/healthz").0, 200);
}
