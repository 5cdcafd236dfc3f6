//! How the values of options are read: times, sizes, lists of CPUs and pids, labels. Text comes in,
//! a value or one sentence about what is wrong with it leaves. Nothing here looks at the machine.

use std::time::Duration;

/// The longest duration that is taken: a year.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// The highest CPU number that is taken (`CONFIG_NR_CPUS` goes to 8,192).
const MAX_CPU: u32 = 8191;

/// Splits `10s` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

/// Reads `10s`, `5m`, `1h`, `2d`, `500ms`, `1.5s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "a time is a number and a unit: 500ms, 10s, 5m or 1h".to_string();
    let (number, unit) = number_and_unit(text).ok_or_else(bad)?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(bad()),
    };
    let duration = Duration::try_from_secs_f64(number * seconds).unwrap_or(Duration::MAX);
    if duration.is_zero() {
        return Err("there is nothing to sample in no time".to_string());
    }
    if duration > MAX_DURATION {
        return Err("the longest is 365d".to_string());
    }
    Ok(duration)
}

/// Bytes: reads `256MiB`, `1GiB`, `64M`, `500MB`. A bare letter counts in powers of 1,024.
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || "a size is a number and a unit: 64MiB, 256MiB or 1GiB".to_string();
    let (number, unit) = number_and_unit(text).ok_or_else(bad)?;
    let bytes: f64 = match unit.to_ascii_lowercase().as_str() {
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1_048_576.0,
        "g" | "gib" => 1_073_741_824.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(bad()),
    };
    let bytes = number * bytes;
    if bytes < MIN_MEMORY as f64 {
        return Err("the least that works is 16MiB".to_string());
    }
    if bytes > (1u64 << 50) as f64 {
        return Err("no machine has that much".to_string());
    }
    Ok(bytes as u64)
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
pub fn cpus(text: &str) -> Result<Cpus, String> {
    let bad = || "CPUs are numbers and ranges: 0-3,5".to_string();
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u32 = first.parse().map_err(|_| bad())?;
        let last: u32 = last.parse().map_err(|_| bad())?;
        if first > last || last > MAX_CPU {
            return Err(bad());
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

/// Reads one pid.
pub fn pid(text: &str) -> Result<u32, String> {
    match text.trim().parse::<u32>() {
        Ok(pid) if pid > 0 && pid <= i32::MAX as u32 => Ok(pid),
        _ => Err("a pid is a positive number; several are written 12,34".to_string()),
    }
}

/// Samples a second on each CPU.
pub fn frequency(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(0) => Err("at 0 samples a second there is no profile".to_string()),
        Ok(hertz) => Ok(hertz),
        Err(_) => Err("the frequency is a whole number of samples a second".to_string()),
    }
}

/// Reads `key=value`. The labels that rprof itself sets are refused.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or("a label is written key=value")?;
    let own = [
        "pid",
        "tid",
        "host_pid",
        "comm",
        "thread",
        "cgroup",
        "container_id",
    ];
    if own.contains(&key) {
        return Err(format!("rprof sets the label '{key}' itself"));
    }
    Ok((key.to_string(), value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(size("500MB"), Ok(500_000_000));
        for bad in [
            "",
            "256",
            "0MiB",
            "1MiB",
            "-5GiB",
            "9999999999999GiB",
            "MiB",
            "12TiBs",
        ] {
            assert!(size(bad).is_err(), "{bad}");
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
        assert_eq!(pid("12"), Ok(12));
        for bad in ["0", "-1", "x", "", "4294967296", "2147483648"] {
            assert!(pid(bad).is_err(), "{bad}");
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
}
