//! Counters and gauges that guests keep through the contract's `diagnostics`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::plugin::text;

/// How many counters and gauges together a step's guests may make; more are not kept.
pub const METRIC_NAMES_MAX: usize = 256;
/// The longest name of a counter or a gauge, in bytes; one with a longer name is not kept.
pub const METRIC_NAME_BYTES_MAX: usize = 128;

/// The counters and gauges of one step, shared by its instances.
///
/// A name is looked up under the lock once per instance; after that an instance adds without it.
#[derive(Debug, Default)]
pub struct GuestMetrics {
    names: Mutex<BTreeMap<String, Metric>>,
    /// The most bytes that the memories of an instance have had.
    memory_bytes_peak: AtomicU64,
}

/// A counter's or a gauge's place.
#[derive(Debug, Clone)]
enum Metric {
    Counter(Arc<AtomicU64>),
    /// The bits of an `f64`.
    Gauge(Arc<AtomicU64>),
}

/// What a counter or a gauge shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricValue {
    /// The sum of what was added, since the plugin was loaded. Wraps around at 2⁶⁴.
    Counter(u64),
    /// What was set last.
    Gauge(f64),
}

impl GuestMetrics {
    /// Every counter and gauge by name, as it stands now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, MetricValue)> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let value = |metric: &Metric| match metric {
            Metric::Counter(sum) => MetricValue::Counter(sum.load(Ordering::Relaxed)),
            Metric::Gauge(bits) => MetricValue::Gauge(f64::from_bits(bits.load(Ordering::Relaxed))),
        };
        names.iter().map(|(name, metric)| (name.clone(), value(metric))).collect()
    }

    /// The most bytes that the memories of one instance have had after a call.
    #[must_use]
    pub fn memory_bytes_peak(&self) -> u64 {
        self.memory_bytes_peak.load(Ordering::Relaxed)
    }

    /// The metric `name`, made if it is new; `None` when it is of the other kind or the step has too many.
    fn metric(&self, name: &str, make: fn(Arc<AtomicU64>) -> Metric) -> Option<Arc<AtomicU64>> {
        if name.is_empty() || name.len() > METRIC_NAME_BYTES_MAX {
            return None;
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = make(Arc::default());
        let metric = match names.get(name) {
            Some(metric) => metric,
            None if names.len() >= METRIC_NAMES_MAX => return None,
            None => names.entry(text::one_line(name).into_owned()).or_insert_with(|| wanted.clone()),
        };
        match (metric, wanted) {
            (Metric::Counter(value), Metric::Counter(_)) | (Metric::Gauge(value), Metric::Gauge(_)) => {
                Some(Arc::clone(value))
            }
            _ => None,
        }
    }
}

/// An instance's way to its step's metrics.
#[derive(Debug)]
pub(crate) struct InstanceMetrics {
    step: Arc<GuestMetrics>,
    /// The names this instance has used, and where they are kept; `None` for those that are not kept.
    counters: HashMap<String, Option<Arc<AtomicU64>>>,
    gauges: HashMap<String, Option<Arc<AtomicU64>>>,
    /// Whether it has been said that a name is not kept.
    has_warned: bool,
}

impl InstanceMetrics {
    /// A way to `step`.
    pub(crate) fn new(step: Arc<GuestMetrics>) -> Self {
        Self { step, counters: HashMap::new(), gauges: HashMap::new(), has_warned: false }
    }

    /// Notes what an instance's memories have.
    pub(crate) fn note_memory(&self, bytes: u64) {
        self.step.memory_bytes_peak.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Adds to a counter.
    pub(crate) fn count(&mut self, name: &str, add: u64) {
        if let Some(sum) = place(&mut self.counters, &self.step, name, Metric::Counter, &mut self.has_warned) {
            sum.fetch_add(add, Ordering::Relaxed);
        }
    }

    /// Sets a gauge.
    pub(crate) fn gauge(&mut self, name: &str, value: f64) {
        if let Some(bits) = place(&mut self.gauges, &self.step, name, Metric::Gauge, &mut self.has_warned) {
            bits.store(value.to_bits(), Ordering::Relaxed);
        }
    }
}

fn place<'a>(
    known: &'a mut HashMap<String, Option<Arc<AtomicU64>>>,
    step: &GuestMetrics,
    name: &str,
    make: fn(Arc<AtomicU64>) -> Metric,
    has_warned: &mut bool,
) -> Option<&'a AtomicU64> {
    if !known.contains_key(name) {
        let found = step.metric(name, make);
        if found.is_none() && !*has_warned {
            *has_warned = true;
            tracing::warn!(
                target: "tidemill::plugin",
                "the metric `{}` is not kept: a step may have {METRIC_NAMES_MAX} metrics with names of at most \
                 {METRIC_NAME_BYTES_MAX} bytes, each either a counter or a gauge",
                text::one_line(name),
            );
        }
        // A guest that makes up a name for every row must not fill the host's memory.
        if known.len() >= METRIC_NAMES_MAX {
            return None;
        }
        known.insert(name.into(), found);
    }
    known.get(name)?.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_a_step_add_to_the_same_counter() {
        let step = Arc::new(GuestMetrics::default());
        let (mut a, mut b) = (InstanceMetrics::new(step.clone()), InstanceMetrics::new(step.clone()));
        a.count("rows", 2);
        b.count("rows", 3);
        a.gauge("load", 0.5);
        b.gauge("load", 0.25);
        assert_eq!(
            step.snapshot(),
            [("load".to_owned(), MetricValue::Gauge(0.25)), ("rows".to_owned(), MetricValue::Counter(5))]
        );
    }

    #[test]
    fn names_are_bounded_and_of_one_kind() {
        let step = Arc::new(GuestMetrics::default());
        let mut instance = InstanceMetrics::new(step.clone());
        instance.count("a", 1);
        instance.gauge("a", 1.0);
        instance.count("", 1);
        instance.count(&"x".repeat(METRIC_NAME_BYTES_MAX + 1), 1);
        assert_eq!(step.snapshot(), [("a".to_owned(), MetricValue::Counter(1))]);
        for i in 0..2 * METRIC_NAMES_MAX {
            instance.count(&format!("n{i}"), 1);
        }
        assert_eq!(step.snapshot().len(), METRIC_NAMES_MAX);
        assert!(instance.counters.len() <= METRIC_NAMES_MAX);
    }
}
