//! How the values of options are read: times, sizes, lists of CPUs and pids, labels. Text comes in,
//! a value or a [`Misread`] leaves: what is wrong with it, and what would be taken instead. Nothing here looks at the machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::retype::quoted;

/// The longest duration that is taken: a year.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// The highest CPU number that is taken (`CONFIG_NR_CPUS` goes to 8,192).
const MAX_CPU: u32 = 8191;

/// Why a value is refused, and what may be typed instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// One sentence without a full stop.
    pub why: String,
    /// A value that would be taken.
    pub instead: Option<String>,
    /// Another command, that finds one.
    pub look: Option<String>,
}

impl Misread {
    fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            instead: None,
            look: None,
        }
    }

    fn instead(mut self, value: impl Into<String>) -> Self {
        self.instead = Some(value.into());
        self
    }

    fn look(mut self, command: impl Into<String>) -> Self {
        self.look = Some(command.into());
        self
    }
}

impl std::fmt::Display for Misread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Misread {}

/// A share: `2%`, or 0.02. Below the least no number of runs could tell it from nothing, and above the most a gate
/// would let anything pass.
///
/// # Errors
/// It is none.
pub fn share(text: &str) -> Result<f64, Misread> {
    const LEAST: f64 = 0.0001;
    const MOST: f64 = 10.0;
    let (number, scale) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim(), 100.0),
        None => (text.trim(), 1.0),
    };
    let share = number.parse::<f64>().ok().map(|number| number / scale);
    if scale == 1.0 && share.is_some_and(|share| (1.0..=100.0 * MOST).contains(&share)) {
        let percent = format!("{number}%");
        return Err(Misread::new("a share is written 2% or 0.02").instead(percent));
    }
    match share {
        // Which a NaN is not.
        Some(share) if (LEAST..=MOST).contains(&share) => Ok(share),
        _ => {
            Err(Misread::new("it is a share from 0.01 % to 1000 %, like 2% or 0.02").instead("2%"))
        }
    }
}

/// Where chance begins.
///
/// # Errors
/// It is no such number.
pub fn seed(text: &str) -> Result<u64, Misread> {
    let seed = text.trim().parse().ok();
    seed.ok_or_else(|| Misread::new("a seed is a whole number from 0").instead("1"))
}

/// Runs a side: of less than 8 nothing can be called regressed, so few orders of sides there are.
///
/// # Errors
/// It is no such number.
pub fn runs(text: &str) -> Result<u32, Misread> {
    const RUNS: std::ops::RangeInclusive<u32> = 8..=500;
    let runs = text.trim().parse().ok().filter(|runs| RUNS.contains(runs));
    runs.ok_or_else(|| Misread::new("it is a number from 8 to 500").instead("10"))
}

/// A command for a shell, or for none.
///
/// # Errors
/// It is empty.
pub fn command(text: &str) -> Result<String, Misread> {
    match text.trim() {
        "" => Err(Misread::new("there is nothing to run").instead("./bench")),
        _ => Ok(text.to_string()),
    }
}

/// Splits `10s` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads `10s`, `5m`, `1h`, `2d`, `500ms`, `1.5s`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, Misread> {
    if let Some(positive) = text.strip_prefix('-') {
        let negative = Misread::new("time does not run backwards");
        return Err(negative.instead(duration(positive).map_or("10s", |_| positive)));
    }
    let bad = |instead: &str| {
        Misread::new("a time is a number and a unit: 500ms, 10s, 5m or 1h").instead(instead)
    };
    let (number, unit) = number_and_unit(text).ok_or_else(|| bad("10s"))?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        "" if number > 0.0 && duration(&format!("{text}s")).is_ok() => {
            return Err(bad(&format!("{text}s")));
        }
        _ => return Err(bad("10s")),
    };
    let duration = Duration::try_from_secs_f64(number * seconds).unwrap_or(Duration::MAX);
    if duration.is_zero() {
        return Err(Misread::new("there is nothing to sample in no time").instead("10s"));
    }
    if duration > MAX_DURATION {
        return Err(Misread::new("the longest is 365d").instead("365d"));
    }
    Ok(duration)
}

/// Bytes: reads `256MiB`, `1GiB`, `64M`, `500MB`. A bare letter counts in powers of 1,024.
///
/// # Errors
/// What is wrong with it.
pub fn size(text: &str) -> Result<u64, Misread> {
    let bad = |instead: &str| {
        Misread::new("a size is a number and a unit: 64MiB, 256MiB or 1GiB").instead(instead)
    };
    let (number, unit) = number_and_unit(text).ok_or_else(|| bad("256MiB"))?;
    let bytes: f64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        "g" | "gib" => 1_073_741_824.0,
        "t" | "tib" => 1_099_511_627_776.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "" if size(&format!("{text}MiB")).is_ok() => return Err(bad(&format!("{text}MiB"))),
        _ => return Err(bad("256MiB")),
    };
    let bytes = number * bytes;
    if bytes < 1.0 {
        return Err(Misread::new("nothing fits in there").instead("256MiB"));
    }
    if bytes > (1u64 << 50) as f64 {
        return Err(Misread::new("no machine has that much").instead("1GiB"));
    }
    Ok(bytes as u64)
}

