//! What became of a call: every way in which an engine or a check ends one, told apart and put into words.

use std::time::Duration;

use arrow::datatypes::{FieldRef, SchemaRef};
use wasmtime::{Trap, WasmBacktrace};

use crate::error::Retry;
use crate::operator::{CallError, CallSite, Limit, Limits, OpenError, columns_of, size};
use crate::plugin::call_time::Over;
use crate::plugin::contract::{Failure, Refusal};
use crate::plugin::engine::WASM_STACK_BYTES;
use crate::plugin::guest::{Guest, Stopped};
use crate::plugin::limiter::Denied;
use crate::plugin::text;
use crate::type_name::describe_type;

/// Why a call has no result, whatever it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// A limit was exceeded.
    Limit {
        /// Which.
        limit: Limit,
        /// Its value and what was seen.
        seen: String,
    },
    /// The guest trapped.
    Trapped(String),
    /// What it returned is against the contract: field and rule.
    Invalid(String),
    /// It said that it failed.
    Failed {
        /// Its words.
        reason: String,
        /// Whether it asked to be tried again.
        retry: Retry,
    },
}

/// Which kind of call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The instance was made and opened.
    Open,
    /// It processed rows.
    Call,
}

/// What the engine says when a guest hands over more than the fuel for host calls allows. It has no type of its own.
const TOO_MUCH_DATA: &str = "fuel allocated for hostcalls has been exhausted";

impl Breach {
    /// Tells apart what stopped the guest.
    pub(crate) fn of(error: &wasmtime::Error, guest: &Guest, phase: Phase, limits: &Limits) -> Self {
        if let Some(stopped) = error.downcast_ref::<Stopped>() {
            return match *stopped {
                Stopped::LogBytes { limit, seen } => Breach::Limit {
                    limit: Limit::LogBytesPerCall,
                    seen: format!("the limit is {}, the plugin wrote {}", size(limit), size(seen)),
                },
                Stopped::LogLines { limit, seen } => Breach::Limit {
                    limit: Limit::LogLinesPerCall,
                    seen: format!("the limit is {limit}, the plugin wrote {seen}"),
                },
                Stopped::FileBytes { limit, seen } => Breach::Limit {
                    limit: Limit::FileBytesPerCall,
                    seen: format!("the limit is {}, the plugin wrote {}", size(limit), size(seen)),
                },
                Stopped::Exit { .. } | Stopped::RandomBytes { .. } => Breach::Trapped(stopped.to_string()),
            };
        }
        // The engine adds where the guest was; what is told is what happened.
        let cause = error.root_cause().to_string();
        let Some(trap) = error.downcast_ref::<Trap>() else {
            if let Some(denied) = guest.limiter.denied().or_else(|| too_many(&cause, limits)) {
                return Breach::denied(denied);
            }
            let is_within_guest = error.downcast_ref::<WasmBacktrace>().is_some();
            return match (cause.contains(TOO_MUCH_DATA), is_within_guest) {
                (true, true) => Breach::Limit {
                    limit: Limit::LogBytesPerCall,
                    seen: format!(
                        "the limit is {}, the plugin wrote more than {} at once",
                        size(limits.log_bytes_per_call),
                        size(limits.output_bytes)
                    ),
                },
                (true, false) => Breach::output_bytes(limits, None),
                (false, true) => Breach::Trapped(with_last_words(text::one_line(&cause).into_owned(), guest)),
                // The guest had returned: what is wrong is what it returned.
                (false, false) => Breach::Invalid(format!("it cannot be read: {}", text::one_line(&cause))),
            };
        };
        match (trap, phase) {
            (Trap::Interrupt, phase) => match (guest.exceeded(), guest.time.over()) {
                (Some(exceeded), _) => Breach::exceeded(exceeded),
                (None, Some(Over::Limit(limit, value))) => Breach::over(limit, value),
                // Of a job that is stopped nobody asks why.
                (None, Some(Over::Stopped) | None) => match phase {
                    Phase::Open => Breach::over(Limit::TimeToOpen, limits.time_to_open),
                    Phase::Call => Breach::over(Limit::TimePerCall, limits.time_per_call),
                },
            },
            (Trap::OutOfFuel, _) => Breach::Limit {
                limit: Limit::FuelPerCall,
                seen: format!("the limit is {} units, all were used", limits.fuel_per_call.unwrap_or(u64::MAX)),
            },
            (Trap::StackOverflow, _) => Breach::Limit {
                limit: Limit::Stack,
                seen: format!("the limit is {}, all of it was used", size(WASM_STACK_BYTES as u64)),
            },
            (trap, _) => {
                // A guest that is denied memory aborts, by whatever trap its language has for that.
                if let Some(denied) = guest.limiter.denied() {
                    return Breach::denied(denied);
                }
                Breach::Trapped(with_last_words(what_trapped(trap), guest))
            }
        }
    }

