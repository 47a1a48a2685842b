//! What the host holds for one instance: its limits, clock, random numbers, log and handles. Nothing of it is shared
//! with another instance but the step's metrics.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::sockets::WasiSocketsCtx;

use crate::operator::{Call, InstanceSlot, Limit, Limits, StepInfo};
use crate::plugin::call_time::CallTime;
use crate::plugin::engine::Epochs;
use crate::plugin::guest_log::GuestLog;
use crate::plugin::handle::StepShared;
use crate::plugin::limiter::Limiter;
use crate::plugin::metrics::InstanceMetrics;
use crate::plugin::reach::Reach;
use crate::plugin::wasi::clock::GuestClock;
use crate::plugin::wasi::http::GuestHttp;
use crate::plugin::wasi::random::GuestRandom;

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
    /// How long its calls may go on.
    pub(crate) time: CallTime,
    /// What its calls have done so far.
    pub(crate) deeds: Deeds,
    /// Its time.
    pub(crate) clock: GuestClock,
    /// Its random numbers.
    pub(crate) random: GuestRandom,
    /// Its handles of `wasi:io`.
    pub(crate) table: ResourceTable,
    /// When the pollables that wait for time are ready, by handle.
    pub(crate) timers: HashMap<u32, u64>,
    /// Its streams that write to files.
    pub(crate) file_streams: HashSet<u32>,
    /// Its directories.
    pub(crate) filesystem: WasiFilesystemCtx,
    /// Its network: none.
    pub(crate) sockets: WasiSocketsCtx,
    /// Its environment variables.
    pub(crate) environment: Vec<(String, String)>,
    /// What sends its requests.
    pub(crate) http: GuestHttp,
    /// The threads on which the host does what it asks for, and within which its calls are made; `None` where nothing is granted that
    /// needs them.
    pub(crate) threads: Option<Handle>,
    /// Held as long as it lives.
    _slot: InstanceSlot,
}

impl Guest {
    /// The host's side of a new instance, which is about to open.
    pub(crate) fn new(step: &StepInfo, shared: &StepShared, reach: &Reach, epochs: Epochs, slot: InstanceSlot) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let limits = &step.limits;
        let log = SharedLog(Arc::new(Mutex::new(GuestLog::new(step, shared.breakdowns.clone()))));
        let grants = reach.grants();
        Self {
            metrics: InstanceMetrics::new(shared.metrics.clone()),
            limiter: Limiter::new(limits, step.budget.clone()),
            time: CallTime::new(epochs, step.stop.clone(), step.budget.clone()),
            deeds: Deeds::new(limits),
            clock: GuestClock::new(grants.real_clock, grants.may_wait()),
            random: GuestRandom::new(&step.job, &step.step, grants.real_random),
            table,
            timers: HashMap::new(),
            file_streams: HashSet::new(),
            filesystem: reach.filesystem(),
            sockets: WasiSocketsCtx::default(),
            environment: grants.environment.clone(),
            http: GuestHttp::new(reach.http(), log.clone(), limits.http_requests_per_call),
            threads: reach.threads(),
            log,
            _slot: slot,
        }
    }

    /// Whether a call may go on, asked once an epoch.
    pub(crate) fn may_go_on(&mut self) -> bool {
        self.time.may_go_on() && self.exceeded().is_none()
    }

    /// The limit on what a call may do that this one has exceeded, if it has.
    pub(crate) fn exceeded(&self) -> Option<(Limit, u64)> {
        self.deeds.exceeded().or_else(|| self.http.exceeded())
    }

    /// Itself, about to do something that the guest asked for.
    pub(crate) fn asked(&mut self) -> &mut Self {
        self.deeds.n_host_calls += 1;
        self
    }

    /// Makes everything as the contract promises it at the start of `call`, however often it is run.
    pub(crate) fn begin_call(&mut self, call: &Call) {
        self.log.lock().begin_call(call);
        self.limiter.begin_call();
        self.deeds.begin_call();
        self.http.begin_call();
        self.clock.begin_call(call.batch_time_us);
        self.random.begin_call(call);
    }
}

/// What a call has asked of the host, counted.
#[derive(Debug)]
pub(crate) struct Deeds {
    n_host_calls: u64,
    host_calls_max: u64,
    file_bytes: u64,
    file_bytes_max: u64,
}

impl Deeds {
    fn new(limits: &Limits) -> Self {
        let (host_calls_max, file_bytes_max) = (limits.host_calls, limits.file_bytes_per_call);
        Self { n_host_calls: 0, host_calls_max, file_bytes: 0, file_bytes_max }
    }

    fn begin_call(&mut self) {
        (self.n_host_calls, self.file_bytes) = (0, 0);
    }

    fn exceeded(&self) -> Option<(Limit, u64)> {
        (self.n_host_calls > self.host_calls_max).then_some((Limit::HostCalls, self.host_calls_max))
    }

    /// Counts bytes that are about to be written to a file.
    pub(crate) fn write_file(&mut self, n_bytes: u64) -> Result<(), Stopped> {
        self.file_bytes = self.file_bytes.saturating_add(n_bytes);
        if self.file_bytes > self.file_bytes_max {
            return Err(Stopped::FileBytes { limit: self.file_bytes_max, seen: self.file_bytes });
        }
        Ok(())
    }
}

/// A log that an instance's streams write to as well.
#[derive(Debug, Clone)]
pub(crate) struct SharedLog(Arc<Mutex<GuestLog>>);

impl SharedLog {
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
    /// It wrote more lines than it may.
    #[error("it wrote {seen} lines to the log, and the limit is {limit}")]
    LogLines {
        /// The limit.
        limit: u64,
        /// What it had written with the last one.
        seen: u64,
    },
    /// It wrote more to files than it may.
    #[error("it wrote {seen} bytes to files, and the limit is {limit}")]
    FileBytes {
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
