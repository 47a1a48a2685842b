//! Time comes from outside: the only file that asks for it.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::DateTime;

/// Tells the time, and waits.
///
/// Everything that depends on time takes one of these, so that tests decide what time it is.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time since 1970-01-01 UTC. May jump, when somebody sets the machine's clock.
    fn now(&self) -> Duration;

    /// The time since some fixed instant. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        // A machine set to before 1970 is told it is 1970: batch times must not be negative.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The processor time that this thread has used; `None` where the system does not tell.
///
/// # Cost
///
/// A call of the system: about half a microsecond.
#[must_use]
pub fn thread_cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }
    #[cfg(not(unix))]
    None
}

/// A time in microseconds since 1970-01-01 UTC for people.
///
/// # Examples
///
/// ```
/// use tidemill::clock::describe_time;
///
/// assert_eq!(describe_time(1_250_000), "1970-01-01 00:00:01.250 UTC");
/// ```
#[must_use]
pub fn describe_time(time_us: i64) -> String {
    match DateTime::from_timestamp_micros(time_us) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string(),
        None => format!("{time_us} us"),
    }
}

/// A clock that stands still until it is told to move.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tidemill::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::at(Duration::from_secs(100));
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(clock.now(), Duration::from_secs(101));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Duration>,
}

impl ManualClock {
    /// A clock that shows `now`, since 1970-01-01 UTC.
    #[must_use]
    pub fn at(now: Duration) -> Self {
        Self { now: Mutex::new(now) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn monotonic(&self) -> Duration {
        self.now()
    }
}

/// Measures how long things take.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since it was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The time since it was started or last lapped; starts again.
    pub fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.0;
        self.0 = now;
        lap
    }
}