/// A [`size`] of memory to work in.
///
/// # Errors
/// What is wrong with it.
pub fn memory(text: &str) -> Result<u64, Misread> {
    match size(text)? {
        0..MIN_MEMORY => Err(Misread::new("the least that works is 16MiB").instead("16MiB")),
        bytes => Ok(bytes),
    }
}

/// The smallest `--max-memory`, in bytes.
pub const MIN_MEMORY: u64 = 16 << 20;

/// CPU numbers, sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(pub Vec<u32>);

impl Cpus {
    /// As the kernel writes them: `0-3,5`.
    pub fn list(&self) -> String {
        let mut text = String::new();
        let mut rest = self.0.as_slice();
        while let Some(&first) = rest.first() {
            let mut run = 1;
            let mut last = first;
            while rest
                .get(run)
                .is_some_and(|&cpu| Some(cpu) == last.checked_add(1))
            {
                last += 1;
                run += 1;
            }
            rest = rest.get(run..).unwrap_or_default();
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&first.to_string());
            if last > first {
                text.push_str(&format!("-{last}"));
            }
        }
        text
    }
}

/// Reads a list of CPUs as the kernel writes it: `0-3,5`.
///
/// # Errors
/// What is wrong with it.
pub fn cpus(text: &str) -> Result<Cpus, Misread> {
    let bad = || Misread::new("CPUs are numbers and ranges: 0-3,5").instead("0");
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u32 = first.parse().map_err(|_| bad())?;
        let last: u32 = last.parse().map_err(|_| bad())?;
        if first.max(last) > MAX_CPU {
            return Err(Misread::new(format!("CPUs end at {MAX_CPU}")).instead("0"));
        }
        if first > last {
            let turned = text.replace(part, &format!("{last}-{first}"));
            return Err(Misread::new(format!("the range {part} runs backwards")).instead(turned));
        }
        cpus.extend(first..=last);
        if cpus.len() > 1 << 16 {
            return Err(bad());
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(Cpus(cpus))
}

/// Pids of one `-p`, as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pids(pub Vec<u32>);

/// Shows what runs, with its pids.
pub const LIST: &str = "ps -eo pid,pcpu,comm --sort=-pcpu | head";

/// Reads `12,34`.
///
/// # Errors
/// What is wrong with it.
pub fn pids(text: &str) -> Result<Pids, Misread> {
    let good = |part: &str| {
        let pid = part.trim().parse().ok();
        pid.filter(|pid| (1..=i32::MAX as u32).contains(pid))
    };
    let parts = || text.split(',').map(str::trim);
    let read: Vec<u32> = parts().filter_map(good).collect();
    let Some(bad) = parts().find(|part| good(part).is_none()) else {
        return Ok(Pids(read));
    };
    let name = |bad: &str| bad.starts_with(|c: char| c.is_alphabetic());
    let why = match bad {
        "" if text.trim().is_empty() => "a pid is missing".into(),
        "" => "a comma is too many".into(),
        "0" => "0 is no process".into(),
        // The kernel's PID_MAX_LIMIT.
        large if is_number(large) => "pids end at 4194304".into(),
        name_of if name(name_of) => "a pid is a number, not a name".into(),
        _ => "a pid is a positive number; several are written 12,34".to_string(),
    };
    let misread = Misread::new(why);
    let left: Vec<String> = read.iter().map(u32::to_string).collect();
    Err(match (left.is_empty(), name(bad)) {
        (false, _) => misread.instead(left.join(",")),
        (true, true) => misread.look(format!("pgrep -a {}", quoted(bad))),
        (true, false) => misread.look(LIST),
    })
}

/// Samples a second on each CPU.
///
/// # Errors
/// What is wrong with it.
pub fn frequency(text: &str) -> Result<u32, Misread> {
    let why = match text.parse::<u32>() {
        Ok(0) => "at 0 samples a second there is no profile",
        Ok(hertz) => return Ok(hertz),
        Err(_) if is_number(text) => "no kernel samples so fast",
        Err(_) => "the frequency is a whole number of samples a second",
    };
    Err(Misread::new(why).instead("99"))
}

/// Reads an address to listen on: `127.0.0.1:7071`, `[::1]:7071`; without a host it is the loopback
/// interface's.
///
/// # Errors
/// What is wrong with it.
pub fn listen(text: &str) -> Result<SocketAddr, Misread> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let port = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    if let Some(port) = port {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        Misread::new(
            "an address to listen on is written ADDRESS:PORT, or PORT for this machine only",
        )
        .instead("127.0.0.1:7071")
    })
}

