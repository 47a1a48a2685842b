//! `wasi:clocks`: both clocks show the batch's time, and only sleeping moves them; or, where it is granted, the real time.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::clock::{Clock, SystemClock};
use crate::plugin::guest::Guest;

/// The step of both clocks, in nanoseconds: batch times are whole microseconds.
const RESOLUTION_NS: u64 = 1_000;

/// What a guest takes for the time.
#[derive(Debug)]
pub(crate) struct GuestClock {
    /// The machine's, if it is granted.
    real: Option<SystemClock>,
    /// Whether sleeping takes as long as it says: with the real clock, and for guests that wait for servers, which they
    /// would otherwise ask again without a pause.
    pub(crate) waits: bool,
    /// What it takes for the time otherwise.
    batch: VirtualClock,
}

impl GuestClock {
    /// A clock for an instance that is about to open.
    pub(crate) fn new(real: bool, waits: bool) -> Self {
        Self { real: real.then(SystemClock::new), waits, batch: VirtualClock::default() }
    }

    /// Begins a call at the batch's time.
    pub(crate) fn begin_call(&mut self, batch_time_us: i64) {
        self.batch.begin_call(batch_time_us);
    }

    /// The time since 1970-01-01 UTC.
    fn wall(&self) -> Duration {
        self.real.as_ref().map_or_else(|| Duration::from_nanos(self.batch.now_ns), Clock::now)
    }

    /// The time that only goes on, in nanoseconds.
    pub(crate) fn now_ns(&self) -> u64 {
        // Five hundred years fit.
        self.real.as_ref().map_or(self.batch.now_ns, |clock| clock.monotonic().as_nanos() as u64)
    }

    /// Moves the clock to `when_ns`, if that is later; the real one moves by itself.
    pub(crate) fn advance_to(&mut self, when_ns: u64) {
        self.batch.advance_to(when_ns);
    }
}

/// A guest's time. Every call starts at its batch's time, so that running a call again shows the same times; between two
/// calls of a batch the clocks go back when the first one slept.
#[derive(Debug, Default)]
struct VirtualClock {
    /// Nanoseconds since 1970-01-01 UTC. 0 while an instance opens: its plan must not depend on when that is.
    now_ns: u64,
}

impl VirtualClock {
    /// Sets the clock to the batch's time. Before 1970 it is 1970: the guest's clocks cannot show less.
    fn begin_call(&mut self, batch_time_us: i64) {
        self.now_ns = u64::try_from(batch_time_us).unwrap_or(0).saturating_mul(1_000);
    }

    /// Moves the clock to `when_ns`, if that is later.
    fn advance_to(&mut self, when_ns: u64) {
        self.now_ns = self.now_ns.max(when_ns);
    }
}

impl wall_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = self.clock.wall();
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        // Less than a second: fits.
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: RESOLUTION_NS as u32 })
    }
}

impl monotonic_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        // Never 0, which is the time while an instance opens: Go's runtime takes that for a clock that does not work.
        Ok(self.clock.now_ns().max(1))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(RESOLUTION_NS)
    }

    fn subscribe_instant(&mut self, when_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let pollable = if self.clock.waits {
            let duration = Duration::from_nanos(when_ns.saturating_sub(self.clock.now_ns()));
            let timer = self.table.push(RealTimer(Box::pin(tokio::time::sleep(duration))))?;
            subscribe(&mut self.table, timer)?
        } else {
            let timer = self.table.push(Timer)?;
            subscribe(&mut self.table, timer)?
        };
        self.timers.insert(pollable.rep(), when_ns);
        Ok(pollable)
    }

    fn subscribe_duration(&mut self, duration_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_instant(self.clock.now_ns().saturating_add(duration_ns))
    }
}

/// What stands behind a pollable that waits for a time which comes when it is waited for. When it is ready is in [`Guest::timers`].
struct Timer;

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {}
}

/// What stands behind a pollable that waits for a time.
struct RealTimer(Pin<Box<Sleep>>);

#[async_trait]
impl Pollable for RealTimer {
    async fn ready(&mut self) {
        // It stays ready once it has been.
        (&mut self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_starts_at_its_batchs_time() {
        let mut clock = VirtualClock::default();
        assert_eq!(clock.now_ns, 0);
        clock.begin_call(5_000_000);
        assert_eq!(clock.now_ns, 5_000_000_000);
        clock.advance_to(7_000_000_000);
        clock.advance_to(6_000_000_000);
        assert_eq!(clock.now_ns, 7_000_000_000);
        clock.begin_call(-1);
        assert_eq!(clock.now_ns, 0);
        clock.begin_call(i64::MAX);
        assert_eq!(clock.now_ns, u64::MAX);
    }
}
