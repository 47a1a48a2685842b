//! What the threads of a job tell each other: how far it is stopped, and how many batches are in flight.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::block_store::BlockStore;
use crate::operator::StopFlag;

/// How far a job is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    Graceful,
    AtOnce,
}

struct ControlState {
    stop: Stop,
    n_in_flight: usize,
    /// Whether the last batch has seen times that move a clock on in the next.
    clock_moves: bool,
}

/// What the threads of a job tell each other. One lock for both: who waits, waits for either to change.
pub(crate) struct Control {
    state: Mutex<ControlState>,
    changed: Condvar,
    /// Looked at between calls, where the lock would cost, and in calls of plugins.
    stopped_at_once: StopFlag,
    store: Arc<BlockStore>,
}

impl Control {
    /// Of a job that runs, with the flag that stops it at once, and the store whose waiters are to see a stop.
    pub(crate) fn new(stopped_at_once: StopFlag, store: Arc<BlockStore>) -> Self {
        let state = ControlState { stop: Stop::No, n_in_flight: 0, clock_moves: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), stopped_at_once, store }
    }

    fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) -> Stop {
        self.lock().stop
    }

    pub(crate) fn request(&self, stop: Stop) {
        let mut state = self.lock();
        state.stop = state.stop.max(stop);
        if state.stop == Stop::AtOnce {
            self.stopped_at_once.set();
        }
        drop(state);
        self.changed.notify_all();
        self.store.wake();
    }

    /// Waits, but not longer than until the job is stopped.
    pub(crate) fn sleep(&self, time: Duration) -> Stop {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| state.stop == Stop::No);
        waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }

    /// Waits, but not longer than until the job is stopped at once: then gives `true`.
    pub(crate) fn wait_for_stop_at_once(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| state.stop != Stop::AtOnce);
        waited.unwrap_or_else(PoisonError::into_inner).0.stop == Stop::AtOnce
    }

    /// Waits until no batch is in flight, or the job is stopped at once.
    pub(crate) fn wait_until_idle(&self) -> Stop {
        let state = self.lock();
        let busy = |state: &mut ControlState| state.n_in_flight > 0 && state.stop != Stop::AtOnce;
        self.changed.wait_while(state, busy).unwrap_or_else(PoisonError::into_inner).stop
    }

    /// Waits until fewer batches than these are in flight, or the job is stopped.
    pub(crate) fn wait_for_room(&self, n_max: usize) -> Stop {
        let state = self.lock();
        let is_full = |state: &mut ControlState| state.n_in_flight >= n_max && state.stop == Stop::No;
        self.changed.wait_while(state, is_full).unwrap_or_else(PoisonError::into_inner).stop
    }

    pub(crate) fn n_in_flight(&self) -> usize {
        self.lock().n_in_flight
    }

    /// Whether the next batch has something to do although no row has come.
    pub(crate) fn clock_moves(&self) -> bool {
        self.lock().clock_moves
    }

    pub(crate) fn set_clock_moves(&self, clock_moves: bool) {
        self.lock().clock_moves = clock_moves;
    }

    pub(crate) fn add_in_flight(&self) {
        self.lock().n_in_flight += 1;
    }

    pub(crate) fn end_in_flight(&self) {
        self.lock().n_in_flight -= 1;
        self.changed.notify_all();
    }
}
