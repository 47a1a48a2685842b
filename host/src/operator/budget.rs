//! What all instances of a job's plugins use together, held under the job's limits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ids::BatchId;
use crate::operator::JobLimits;

/// What the instances of a job use together. Clones are of the same job; all are equal, because it is no part of what a step is.
///
/// Counters, not queues: an instance that is denied something gets an error at once, and none waits for another.
#[derive(Debug, Clone, Default)]
pub struct Budget(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    limits: JobLimits,
    memory_bytes: AtomicU64,
    instances: AtomicU64,
    /// Written once a call, and only where it is limited.
    cpu: Mutex<CpuTime>,
}

/// Processor time of the calls of a batch. Batches of a job run one after the other, so one is enough.
#[derive(Debug, Default)]
struct CpuTime {
    batch_id: Option<BatchId>,
    used: Duration,
}

/// What was asked for and not given: what the sum would have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// The limit.
    pub(crate) max: u64,
    /// The sum that was asked for.
    pub(crate) asked: u64,
}

impl Budget {
    /// The budget of a job that has used nothing.
    #[must_use]
    pub fn new(limits: JobLimits) -> Self {
        Self(Arc::new(Shared { limits, ..Shared::default() }))
    }

    /// What the job may use.
    #[must_use]
    pub fn limits(&self) -> &JobLimits {
        &self.0.limits
    }

    /// Takes memory for an instance.
    pub(crate) fn take_memory(&self, n_bytes: u64) -> Result<(), Spent> {
        take(&self.0.memory_bytes, n_bytes, self.0.limits.memory_bytes)
    }

    /// Gives memory back.
    pub(crate) fn give_memory(&self, n_bytes: u64) {
        self.0.memory_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
    }

    /// Takes an instance, until what is returned is dropped.
    pub(crate) fn take_instance(&self) -> Result<InstanceSlot, Spent> {
        take(&self.0.instances, 1, self.0.limits.instances)?;
        Ok(InstanceSlot(self.clone()))
    }

    /// Processor time that the calls of a batch have left; `None` when it is not counted.
    pub(crate) fn cpu_left(&self, batch_id: BatchId) -> Option<Duration> {
        let max = self.0.limits.cpu_time_per_batch?;
        let cpu = self.0.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let used = if cpu.batch_id == Some(batch_id) { cpu.used } else { Duration::ZERO };
        Some(max.saturating_sub(used))
    }

    /// Counts the processor time of a call.
    pub(crate) fn use_cpu(&self, batch_id: BatchId, time: Duration) {
        let mut cpu = self.0.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        if cpu.batch_id != Some(batch_id) {
            *cpu = CpuTime { batch_id: Some(batch_id), used: Duration::ZERO };
        }
        cpu.used += time;
    }
}

impl PartialEq for Budget {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// One instance of the job's, while it lives.
#[derive(Debug)]
pub(crate) struct InstanceSlot(Budget);

impl Drop for InstanceSlot {
    fn drop(&mut self) {
        self.0.0.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

fn take(sum: &AtomicU64, by: u64, max: u64) -> Result<(), Spent> {
    let more = |sum: u64| sum.checked_add(by).filter(|sum| *sum <= max);
    match sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
        Ok(_) => Ok(()),
        Err(sum) => Err(Spent { max, asked: sum.saturating_add(by) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::new(JobLimits { memory_bytes: 100, instances: 2, cpu_time_per_batch: Some(Duration::from_secs(3)) })
    }

    #[test]
    fn memory_is_taken_up_to_the_limit_and_given_back() {
        let budget = budget();
        assert_eq!(budget.take_memory(60), Ok(()));
        assert_eq!(budget.clone().take_memory(60), Err(Spent { max: 100, asked: 120 }));
        assert_eq!(budget.take_memory(u64::MAX), Err(Spent { max: 100, asked: u64::MAX }));
        budget.give_memory(20);
        assert_eq!(budget.take_memory(60), Ok(()));
    }

    #[test]
    fn an_instance_counts_while_it_lives() {
        let budget = budget();
        let slots = [budget.take_instance(), budget.take_instance()];
        assert_eq!(budget.take_instance().err(), Some(Spent { max: 2, asked: 3 }));
        drop(slots);
        assert!(budget.take_instance().is_ok());
    }

    #[test]
    fn processor_time_is_that_of_one_batch() {
        let budget = budget();
        budget.use_cpu(BatchId(1), Duration::from_secs(2));
        assert_eq!(budget.cpu_left(BatchId(1)), Some(Duration::from_secs(1)));
        budget.use_cpu(BatchId(1), Duration::from_secs(2));
        assert_eq!(budget.cpu_left(BatchId(1)), Some(Duration::ZERO));
        assert_eq!(budget.cpu_left(BatchId(2)), Some(Duration::from_secs(3)));
        assert_eq!(Budget::default().cpu_left(BatchId(2)), None);
    }
}
