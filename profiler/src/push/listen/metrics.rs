//! The run's figures, for Prometheus: the ledger, what rprof itself takes, what became of profiles.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use rprof_ebpf::ledger::Column;

use crate::push::publisher::Outcome;
use crate::push::sender::Sending;
use crate::sampling::standing::Standing;

/// What [`Figures::text`] is (<https://prometheus.io/docs/specs/om/open_metrics_spec>).
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What must be known of the figures before.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Ticks that were not delivered, as it was said: one that is late looks so for a moment, and a counter
    /// must not go back.
    not_delivered: Mutex<u64>,
}

impl Figures {
    /// All figures.
    pub(super) fn text(&self, standing: &Standing, sendings: &Arc<Vec<Sending>>) -> String {
        let mut standing = standing.clone();
        let mut said = self
            .not_delivered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = &mut standing.counts.0[Column::NotDelivered as usize];
        *said = (*said).max(*now);
        *now = *said;
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Now {
            standing,
            outcomes: sendings.iter().map(Sending::outcome).collect(),
        }));
        let mut all = String::new();
        // A string takes whatever is written to it.
        let _ = text::encode(&mut all, &registry);
        all
    }
}

/// The figures of a moment.
#[derive(Debug)]
struct Now {
    standing: Standing,
    outcomes: Vec<Outcome>,
}

/// Names of labels and their values.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for Now {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let standing = &self.standing;
        let version = [("version", env!("CARGO_PKG_VERSION"))].to_vec();
        out.gauges(
            "rprof_build_info",
            "The version that runs",
            [(version, 1.0)].into_iter(),
        )?;
        out.counter(
            "rprof_ticks_expected",
            "Ticks that should have come: time sampled, times the frequency, on all CPUs",
            standing.expected as f64,
        )?;
        out.counters(
            "rprof_ticks",
            "Where ticks ended",
            Column::ALL.iter().map(|&column| {
                let labels = vec![
                    ("column", column.name()),
                    ("lost", if column.is_loss() { "true" } else { "false" }),
                ];
                (labels, standing.counts.get(column) as f64)
            }),
        )?;
        out.counters(
            "rprof_stacks_truncated",
            "Why stacks ended before their root",
            standing
                .truncated
                .iter()
                .map(|(end, &n)| (vec![("reason", end.reason())], n as f64)),
        )?;
        out.gauge(
            "rprof_samples_in_flight",
            "Samples between the eBPF program and the profile",
            standing.in_flight as f64,
        )?;
        out.gauge("rprof_cpus", "CPUs that are sampled", standing.cpus as f64)?;
        out.gauge(
            "rprof_readers",
            "Processes that read files and memory of others for rprof",
            standing.readers as f64,
        )?;
        out.counter(
            "rprof_cpu_seconds",
            "CPU time of rprof and its readers",
            standing.cpu.as_secs_f64(),
        )?;
        out.gauge(
            "rprof_resident_memory_bytes",
            "Memory of rprof itself that is resident",
            resident().unwrap_or(f64::NAN),
        )?;
        self.servers(&mut out)
    }
}

impl Now {
    /// What became of profiles, server by server.
    fn servers(&self, out: &mut Out<'_>) -> fmt::Result {
        let names: Vec<String> = self.outcomes.iter().map(|o| o.to.to_string()).collect();
        let servers = || names.iter().zip(&self.outcomes);
        let each = |figure: fn(&Outcome) -> u64| {
            servers().map(move |(name, outcome)| {
                (vec![("server", name.as_str())], figure(outcome) as f64)
            })
        };
        let samples = servers().flat_map(|(name, outcome)| {
            outcome.columns().map(move |(became, n)| {
                let labels = vec![("server", name.as_str()), ("became", became)];
                (labels, n as f64)
            })
        });
        out.counters(
            "rprof_push_samples",
            "What became of samples for a server",
            samples,
        )?;
        out.counters(
            "rprof_push_bytes",
            "Bytes that were sent to a server, repeated ones included",
            each(|outcome| outcome.figures.bytes),
        )?;
        out.gauges(
            "rprof_spool_samples",
            "Samples that wait for a server",
            each(|outcome| outcome.waiting),
        )?;
        out.gauges(
            "rprof_spool_profiles",
            "Profiles that wait for a server",
            each(|outcome| outcome.profiles),
        )?;
        out.gauges(
            "rprof_spool_bytes",
            "Bytes on disk that wait for a server",
            each(|outcome| outcome.bytes),
        )
    }
}

/// What figures are written with.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.counters(name, help, std::iter::once((Vec::new(), value)))
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, std::iter::once((Vec::new(), value)))
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            metric
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

/// Resident bytes of this process.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let mut standing = Standing {
            expected: 42,
            ..Standing::default()
        };
        standing.counts.add(Column::Resolved, 40);
        standing.counts.add(Column::NotDelivered, 2);
        let figures = Figures::default();
        let text = figures.text(&standing, &Arc::default());
        for line in [
            "rprof_ticks_expected_total 42.0",
            "rprof_ticks_total{column=\"resolved\",lost=\"false\"} 40.0",
            "rprof_ticks_total{column=\"not delivered by the kernel\",lost=\"true\"} 2.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        // It was late.
        standing.counts.0[Column::NotDelivered as usize] = 1;
        let text = figures.text(&standing, &Arc::default());
        assert!(text.contains("kernel\",lost=\"true\"} 2.0\n"), "{text}");
    }
}
