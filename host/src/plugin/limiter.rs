//! The sum of an instance's memories and tables, held under its limits.

use wasmtime::ResourceLimiter;

use crate::operator::{Budget, Limit, Limits, Spent};

/// What was asked for and not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denied {
    /// The limit that denied it.
    pub(crate) limit: Limit,
    /// Its value.
    pub(crate) max: u64,
    /// What the sum would have been.
    pub(crate) asked: u64,
}

/// Counts what an instance has, and remembers what it was denied: a guest that cannot grow its memory aborts in its own
/// way, which looks like any other trap.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes_max: u64,
    table_elements_max: u64,
    memories_max: usize,
    tables_max: usize,
    core_instances_max: usize,
    /// What the job's instances have together: memory is taken from it, and given back when the instance goes.
    budget: Budget,
    memory_bytes: u64,
    table_elements: u64,
    /// The growth that was allowed last, to be taken back should it fail.
    last_growth: u64,
    denied: Option<Denied>,
}

impl Limiter {
    /// A limiter for an instance that has nothing yet.
    pub(crate) fn new(limits: &Limits, budget: Budget) -> Self {
        let count = |max: u64| usize::try_from(max).unwrap_or(usize::MAX);
        Self {
            memory_bytes_max: limits.memory_bytes,
            table_elements_max: limits.table_elements,
            memories_max: count(limits.memories),
            tables_max: count(limits.tables),
            core_instances_max: count(limits.core_instances),
            budget,
            memory_bytes: 0,
            table_elements: 0,
            last_growth: 0,
            denied: None,
        }
    }

    /// Forgets what was denied in the call before.
    pub(crate) fn begin_call(&mut self) {
        self.denied = None;
    }

    /// What all memories have together: they do not shrink.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What was denied in this call, if anything was.
    pub(crate) fn denied(&self) -> Option<Denied> {
        self.denied
    }

    fn grow(sum: &mut u64, max: u64, by: u64, limit: Limit) -> Result<u64, Denied> {
        let asked = sum.saturating_add(by);
        if asked > max {
            return Err(Denied { limit, max, asked });
        }
        *sum = asked;
        Ok(by)
    }

    fn allow(&mut self, growth: Result<u64, Denied>) -> wasmtime::Result<bool> {
        match growth {
            Ok(by) => self.last_growth = by,
            Err(denied) => self.denied = Some(denied),
        }
        Ok(growth.is_ok())
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // More than the guest's own maximum is refused without being a breach of the limit.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let by = desired.saturating_sub(current) as u64;
        let mut growth = Self::grow(&mut self.memory_bytes, self.memory_bytes_max, by, Limit::Memory);
        if growth.is_ok()
            && let Err(Spent { max, asked }) = self.budget.take_memory(by)
        {
            self.memory_bytes -= by;
            growth = Err(Denied { limit: Limit::JobMemory, max, asked });
        }
        self.allow(growth)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes -= self.last_growth;
        self.budget.give_memory(std::mem::take(&mut self.last_growth));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let by = desired.saturating_sub(current) as u64;
        let growth = Self::grow(&mut self.table_elements, self.table_elements_max, by, Limit::TableElements);
        self.allow(growth)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table_elements = self.table_elements.saturating_sub(self.last_growth);
        Ok(())
    }

    fn instances(&self) -> usize {
        self.core_instances_max
    }

    fn tables(&self) -> usize {
        self.tables_max
    }

    fn memories(&self) -> usize {
        self.memories_max
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give_memory(self.memory_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::JobLimits;

    fn limiter(memory_bytes: u64, table_elements: u64) -> Limiter {
        let limits = Limits { memory_bytes, table_elements, ..Limits::default() };
        Limiter::new(&limits, Budget::new(JobLimits { memory_bytes: u64::MAX, ..JobLimits::default() }))
    }

    #[test]
    fn all_memories_count_together() {
        let mut limiter = limiter(100, 10);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert_eq!(limiter.denied(), Some(Denied { limit: Limit::Memory, max: 100, asked: 120 }));
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        limiter.begin_call();
        assert_eq!(limiter.denied(), None);
        assert!(!limiter.memory_growing(60, 61, None).unwrap());
    }

    #[test]
    fn a_growth_that_fails_is_taken_back() {
        let mut limiter = limiter(100, 10);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
        assert_eq!(limiter.denied(), Some(Denied { limit: Limit::TableElements, max: 10, asked: 11 }));
    }

    #[test]
    fn beyond_the_guests_own_maximum_is_no_breach() {
        let mut limiter = limiter(100, 10);
        assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!(limiter.denied(), None);
    }

    #[test]
    fn huge_asks_do_not_overflow() {
        let mut limiter = limiter(u64::MAX, 10);
        assert!(limiter.memory_growing(0, usize::MAX, None).unwrap());
        assert!(!limiter.table_growing(0, usize::MAX, None).unwrap());
    }

    #[test]
    fn instances_of_a_job_share_its_memory() {
        let budget = Budget::new(JobLimits { memory_bytes: 100, ..JobLimits::default() });
        let limiter = || Limiter::new(&Limits::default(), budget.clone());
        let (mut a, mut b) = (limiter(), limiter());
        assert!(a.memory_growing(0, 60, None).unwrap());
        assert!(!b.memory_growing(0, 60, None).unwrap());
        assert_eq!(b.denied(), Some(Denied { limit: Limit::JobMemory, max: 100, asked: 120 }));
        a.memory_grow_failed(wasmtime::format_err!("no memory")).unwrap();
        assert!(b.memory_growing(0, 60, None).unwrap());
        drop(b);
        assert!(a.memory_growing(0, 100, None).unwrap(), "what an instance had is the job's again");
    }
}