    /// Why an instance could not be made, other than by what its own code did.
    pub(crate) fn of_instantiating(error: &wasmtime::Error, guest: &Guest, limits: &Limits) -> Self {
        match Breach::of(error, guest, Phase::Open, limits) {
            Breach::Invalid(_) => Breach::Trapped(format!(
                "no instance could be made: {}",
                text::one_line(&error.root_cause().to_string())
            )),
            breach => breach,
        }
    }

    /// The call was not over when its time was.
    fn over(limit: Limit, value: Duration) -> Self {
        let value = duration(value);
        let seen = match limit {
            Limit::TimeToOpen => format!("the limit is {value}, `open` had not ended by then"),
            Limit::TimePerCall => format!("the limit is {value}, the call had not ended by then"),
            Limit::JobCpuTimePerBatch => format!("the limit is {value}, the calls of the batch used more"),
            _ => format!("the limit is {value}, the plugin used more"),
        };
        Breach::Limit { limit, seen }
    }

    /// The guest asked the host for something too often.
    pub(crate) fn exceeded((limit, max): (Limit, u64)) -> Self {
        let what = if limit == Limit::HttpRequestsPerCall { "sent" } else { "made" };
        Breach::Limit { limit, seen: format!("the limit is {max}, the plugin {what} more") }
    }

    /// The guest failed after it was denied something: that is the likely cause.
    pub(crate) fn after_denial(self, guest: &Guest) -> Self {
        match (self, guest.log.lock().denied()) {
            (Breach::Failed { reason, retry }, Some(denied)) => {
                Breach::Failed { reason: format!("{reason}; it had been denied {denied}"), retry }
            }
            (breach, _) => breach,
        }
    }

    /// Something was asked for and not given.
    pub(crate) fn denied(Denied { limit, max, asked }: Denied) -> Self {
        let seen = match limit {
            Limit::JobMemory => format!("the limit is {}, the plugins would have {} together", size(max), size(asked)),
            Limit::JobInstances => format!("the limit is {max}, it would be number {asked}"),
            Limit::Memory => format!("the limit is {}, the plugin asked for {}", size(max), size(asked)),
            _ => format!("the limit is {max}, the plugin asked for {asked}"),
        };
        Breach::Limit { limit, seen }
    }

    /// More bytes came back than may; `seen` of them, if that is known.
    pub(crate) fn output_bytes(limits: &Limits, seen: Option<u64>) -> Self {
        let limit = size(limits.output_bytes);
        let seen = match seen {
            Some(seen) => format!("the limit is {limit}, the plugin returned {}", size(seen)),
            None => format!("the limit is {limit}, the plugin returned more"),
        };
        Breach::Limit { limit: Limit::OutputBytes, seen }
    }

    /// More rows came back than may.
    pub(crate) fn output_rows(limits: &Limits, seen: u64) -> Self {
        Breach::Limit {
            limit: Limit::OutputRows,
            seen: format!("the limit is {}, the plugin returned {seen}", limits.output_rows),
        }
    }

    /// As an error of the call at `site`.
    pub(crate) fn into_call_error(self, site: CallSite) -> CallError {
        let site = Box::new(site);
        match self {
            Breach::Limit { limit, seen } => CallError::LimitExceeded { site, limit, seen },
            Breach::Trapped(reason) => CallError::Trapped { site, reason },
            Breach::Invalid(rule) => CallError::Invalid { site, rule },
            Breach::Failed { reason, retry } => CallError::Failed { site, reason, retry },
        }
    }

