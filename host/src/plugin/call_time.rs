//! How long a call may go on: by the clock, by the processor time of its thread, and while the job runs.
//!
//! Looked at every epoch while the guest computes, and every epoch while it waits in the host (`wasi/wait.rs`). So a guest is
//! ended within one tick, wherever it is.

use std::time::Duration;

use crate::clock::thread_cpu_time;
use crate::ids::BatchId;
use crate::operator::{Budget, Limit, StopFlag};
use crate::plugin::engine::{EPOCH_TICK, Epochs};

/// What ended a call before it had ended itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// A limit on time: which, and its value.
    Limit(Limit, Duration),
    /// The job is stopped at once.
    Stopped,
}

/// The time of one instance's calls.
#[derive(Debug)]
pub(crate) struct CallTime {
    epochs: Epochs,
    stop: StopFlag,
    budget: Budget,
    /// The epoch in which the call is over.
    deadline: u64,
    /// The limits of what runs: `open`, or a call.
    wall: (Limit, Duration),
    cpu: (Limit, Duration),
    /// What the calls of the batch have left together, where that is counted.
    batch: Option<(BatchId, Duration)>,
    /// The thread's processor time when the call began. Where the batch's is not counted it is asked for at the first epoch, and
    /// not at all by a call that is shorter: asking costs more than such a call does.
    cpu_began: Option<Duration>,
    over: Option<Over>,
}

impl CallTime {
    /// The time of an instance that has not begun.
    pub(crate) fn new(epochs: Epochs, stop: StopFlag, budget: Budget) -> Self {
        Self {
            epochs,
            stop,
            budget,
            deadline: 0,
            wall: (Limit::TimeToOpen, Duration::ZERO),
            cpu: (Limit::CpuTimeToOpen, Duration::ZERO),
            batch: None,
            cpu_began: None,
            over: None,
        }
    }

    /// Begins `open`.
    pub(crate) fn begin_open(&mut self, wall: Duration, cpu: Duration) {
        self.begin((Limit::TimeToOpen, wall), (Limit::CpuTimeToOpen, cpu), None);
    }

    /// Begins a call.
    pub(crate) fn begin_call(&mut self, wall: Duration, cpu: Duration, batch_id: BatchId) {
        let batch = self.budget.cpu_left(batch_id).map(|left| (batch_id, left));
        self.begin((Limit::TimePerCall, wall), (Limit::CpuTimePerCall, cpu), batch);
    }

    fn begin(&mut self, wall: (Limit, Duration), cpu: (Limit, Duration), batch: Option<(BatchId, Duration)>) {
        self.deadline = self.epochs.now().saturating_add(n_epochs(wall.1));
        (self.wall, self.cpu, self.batch) = (wall, cpu, batch);
        self.cpu_began = batch.and_then(|_| thread_cpu_time());
        self.over = None;
    }

    /// Ends a call: what it used counts for its batch.
    pub(crate) fn end_call(&mut self) {
        if let (Some((batch_id, _)), Some(used)) = (self.batch.take(), self.cpu_used()) {
            self.budget.use_cpu(batch_id, used);
        }
    }

    /// Whether the call may go on, asked at least once an epoch.
    pub(crate) fn may_go_on(&mut self) -> bool {
        if self.over.is_none() {
            self.over = self.look();
        }
        self.over.is_none()
    }

    /// What ended the call, if anything did.
    pub(crate) fn over(&self) -> Option<Over> {
        self.over
    }

    fn look(&mut self) -> Option<Over> {
        if self.stop.is_set() {
            return Some(Over::Stopped);
        }
        if self.epochs.now() >= self.deadline {
            return Some(Over::Limit(self.wall.0, self.wall.1));
        }
        let Some(used) = self.cpu_used() else {
            self.cpu_began = thread_cpu_time();
            return None;
        };
        if used > self.cpu.1 {
            return Some(Over::Limit(self.cpu.0, self.cpu.1));
        }
        let limit = self.budget.limits().cpu_time_per_batch?;
        self.batch.filter(|(_, left)| used > *left).map(|_| Over::Limit(Limit::JobCpuTimePerBatch, limit))
    }

    fn cpu_used(&self) -> Option<Duration> {
        Some(thread_cpu_time()?.saturating_sub(self.cpu_began?))
    }
}

/// The epochs that `limit` lasts at least: the one that has begun counts for nothing.
fn n_epochs(limit: Duration) -> u64 {
    let n_epochs = limit.as_nanos().div_ceil(EPOCH_TICK.as_nanos());
    // Half the range is three thousand million years.
    u64::try_from(n_epochs).unwrap_or(u64::MAX).min(u64::MAX / 2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::JobLimits;

    fn check(limit: Duration, expected: u64) {
        assert_eq!(n_epochs(limit), expected, "{limit:?}");
    }

    #[test]
    fn a_limit_lasts_at_least_as_long_as_it_says() {
        check(Duration::ZERO, 1);
        check(Duration::from_nanos(1), 2);
        check(Duration::from_millis(10), 2);
        check(Duration::from_millis(11), 3);
        check(Duration::from_secs(5), 501);
        check(Duration::MAX, u64::MAX / 2 + 1);
    }

    /// Uses processor time until the call is over, or there is no doubt that it never will be.
    fn spin(time: &mut CallTime) -> Option<Over> {
        let began = thread_cpu_time()?;
        while thread_cpu_time()?.saturating_sub(began) < Duration::from_secs(5) && time.may_go_on() {}
        time.over()
    }

    #[cfg(unix)]
    #[test]
    fn processor_time_is_limited_by_call_and_by_batch() {
        let hour = Duration::from_secs(3600);
        let ms = Duration::from_millis(20);
        let mut time = CallTime::new(Epochs::default(), StopFlag::default(), Budget::default());
        time.begin_call(hour, ms, BatchId(1));
        assert_eq!(spin(&mut time), Some(Over::Limit(Limit::CpuTimePerCall, ms)));
        time.begin_open(hour, ms);
        assert_eq!(spin(&mut time), Some(Over::Limit(Limit::CpuTimeToOpen, ms)));

        let budget = Budget::new(JobLimits { cpu_time_per_batch: Some(ms), ..JobLimits::default() });
        let mut time = CallTime::new(Epochs::default(), StopFlag::default(), budget);
        time.begin_call(hour, hour, BatchId(1));
        assert_eq!(spin(&mut time), Some(Over::Limit(Limit::JobCpuTimePerBatch, ms)));
        time.end_call();
        time.begin_call(hour, hour, BatchId(1));
        assert!(!time.may_go_on(), "the batch has nothing left");
        time.begin_call(hour, hour, BatchId(2));
        assert!(time.may_go_on(), "another batch has");
    }

    #[test]
    fn a_job_that_is_stopped_stops_its_calls() {
        let stop = StopFlag::default();
        let mut time = CallTime::new(Epochs::default(), stop.clone(), Budget::default());
        time.begin_call(Duration::from_secs(3600), Duration::from_secs(3600), BatchId(1));
        assert!(time.may_go_on());
        stop.set();
        assert!(!time.may_go_on());
        assert_eq!(time.over(), Some(Over::Stopped));
    }
}
