//! How much the states of a step may take.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::operator::{Limit, Limits, size};

/// The limits on a step's states, and what they take.
pub(super) struct StateBounds {
    per_key: u64,
    of_step: u64,
    /// What each partition had when a task of it ended last. A partition that has had no task since the job began counts for nothing:
    /// what a checkpoint brought back is found when its rows come.
    partitions: Box<[AtomicU64]>,
}

impl StateBounds {
    /// The bounds of a step with `n_partitions` partitions of state.
    pub(super) fn new(limits: &Limits, n_partitions: u32) -> Self {
        let partitions = (0..n_partitions).map(|_| AtomicU64::new(0)).collect();
        Self { per_key: limits.state_bytes_per_key, of_step: limits.state_bytes, partitions }
    }

    /// The limit that a state of `n_bytes` exceeds, and what was seen.
    pub(super) fn of_key(&self, n_bytes: u64) -> Option<(Limit, String)> {
        (n_bytes > self.per_key).then(|| {
            let seen = format!("the limit is {}, the plugin returned one of {}", size(self.per_key), size(n_bytes));
            (Limit::StateBytesPerKey, seen)
        })
    }

    /// The limit that a partition with `n_bytes` exceeds, with the others, and what was seen.
    pub(super) fn of_step(&self, partition: usize, n_bytes: u64) -> Option<(Limit, String)> {
        self.partitions[partition].store(n_bytes, Ordering::Relaxed);
        let sum = self.partitions.iter().map(|n_bytes| n_bytes.load(Ordering::Relaxed)).sum();
        (sum > self.of_step).then(|| {
            let seen = format!("the limit is {}, its keys would have {}", size(self.of_step), size(sum));
            (Limit::StateBytes, seen)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_count_together() {
        let limits = Limits { state_bytes: 100, state_bytes_per_key: 10, ..Limits::default() };
        let bounds = StateBounds::new(&limits, 2);
        assert_eq!(bounds.of_step(0, 60), None);
        let seen = "the limit is 100B, its keys would have 120B".to_owned();
        assert_eq!(bounds.of_step(1, 60), Some((Limit::StateBytes, seen)));
        assert_eq!(bounds.of_step(0, 40), None);
        assert_eq!(bounds.of_key(10), None);
        let seen = "the limit is 10B, the plugin returned one of 11B".to_owned();
        assert_eq!(bounds.of_key(11), Some((Limit::StateBytesPerKey, seen)));
    }
}
