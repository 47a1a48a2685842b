//! What functions are told of the task that calls them: the batch, its time, the partition.
//!
//! DataFusion gives a function its arguments and nothing else, and a plan is shared by all tasks of a step. So a task says
//! on its thread who it is for as long as it evaluates.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event_time::ClockId;
use crate::operator::Call;
use crate::task::TaskContext;

thread_local! {
    /// The task that evaluates on this thread now.
    static CURRENT: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
}

/// One step at work in one task.
#[derive(Debug)]
pub struct Scope {
    task: TaskContext,
    /// Rows that each function has had so far, by the function's address. A mutex, so that a step can be sent to the thread
    /// that runs it; nobody waits for it.
    rows_seen: Mutex<HashMap<usize, u64>>,
}

impl Scope {
    /// A step that starts in a task.
    #[must_use]
    pub fn new(task: &TaskContext) -> Arc<Self> {
        Arc::new(Self { task: task.clone(), rows_seen: Mutex::default() })
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &TaskContext {
        &self.task
    }

    /// Does something that may call functions; they see this scope.
    pub fn run<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        /// Puts the scope before this one back, also when `work` panics.
        struct Restore(Option<Arc<Scope>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        work()
    }

    /// The scope that evaluates on this thread, if any does.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Option::clone)
    }

    /// The call of a plugin's function with `n_rows` rows more; `function` tells functions apart.
    pub(super) fn call(&self, function: usize, n_rows: usize, clock: Option<ClockId>) -> Call {
        let mut seen = self.rows_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(function).or_default();
        let call = self.task.call(*seen, clock);
        *seen += n_rows as u64;
        call
    }
}
