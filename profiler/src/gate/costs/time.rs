//! Which of a profile's values is CPU time, and how much a sample is worth: profilers write that in many ways.

use pprof::protos::{Profile, ValueType};

use super::text;

/// Which of a sample's values is its CPU time, what it is multiplied by to be nanoseconds, and its type.
pub(in crate::gate) fn value(profile: &Profile) -> Result<(usize, f64, String), String> {
    let text = |id: i64| text(profile, id);
    let is_time = |of: &ValueType| nanoseconds(text(of.unit)).map(|scale| (text(of.ty), scale));
    let types = &profile.sample_type;
    let named = |wanted: &str| types.iter().position(|of| text(of.ty) == wanted);
    // Events of these clocks of perf are nanoseconds, as perf_to_profile writes them.
    for clock in ["cpu-clock_event", "task-clock_event"] {
        if let Some(at) = named(clock) {
            return Ok((at, 1.0, "cpu/nanoseconds".into()));
        }
    }
    for cpu in ["cpu", "cpu-time", "on_cpu", "cpu-clock"] {
        if let Some(at) = named(cpu)
            && let Some((name, scale)) = is_time(&types[at])
        {
            return Ok((at, scale, format!("{name}/nanoseconds")));
        }
    }
    // Samples of equal weight, which the period tells.
    let counted = named("samples").or_else(|| named("sample"));
    let period = profile.period_type.as_ref().and_then(is_time);
    if let (Some(at), Some((clock, scale))) = (counted, period)
        && profile.period > 0
        && !waits(clock)
    {
        return Ok((at, scale * profile.period as f64, "cpu/nanoseconds".into()));
    }
    let last = types.len().checked_sub(1);
    let last = last.and_then(|at| Some((at, is_time(&types[at])?)));
    if let Some((at, (name, scale))) = last.filter(|(_, (name, _))| !waits(name)) {
        return Ok((at, scale, format!("{name}/nanoseconds")));
    }
    let known: Vec<String> = types
        .iter()
        .map(|of| format!("{}/{}", text(of.ty), text(of.unit)))
        .collect();
    let known = known.join(", ");
    Err(match (counted, period) {
        (Some(_), None) => {
            format!("it holds {known}, and not how much CPU time a sample stands for (its period)")
        }
        _ => format!("it holds {known}, no CPU time"),
    })
}

/// Whether this is time in which nothing need run: of a clock on the wall, of locks, of disks.
fn waits(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let waits = ["wall", "delay", "wait", "lock", "off", "contention"];
    waits.iter().any(|wait| name.contains(wait)) && !name.ends_with("clock")
}

/// Nanoseconds that a sample is worth; 0: the profile does not say.
pub(super) fn period(profile: &Profile) -> f64 {
    let unit = profile
        .period_type
        .as_ref()
        .map(|of| text(profile, of.unit));
    let nanos = unit.and_then(nanoseconds).unwrap_or(0.0);
    nanos * profile.period.max(0) as f64
}

fn nanoseconds(unit: &str) -> Option<f64> {
    match unit {
        "nanoseconds" | "ns" => Some(1.0),
        "microseconds" | "us" => Some(1e3),
        "milliseconds" | "ms" => Some(1e6),
        "seconds" | "s" => Some(1e9),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pprof::protos::ValueType;

    use super::super::of;
    use super::super::tests::profile;

    #[test]
    fn what_has_no_time() {
        assert_eq!(of(&profile(&[]), &[]).unwrap_err(), "it has no samples");
        let mut heap = profile(&[(&[1], 1)]);
        heap.string_table[2] = "bytes".into();
        assert_eq!(
            of(&heap, &[]).unwrap_err(),
            "it holds cpu/bytes, no CPU time"
        );
    }

    #[test]
    fn samples_that_are_worth_a_period() {
        let mut counted = profile(&[(&[1], 3)]);
        counted.string_table[1] = "samples".into();
        counted.string_table[2] = "count".into();
        counted.string_table.push("milliseconds".into());
        counted.period_type = Some(ValueType { ty: 1, unit: 7 });
        counted.period = 10;
        assert_eq!(of(&counted, &[]).unwrap().total, 30e6);
        counted.period = 0;
        counted.period_type = None;
        assert_eq!(
            of(&counted, &[]).unwrap_err(),
            "it holds samples/count, and not how much CPU time a sample stands for (its period)"
        );
    }

    #[test]
    fn time_in_which_nothing_runs() {
        for (of_what, is_cpu) in [
            ("cpu", true),
            ("task-clock", true),
            ("wall", false),
            ("delay", false),
            ("offcpu", false),
            ("lock_duration", false),
        ] {
            // By itself, and of samples that stand for it.
            let mut profile = profile(&[(&[1], 3)]);
            profile.string_table[1] = of_what.into();
            assert_eq!(of(&profile, &[]).is_ok(), is_cpu, "{of_what}");
            profile
                .string_table
                .extend(["samples".into(), "count".into()]);
            profile.sample_type = vec![ValueType { ty: 7, unit: 8 }];
            profile.period_type = Some(ValueType { ty: 1, unit: 2 });
            profile.period = 10;
            assert_eq!(of(&profile, &[]).is_ok(), is_cpu, "{of_what}");
        }
    }

    #[test]
    fn events_of_a_clock_of_perf() {
        let mut profile = profile(&[(&[1], 3)]);
        profile.string_table[1] = "cpu-clock_event".into();
        profile.string_table[2] = "count".into();
        assert_eq!(of(&profile, &[]).unwrap().total, 3.0);
        profile.string_table[1] = "cycles_event".into();
        assert_eq!(
            of(&profile, &[]).unwrap_err(),
            "it holds cycles_event/count, no CPU time"
        );
    }
}
