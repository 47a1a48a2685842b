//! What an operator may tell its host: log lines, counters, gauges.
//!
//! In a program that the operator is compiled into there is no host to tell: log lines go to standard error.

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For whoever writes the operator.
    Debug,
    /// For whoever runs the job.
    Info,
    /// Something that should not be, and did no harm.
    Warn,
    /// Something that did harm.
    Error,
}

/// Writes a line to the job's log, with job, step, partition and batch. Counts against the limit on log bytes.
pub fn log(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::wasm::log(level, message);
    #[cfg(not(target_family = "wasm"))]
    eprintln!("{level:?}: {message}");
}

/// Adds to a counter of the step.
pub fn count(name: &str, add: u64) {
    #[cfg(target_family = "wasm")]
    crate::wasm::raw::diagnostics::count(name, add);
    #[cfg(not(target_family = "wasm"))]
    let _ = (name, add);
}

/// Sets a gauge of the step.
pub fn gauge(name: &str, value: f64) {
    #[cfg(target_family = "wasm")]
    crate::wasm::raw::diagnostics::gauge(name, value);
    #[cfg(not(target_family = "wasm"))]
    let _ = (name, value);
}
