//! What goes wrong while SQL runs: which step, which text, which row, and why.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use datafusion::common::{DataFusionError, exec_datafusion_err};

use super::mistake::Mistake;
use crate::error::{Error, Explain, Fault};
use crate::ids::{BatchId, PartitionId};
use crate::task::TaskContext;
use crate::task::pipeline::Cancelled;

/// Where SQL ran when it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The step.
    pub step: String,
    /// The batch.
    pub batch_id: BatchId,
    /// The partition.
    pub partition: PartitionId,
}

impl Site {
    /// A step in a task.
    #[must_use]
    pub fn new(step: &str, task: &TaskContext) -> Self {
        Self { step: step.to_owned(), batch_id: task.batch_id, partition: task.partition }
    }
}

/// An expression has no value for a row.
#[derive(Debug, thiserror::Error)]
#[error("step `{}` cannot compute `{text}` in batch {}, partition {}", site.step, site.batch_id, site.partition)]
pub struct EvaluationFailed {
    /// Where.
    pub site: Site,
    /// The expression.
    pub text: String,
    /// Why, and for which row.
    #[source]
    pub source: ValueFailed,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
#[error("{reason}{}", row.as_ref().map(|row| format!(", for the row with {row}")).unwrap_or_default())]
pub struct ValueFailed {
    /// What is wrong.
    pub reason: String,
    /// The first such row: the columns that the expression reads.
    pub row: Option<String>,
    /// What else can be written.
    pub hint: Option<String>,
}

impl Explain for EvaluationFailed {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        self.source.hint.clone()
    }
}

/// A query failed while it ran.
#[derive(Debug, thiserror::Error)]
#[error("the query of step `{}` failed in batch {}, partition {}: {reason}", site.step, site.batch_id, site.partition)]
pub struct QueryFailed {
    /// Where.
    pub site: Site,
    /// Why.
    pub reason: String,
}

impl Explain for QueryFailed {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        value_hint(&self.reason)
    }
}

/// A query needs more memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error(
    "the query of step `{}` needs more than its {} of memory in batch {}, partition {}",
    site.step, size(*limit_bytes), site.batch_id, site.partition
)]
pub struct OutOfMemory {
    /// Where.
    pub site: Site,
    /// What it may use.
    pub limit_bytes: u64,
}

impl Explain for OutOfMemory {
    fn fault(&self) -> Fault {
        Fault::User
    }

    fn hint(&self) -> Option<String> {
        let step = &self.site.step;
        Some(format!(
            "Raise `memory` of step `{step}`, or make batches smaller. A query that groups or joins by some columns can run \
             in several partitions with `by`, each with this much memory."
        ))
    }
}

/// Bytes as job files write them.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

/// What can be written instead, when a value does not exist.
pub(super) fn value_hint(reason: &str) -> Option<String> {
    let reason = reason.to_lowercase();
    if reason.contains("divide by zero") {
        return Some("`nullif(x, 0)` in the place of the divisor makes it null.".into());
    }
    // What is no cast has nothing to be tried.
    let is_cast = ["cannot cast ", "can't cast ", "unable to cast ", "error parsing ", "error while parsing"];
    if is_cast.iter().any(|text| reason.contains(text)) {
        return Some("`try_cast(x AS …)` makes it null.".into());
    }
    None
}

/// The error behind what DataFusion says: ours if it only passes one on, otherwise its reason in one line.
pub(super) fn unwrap(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(error) => Ok(*error),
            Err(inner) => Err(DataFusionError::External(inner)),
        },
        DataFusionError::Context(context, inner) => unwrap(*inner).map_err(|inner| inner.context(context)),
        DataFusionError::Diagnostic(_, inner) => unwrap(*inner),
        DataFusionError::Shared(shared) => match std::sync::Arc::try_unwrap(shared) {
            Ok(inner) => unwrap(inner),
            Err(shared) => Err(DataFusionError::Shared(shared)),
        },
        DataFusionError::Collection(mut errors) if errors.len() == 1 => match errors.pop() {
            Some(error) => unwrap(error),
            None => Err(DataFusionError::Collection(errors)),
        },
        error => Err(error),
    }
}