/// Reads `key=value`. The labels that rprof itself sets are refused.
///
/// # Errors
/// What is wrong with it.
pub fn label(text: &str) -> Result<(String, String), Misread> {
    let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        let key = Some(text.trim_start_matches('=')).filter(|key| !key.is_empty());
        let instead = format!("{}=value", key.unwrap_or("key"));
        return Err(Misread::new("a label is written key=value").instead(instead));
    };
    let own = [
        "pid",
        "tid",
        "host_pid",
        "comm",
        "thread",
        "cgroup",
        "container_id",
        "container",
        "pod_uid",
    ];
    if own.contains(&key) {
        return Err(Misread::new(format!("rprof sets the label '{key}' itself"))
            .instead(format!("my_{key}={value}")));
    }
    Ok((key.to_string(), value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, address) in [
            ("7071", "127.0.0.1:7071"),
            (":7071", "127.0.0.1:7071"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::1]:7071", "[::1]:7071"),
            ("0.0.0.0:7071", "0.0.0.0:7071"),
        ] {
            assert_eq!(listen(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in ["", "host", "127.0.0.1", "1.2.3.4:x", "70000"] {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for bad in [
            "", "10", "s", "-1s", "1 s", "1..5s", "0s", "0.0ms", "366d", "1e9s", "10x", "∞s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(duration(&format!("{}d", "9".repeat(400))).is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("1gib"), Ok(1 << 30));
        assert_eq!(size("1TiB"), Ok(1 << 40));
        assert_eq!(size("500MB"), Ok(500_000_000));
        for bad in [
            "",
            "256",
            "0MiB",
            "-5GiB",
            "9999999999999GiB",
            "MiB",
            "12TiBs",
            "0.1B",
            "2000TiB",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(size("1B"), Ok(1));
        assert!(memory("1MiB").is_err());
        assert_eq!(memory("16MiB"), Ok(MIN_MEMORY));
    }

    #[test]
    fn shares() {
        for (text, read) in [
            ("2%", 0.02),
            ("0.02", 0.02),
            ("0.01%", 0.0001),
            ("0.0001", 0.0001),
            ("1000 %", 10.0),
        ] {
            assert_eq!(share(text), Ok(read), "{text}");
        }
        for text in [
            "", "0", "-3%", "1e-9%", "0.009%", "1001%", "nan", "NaN%", "inf", "-inf%", "1e999",
            "2 %%",
        ] {
            let misread = share(text).unwrap_err();
            assert!(misread.why.contains("from 0.01 % to 1000 %"), "{text}");
        }
        // Nobody knows what is meant.
        for (text, instead) in [("1", "1%"), ("5", "5%"), ("1000", "1000%")] {
            assert_eq!(share(text).unwrap_err().instead.as_deref(), Some(instead));
        }
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(cpus("0-3,5"), Ok(Cpus(vec![0, 1, 2, 3, 5])));
        assert_eq!(cpus("5,0,0-1\n"), Ok(Cpus(vec![0, 1, 5])));
        for bad in ["", "3-1", "a", "0-", "-1", "0,,1", "0-4294967295", "99999"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        for list in ["0", "0-3,5", "1,3,5-6", "0-8191"] {
            assert_eq!(cpus(list).unwrap().list(), list);
        }
        assert_eq!(Cpus::default().list(), "");
    }

    #[test]
    fn pids_and_labels() {
        assert_eq!(pids("12,7"), Ok(Pids(vec![12, 7])));
        for bad in ["0", "-1", "x", "", "4294967296", "2147483648", "1,", ","] {
            assert!(pids(bad).is_err(), "{bad}");
        }
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a="), Ok(("a".into(), String::new())));
        for bad in ["", "a", "=b", "pid=1", "comm=x"] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert_eq!(frequency("20"), Ok(20));
        for bad in ["0", "-1", "1.5", "many"] {
            assert!(frequency(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_would_be_taken_instead() {
        fn said<T: std::fmt::Debug>(read: Result<T, Misread>) -> String {
            let misread = read.unwrap_err();
            let next = misread.instead.or(misread.look).unwrap();
            format!("{} | {next}", misread.why)
        }
        assert_eq!(said(duration("-1s")), "time does not run backwards | 1s");
        assert!(said(duration("10")).ends_with(" | 10s"));
        assert_eq!(said(duration("400d")), "the longest is 365d | 365d");
        assert_eq!(said(memory("1B")), "the least that works is 16MiB | 16MiB");
        assert!(said(size("64")).ends_with(" | 64MiB"));
        assert_eq!(said(size("9999TiB")), "no machine has that much | 1GiB");
        assert_eq!(said(cpus("0,7-3")), "the range 7-3 runs backwards | 0,3-7");
        assert_eq!(said(cpus("9999")), "CPUs end at 8191 | 0");
        assert_eq!(said(pids("1,,2")), "a comma is too many | 1,2");
        let list = format!("pids end at 4194304 | {LIST}");
        assert_eq!(said(pids("4000000000")), list);
        assert_eq!(said(pids("99999999999999999999")), list);
        let name = "a pid is a number, not a name | pgrep -a nginx";
        assert_eq!(said(pids("nginx")), name);
        assert_eq!(
            said(frequency("99999999999999999999")),
            "no kernel samples so fast | 99"
        );
        assert_eq!(said(label("a")), "a label is written key=value | a=value");
        assert!(said(label("pid=1")).ends_with(" | my_pid=1"));
    }
}
