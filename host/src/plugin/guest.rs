//! What the host holds for one instance: its limits, clock, random numbers, log and handles. Nothing of it is shared
//! with another instance but the step's metrics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::sockets::WasiSocketsCtx;

use crate::operator::{Call, StepInfo, StopFlag};
use crate::plugin::breakdowns::Breakdowns;
use crate::plugin::guest_log::GuestLog;
use crate::plugin::limiter::Limiter;
use crate::plugin::metrics::{GuestMetrics, InstanceMetrics};
use crate::plugin::wasi::clock::VirtualClock;
use crate::plugin::wasi::random::SeededRandom;

/// How many streams, pollables and errors of `wasi:io` an instance may hold at once. A runtime holds about five.
pub(crate) const HANDLES_MAX: usize = 1_000;

/// An instance's store.
pub(crate) type GuestStore = wasmtime::Store<Guest>;

/// The host's side of one instance.
pub(crate) struct Guest {
    /// What it writes.
    pub(crate) log: SharedLog,
    /// What it counts.
    pub(crate) metrics: InstanceMetrics,
    /// Its memories and tables.
    pub(crate) limiter: Limiter,
    /// Its time.
    pub(crate) clock: VirtualClock,
    /// Its random numbers.
    pub(crate) random: SeededRandom,
    /// Its handles of `wasi:io`.
    pub(crate) table: ResourceTable,
    /// When the pollables that wait for time are ready, by handle.
    pub(crate) timers: HashMap<u32, u64>,
    /// Its directories: none.
    pub(crate) filesystem: WasiFilesystemCtx,
    /// Its network: none.
    pub(crate) sockets: WasiSocketsCtx,
    /// Epochs that are left of the call's time.
    pub(crate) ticks_left: u64,
    /// Whether the job is stopped at once.
    stop: StopFlag,
}

impl Guest {
    /// The host's side of a new instance, which is about to open.
    pub(crate) fn new(step: &StepInfo, metrics: Arc<GuestMetrics>, breakdowns: Arc<Breakdowns>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self {
            log: SharedLog::new(GuestLog::new(&step.job, &step.step, step.limits.log_bytes_per_call, breakdowns)),
            metrics: InstanceMetrics::new(metrics),
            limiter: Limiter::new(step.limits.memory_bytes, step.limits.table_elements),
            clock: VirtualClock::default(),
            random: SeededRandom::new(&step.job, &step.step),
            table,
            timers: HashMap::new(),
            filesystem: WasiFilesystemCtx::default(),
            sockets: WasiSocketsCtx::default(),
            ticks_left: 0,
            stop: step.stop.clone(),
        }
    }

    /// Whether a call may go on after one more epoch of it has gone by.
    pub(crate) fn tick(&mut self) -> bool {
        self.ticks_left = self.ticks_left.saturating_sub(1);
        self.ticks_left > 0 && !self.stop.is_set()
    }

    /// Makes everything as the contract promises it at the start of `call`, however often it is run.
    pub(crate) fn begin_call(&mut self, call: &Call) {
        self.log.lock().begin_call(call);
        self.limiter.begin_call();
        self.clock.begin_call(call.batch_time_us);
        self.random.begin_call(call);
    }
}

/// A log that an instance's streams write to as well.
#[derive(Debug, Clone)]
pub(crate) struct SharedLog(Arc<Mutex<GuestLog>>);

impl SharedLog {
    fn new(log: GuestLog) -> Self {
        Self(Arc::new(Mutex::new(log)))
    }

    /// The log. Never waits: one thread at a time runs an instance.
    pub(crate) fn lock(&self) -> MutexGuard<'_, GuestLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the host stopped a guest from inside a function that the guest had called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stopped {
    /// It wrote more than it may.
    #[error("it wrote {seen} bytes to the log, and the limit is {limit}")]
    LogBytes {
        /// The limit.
        limit: u64,
        /// What it had written with the last write.
        seen: u64,
    },
    /// It ended itself.
    #[error("it called `exit` with code {code}, and a plugin does not exit: it returns")]
    Exit {
        /// The code it gave.
        code: u8,
    },
    /// It asked for more random bytes in one call than the host makes.
    #[error("it asked for {asked} random bytes at once, and the most is {max}")]
    RandomBytes {
        /// What it asked for.
        asked: u64,
        /// The most at once.
        max: u64,
    },
}