thread_local! {
    /// Whether what panics on this thread becomes an error.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Lets panics that become errors pass without a word: a function of SQL that breaks off at some value is told of by the error, with its
/// row. All other panics are shown as before.
///
/// This sets the process's panic hook, once, in front of the one that is there. The command line does it at its start; a program that
/// uses the library decides for itself.
pub fn silence_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // While a thread ends its cells are gone: nothing is guarded there.
            if !IS_GUARDED.try_with(Cell::get).unwrap_or(false) {
                before(panic);
            }
        }));
    });
}

/// Does some work that may panic.
fn guarded<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    let was_guarded = IS_GUARDED.replace(true);
    // Nothing of what it worked on is used again.
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(was_guarded);
    outcome
}

/// What some work of DataFusion gives; when it panics, an error that says so: it is one row's value that made it.
pub(super) fn unbroken<T>(work: impl FnOnce() -> Result<T, DataFusionError>) -> Result<T, DataFusionError> {
    guarded(work).unwrap_or_else(|panic| Err(exec_datafusion_err!("a function broke off: {}", text_of(&*panic))))
}

/// The same for what is planned, where functions of constants are computed.
pub(super) fn unbroken_plan<T>(work: impl FnOnce() -> Result<T, Mistake>) -> Result<T, Mistake> {
    guarded(work).unwrap_or_else(|panic| {
        let message = format!("a function of constants broke off: {}", text_of(&*panic));
        Err(Mistake::new(message, Some("Give it other arguments.".to_owned())))
    })
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

/// Our own error, to be passed through DataFusion.
pub(super) fn wrap(error: impl Into<Error>) -> DataFusionError {
    DataFusionError::External(Box::new(error.into()))
}

/// What a failed query says.
pub(super) fn query_failed(error: DataFusionError, site: Site, limit_bytes: u64) -> Error {
    let error = match unwrap(error) {
        Ok(error) => return error,
        Err(error) => error,
    };
    if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
        return OutOfMemory { site, limit_bytes }.into();
    }
    QueryFailed { site, reason: super::mistake::reason(&error) }.into()
}

/// That the batch was given up.
pub(super) fn cancelled() -> DataFusionError {
    wrap(Cancelled)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn our_errors_come_through_datafusion_as_they_were() {
        let wrapped = wrap(Cancelled).context("while joining");
        let error = unwrap(DataFusionError::Shared(std::sync::Arc::new(wrapped))).expect("ours");
        assert!(error.downcast_ref::<Cancelled>().is_some());
        assert!(unwrap(DataFusionError::Plan("x".into())).is_err());
    }

    #[test]
    fn panics_that_become_errors_are_not_shown() {
        static SHOWN: AtomicUsize = AtomicUsize::new(0);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match panic.payload().downcast_ref::<&str>() {
            Some(&"shown or not") => drop(SHOWN.fetch_add(1, Ordering::Relaxed)),
            _ => before(panic),
        }));
        silence_guarded_panics();
        let error = unbroken::<()>(|| panic!("shown or not")).expect_err("a panic");
        assert!(error.to_string().contains("a function broke off: shown or not"), "{error}");
        assert_eq!(SHOWN.load(Ordering::Relaxed), 0);
        // Within a guarded one, and behind it, others are as before.
        let inner = unbroken(|| unbroken::<()>(|| panic!("shown or not")));
        assert!(inner.is_err() && SHOWN.load(Ordering::Relaxed) == 0);
        assert!(std::panic::catch_unwind(|| panic!("shown or not")).is_err());
        assert_eq!(SHOWN.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn sizes_are_written_as_in_job_files() {
        assert_eq!([size(1 << 20), size(3 << 30), size(1500)], ["1 MiB", "3 GiB", "1500 B"]);
    }
}
