//! How much memory the rows of a batch may take, between stages and in the steps behind shuffles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Spill;

/// What the rows of a batch may take in memory; one for a job. Without a place to spill to it only counts.
///
/// Half of it is for what map tasks have dealt out, whoever comes first. The other half is divided among the worker threads:
/// a task has a part for its step behind a shuffle and a part for what it writes into shuffles, so that each can work with
/// pieces of a useful size however full the first half is. What a step spills depends on the rows alone.
#[derive(Debug, Default)]
pub struct BatchMemory {
    spill: Option<Arc<Spill>>,
    /// Bytes that shuffles hold together, at most, beside what their writers at work may hold anyway.
    shuffles_max: u64,
    /// Bytes that one step behind a shuffle holds in a task.
    step_bytes: u64,
    /// Bytes that one writer into a shuffle holds whatever the others hold.
    writer_bytes: u64,
    shuffles: AtomicU64,
    // Relaxed, all of them: they are sums, and order nothing.
    held: AtomicU64,
    held_peak: AtomicU64,
}

impl BatchMemory {
    /// Memory of `memory_bytes` for tasks on `n_threads` that write into up to `n_shuffles` at once.
    #[must_use]
    pub fn new(spill: Option<Arc<Spill>>, memory_bytes: u64, n_threads: usize, n_shuffles: usize) -> Arc<Self> {
        let task_bytes = memory_bytes / 2 / n_threads.max(1) as u64;
        let (shuffles_max, step_bytes) = (memory_bytes / 2, task_bytes / 2);
        let writer_bytes = task_bytes / 2 / n_shuffles.max(1) as u64;
        Arc::new(Self { spill, shuffles_max, step_bytes, writer_bytes, ..Self::default() })
    }

    /// Where rows go that there is no room for; `None`: there is room for all.
    pub(crate) fn spill(&self) -> Option<&Arc<Spill>> {
        self.spill.as_ref()
    }

    /// The most bytes that were ever held, as shuffles and steps account for them.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.held_peak.load(Ordering::Relaxed)
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn add(&self, n_bytes: u64) {
        let held = self.held.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes;
        self.held_peak.fetch_max(held, Ordering::Relaxed);
    }

    fn remove(&self, n_bytes: u64) {
        self.held.fetch_sub(n_bytes, Ordering::Relaxed);
    }
}

/// Bytes that somebody holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Tracked {
    memory: Arc<BatchMemory>,
    n_bytes: u64,
}

impl Tracked {
    pub(crate) fn new(memory: &Arc<BatchMemory>) -> Self {
        Self { memory: memory.clone(), n_bytes: 0 }
    }

    /// Says how many bytes it is now.
    pub(crate) fn set(&mut self, n_bytes: u64) {
        self.memory.remove(self.n_bytes);
        self.n_bytes = n_bytes;
        self.memory.add(n_bytes);
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.memory.remove(self.n_bytes);
    }
}

/// What one map task holds of a shuffle.
#[derive(Debug)]
pub(crate) struct Share {
    tracked: Tracked,
    /// Bytes of the half that all share; the others are the writer's own.
    shared: u64,
}

impl Share {
    pub(crate) fn new(memory: &Arc<BatchMemory>) -> Self {
        Self { tracked: Tracked::new(memory), shared: 0 }
    }

    /// Whether a writer at work may hold `n_bytes`. If not, it holds what it held before, and must spill.
    pub(crate) fn fits_at_work(&mut self, n_bytes: u64) -> bool {
        let own = self.tracked.memory.writer_bytes;
        self.fits(n_bytes, own)
    }

    /// Whether `n_bytes` may be held until the shuffle has been read.
    pub(crate) fn fits_finished(&mut self, n_bytes: u64) -> bool {
        self.fits(n_bytes, 0)
    }

    fn fits(&mut self, n_bytes: u64, own: u64) -> bool {
        let memory = self.tracked.memory.clone();
        let wanted = n_bytes.saturating_sub(own);
        if memory.spill.is_some() && wanted > self.shared {
            let more = wanted - self.shared;
            let taken = memory.shuffles.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(more).filter(|held| *held <= memory.shuffles_max)
            });
            if taken.is_err() {
                return false;
            }
            self.shared = wanted;
        }
        self.tracked.set(n_bytes);
        true
    }

    /// Less is held than before.
    pub(crate) fn shrink(&mut self, n_bytes: u64) {
        let freed = self.shared.saturating_sub(n_bytes);
        self.tracked.memory.shuffles.fetch_sub(freed, Ordering::Relaxed);
        self.shared -= freed;
        self.tracked.set(n_bytes);
    }

    /// Nothing is held any more.
    pub(crate) fn clear(&mut self) {
        self.tracked.memory.shuffles.fetch_sub(self.shared, Ordering::Relaxed);
        self.shared = 0;
        self.tracked.set(0);
    }

    /// Where rows go that do not fit.
    pub(crate) fn spill(&self) -> Option<&Arc<Spill>> {
        self.tracked.memory.spill()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.tracked.memory.shuffles.fetch_sub(self.shared, Ordering::Relaxed);
    }
}

/// What a task may hold in memory; by default, whatever it likes.
#[derive(Debug, Clone, Default)]
pub struct TaskMemory {
    batch: Arc<BatchMemory>,
    /// Bytes of rows that the task gets out of shuffles.
    input_bytes: u64,
}

impl TaskMemory {
    /// The memory of a task that gets `input_bytes` of rows out of shuffles.
    #[must_use]
    pub fn new(batch: &Arc<BatchMemory>, input_bytes: u64) -> Self {
        Self { batch: batch.clone(), input_bytes }
    }

    /// Bytes of rows that the task gets out of shuffles, about: they depend on the rows alone.
    #[must_use]
    pub fn input_bytes(&self) -> u64 {
        self.input_bytes
    }

    /// Where a step spills what exceeds so many bytes; `None`: it need not.
    pub(crate) fn spill(&self) -> Option<(&Arc<Spill>, u64)> {
        self.batch.spill().map(|spill| (spill, self.batch.step_bytes))
    }

    pub(crate) fn track(&self) -> Tracked {
        Tracked::new(&self.batch)
    }
}
