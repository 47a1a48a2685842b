//! `wasi:clocks`: both clocks show the batch's time, and only sleeping moves them.

use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::plugin::guest::Guest;

/// The step of both clocks, in nanoseconds: batch times are whole microseconds.
const RESOLUTION_NS: u64 = 1_000;

/// A guest's time. Every call starts at its batch's time, so that running a call again shows the same times; between two
/// calls of a batch the clocks go back when the first one slept.
#[derive(Debug, Default)]
pub(crate) struct VirtualClock {
    /// Nanoseconds since 1970-01-01 UTC. 0 while an instance opens: its plan must not depend on when that is.
    now_ns: u64,
}

impl VirtualClock {
    /// Sets the clock to the batch's time. Before 1970 it is 1970: the guest's clocks cannot show less.
    pub(crate) fn begin_call(&mut self, batch_time_us: i64) {
        self.now_ns = u64::try_from(batch_time_us).unwrap_or(0).saturating_mul(1_000);
    }

    /// The time.
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Moves the clock to `when_ns`, if that is later.
    pub(crate) fn advance_to(&mut self, when_ns: u64) {
        self.now_ns = self.now_ns.max(when_ns);
    }
}

impl wall_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = Duration::from_nanos(self.clock.now_ns());
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
        let timer = self.table.push(Timer)?;
        let pollable = subscribe(&mut self.table, timer)?;
        self.timers.insert(pollable.rep(), when_ns);
        Ok(pollable)
    }

    fn subscribe_duration(&mut self, duration_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_instant(self.clock.now_ns().saturating_add(duration_ns))
    }
}

/// What stands behind a pollable that waits for time. When it is ready is in [`Guest::timers`].
struct Timer;

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_starts_at_its_batchs_time() {
        let mut clock = VirtualClock::default();
        assert_eq!(clock.now_ns(), 0);
        clock.begin_call(5_000_000);
        assert_eq!(clock.now_ns(), 5_000_000_000);
        clock.advance_to(7_000_000_000);
        clock.advance_to(6_000_000_000);
        assert_eq!(clock.now_ns(), 7_000_000_000);
        clock.begin_call(-1);
        assert_eq!(clock.now_ns(), 0);
        clock.begin_call(i64::MAX);
        assert_eq!(clock.now_ns(), u64::MAX);
    }
}
