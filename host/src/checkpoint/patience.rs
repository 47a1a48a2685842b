//! How long a job waits for a disk that is full or a server that is away: for as long as it is wanted.

use std::time::Duration;

use super::CheckpointError;
use super::error::may_pass;
use crate::clock::Stopwatch;
use crate::error::Error;
use crate::operator::StopFlag;

/// The pause before what failed is tried again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// So often it is seen whether waiting has an end.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Says until when something is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    /// Each of these ends it.
    ends: Vec<StopFlag>,
    pause_min: Duration,
}

impl Patience {
    /// Until one of these is set.
    pub(crate) fn until(ends: &[&StopFlag]) -> Self {
        Self { ends: ends.iter().map(|&end| end.clone()).collect(), pause_min: PAUSE_MIN }
    }

    /// Until this is set.
    pub(crate) fn but_until(&self, end: &StopFlag) -> Self {
        Self { ends: vec![end.clone()], pause_min: self.pause_min }
    }

    /// With shorter pauses, for tests.
    #[cfg(test)]
    pub(super) fn hurried(mut self) -> Self {
        self.pause_min = Duration::from_micros(50);
        self
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ends.iter().any(StopFlag::is_set)
    }

    /// Waits, but not longer than it lasts; says whether it does.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let waited = Stopwatch::start();
        while !self.is_over() {
            let Some(left) = time.checked_sub(waited.elapsed()).filter(|left| !left.is_zero()) else { return true };
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        false
    }

    /// Does something until it is done, waiting does not help, or it is over.
    pub(crate) fn insist<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        let mut pause = self.pause_min;
        loop {
            let error = match attempt() {
                Err(error) => error,
                done => return done,
            };
            match &error {
                CheckpointError::Storage { source, .. } if may_pass(source) && !self.is_over() => {}
                _ => return Err(error),
            }
            let report = Error::from(error).in_one_line();
            tracing::warn!(target: "tidemill::checkpoint", error = report, again_in = ?pause, "the job waits for its checkpoint");
            self.pause(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