    /// As an error of `open`.
    pub(crate) fn into_open_error(self, operator: &str, step: &str) -> OpenError {
        let (operator, step) = (operator.to_owned(), step.to_owned());
        match self {
            Breach::Limit { limit, seen } => OpenError::LimitExceeded { operator, step, limit, seen },
            Breach::Trapped(reason) => OpenError::Trapped { operator, step, reason },
            Breach::Invalid(rule) => OpenError::Invalid { operator, step, rule },
            Breach::Failed { reason, .. } => OpenError::Refused { operator, step, reason },
        }
    }

    /// A failed `open` in the course of a job, where it had succeeded before, as what became of the call that needed it.
    pub(crate) fn of_reopening(error: OpenError) -> Self {
        match error {
            OpenError::LimitExceeded { limit, seen, .. } => Breach::Limit { limit, seen },
            OpenError::Trapped { reason, .. } => Breach::Trapped(format!("while opening, {reason}")),
            OpenError::Invalid { rule, .. } => Breach::Invalid(format!("while opening, {rule}")),
            other => Breach::Failed { reason: format!("a new instance did not open: {other}"), retry: Retry::Never },
        }
    }
}

impl From<Failure> for Breach {
    fn from(failure: Failure) -> Self {
        let (reason, retry) = match failure {
            Failure::Retry(reason) => (reason, Retry::WithBackoff),
            Failure::Fatal(reason) => (reason, Retry::Never),
        };
        Breach::Failed { reason: text::one_line(&reason).into_owned(), retry }
    }
}

impl Refusal {
    /// As an error of `open`, with the input that was refused.
    pub(crate) fn into_open_error(self, operator: &str, step: &str, inputs: &[SchemaRef]) -> OpenError {
        let (operator, step) = (operator.to_owned(), step.to_owned());
        let shown = |reason: String| text::one_line(&reason).into_owned();
        match self {
            Refusal::Config(reason) => OpenError::Config { operator, step, reason: shown(reason) },
            Refusal::Schema(reason) => {
                let columns = |input: &SchemaRef| {
                    let type_name = |field: &FieldRef| describe_type(field.data_type());
                    let fields = input.fields().iter().map(|field| format!("`{}`: {}", field.name(), type_name(field)));
                    fields.collect::<Vec<_>>().join(", ")
                };
                let input = columns_of(&inputs.iter().map(columns).collect::<Vec<_>>());
                OpenError::Schema { operator, step, reason: shown(reason), input }
            }
            Refusal::Other(reason) => OpenError::Refused { operator, step, reason: shown(reason) },
        }
    }
}

fn what_trapped(trap: &Trap) -> String {
    match trap {
        Trap::UnreachableCodeReached => "it aborted".into(),
        Trap::MemoryOutOfBounds => "it accessed memory out of bounds, as a recursion without end does too".into(),
        trap => trap.to_string(),
    }
}

fn with_last_words(what: String, guest: &Guest) -> String {
    let log = guest.log.lock();
    let denied = log.denied().map(|denied| format!("; it had been denied {denied}")).unwrap_or_default();
    let wrote = log.last_words().map(|words| format!("; it wrote: {words}")).unwrap_or_default();
    format!("{what}{denied}{wrote}")
}

/// The limit that an instance with too many parts has exceeded: the engine counts these itself, and says so in words alone, as in
/// "resource limit exceeded: table count too high at 501".
fn too_many(cause: &str, limits: &Limits) -> Option<Denied> {
    let (what, asked) = cause.strip_prefix("resource limit exceeded: ")?.split_once(" count too high at ")?;
    let (limit, max) = match what {
        "instance" => (Limit::CoreInstances, limits.core_instances),
        "table" => (Limit::Tables, limits.tables),
        "memory" => (Limit::Memories, limits.memories),
        _ => return None,
    };
    Some(Denied { limit, max, asked: asked.parse().ok()? })
}

/// A duration as a job file writes it.
fn duration(duration: Duration) -> String {
    format!("{duration:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_a_job_file() {
        assert_eq!(duration(Duration::from_secs(5)), "5s");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(duration(Duration::from_millis(20)), "20ms");
    }
}
